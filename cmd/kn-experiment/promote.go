package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"warble/shared/manifest"
	"warble/shared/rollout"
)

// writeManifests makes what has won the manifests' own; without a folder it says what they are to have, for until then
// nothing is deployed.
func writeManifests(c *cobra.Command, folder string, e *rollout.Experiment) error {
	for _, service := range slices.Sorted(maps.Keys(e.Spec.Treatment.Image)) {
		c.Printf("%s: deploy the code of %s\n", service, e.Spec.Treatment.Image[service])
	}
	for _, service := range e.Spec.Services {
		file := filepath.Join(folder, "500-"+service+".yaml")
		if folder == "" {
			for _, name := range slices.Sorted(maps.Keys(e.Spec.Treatment.Env)) {
				c.Printf("its manifest, 500-%s.yaml, is to have %s=%s: --write writes it\n", service, name, e.Spec.Treatment.Env[name])
			}
			continue
		}
		before, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text := before
		for _, name := range slices.Sorted(maps.Keys(e.Spec.Treatment.Env)) {
			if text, err = manifest.SetEnv(text, name, string(e.Spec.Treatment.Env[name])); err != nil {
				return exit(failed, "%s: %w", file, err)
			}
		}
		if bytes.Equal(before, text) {
			continue
		}
		if err := os.WriteFile(file, text, 0o644); err != nil { //nolint:gosec // it is a manifest
			return err
		}
		c.Printf("wrote %s: commit it\n", file)
	}
	return nil
}
