//go:build infra

package terraform_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hashicorp/terraform-config-inspect/tfconfig"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"warble/shared/manifest"
)

func TestStacksAndModules(t *testing.T) {
	t.Parallel()
	for _, complaint := range complaints(os.DirFS(".")) {
		t.Error(complaint)
	}
}

// TestModules runs Terraform itself on the modules that need no provider; what does needs one to be downloaded first, and is
// tested where that can be: make terraform-test.
func TestModules(t *testing.T) {
	t.Parallel()
	folders, err := read(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, f := range folders {
		if len(f.module.RequiredProviders) > 0 {
			continue
		}
		ran++
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			folder, err := filepath.Abs(f.name)
			if err != nil {
				t.Fatal(err)
			}
			runTests(t, folder)
		})
	}
	if ran == 0 {
		t.Error("no module is without a provider: expected some")
	}
}

// TestValidations runs what a stack's tests expect of its variables alone, for which Terraform needs no provider either.
func TestValidations(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile(`(?ms)^(variables|run "[^"]*") \{.*?^\}\n`)
	for _, stack := range []string{"01-cluster", "02-database", "03-application", "04-observability"} {
		t.Run(stack, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			variables, err := os.ReadFile(filepath.Join(stack, "variables.tf"))
			if err != nil {
				t.Fatal(err)
			}
			names, err := filepath.Glob(filepath.Join(stack, "*.tftest.hcl"))
			if err != nil || len(names) != 1 {
				t.Fatalf("tests: %q %v", names, err)
			}
			text, err := os.ReadFile(names[0])
			if err != nil {
				t.Fatal(err)
			}
			var tests strings.Builder
			for _, block := range blocks.FindAllString(string(text), -1) {
				if strings.HasPrefix(block, "variables") || strings.Contains(block, "expect_failures") {
					tests.WriteString(block)
				}
			}
			for name, content := range map[string]string{"variables.tf": string(variables), "variables.tftest.hcl": tests.String()} {
				if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			runTests(t, folder)
		})
	}
}

func runTests(t *testing.T, folder string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "-C", "../tools/terraform", "tool", "terraform", "-chdir="+folder, "test", "-no-color")
	command.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+os.DevNull, "TF_DATA_DIR="+t.TempDir(), "CHECKPOINT_DISABLE=1")
	output, err := command.CombinedOutput()
	if err != nil || !regexp.MustCompile(`[1-9][0-9]* passed, 0 failed\.`).Match(output) {
		t.Errorf("terraform test: %v\n%s", err, output)
	}
}

// TestPods: the default of function_pods is what the manifests allow, or PgBouncer would turn pods away on a busy day.
func TestPods(t *testing.T) {
	t.Parallel()
	functions, err := manifest.ReadAll("../knative")
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, f := range functions {
		if !slices.ContainsFunc(f.Container().Env, func(v manifest.Variable) bool { return v.Name == "DATABASE_URL" }) {
			continue
		}
		scale, err := strconv.Atoi(f.Spec.Template.Metadata.Annotations["autoscaling.knative.dev/max-scale"])
		if err != nil {
			t.Fatalf("%s: max-scale: %v", f.Name(), err)
		}
		want += scale
	}
	database, diagnostics := tfconfig.LoadModule("02-database")
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	if got := database.Variables["function_pods"].Default; got != float64(want) {
		t.Errorf("function_pods of 02-database is %v: expected %d, the sum of max-scale of what has a DATABASE_URL in knative/", got, want)
	}
}

