//go:build infra

package terraform_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"sigs.k8s.io/yaml"
)

// TestWhatNeedsAnotherIsMadeAfterIt asks Terraform for its order. Where an argument refers to the other resource, the order follows. These
// orders follow only from depends_on, or from a reference that another change could remove.
func TestWhatNeedsAnotherIsMadeAfterIt(t *testing.T) {
	t.Parallel()
	for stack, orders := range map[string][]struct{ later, earlier string }{
		"01-cluster": {
			{"azurerm_kubernetes_cluster.this", "azurerm_role_assignment.cluster"}, // without its roles it cannot join the subnet
			{"azurerm_kubernetes_cluster.this", "azurerm_subnet_nat_gateway_association.nodes"},
			{"azurerm_kubernetes_cluster.this", "azurerm_subnet_route_table_association.this"},
			{"azurerm_kubernetes_cluster.this", "azurerm_firewall_policy_rule_collection_group.nodes"},
		},
		"02-database": {
			{"azurerm_postgresql_flexible_server.this", "azurerm_private_dns_zone_virtual_network_link.this"},
			{"azurerm_postgresql_flexible_server_configuration.this", "azurerm_postgresql_flexible_server_configuration.pgbouncer"},
		},
		"03-application": {
			{"helm_release.knative", "helm_release.operator"}, // which defines the kinds of its objects
			{"helm_release.knative", "helm_release.cert_manager"},
			{"helm_release.warble", "helm_release.external_secrets"},
			{"helm_release.warble", "helm_release.knative"},
		},
		"04-observability": {
			{"helm_release.prometheus", "helm_release.secrets"}, // whose Secrets its pods mount
			{"helm_release.datadog", "helm_release.secrets"},
		},
	} {
		t.Run(stack, func(t *testing.T) {
			t.Parallel()
			text, err := terraform(t, prepared(t, stack), "graph")
			if err != nil {
				t.Fatalf("terraform graph: %v\n%s", err, text)
			}
			needs := make(map[string][]string)
			for _, edge := range regexp.MustCompile(`(?m)^\s*"([^"]+)" -> "([^"]+)";$`).FindAllStringSubmatch(text, -1) {
				needs[edge[1]] = append(needs[edge[1]], edge[2])
			}
			for _, order := range orders {
				reached, next := map[string]bool{}, []string{order.later}
				for len(next) > 0 {
					reached[next[0]] = true
					next = append(next[1:], slices.DeleteFunc(slices.Clone(needs[next[0]]), func(one string) bool { return reached[one] })...)
				}
				if !reached[order.earlier] {
					t.Errorf("%s may be made before %s: %s", order.later, order.earlier, text)
				}
			}
		})
	}
}

// TestOnlyWhatOthersSetIsIgnored: a change of an ignored argument is in no plan, and the workflow drift does not see it. The database's disk is
// not ignored: it grows by itself, and a plan with the old size must be noticed.
func TestOnlyWhatOthersSetIsIgnored(t *testing.T) {
	t.Parallel()
	folders, err := read(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	ignored := make(map[string][]string)
	for _, f := range folders {
		for _, resource := range f.blocks("resource") {
			for _, block := range resource.Body.Blocks {
				if changes := block.Body.Attributes["ignore_changes"]; block.Type == "lifecycle" && changes != nil {
					ignored[f.name+" "+strings.Join(resource.Labels, ".")] = names(changes.Expr)
				}
			}
		}
	}
	want := map[string][]string{
		"01-cluster azurerm_kubernetes_cluster.this":           {"default_node_pool.node_count"}, // the autoscaler
		"01-cluster azurerm_kubernetes_cluster_node_pool.this": {"node_count"},
		"02-database azurerm_postgresql_flexible_server.this":  {"zone", "high_availability.standby_availability_zone"}, // Azure, when the standby takes over
		"03-application kubernetes_namespace_v1.warble":        {"metadata.annotations", "metadata.labels"},             // make deploy and Knative
	}
	if diff := cmp.Diff(want, ignored); diff != "" {
		t.Errorf("ignore_changes: %s", diff)
	}
}

// names returns the references in an expression, without indices. A keyword such as all is a reference too.
func names(expression hclsyntax.Expression) (found []string) {
	_ = hclsyntax.VisitAll(expression, func(node hclsyntax.Node) hcl.Diagnostics {
		if reference, ok := node.(*hclsyntax.ScopeTraversalExpr); ok {
			found = append(found, written(reference.Traversal))
		}
		return nil
	})
	return found
}

// TestDatadogsAgentFitsAKS: these settings make the difference between an agent that works on AKS and one that does not, or cost money.
func TestDatadogsAgentFitsAKS(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("04-observability/datadog-values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		Datadog struct {
			Kubelet map[string]any
			Logs    struct{ Enabled, ContainerCollectAll bool }
			APM     struct {
				PortEnabled   bool
				SocketEnabled *bool
			}
			PrometheusScrape, ProcessAgent struct{ Enabled *bool }
			ContainerExcludeLogs           string
			ContainerIncludeLogs           string
		}
		Providers    struct{ AKS struct{ Enabled bool } }
		ClusterAgent struct {
			Replicas            int
			AdmissionController struct {
				Enabled          bool
				MutateUnlabelled *bool
				ConfigMode       string
			}
		}
	}
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	off := func(setting *bool) bool { return setting != nil && !*setting }
	datadog, admission := values.Datadog, values.ClusterAgent.AdmissionController
	for what, holds := range map[string]bool{
		"AKS and the cluster agent's webhook do not undo each other's changes":  values.Providers.AKS.Enabled,
		"the kubelet's certificate is checked against the cluster's authority":  len(datadog.Kubelet) == 0,
		"a node can be lost without losing the webhook":                         values.ClusterAgent.Replicas == 2,
		"only pods with the label are changed, with the address of the Service": admission.Enabled && off(admission.MutateUnlabelled) && admission.ConfigMode == "service",
		"traces come through a port, because pods may not mount a socket":       datadog.APM.PortEnabled && off(datadog.APM.SocketEnabled),
		"logs need no annotation":                      datadog.Logs.Enabled && datadog.Logs.ContainerCollectAll,
		"metrics and processes are not paid for twice": off(datadog.PrometheusScrape.Enabled) && off(datadog.ProcessAgent.Enabled),
		"no other container's logs are collected":      datadog.ContainerExcludeLogs == "name:.*",
	} {
		if !holds {
			t.Errorf("datadog-values.yaml: expected that %s", what)
		}
	}

	containers := map[string]bool{
		"user-container": true, // Knative's name for a function's container
		"migrate":        true,
		// These run in the same pods or namespaces, or on each node.
		"queue-proxy": false, "journey": false, "psql": false, "agent": false, "prometheus": false, "not-user-container": false, "user-container-2": false, "migrate-2": false,
	}
	migration := strings.Join(documents(t, "../knative/400-migrate.yaml"), "\n")
	if !strings.Contains(migration, "- name: migrate\n") {
		t.Error("the migration's container is not called migrate")
	}
	for _, name := range slices.Sorted(maps.Keys(containers)) {
		included := slices.ContainsFunc(strings.Fields(datadog.ContainerIncludeLogs), func(filter string) bool {
			pattern, ok := strings.CutPrefix(filter, "name:")
			return ok && regexp.MustCompile(pattern).MatchString(name)
		})
		if included != containers[name] {
			t.Errorf("logs of %s are collected: %t, expected %t", name, included, containers[name])
		}
	}
}
