//go:build infra

package terraform_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"warble/shared/manifest"
)

// peer is a pod, or an address outside the cluster.
type peer struct {
	namespace string
	labels    map[string]string
	address   string
}

func (p peer) String() string {
	if p.address != "" {
		return p.address
	}
	return p.namespace + "/" + labels.Set(p.labels).String()
}

// policies have the meaning that they have in a cluster: a pod that no policy selects is open. A pod that is selected is closed, except for
// the connections that a rule of its policies allows.
type policies []networkingv1.NetworkPolicy

func (all policies) allow(from, to peer, port int, protocol string) (bool, error) {
	out, err := all.direction(from, to, port, protocol, networkingv1.PolicyTypeEgress)
	if err != nil || !out {
		return false, err
	}
	return all.direction(to, from, port, protocol, networkingv1.PolicyTypeIngress)
}

// direction reports whether the policies that select one allow other.
func (all policies) direction(one, other peer, port int, protocol string, kind networkingv1.PolicyType) (bool, error) {
	closed := false
	for _, p := range all {
		if one.address != "" || p.Namespace != one.namespace || !slices.Contains(p.Spec.PolicyTypes, kind) {
			continue
		}
		if selected, err := matches(&p.Spec.PodSelector, one.labels); err != nil || !selected {
			if err != nil {
				return false, err
			}
			continue
		}
		closed = true
		type rule struct {
			peers []networkingv1.NetworkPolicyPeer
			ports []networkingv1.NetworkPolicyPort
		}
		var rules []rule
		if kind == networkingv1.PolicyTypeEgress {
			for _, r := range p.Spec.Egress {
				rules = append(rules, rule{r.To, r.Ports})
			}
		} else {
			for _, r := range p.Spec.Ingress {
				rules = append(rules, rule{r.From, r.Ports})
			}
		}
		for _, r := range rules {
			open, err := opens(r.peers, p.Namespace, other)
			if err != nil {
				return false, err
			}
			if open && takes(r.ports, port, protocol) {
				return true, nil
			}
		}
	}
	return !closed, nil
}

func opens(peers []networkingv1.NetworkPolicyPeer, namespace string, other peer) (bool, error) {
	if len(peers) == 0 {
		return true, nil
	}
	for _, p := range peers {
		if p.IPBlock != nil {
			block, err := netip.ParsePrefix(p.IPBlock.CIDR)
			if err != nil {
				return false, err
			}
			if address, err := netip.ParseAddr(other.address); err == nil && block.Contains(address) {
				return true, nil
			}
			continue
		}
		if other.address != "" {
			continue
		}
		inside := other.namespace == namespace
		if p.NamespaceSelector != nil {
			var err error
			if inside, err = matches(p.NamespaceSelector, map[string]string{"kubernetes.io/metadata.name": other.namespace}); err != nil {
				return false, err
			}
		}
		selected := true
		if p.PodSelector != nil {
			var err error
			if selected, err = matches(p.PodSelector, other.labels); err != nil {
				return false, err
			}
		}
		if inside && selected {
			return true, nil
		}
	}
	return false, nil
}

func takes(ports []networkingv1.NetworkPolicyPort, port int, protocol string) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		kind := "TCP"
		if p.Protocol != nil {
			kind = string(*p.Protocol)
		}
		return kind == protocol && (p.Port == nil || p.Port.IntValue() == port)
	})
}

func matches(selector *metav1.LabelSelector, set map[string]string) (bool, error) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(set)), err
}

// way is a connection that must be allowed, or must not.
type way struct {
	from, to peer
	port     int
	protocol string
	open     bool
	why      string
}

