//go:build infra

package terraform_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hashicorp/terraform-config-inspect/tfconfig"
	"github.com/rogpeppe/go-internal/txtar"

	"warble/shared/manifest"
)

func TestStacksAndModules(t *testing.T) {
	t.Parallel()
	for _, complaint := range complaints(os.DirFS(".")) {
		t.Error(complaint)
	}
}

// TestPods: the default of function_pods is the sum that the manifests allow. If it were smaller, PgBouncer would refuse pods under load.
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

// registrations are Azure's services, by the prefix of their types. A subscription refuses a service that is
// not registered. Authorization, Consumption and Resources are registered in every subscription.
var registrations = map[string]string{
	"azurerm_consumption_budget":     "",
	"azurerm_container_registry":     "Microsoft.ContainerRegistry",
	"azurerm_dns_":                   "Microsoft.Network",
	"azurerm_federated_identity":     "Microsoft.ManagedIdentity",
	"azurerm_firewall":               "Microsoft.Network",
	"azurerm_key_vault":              "Microsoft.KeyVault",
	"azurerm_kubernetes_cluster":     "Microsoft.ContainerService",
	"azurerm_log_analytics":          "Microsoft.OperationalInsights",
	"azurerm_management_lock":        "",
	"azurerm_monitor_":               "microsoft.insights",
	"azurerm_nat_gateway":            "Microsoft.Network",
	"azurerm_network_":               "Microsoft.Network",
	"azurerm_postgresql_":            "Microsoft.DBforPostgreSQL",
	"azurerm_private_":               "Microsoft.Network",
	"azurerm_public_ip":              "Microsoft.Network",
	"azurerm_resource_group":         "",
	"azurerm_resource_group_policy_": "Microsoft.PolicyInsights",
	"azurerm_role_assignment":        "",
	"azurerm_route_table":            "Microsoft.Network",
	"azurerm_subnet":                 "Microsoft.Network",
	"azurerm_user_assigned_identity": "Microsoft.ManagedIdentity",
	"azurerm_virtual_network":        "Microsoft.Network",
}

// TestAzureKnowsWhatIsMade: once, a new subscription refused alerts and audit logs, because their services were not registered.
func TestAzureKnowsWhatIsMade(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("01-cluster/providers.tf")
	if err != nil {
		t.Fatal(err)
	}
	folders, err := read(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		for _, block := range f.blocks("resource") {
			kind, longest := block.Labels[0], ""
			for prefix := range registrations {
				if strings.HasPrefix(kind, prefix) && len(prefix) > len(longest) {
					longest = prefix
				}
			}
			service := registrations[longest]
			switch {
			case !strings.HasPrefix(kind, "azurerm_"):
			case longest == "":
				t.Errorf("%s makes %s: expected its service in registrations", f.name, kind)
			case !strings.Contains(string(text), `"`+service+`"`) && service != "":
				t.Errorf("%s makes %s, whose service %s 01-cluster does not register", f.name, kind, service)
			}
		}
	}
}

// documents returns the documents of a YAML file.
func documents(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n---\n")
}

// TestTheRulesCanFail makes one mistake at a time in a small tree without mistakes.
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
		{`var.subscription != ""`, `var.subscription == null || var.subscription.id != ""`, "01-cluster: reads a part of var.subscription"},
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
