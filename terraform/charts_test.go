//go:build infra

package terraform_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// charts are this repository's charts, each with its release's namespace and with values as Terraform may set them.
var charts = []struct {
	name, folder, namespace string
	values                  map[string]any
}{
	{"knative", "03-application/charts/knative", "knative", nil},
	{"knative with a domain and Kafka", "03-application/charts/knative", "knative", map[string]any{
		"tls": true, "email": "operations@example.org", "kafka": []string{"kafka:9092"}, "kafkaSasl": true,
		"dns": map[string]string{"zone": "example.org", "resourceGroup": "dns", "subscription": "s", "clientId": "c"},
	}},
	{"knative with a pool for its gateway", "03-application/charts/knative", "knative", gatewayPool},
	{"warble", "03-application/charts/warble", "warble", map[string]any{"kafkaSasl": true}},
	{"warble without mail", "03-application/charts/warble", "warble", map[string]any{"mail": map[string]string{"from": ""}}},
	{"secrets", "04-observability/charts/secrets", "monitoring", nil},
}

// gatewayPool has the values that put the gateway on its own nodes, as 03-application does if 01-cluster has a firewall.
var gatewayPool = map[string]any{"ingress": map[string]string{"pool": "gateways"}}

// helm renders charts with Helm's own engine.
var helm = sync.OnceValues(func() (string, error) {
	folder, err := mirror() // which is removed at the end
	if err != nil {
		return "", err
	}
	program := filepath.Join(folder, "helm")
	text, err := exec.Command("go", "-C", "../tools/helm", "build", "-o", program, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return program, nil
})

// rendered returns the objects that a release of a chart would apply.
func rendered(t *testing.T, folder, namespace string, values map[string]any) (objects []*unstructured.Unstructured) {
	t.Helper()
	program, err := helm()
	if err != nil {
		t.Fatal(err)
	}
	given, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program, "-namespace", namespace, folder)
	var said bytes.Buffer
	command.Stdin, command.Stderr = bytes.NewReader(given), &said
	text, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", folder, err, said.String())
	}
	return decoded(t, folder, text)
}

func decoded(t *testing.T, name string, text []byte) (objects []*unstructured.Unstructured) {
	t.Helper()
	decoder := utilyaml.NewYAMLToJSONDecoder(bytes.NewReader(text))
	for {
		var content map[string]any
		err := decoder.Decode(&content)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(content) > 0 {
			objects = append(objects, &unstructured.Unstructured{Object: content})
		}
	}
	if len(objects) == 0 {
		t.Fatalf("%s: expected objects", name)
	}
	return objects
}

// definitions are modules with the CustomResourceDefinitions of the charts' objects, and the chart that installs them, with its version. The
// operator's version is the appVersion of kube-prometheus-stack. External Secrets 2.10.0 cannot be had as a module, because the path of its
// module does not end in /v2. The parts that are used here are the same in both versions.
var definitions = []struct{ module, folder, chart, version string }{
	{"knative.dev/operator@v0.50.0", "config/crd/bases", "knative-operator", "v1.23.0"},
	{"github.com/cert-manager/cert-manager@v1.21.2", "deploy/crds", "cert-manager", "v1.21.2"},
	{"github.com/external-secrets/external-secrets@v1.3.2", "config/crds/bases", "external-secrets", "2.10.0"},
	{"github.com/prometheus-operator/prometheus-operator@v0.93.1", "example/prometheus-operator-crd", "kube-prometheus-stack", "88.5.3"},
}

// downloaded returns the folder of a module's source.
func downloaded(module string) (string, error) {
	command := exec.Command("go", "mod", "download", "-json", module)
	command.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
	command.Dir = os.TempDir()
	text, err := command.Output()
	var answer struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		return "", fmt.Errorf("go mod download %s: %w\n%s", module, err, text)
	}
	return answer.Dir, nil
}

