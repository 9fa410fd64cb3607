// Command schemas records the schemas of the stacks' and modules' providers: of each provider, and of the types that
// are used here. Tests on machines that cannot download a provider validate against the recording. Schemas downloads the providers with the
// terraform of PATH, or with the one that TERRAFORM names.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-config-inspect/tfconfig"
)

func main() {
	root := flag.String("terraform", "terraform", "folder of the stacks, and of modules/")
	out := flag.String("o", "terraform/schemas", "folder that the recording is written to")
	flag.Parse()
	if err := record(*root, *out); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

func record(root, out string) error {
	used, err := inUse(root)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "schemas")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := os.WriteFile(filepath.Join(folder, "main.tf"), []byte(used.requirements()), 0o600); err != nil {
		return err
	}
	if _, err := terraform(folder, "init", "-input=false", "-no-color"); err != nil {
		return err
	}
	text, err := terraform(folder, "providers", "schema", "-json")
	if err != nil {
		return err
	}
	var all struct {
		Schemas map[string]provider `json:"provider_schemas"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	if text, err = terraform(folder, "version", "-json"); err != nil {
		return err
	}
	var versions struct {
		Selections map[string]string `json:"provider_selections"`
	}
	if err := json.Unmarshal(text, &versions); err != nil {
		return err
	}
	for address, p := range all.Schemas {
		p.keep(used.types)
		p.Provenance = provenance{Provider: address, Version: versions.Selections[address], From: "terraform providers schema -json, by make schemas"}
		if err := os.WriteFile(filepath.Join(out, path.Base(address)+".json"), p.text(), 0o644); err != nil {
			return err
		}
	}
	return used.missing(all.Schemas)
}

// use has the providers and types that the stacks and modules name.
type use struct {
	providers map[string]map[string]bool // by name: its constraints
	sources   map[string]string
	types     map[string]map[string]bool // resource, data, ephemeral: their types
}

var block = regexp.MustCompile(`(?m)^(resource|data|ephemeral) "([a-z0-9_]+)"`) // in the format of terraform fmt

func inUse(root string) (use, error) {
	used := use{
		providers: make(map[string]map[string]bool), sources: make(map[string]string),
		types: map[string]map[string]bool{"resource": {}, "data": {}, "ephemeral": {}},
	}
	files, err := filepath.Glob(filepath.Join(root, "[0-9][0-9]-*", "*.tf"))
	if err != nil {
		return use{}, err
	}
	modules, err := filepath.Glob(filepath.Join(root, "modules", "*", "*.tf"))
	if err != nil {
		return use{}, err
	}
	read := make(map[string]bool)
	for _, file := range append(files, modules...) {
		text, err := os.ReadFile(file)
		if err != nil {
			return use{}, err
		}
		for _, found := range block.FindAllStringSubmatch(string(text), -1) {
			used.types[found[1]][found[2]] = true
		}
		folder := filepath.Dir(file)
		if read[folder] {
			continue
		}
		read[folder] = true
		module, diagnostics := tfconfig.LoadModule(folder)
		if diagnostics.HasErrors() {
			return use{}, fmt.Errorf("%s: %w", folder, diagnostics)
		}
		for name, requirement := range module.RequiredProviders {
			if requirement.Source == "" {
				continue // it is built in
			}
			if used.providers[name] == nil {
				used.providers[name] = make(map[string]bool)
			}
			used.sources[name] = requirement.Source
			for _, constraint := range requirement.VersionConstraints {
				used.providers[name][constraint] = true
			}
		}
	}
	if len(used.providers) == 0 {
		return use{}, fmt.Errorf("%s: expected stacks with providers", root)
	}
	return used, nil
}

// requirements returns one configuration with all requirements.
func (u use) requirements() string {
	var text strings.Builder
	text.WriteString("terraform {\n  required_providers {\n")
	for _, name := range slices.Sorted(maps.Keys(u.providers)) {
		constraints := slices.Sorted(maps.Keys(u.providers[name]))
		fmt.Fprintf(&text, "    %s = { source = %q, version = %q }\n", name, u.sources[name], strings.Join(constraints, ", "))
	}
	text.WriteString("  }\n}\n")
	return text.String()
}

// missing returns the types that are used here and that no provider has.
func (u use) missing(schemas map[string]provider) error {
	var lacking []string
	for kind, types := range u.types {
		for name := range types {
			has := name == "terraform_remote_state" || name == "terraform_data" // they are built in
			for _, p := range schemas {
				has = has || p.schemas(kind)[name] != nil
			}
			if !has {
				lacking = append(lacking, kind+" "+name)
			}
		}
	}
	if len(lacking) > 0 {
		slices.Sort(lacking)
		return fmt.Errorf("no provider has %s", strings.Join(lacking, ", "))
	}
	return nil
}

func terraform(folder string, args ...string) ([]byte, error) {
	program := os.Getenv("TERRAFORM")
	if program == "" {
		program = "terraform"
	}
	command := exec.Command(program, append([]string{"-chdir=" + folder}, args...)...)
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("terraform %s: %w\n%s%s", args[0], err, out.Bytes(), said.Bytes())
	}
	return out.Bytes(), nil
}