// ways returns the connections that the functions need, from their accounts and secrets, and connections that must be closed.
func ways(t *testing.T) (all []way) {
	t.Helper()
	functions, err := manifest.ReadAll("../knative")
	if err != nil {
		t.Fatal(err)
	}
	mounts := accounts(t)
	const database, outside, apiServer = "10.40.255.4", "203.0.113.7", "10.96.0.1"
	pod := func(service string) peer {
		return peer{namespace: "warble", labels: map[string]string{"warble.dev/service": service}}
	}
	in := func(namespace string) peer { return peer{namespace: namespace} }
	dns := peer{namespace: "kube-system", labels: map[string]string{"k8s-app": "kube-dns"}}
	add := func(from, to peer, port int, protocol string, open bool, why string) {
		all = append(all, way{from, to, port, protocol, open, why})
	}
	for _, f := range functions {
		p := pod(f.Name())
		mounted, known := mounts[f.Spec.Template.Spec.ServiceAccountName]
		add(p, peer{address: apiServer}, 443, "TCP", mounted || !known, "whose account mounts a token speaks to the API server, and nobody else")
		add(in("knative-serving"), p, 8012, "TCP", true, "Kourier and the activator bring requests")
		add(p, in("knative-serving"), 8081, "TCP", true, "calls of other functions go through Kourier")
		add(in("monitoring"), p, 2112, "TCP", true, "Prometheus scrapes")
		add(in("monitoring"), p, 8012, "TCP", false, "Prometheus calls no function")
		add(in("default"), p, 8012, "TCP", false, "others call a function through Kourier only")
		add(peer{address: outside}, p, 8012, "TCP", false, "the world calls a function through Kourier only")
		add(p, peer{address: outside}, 587, "TCP", f.Name() == "mail", "mail speaks to its server, and nobody else")
		add(p, peer{address: outside}, 80, "TCP", false, "a function does not speak to the world")
		add(p, dns, 53, "UDP", true, "names")
		add(p, peer{address: "169.254.10.10"}, 53, "UDP", true, "names, by LocalDNS")
		add(p, peer{address: "169.254.10.11"}, 53, "UDP", true, "names, by LocalDNS")
		add(p, peer{address: database}, 6432, "TCP", true, "the database's pooler")
		add(p, peer{address: outside}, 5432, "TCP", false, "no other database")
	}
	add(pod("relay"), in("knative-eventing"), 8080, "TCP", true, "relay publishes to the broker")
	for _, job := range jobs(t) {
		p := peer{namespace: "warble", labels: job.Spec.Template.Labels}
		mounted, known := mounts[job.Spec.Template.Spec.ServiceAccountName]
		if !known || mounted {
			t.Errorf("Job %s%s is of the account %q: expected one that mounts no token", job.Name, job.GenerateName, job.Spec.Template.Spec.ServiceAccountName)
		}
		add(p, peer{address: database}, 5432, "TCP", true, "people's Jobs go past the pooler")
		add(p, dns, 53, "UDP", true, "names")
		add(p, peer{address: outside}, 443, "TCP", false, "people's Jobs do not speak to the world")
		add(p, peer{address: apiServer}, 443, "TCP", false, "nor to the API server")
	}
	// The migration's Job has no label of a function.
	add(peer{namespace: "warble"}, peer{address: database}, 5432, "TCP", true, "the migration goes past the pooler")
	add(peer{namespace: "warble"}, peer{address: apiServer}, 443, "TCP", false, "the migration's account mounts no token")
	return all
}

// jobs returns the Jobs of knative/examples, with which people query the database.
func jobs(t *testing.T) (all []batchv1.Job) {
	t.Helper()
	files, err := filepath.Glob("../knative/examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, text := range documents(t, file) {
			var kind metav1.TypeMeta
			if err := yaml.Unmarshal([]byte(text), &kind); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if kind.Kind != "Job" {
				continue
			}
			var job batchv1.Job
			if err := yaml.UnmarshalStrict([]byte(text), &job); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			for _, c := range job.Spec.Template.Spec.Containers {
				// The namespace's standard, restricted, demands these of a pod.
				s := c.SecurityContext
				if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.SeccompProfile == nil || s.Capabilities == nil || len(s.Capabilities.Drop) == 0 {
					t.Errorf("%s: container %s: expected what the standard restricted asks for", file, c.Name)
				}
			}
			all = append(all, job)
		}
	}
	if len(all) < 3 {
		t.Fatalf("%d Jobs in knative/examples: expected those of migrate, of psql and of a community", len(all))
	}
	return all
}