// kinds returns the definitions' schemas, by group/version/kind.
var kinds = sync.OnceValues(func() (map[string]*apiextensions.JSONSchemaProps, error) {
	all := make(map[string]*apiextensions.JSONSchemaProps)
	for _, d := range definitions {
		source, err := downloaded(d.module)
		if err != nil {
			return nil, err
		}
		files, err := filepath.Glob(filepath.Join(source, d.folder, "*.yaml"))
		if err != nil || len(files) == 0 {
			return nil, fmt.Errorf("%s: %d files in %s, %w", d.module, len(files), d.folder, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			var written apiextensionsv1.CustomResourceDefinition
			if err := yaml.Unmarshal(text, &written); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			for _, version := range written.Spec.Versions {
				var props apiextensions.JSONSchemaProps
				if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, &props, nil); err != nil {
					return nil, fmt.Errorf("%s: %w", file, err)
				}
				all[written.Spec.Group+"/"+version.Name+"/"+written.Spec.Names.Kind] = &props
			}
		}
	}
	return all, nil
})

// faults returns the mistakes that an API server would find in an object: unknown fields, wrong types, and for kinds with a definition
// everything that its schema forbids.
func faults(t *testing.T, o *unstructured.Unstructured) (found []string) {
	t.Helper()
	text, err := o.MarshalJSON()
	if err != nil {
		return []string{err.Error()}
	}
	if scheme.Scheme.Recognizes(o.GroupVersionKind()) {
		strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
		if _, _, err := strict.Decode(text, nil, nil); err != nil {
			found = append(found, err.Error())
		}
		return found
	}
	all, err := kinds()
	if err != nil {
		t.Fatal(err)
	}
	props := all[o.GetAPIVersion()+"/"+o.GetKind()]
	if props == nil {
		return []string{"no such kind: " + o.GetAPIVersion() + " " + o.GetKind()}
	}
	structural, err := schema.NewStructural(props)
	if err != nil {
		return []string{err.Error()}
	}
	for _, path := range pruning.PruneWithOptions(o.DeepCopy().Object, structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		found = append(found, "unknown field "+path)
	}
	validator, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		return []string{err.Error()}
	}
	for _, err := range validation.ValidateCustomResource(nil, o.Object, validator) {
		found = append(found, err.Error())
	}
	return found
}

func TestChartsAreWhatTheClusterTakes(t *testing.T) {
	t.Parallel()
	for _, chart := range charts {
		t.Run(chart.name, func(t *testing.T) {
			t.Parallel()
			for _, o := range rendered(t, chart.folder, chart.namespace, chart.values) {
				for _, fault := range faults(t, o) {
					t.Errorf("%s %s: %s", o.GetKind(), o.GetName(), fault)
				}
			}
		})
	}
	monitors, err := filepath.Glob("04-observability/podmonitor*.yaml")
	if err != nil || len(monitors) != 2 {
		t.Fatalf("%d monitors, %v: expected 2", len(monitors), err)
	}
	for _, file := range monitors {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range decoded(t, file, text) {
			for _, fault := range faults(t, o) {
				t.Errorf("%s: %s", file, fault)
			}
		}
	}
}

// TestDefinitionsAreOfTheInstalledVersions: a change of a chart's version must come with a look at its definitions.
func TestDefinitionsAreOfTheInstalledVersions(t *testing.T) {
	t.Parallel()
	folders, err := read(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	installed := make(map[string]string) // versions of charts
	for _, f := range folders {
		for _, release := range f.blocks("resource", "helm_release") {
			installed[text(release.Body, "chart")] = text(release.Body, "version")
		}
	}
	for _, d := range definitions {
		if d.version != installed[d.chart] {
			t.Errorf("the definitions %s are for version %q of the chart %s: Terraform installs %q", d.module, d.version, d.chart, installed[d.chart])
		}
		// These two modules say themselves to which version they belong.
		_, version, _ := strings.Cut(d.module, "@")
		switch d.chart {
		case "cert-manager":
			if version != d.version {
				t.Errorf("the definitions are %s: expected %s", d.module, d.version)
			}
		case "knative-operator":
			source, err := downloaded(d.module)
			if err != nil {
				t.Fatal(err)
			}
			manifests, err := filepath.Glob(filepath.Join(source, "cmd/operator/kodata/knative-serving/*"))
			if err != nil || len(manifests) == 0 || "v"+filepath.Base(manifests[len(manifests)-1]) != d.version {
				t.Errorf("the newest Knative of %s is not %s: %q, %v", d.module, d.version, manifests, err)
			}
		}
	}
}

// TestPodsAreSpread: a node that is lost or drained has at most one of the edge's pods, and one of relay's.
func TestPodsAreSpread(t *testing.T) {
	t.Parallel()
	for _, o := range rendered(t, "03-application/charts/knative", "knative", nil) {
		if o.GetKind() != "KnativeServing" {
			continue
		}
		if affinity, _, _ := unstructured.NestedString(o.Object, "spec", "config", "deployment", "default-affinity-type"); affinity != "prefer-spread-revision-over-nodes" {
			t.Errorf("Knative's default-affinity-type is %q: expected prefer-spread-revision-over-nodes", affinity)
		}
	}
	budgets := make(map[string]string) // by what they select
	for _, o := range rendered(t, "03-application/charts/warble", "warble", nil) {
		if o.GetKind() == "PodDisruptionBudget" {
			service, _, _ := unstructured.NestedString(o.Object, "spec", "selector", "matchLabels", "warble.dev/service")
			unavailable, _, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "maxUnavailable")
			budgets[service] = fmt.Sprint(unavailable)
		}
	}
	if want := map[string]string{"edge": "1", "relay": "1"}; !maps.Equal(budgets, want) {
		t.Errorf("budgets of disruption are %v: expected %v", budgets, want)
	}
}

