// Package clustertest provides a cluster for the transcripts of cmd/deploy: an API server on loopback, and as much of the
// controllers as a deployment sees.
//
// Each object is a JSON file in a folder, named RESOURCE_NAME, as in secrets_warble-edge or services.serving.knative.dev_tweet.
// Tests read and change the files. A custom resource is served while the file of its definition exists. The file calls has a line
// for each request. Tests write other files to control the cluster:
//
//	refuse       the RESOURCE_NAME that an admission webhook denies
//	forbid       the beginning of requests that the user may not make, such as "PATCH /apis/batch"
//	leave        the beginning of the request at which the API server becomes unavailable for good
//	broken_NAME  the reason why the Service NAME never becomes ready
//	newest       the end of the names of new revisions; -00002 if there is no such file
//	fail-job     the beginning of the names of Jobs that fail
//	log          what every pod writes
package clustertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// object is an object of the API, as encoding/json decodes it.
type object = map[string]any

// Cluster is a cluster with one namespace, warble.
type Cluster struct {
	folder, edge string
	server       *httptest.Server

	mu       sync.Mutex
	version  int                            // of the object that was written last
	managers map[string]map[field][]manager // of each field of each file
}

// Start starts a cluster. It writes the file kubeconfig and the definitions of Knative's custom resources into folder. edge is the
// URL in the status of every Service, also of the edge.
func Start(folder, edge string) (*Cluster, error) {
	c := &Cluster{folder: folder, edge: edge, managers: make(map[string]map[field][]manager)}
	c.server = httptest.NewServer(c)
	config := `{"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}], "users": [{"name": "test", "user": {}}],
		"clusters": [{"name": "test", "cluster": {"server": "` + c.server.URL + `"}}]}`
	err := os.WriteFile(filepath.Join(folder, "kubeconfig"), []byte(config), 0o600)
	for _, k := range kinds {
		if k.custom() && k.kind != "Experiment" {
			err = errors.Join(err, c.save(k.definition(), object{"metadata": object{"labels": object{"app.kubernetes.io/version": "1.23.0"}}}))
		}
	}
	return c, err
}

// Close stops the API server.
func (c *Cluster) Close() { c.server.Close() }

// kind is a kind of object, as discovery describes it.
type kind struct {
	version, kind, plural string
	namespaced            bool
}

