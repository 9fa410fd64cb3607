//go:build infra

package terraform_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// program is the terraform of TERRAFORM or, if that is not set, one built from its module.
var program = sync.OnceValues(func() (string, error) {
	if named := os.Getenv("TERRAFORM"); named != "" {
		return named, nil
	}
	return built("terraform", "tool", "-n", "terraform")
})

// built runs go in a module of tools, and returns the last line of its output.
func built(module string, args ...string) (string, error) {
	text, err := exec.Command("go", append([]string{"-C", "../tools/" + module}, args...)...).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return lines[len(lines)-1], nil // the lines before are about downloads
}

// mirror makes a folder from which Terraform installs providers. Each provider serves its recorded schema.
var mirror = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "providers")
	if err != nil {
		return "", err
	}
	provider := filepath.Join(folder, "provider")
	if _, err := built("terraform", "build", "-o", provider, "./provider"); err != nil {
		return "", err
	}
	recordings, err := filepath.Glob("schemas/*.json")
	if err != nil || len(recordings) == 0 {
		return "", fmt.Errorf("schemas: %d recordings, %w", len(recordings), err)
	}
	for _, file := range recordings {
		r, err := recorded(file)
		if err != nil {
			return "", err
		}
		name := "terraform-provider-" + strings.TrimSuffix(filepath.Base(file), ".json")
		installed := filepath.Join(folder, r.Provenance.Provider, r.Provenance.Version, runtime.GOOS+"_"+runtime.GOARCH)
		if err := os.MkdirAll(installed, 0o700); err != nil {
			return "", err
		}
		if err := os.Link(provider, filepath.Join(installed, name+"_v"+r.Provenance.Version)); err != nil {
			return "", err
		}
	}
	config := fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", folder)
	return folder, os.WriteFile(filepath.Join(folder, "terraformrc"), []byte(config), 0o600)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if folder, err := mirror(); err == nil {
		_ = os.RemoveAll(folder)
	}
	os.Exit(code)
}

type recording struct {
	Provenance struct{ Provider, Version, From string }
	Provider   any
	Resources  map[string]any `json:"resource_schemas"`
	Data       map[string]any `json:"data_source_schemas"`
	Ephemerals map[string]any `json:"ephemeral_resource_schemas"`
}

func recorded(file string) (r recording, err error) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil && (r.Provenance.Provider == "" || r.Provenance.Version == "" || r.Provenance.From == "") {
		err = fmt.Errorf("says not where it is from: expected provenance with provider, version and from")
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// terraform runs Terraform in a folder, with only the recorded providers.
func terraform(t *testing.T, folder string, args ...string) (string, error) {
	t.Helper()
	p, err := program()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), p, append([]string{"-chdir=" + folder}, args...)...)
	command.Env = environment(t)
	text, err := command.CombinedOutput()
	return string(text), err
}

func environment(t *testing.T) []string {
	t.Helper()
	folder, err := mirror()
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := filepath.Abs("schemas")
	if err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "TF_CLI_CONFIG_FILE="+filepath.Join(folder, "terraformrc"), "RECORDED_SCHEMAS="+schemas, "CHECKPOINT_DISABLE=1")
}

// copied returns a copy of the stacks and modules, into which init may write.
func copied(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	return root
}

// prepared returns a copy of a stack that is initialised, with an empty state on this machine.
func prepared(t *testing.T, stack string) (folder string) {
	t.Helper()
	folder = filepath.Join(copied(t), stack)
	if err := os.WriteFile(filepath.Join(folder, "backend_override.tf"), []byte("terraform {\n  backend \"local\" {}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := terraform(t, folder, "init", "-input=false", "-no-color"); err != nil {
		t.Fatalf("terraform init: %v\n%s", err, text)
	}
	return folder
}

// tried initialises, validates and tests a folder, and returns Terraform's errors, or "" if there are none.
func tried(t *testing.T, folder string) string {
	t.Helper()
	for _, args := range [][]string{{"init", "-backend=false", "-input=false", "-no-color"}, {"validate", "-no-color"}, {"test", "-no-color"}} {
		text, err := terraform(t, folder, args...)
		if err == nil && args[0] == "test" && !regexp.MustCompile(`[1-9][0-9]* passed, 0 failed\.`).MatchString(text) {
			err = fmt.Errorf("ran no test")
		}
		if err != nil {
			return fmt.Sprintf("terraform %s: %v\n%s", args[0], err, text)
		}
	}
	return ""
}

// TestStacksWithTheirProviders checks each stack and module with Terraform itself, and runs its tests.
func TestStacksWithTheirProviders(t *testing.T) {
	t.Parallel()
	root := copied(t)
	folders, err := read(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			if said := tried(t, filepath.Join(root, f.name)); said != "" {
				t.Error(said)
			}
		})
	}
}