// TestTheGatewaySeesTheClientsAddress: the edge limits rates by the last address of X-Forwarded-For. Envoy must append the address of its
// peer there, and trust no earlier address, because clients can send any. The peer must be the client, and not a node that passed the
// packets on.
func TestTheGatewaySeesTheClientsAddress(t *testing.T) {
	t.Parallel()
	for _, chart := range charts {
		if chart.namespace != "knative" {
			continue
		}
		found := make(map[string]string)
		for _, o := range rendered(t, chart.folder, chart.namespace, chart.values) {
			switch {
			case o.GetKind() == "KnativeServing":
				for _, name := range []string{"use-remote-address", "trusted-hops-count"} {
					found[name], _, _ = unstructured.NestedString(o.Object, "spec", "config", "kourier", name)
				}
			case o.GetKind() == "Service" && o.GetName() == "public":
				found["externalTrafficPolicy"], _, _ = unstructured.NestedString(o.Object, "spec", "externalTrafficPolicy")
			}
		}
		if want := map[string]string{"use-remote-address": "true", "trusted-hops-count": "0", "externalTrafficPolicy": "Local"}; !maps.Equal(found, want) {
			t.Errorf("%s: the gateway has %v: expected %v", chart.name, found, want)
		}
	}
}

// TestTheGatewayFindsItsNodes: the gateway must run on its nodes, because the firewall drops answers from others, and nothing else may run there.
func TestTheGatewayFindsItsNodes(t *testing.T) {
	t.Parallel()
	for _, with := range []map[string]any{nil, gatewayPool} {
		var serving knativeServing
		for _, o := range rendered(t, "03-application/charts/knative", "knative", with) {
			switch {
			case o.GetKind() == "Service" && o.GetName() == "public" && o.GetNamespace() != "knative-serving":
				t.Errorf("the public Service is in %s: expected knative-serving, which the operator puts the gateway into", o.GetNamespace())
			case o.GetKind() == "KnativeServing":
				if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &serving); err != nil {
					t.Fatal(err)
				}
			}
		}
		if with == nil {
			if len(serving.Spec.Workloads) > 0 {
				t.Errorf("the gateway waits for nodes of its own: %v", serving.Spec.Workloads)
			}
			continue
		}
		if len(serving.Spec.Workloads) != 1 {
			t.Fatalf("%d workloads have nodes of their own: expected the gateway", len(serving.Spec.Workloads))
		}
		w := serving.Spec.Workloads[0]
		taint := corev1.Toleration{Key: "warble.dev/pool", Operator: corev1.TolerationOpEqual, Value: "gateways", Effect: corev1.TaintEffectNoSchedule}
		if w.Name != "3scale-kourier-gateway" || w.NodeSelector["warble.dev/pool"] != "gateways" || !slices.Contains(w.Tolerations, taint) {
			t.Errorf("the gateway is not on its nodes: %+v", w)
		}
	}
}

// knativeServing is what of one says where its pods go.
type knativeServing struct {
	Spec struct {
		Workloads []struct {
			Name         string              `json:"name"`
			NodeSelector map[string]string   `json:"nodeSelector"`
			Tolerations  []corev1.Toleration `json:"tolerations"`
		} `json:"workloads"`
	} `json:"spec"`
}