var kinds = []kind{
	{"v1", "Namespace", "namespaces", false},
	{"v1", "ServiceAccount", "serviceaccounts", true},
	{"v1", "Secret", "secrets", true},
	{"v1", "ConfigMap", "configmaps", true},
	{"v1", "Pod", "pods", true},
	{"v1", "Service", "services", true},
	{"batch/v1", "Job", "jobs", true},
	{"rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false},
	{"rbac.authorization.k8s.io/v1", "Role", "roles", true},
	{"rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true},
	{"apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false},
	{"serving.knative.dev/v1", "Service", "services", true},
	{"serving.knative.dev/v1", "Revision", "revisions", true},
	{"eventing.knative.dev/v1", "Broker", "brokers", true},
	{"eventing.knative.dev/v1", "Trigger", "triggers", true},
	{"sources.knative.dev/v1", "PingSource", "pingsources", true},
	{"warble.dev/v1alpha1", "Experiment", "experiments", true},
}

// resource returns the plural with the group, such as jobs.batch.
func (k kind) resource() string {
	if group, _, grouped := strings.Cut(k.version, "/"); grouped {
		return k.plural + "." + group
	}
	return k.plural
}

func (k kind) file(name string) string { return k.resource() + "_" + name }

func (k kind) custom() bool {
	return strings.Contains(k.version, "knative.dev/") || strings.Contains(k.version, "warble.dev/")
}

func (k kind) definition() string {
	return "customresourcedefinitions.apiextensions.k8s.io_" + k.resource()
}

// refusal is an error that the API server sends as a Status.
type refusal struct {
	code            int
	reason, message string
}

func (r refusal) Error() string { return r.message }

func (k kind) notFound(name string) error {
	return refusal{http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", k.resource(), name)}
}

var errNoResource = refusal{http.StatusNotFound, "NotFound", "the server could not find the requested resource"}

// ServeHTTP answers a request to the API server, one request at a time.
func (c *Cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer, err := c.answer(r)
	if text, ok := answer.(string); ok {
		_, _ = io.WriteString(w, text) // if this fails, the client has gone; so too below
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		known, ok := errors.AsType[refusal](err)
		if !ok {
			known = refusal{http.StatusInternalServerError, "InternalError", err.Error()}
		}
		w.WriteHeader(known.code)
		answer = object{"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": known.reason, "message": known.message, "code": known.code}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// answer returns a value to be encoded as JSON, or a string to be sent as it is.
func (c *Cluster) answer(r *http.Request) (any, error) {
	call := r.Method + " " + r.URL.RequestURI()
	if err := c.record(call); err != nil {
		return nil, err
	}
	if at, ok := c.readFile("leave"); ok && strings.HasPrefix(call, at) {
		_ = c.server.Listener.Close()
		panic(http.ErrAbortHandler)
	}
	if at, ok := c.readFile("forbid"); ok && strings.HasPrefix(call, at) {
		return nil, refusal{http.StatusForbidden, "Forbidden", `User "ada" cannot ` + r.Method + " " + r.URL.Path}
	}
	segments := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	n := map[string]int{"api": 1, "apis": 2}[segments[0]] // how many segments the version has
	if n == 0 || len(segments) < n+1 {
		return nil, errNoResource
	}
	version, rest := strings.Join(segments[1:n+1], "/"), segments[n+1:]
	if len(rest) == 0 {
		return c.discovery(version)
	}
	namespace := ""
	if len(rest) > 2 && rest[0] == "namespaces" {
		namespace, rest = rest[1], rest[2:]
	}
	i := slices.IndexFunc(kinds, func(k kind) bool {
		return k.version == version && k.plural == rest[0] && k.namespaced == (namespace != "") && c.serves(k)
	})
	if i < 0 {
		return nil, errNoResource
	}
	switch k := kinds[i]; {
	case len(rest) == 1 && r.Method == http.MethodGet:
		return c.list(k)
	case len(rest) == 1:
		return nil, refusal{http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method + " is not served"}
	case namespace != "" && namespace != "warble":
		return nil, k.notFound(rest[1])
	case len(rest) == 3 && k.plural == "pods" && rest[2] == "log":
		if text, ok := c.readFile("log"); ok {
			return text, nil
		}
		return nil, refusal{http.StatusBadRequest, "BadRequest", "its container is waiting to start: ContainerCreating"}
	case r.Method == http.MethodGet:
		return c.load(k, rest[1])
	case r.Method == http.MethodDelete:
		return c.remove(k, rest[1])
	case r.Method == http.MethodPatch:
		return c.patch(k, rest[1], r)
	}
	return nil, refusal{http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method + " is not served"}
}

func (c *Cluster) discovery(version string) (any, error) {
	var resources []object
	for _, k := range kinds {
		if k.version == version && c.serves(k) {
			resources = append(resources, object{"name": k.plural, "kind": k.kind, "namespaced": k.namespaced},
				object{"name": k.plural + "/status", "kind": k.kind, "namespaced": k.namespaced})
		}
	}
	if resources == nil {
		return nil, errNoResource
	}
	return object{"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": version, "resources": resources}, nil
}

// serves reports whether a kind is served: a custom resource needs its definition.
func (c *Cluster) serves(k kind) bool {
	_, defined := c.readFile(k.definition())
	return defined || !k.custom()
}

// patch carries out a server-side apply, or a merge patch (RFC 7396).
func (c *Cluster) patch(k kind, name string, r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var document any // from YAML, or from JSON, which is valid YAML
	if err := yaml.Unmarshal(body, &document); err != nil {
		return nil, refusal{http.StatusBadRequest, "BadRequest", err.Error()}
	}
	patch, err := plain(document)
	if err != nil {
		return nil, err
	}
	query := r.URL.Query()
	if r.Header.Get("Content-Type") != "application/apply-patch+yaml" {
		return c.merge(k, name, patch, manager{query.Get("fieldManager"), false})
	}
	if refused, _ := c.readFile("refuse"); refused == k.file(name) {
		return nil, refusal{http.StatusBadRequest, "BadRequest", `admission webhook "validation.webhook.serving.knative.dev" denied the request: ` +
			"validation failed: expected 0 <= -1 <= 1000: spec.template.spec.containerConcurrency"}
	}
	return c.apply(k, name, patch, manager{query.Get("fieldManager"), true}, query.Get("force") == "true", query.Get("dryRun") == "All")
}
