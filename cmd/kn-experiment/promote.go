package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"warble/shared/manifest"
	"warble/shared/rollout"
)

// defaultManifests is the folder of the manifests.
const defaultManifests = "knative"

// writeManifests writes what has won into the manifests; without a folder it says what they are to have, because the next
// deployment would take it away otherwise. An image is said in either case: manifests name the code, and no image.
func writeManifests(c *cobra.Command, folder string, e *rollout.Experiment) error {
	variables := slices.Sorted(maps.Keys(e.Spec.Treatment.Env))
	for _, service := range e.Spec.Services {
		file := filepath.Join(cmp.Or(folder, defaultManifests), "500-"+service+".yaml")
		before, err := os.ReadFile(file)
		if err != nil && (folder != "" || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
		if image := imageOf(e, service); image != "" {
			c.Printf("%s: %s has won: check out the code that it was built of before the next deployment, or that takes it from everyone\n", imageLine(file, before), image)
		}
		text := before
		for _, name := range variables {
			value := string(e.Spec.Treatment.Env[name])
			if folder == "" {
				c.Printf("%s: is to have %s=%s: --write writes it\n", file, name, value)
			} else if text, err = manifest.SetEnv(text, name, value); err != nil {
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

// imageOf is the image of the treatment of a Service, empty if it has none of its own. Once the arms are made, the status
// knows it: a rebase replaces it.
func imageOf(e *rollout.Experiment, service string) string {
	for _, base := range e.Status.Bases {
		if base.Name == service {
			return base.Treatment
		}
	}
	return string(e.Spec.Treatment.Image[service])
}

// imageLine is where a manifest says what its image is built of.
func imageLine(file string, text []byte) string {
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.Trim(line, " -\n"); strings.HasPrefix(line, "image: ") {
			return fmt.Sprintf("%s:%d: %s", file, n, line)
		}
	}
	return file
}
