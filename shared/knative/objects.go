package knative

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"warble/shared/rollout"
)

// Objects reads and changes objects of any kind, for a command that applies manifests. A resource is named by its API version and
// its plural, for example "serving.knative.dev/v1/services". Objects are decoded into the caller's struct by encoding/json.
// Errors: rollout.ErrNotFound, rollout.ErrConflict, ErrUnreachable, and any other error of the API server.
type Objects struct {
	core      *rest.RESTClient
	namespace string // empty for objects without a namespace
	manager   string // the field manager of every write
	known     map[string]*metav1.APIResourceList
}

// ErrUnreachable is returned if the API server does not answer.
var ErrUnreachable = errors.New("cannot reach the API server")

// NewObjects returns Objects of a namespace. Warnings of the API server are dropped. A request takes 30 s at most.
func NewObjects(config *rest.Config, namespace, manager string) (*Objects, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Timeout, config.WarningHandler = -1, 30*time.Second, rest.NoWarnings{}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	core, err := Client(config, client, corev1.SchemeGroupVersion, corev1.AddToScheme)
	return &Objects{core, namespace, manager, make(map[string]*metav1.APIResourceList)}, err
}

// In returns Objects of another namespace, or of objects without a namespace if the argument is empty.
func (o *Objects) In(namespace string) *Objects {
	return &Objects{o.core, namespace, o.manager, o.known}
}

// Get reads one object.
func (o *Objects) Get(ctx context.Context, value any, resource, name string) error {
	return answer(o.withPath(o.core.Get(), resource).Name(name).Do(ctx), value)
}

// List reads the objects whose labels match selector; all objects if it is empty.
func (o *Objects) List(ctx context.Context, value any, resource, selector string) error {
	return answer(o.withPath(o.core.Get(), resource).Param("labelSelector", selector).Do(ctx), value)
}

// Patch merges patch, encoded as JSON, into an object. ErrConflict if patch has a resourceVersion that is not the latest.
func (o *Objects) Patch(ctx context.Context, resource, name string, patch any) error {
	text, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	return answer(o.withPath(o.core.Patch(types.MergePatchType), resource).Name(name).Param("fieldManager", o.manager).Body(text).Do(ctx), nil)
}

// Delete deletes an object. The garbage collector later deletes the objects that it owns.
func (o *Objects) Delete(ctx context.Context, resource, name string) error {
	request := o.withPath(o.core.Delete(), resource).Name(name).Param("propagationPolicy", string(metav1.DeletePropagationBackground))
	return answer(request.Do(ctx), nil)
}

// Apply creates or changes an object, in YAML or JSON, by server-side apply. ErrConflict names the fields that have another manager;
// with force, Apply takes them over instead. With dry, the API server only checks the object.
func (o *Objects) Apply(ctx context.Context, apiVersion, kind, name string, object []byte, force, dry bool) error {
	resource, err := o.discover(ctx, apiVersion, kind)
	if err != nil {
		return err
	}
	if !resource.Namespaced {
		o = o.In("")
	}
	request := o.withPath(o.core.Patch(types.ApplyYAMLPatchType), apiVersion+"/"+resource.Name).Name(name).
		Param("fieldManager", o.manager).Param("fieldValidation", "Strict").Param("force", strconv.FormatBool(force))
	if dry {
		request.Param("dryRun", metav1.DryRunAll)
	}
	return answer(request.Body(object).Do(ctx), nil)
}

// discover returns the resource of a kind. It asks the API server once for each API version.
func (o *Objects) discover(ctx context.Context, apiVersion, kind string) (*metav1.APIResource, error) {
	list := o.known[apiVersion]
	if list == nil {
		list = new(metav1.APIResourceList)
		if err := answer(o.core.Get().AbsPath(root(apiVersion), apiVersion).Do(ctx), list); err != nil && !errors.Is(err, rollout.ErrNotFound) {
			return nil, err
		}
		o.known[apiVersion] = list
	}
	for i, r := range list.APIResources {
		if r.Kind == kind && !strings.Contains(r.Name, "/") { // services/status has the same kind
			return &list.APIResources[i], nil
		}
	}
	return nil, fmt.Errorf("%w: the cluster does not know %s of %s: install the component that it belongs to", rollout.ErrNotFound, kind, apiVersion)
}

// Log returns the last lines of a container's log; with previous, the log before the container's last restart.
func (o *Objects) Log(ctx context.Context, pod, container string, lines int, previous bool) (string, error) {
	result := o.withPath(o.core.Get(), "v1/pods").Name(pod).SubResource("log").
		Param("container", container).Param("tailLines", strconv.Itoa(lines)).Param("previous", strconv.FormatBool(previous)).Do(ctx)
	if err := answer(result, nil); err != nil {
		return "", err
	}
	text, err := result.Raw()
	return string(text), err
}

// withPath completes a request with the path of a resource.
func (o *Objects) withPath(request *rest.Request, resource string) *rest.Request {
	apiVersion, plural := path.Split(resource)
	apiVersion = path.Clean(apiVersion)
	return request.AbsPath(root(apiVersion), apiVersion).NamespaceIfScoped(o.namespace, o.namespace != "").Resource(plural)
}

func root(apiVersion string) string {
	if strings.Contains(apiVersion, "/") {
		return "/apis"
	}
	return "/api" // of the core, which has no group
}

// answer decodes the API server's answer into value, unless value is nil.
func answer(result rest.Result, value any) error {
	err := result.Error()
	if _, answered := errors.AsType[*apierrors.StatusError](err); err != nil && !answered {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if err != nil || value == nil {
		return failure(err)
	}
	text, err := result.Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(text, value)
}