// TestWhoseAccountMountsATokenReachesTheAPIServer: steer did not, and could have rolled nothing back on AKS.
func TestWhoseAccountMountsATokenReachesTheAPIServer(t *testing.T) {
	t.Parallel()
	mounts := make(map[string]bool) // by the account's name
	files, err := filepath.Glob("../knative/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, text := range documents(t, file) {
			var account struct {
				Kind                         string
				Metadata                     struct{ Name string }
				AutomountServiceAccountToken *bool
			}
			if err := yaml.Unmarshal([]byte(text), &account); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if account.Kind == "ServiceAccount" { // whose default is to mount one
				mounts[account.Metadata.Name] = account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken
			}
		}
	}
	functions, err := manifest.ReadAll("../knative")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range functions {
		if mounted, ok := mounts[f.Spec.Template.Spec.ServiceAccountName]; mounted || !ok {
			want = append(want, f.Name())
		}
	}
	var got []string
	for _, text := range documents(t, "03-application/charts/warble/templates/network.yaml") {
		if !strings.Contains(text, "name: api-server") {
			continue // it is a template
		}
		var policy struct {
			Spec struct {
				PodSelector struct {
					MatchExpressions []struct {
						Key, Operator string
						Values        []string
					}
				}
				Egress []struct{ Ports []struct{ Port int } }
			}
		}
		if err := yaml.Unmarshal([]byte(text), &policy); err != nil {
			t.Fatal(err)
		}
		if e := policy.Spec.Egress; len(e) != 1 || len(e[0].Ports) != 1 || e[0].Ports[0].Port != 443 {
			t.Errorf("the policy opens %v, want port 443", e)
		}
		for _, m := range policy.Spec.PodSelector.MatchExpressions {
			if m.Key != "warble.dev/service" || m.Operator != "In" {
				t.Errorf("the policy selects by %s %s, want warble.dev/service In", m.Key, m.Operator)
			}
			got = append(got, m.Values...)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(want) == 0 || !slices.Equal(want, got) {
		t.Errorf("the policy lets %v reach the API server, and those whose account mounts a token are %v", got, want)
	}
}

// documents are the parts of a file of YAML.
func documents(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n---\n")
}

// TestTheRulesCanFail breaks a small tree, which is right, in one place at a time.
func TestTheRulesCanFail(t *testing.T) {
	t.Parallel()
	right, err := os.ReadFile("testdata/right.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if found := complaints(tree(right)); len(found) > 0 {
		t.Fatalf("of what is right: %q", found)
	}
	for _, one := range []struct{ old, new, want string }{
		{`description = "Of Azure."`, ``, "01-cluster: variable subscription has no description"},
		{`type        = string # of subscription`, ``, "01-cluster: variable subscription has no type"},
		{`type        = string # of subscription`, `type = any`, "01-cluster: variable subscription has no type"},
		{`subscription_id = var.subscription`, ``, "01-cluster: variable subscription is used nowhere"},
		{`module.names.base`, `module.name.base`, "01-cluster: refers to module.name, which it does not have"},
		{`subscription_id = var.subscription`, `subscription_id = var.subscripton`, "01-cluster: refers to var.subscripton,"},
		{`local.cluster.network`, `local.clusters.network`, "02-database: refers to local.clusters,"},
		{`"https://charts.example.org"`, `helm_release.other.name`, "02-database: refers to helm_release.other,"},
		{`"https://charts.example.org"`, `data.helm_template.other.name`, "02-database: refers to data.helm_template.other,"},
		{`description = "The network."`, ``, "01-cluster: output network has no description"},
		{`local.cluster.network`, `local.cluster.unknown`, "02-database: reads output unknown of 01-cluster, which has none"},
		{`local.cluster.network`, `data.terraform_remote_state.cluster.outputs.registry`, "01-cluster: output network is read by nobody"},
		{"`registry`", ``, "01-cluster: output registry is read by nobody"},
		{`value       = module.names.base`, `value = "x"`, "modules/naming: output base is read by nobody"},
		{`source = "../modules/naming"`, `source = "../modules/nothing"`, "modules/naming: is used by no stack"},
		{`source = "../modules/naming"`, `source = "Azure/naming/azurerm"`, "expected one of modules/"},
		{`required_version = ">= 1.11, < 2.0" # of naming`, ``, "modules/naming: required_version is []"},
		{`required_version = ">= 1.11, < 2.0" # of naming`, `required_version = ">= 1.11"`, "modules/naming: required_version is"},
		{`"~> 5.12"`, `">= 5.12"`, "01-cluster: provider azurerm is of"},
		{`source  = "hashicorp/azurerm"`, ``, "01-cluster: provider azurerm is of"},
		{`version    = "1.2.3"`, ``, "02-database: helm_release operator is of version"},
		{`version    = "1.2.3"`, `version = "^1.2"`, "02-database: helm_release operator is of version"},
		{`# a provider`, `provider "azurerm" {}`, "modules/naming: has a provider block"},
		{`key = "01-cluster.tfstate" # read`, `key = "02-database.tfstate"`, "02-database: reads the state of cluster with the key"},
		{`key = "01-cluster.tfstate" # written`, `key = "terraform.tfstate"`, "01-cluster: keeps its state elsewhere"},
		{`backend "azurerm"`, `backend "local"`, "01-cluster: keeps its state elsewhere"},
		{`# a state`, "data \"terraform_remote_state\" \"database\" {\n backend = \"azurerm\"\n config = { key = \"02-database.tfstate\" }\n}", "01-cluster: reads the state of 02-database, which is applied later"},
		{`# a state`, "data \"terraform_remote_state\" \"else\" {\n}", "01-cluster: reads the state of else: there is no such stack"},
		{`prevent_destroy = true`, ``, "02-database: azurerm_postgresql_flexible_server.this may be destroyed"},
		{`prevent_destroy = true`, `prevent_destroy = false`, "02-database: azurerm_postgresql_flexible_server.this may be destroyed"},
		{`administrator_password_wo`, `administrator_password`, "writes a secret into the state"},
		{`# a secret`, "resource \"azurerm_key_vault_secret\" \"this\" {\n value = \"x\"\n}", "01-cluster: azurerm_key_vault_secret.this.value writes a secret"},
		{`# a secret`, `resource "random_password" "this" {}`, "random_password.this keeps its secret in the state"},
		{`-- 01-cluster/stack.tftest.hcl --`, `-- 01-cluster/other.txt --`, "01-cluster: has no *.tftest.hcl"},
		{`-- 01-cluster/terraform.tfvars.example --`, `-- 01-cluster/other.txt --`, "01-cluster: has no terraform.tfvars.example"},
		{`subscription = "1"`, ``, "does not set subscription, which has no default"},
		{`subscription = "1"`, "subscription = \"1\"\nsubscriptoin = \"1\"", "sets subscriptoin, which is no variable"},
		{`subscription = "1"`, `subscription = (`, "Missing expression"},
		{`# a secret`, `resource "x" {`, "Unclosed configuration block"},
	} {
		broken := strings.Replace(string(right), one.old, one.new, 1)
		if broken == string(right) {
			t.Errorf("%q is nowhere in what is right", one.old)
		}
		found := complaints(tree([]byte(broken)))
		if !slices.ContainsFunc(found, func(c string) bool { return strings.Contains(c, one.want) }) {
			t.Errorf("%q in the place of %q: no complaint with %q in %q", one.new, one.old, one.want, found)
		}
	}
}

func tree(archive []byte) fstest.MapFS {
	files := make(fstest.MapFS)
	for _, file := range txtar.Parse(archive).Files {
		files[file.Name] = &fstest.MapFile{Data: file.Data}
	}
	return files
}