// TestEveryTypeIsRecorded, because Terraform has the same error for a type that is not recorded and for a misspelt one.
func TestEveryTypeIsRecorded(t *testing.T) {
	t.Parallel()
	folders, err := read(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		for _, kind := range []string{"resource", "data", "ephemeral"} {
			for _, block := range f.blocks(kind) {
				provider, _, _ := strings.Cut(block.Labels[0], "_")
				if provider == "terraform" {
					continue // it is built in
				}
				r, err := recorded(path.Join("schemas", provider+".json"))
				if err != nil {
					t.Fatal(err)
				}
				if types := map[string]map[string]any{"resource": r.Resources, "data": r.Data, "ephemeral": r.Ephemerals}[kind]; types[block.Labels[0]] == nil {
					t.Errorf("%s uses %s %s, which schemas/%s.json lacks: make schemas records it", f.name, kind, block.Labels[0], provider)
				}
			}
		}
	}
}

// TestSchemasAreRecorded runs `make schemas` on the recorded providers. The result must be the same recording, so a real
// provider's schema is recorded in the same way.
func TestSchemasAreRecorded(t *testing.T) {
	t.Parallel()
	p, err := program()
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	command := exec.CommandContext(t.Context(), "go", "run", "./schemas", "-terraform", ".", "-o", out)
	command.Env = append(environment(t), "TERRAFORM="+p)
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	files, err := filepath.Glob("schemas/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	for _, file := range files {
		want, err := recorded(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := recorded(filepath.Join(out, filepath.Base(file)))
		if err != nil {
			t.Fatal(err)
		}
		want.Provenance.From = got.Provenance.From
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}

// TestTerraformRefuses plants one mistake at a time in a stack.
func TestTerraformRefuses(t *testing.T) {
	t.Parallel()
	for what, one := range map[string]struct{ in, file, old, new, want string }{
		"an unknown argument": {
			"01-cluster", "registry.tf", "admin_enabled ", "admin_enabeld ", `An argument named "admin_enabeld" is not expected here`,
		},
		"an ephemeral that is read before it exists": {
			"02-database", "secrets.tf", `module.password["owner"].stored_name`, `module.password["owner"].name`,
			"azurerm_key_vault_secret is read while planning",
		},
		"a role that the control plane lacks": {
			"01-cluster", "cluster.tf", `group = { role = "Reader", scope = azurerm_resource_group.this.id }`, "", "the control plane lacks a role",
		},
		"a firewall that blocks images": {
			"01-cluster", "firewall.tf", `, "*.blob.core.windows.net"`, "", "the firewall blocks hosts that the cluster needs",
		},
		"a gateway whose answers the firewall drops": {
			"01-cluster", "firewall.tf", `toset(["0.0.0.0/1", "128.0.0.0/1"])`, "toset([])", "the gateway's answers go to the firewall",
		},
		"nodes that keep their version": {
			"01-cluster", "cluster.tf", `orchestrator_version        = var.kubernetes_version`, "", "default_node_pool[0].orchestrator_version == var.kubernetes_version", // unknown then, so its message is not reached
		},
		"no interval of the image cleaner": {
			"01-cluster", "cluster.tf", "image_cleaner_interval_hours = 168", "image_cleaner_interval_hours = 0", "Azure refuses an interval of 0 hours",
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			root := copied(t)
			file := filepath.Join(root, one.in, one.file)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Count(text, []byte(one.old)) != 1 {
				t.Fatalf("%q is not once in %s/%s", one.old, one.in, one.file)
			}
			if err := os.WriteFile(file, bytes.Replace(text, []byte(one.old), []byte(one.new), 1), 0o600); err != nil {
				t.Fatal(err)
			}
			if said := tried(t, filepath.Join(root, one.in)); !strings.Contains(said, one.want) {
				t.Errorf("expected %q of %q", one.want, said)
			}
		})
	}
}
