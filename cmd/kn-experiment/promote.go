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

// writeManifests writes the promoted environment variables into the manifests of a folder, because the next deployment would remove
// them otherwise. Without a folder, it prints what to write, and names the file if it is in the default folder. A promoted image is printed
// in both cases, because manifests name code and not an image.
func writeManifests(c *cobra.Command, folder string, e *rollout.Experiment) error {
	variables := slices.Sorted(maps.Keys(e.Spec.Treatment.Env))
	for _, service := range e.Spec.Services {
		file := filepath.Join(cmp.Or(folder, defaultManifests), "500-"+service+".yaml")
		before, err := os.ReadFile(file)
		if err != nil && (folder != "" || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
		elsewhere := err != nil // the manifest of a guest can be anywhere
		if elsewhere {
			file = service
		}
		if image := imageOf(e, service); image != "" {
			c.Printf("%s: %s was promoted: before the next deployment, check out the code that it was built from; otherwise the deployment removes it for everyone\n", imageLine(file, before), image)
		}
		text := before
		for _, name := range variables {
			value := string(e.Spec.Treatment.Env[name])
			switch {
			case elsewhere:
				c.Printf("%s: has %s=%s now: add it to the manifest that you deploy; otherwise the next deployment removes it for everyone\n", service, name, value)
			case folder == "":
				c.Printf("%s: needs %s=%s: use --write to add it\n", file, name, value)
			default:
				if text, err = manifest.SetEnv(text, name, value); err != nil {
					return exit(failed, "%s: %w", file, err)
				}
			}
		}
		if bytes.Equal(before, text) {
			continue
		}
		if err := os.WriteFile(file, text, 0o644); err != nil { //nolint:gosec // a manifest may be read by everyone
			return err
		}
		c.Printf("wrote %s: commit it\n", file)
	}
	return nil
}

// imageOf returns the image of the treatment of a Service. It is empty if the treatment has the Service's image. When the arms have been
// made, the image is that of the status, because a rebase may replace it.
func imageOf(e *rollout.Experiment, service string) string {
	for _, base := range e.Status.Bases {
		if base.Name == service {
			return base.Treatment
		}
	}
	return string(e.Spec.Treatment.Image[service])
}

// imageLine returns the file, line number and text of a manifest's image, or only the file if it has none.
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
