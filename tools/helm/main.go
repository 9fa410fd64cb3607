// Command helm renders a chart as `helm template` does, with Helm's own engine and without its client: what it says is what a
// release would apply. The values come on standard input.
//
//	helm -namespace NAMESPACE FOLDER < values.yaml
package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

func main() {
	namespace := flag.String("namespace", "default", "of the release")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintf(os.Stderr, "helm: %d arguments: expected the folder of a chart\n", flag.NArg())
		os.Exit(2)
	}
	if err := render(flag.Arg(0), *namespace, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "helm:", err)
		os.Exit(1)
	}
}

func render(folder, namespace string, in io.Reader, out io.Writer) error {
	loaded, err := loader.LoadDir(folder)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	given, err := chartutil.ReadValues(text)
	if err != nil {
		return err
	}
	values, err := chartutil.ToRenderValues(loaded, given, chartutil.ReleaseOptions{Name: loaded.Name(), Namespace: namespace, IsInstall: true}, nil)
	if err != nil {
		return err
	}
	files, err := engine.Engine{Strict: true}.Render(loaded, values)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.TrimSpace(files[name]) != "" {
			fmt.Fprintf(out, "---\n# Source: %s\n%s\n", name, files[name])
		}
	}
	return nil
}
