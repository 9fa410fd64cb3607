// Command reference writes two pages of docs/: the fields of the resource Experiment, from its definition for the cluster, and the
// metrics that judge experiments, from the headers of their files and the definition of the resource Metric. `make generate` runs
// it at the root of the repository, without arguments. It is not in cmd/, because people do not run it, and not in tools/, because
// that is a separate module, which cannot import this one.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	pages, err := write(".")
	for _, page := range slices.Sorted(maps.Keys(pages)) {
		if err == nil {
			err = os.WriteFile(page, []byte(pages[page]), 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

// write returns the text of each page by its path below root.
func write(root string) (map[string]string, error) {
	definition, err := os.ReadFile(filepath.Join(root, definitionFile))
	if err != nil {
		return nil, err
	}
	resource, err := resourcePage(definition)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", definitionFile, err)
	}
	definition, err = os.ReadFile(filepath.Join(root, metricFile))
	if err != nil {
		return nil, err
	}
	example, err := os.ReadFile(filepath.Join(root, "knative/examples/metric.yaml"))
	if err != nil {
		return nil, err
	}
	metrics, err := metricsPage(definition, example)
	if err != nil {
		return nil, err
	}
	return map[string]string{"docs/experiment-resource.md": resource, "docs/metrics.md": metrics}, nil
}