// TestKindIsAsAKS: the cluster on a laptop has the same minor version, the same Knative, and the same charts without the parts that need Azure
// on AKS.
func TestKindIsAsAKS(t *testing.T) {
	t.Parallel()
	const folder = "../e2e/cluster/"
	script, err := os.ReadFile(folder + "kind.sh")
	if err != nil {
		t.Fatal(err)
	}
	for file, wanted := range map[string]*regexp.Regexp{
		"01-cluster/variables.tf":     regexp.MustCompile(`variable "kubernetes_version" \{[^}]*default += "([0-9.]+)"`),
		"03-application/variables.tf": regexp.MustCompile(`variable "knative_version" \{[^}]*default += "([0-9.]+)"`),
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := wanted.FindSubmatch(text)
		if found == nil {
			t.Fatalf("%s: no version", file)
		}
		pinned := regexp.MustCompile(`(?m)^(node=kindest/node:v` + regexp.QuoteMeta(string(found[1])) + `\.[0-9]+@sha256:[0-9a-f]{64}|knative=v` + regexp.QuoteMeta(string(found[1])) + `)$`)
		if !pinned.Match(script) {
			t.Errorf("kind.sh has not the version %s of %s", found[1], file)
		}
	}
	for chart, away := range map[string][]string{"knative": nil, "warble": {"ExternalSecret", "ClusterSecretStore"}} {
		text, err := os.ReadFile(folder + "kind-" + chart + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		var values map[string]any
		if err := yaml.Unmarshal(text, &values); err != nil {
			t.Fatal(err)
		}
		here := make(map[string]bool)
		for _, o := range rendered(t, "03-application/charts/"+chart, chart, values) {
			here[o.GetKind()+" "+o.GetName()] = true
			for _, fault := range faults(t, o) {
				t.Errorf("%s %s: %s", o.GetKind(), o.GetName(), fault)
			}
			if kind, _, _ := unstructured.NestedString(o.Object, "spec", "type"); o.GetKind() == "Service" && kind != "NodePort" {
				t.Errorf("Service %s is a %s: kind has no load balancer", o.GetName(), kind)
			}
		}
		for _, o := range rendered(t, "03-application/charts/"+chart, chart, nil) {
			if name := o.GetKind() + " " + o.GetName(); here[name] == slices.Contains(away, o.GetKind()) {
				t.Errorf("chart %s: %s is on kind: %t", chart, name, here[name])
			}
		}
	}
}

// TestTheClusterRefuses finds a check that would accept everything.
func TestTheClusterRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: a}\nspec: {maxUnavailible: 1}":                                                         `unknown field "spec.maxUnavailible"`,
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {podSelector: [], policyTypes: [Egress]}":                               "cannot unmarshal array",
		"apiVersion: operator.knative.dev/v1beta1\nkind: KnativeServing\nmetadata: {name: a}\nspec: {ingress: {kourier: {enabled: true, service-typ: ClusterIP}}}": "unknown field spec.ingress.kourier.service-typ",
		"apiVersion: external-secrets.io/v1\nkind: ClusterSecretStore\nmetadata: {name: a}\nspec: {provider: {azurekv: {authType: Password}}}":                     "Unsupported value",
		"apiVersion: cert-manager.io/v1\nkind: Issuers\nmetadata: {name: a}":                                                                                       "no such kind",
	} {
		found := faults(t, decoded(t, want, []byte(text))[0])
		if !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("%s: %q, expected %q", text, found, want)
		}
	}
}

// names of what is rendered, so that a template that renders nothing is seen.
func TestChartsRenderEveryTemplate(t *testing.T) {
	t.Parallel()
	for _, chart := range charts {
		objects := make(map[string]bool)
		for _, o := range rendered(t, chart.folder, chart.namespace, chart.values) {
			objects[o.GetKind()+" "+o.GetName()] = true
		}
		templates, err := filepath.Glob(filepath.Join(chart.folder, "templates", "*.yaml"))
		if err != nil || len(objects) < len(templates) {
			t.Errorf("%s: %q of %d templates, %v", chart.name, slices.Sorted(maps.Keys(objects)), len(templates), err)
		}
	}
}