// accounts returns whether each account of knative/ mounts a token.
func accounts(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../knative/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	mounts := make(map[string]bool)
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
			if account.Kind == "ServiceAccount" { // the default is to mount a token
				mounts[account.Metadata.Name] = account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken
			}
		}
	}
	return mounts
}

func networkPolicies(t *testing.T) (all policies) {
	t.Helper()
	for _, o := range rendered(t, "03-application/charts/warble", "warble", nil) {
		if o.GetKind() != "NetworkPolicy" {
			continue
		}
		var p networkingv1.NetworkPolicy
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &p); err != nil {
			t.Fatal(err)
		}
		p.Namespace = "warble" // the release's
		all = append(all, p)
	}
	return all
}

// gaps returns the ways that are open or closed by mistake.
func gaps(all policies, ways []way) (found []string) {
	for _, w := range ways {
		open, err := all.allow(w.from, w.to, w.port, w.protocol)
		if err != nil {
			return []string{err.Error()}
		}
		if open != w.open {
			found = append(found, fmt.Sprintf("%s to %s, %s port %d: open is %t, expected %t: %s", w.from, w.to, w.protocol, w.port, open, w.open, w.why))
		}
	}
	return found
}

// TestWhoReachesWhom: once, steer could not reach the API server on AKS, and could have rolled nothing back.
func TestWhoReachesWhom(t *testing.T) {
	t.Parallel()
	for _, gap := range gaps(networkPolicies(t), ways(t)) {
		t.Error(gap)
	}
}

// TestPolicyGapsAreFound opens and closes one way at a time.
func TestPolicyGapsAreFound(t *testing.T) {
	t.Parallel()
	right, all := networkPolicies(t), ways(t)
	for what, one := range map[string]struct {
		change func(p *networkingv1.NetworkPolicy)
		want   string
	}{
		"steer may not ask the API server": {func(p *networkingv1.NetworkPolicy) {
			if p.Name == "api-server" {
				p.Spec.PodSelector.MatchExpressions[0].Values = []string{"edge"}
			}
		}, "warble.dev/service=steer to 10.96.0.1, TCP port 443: open is false"},
		"everybody may": {func(p *networkingv1.NetworkPolicy) {
			if p.Name == "api-server" {
				p.Spec.PodSelector = metav1.LabelSelector{}
			}
		}, "warble.dev/service=tweet to 10.96.0.1, TCP port 443: open is true"},
		"nobody brings requests": {func(p *networkingv1.NetworkPolicy) {
			if p.Name == "warble" {
				p.Spec.Ingress = p.Spec.Ingress[1:]
			}
		}, "knative-serving/ to warble/warble.dev/service=edge, TCP port 8012: open is false"},
		"everybody comes in": {func(p *networkingv1.NetworkPolicy) {
			p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
		}, "default/ to warble/warble.dev/service=edge, TCP port 8012: open is true"},
		"mail may not send": {func(p *networkingv1.NetworkPolicy) {
			if p.Name == "mail" {
				p.Spec.Egress = nil
			}
		}, "warble.dev/service=mail to 203.0.113.7, TCP port 587: open is false"},
		"everybody may send": {func(p *networkingv1.NetworkPolicy) {
			if p.Name == "mail" {
				p.Spec.PodSelector = metav1.LabelSelector{}
			}
		}, "warble.dev/service=tweet to 203.0.113.7, TCP port 587: open is true"},
		"every address is the database's": {func(p *networkingv1.NetworkPolicy) {
			for i := range p.Spec.Egress {
				for j := range p.Spec.Egress[i].To {
					if block := p.Spec.Egress[i].To[j].IPBlock; block != nil && strings.HasPrefix(block.CIDR, "10.") {
						block.CIDR = "0.0.0.0/0"
					}
				}
			}
		}, "to 203.0.113.7, TCP port 5432: open is true"},
	} {
		var broken policies
		for _, p := range right {
			changed := p.DeepCopy()
			one.change(changed)
			broken = append(broken, *changed)
		}
		if found := gaps(broken, all); !slices.ContainsFunc(found, func(g string) bool { return strings.Contains(g, one.want) }) {
			t.Errorf("%s: %q, expected %q", what, found, one.want)
		}
	}
}
