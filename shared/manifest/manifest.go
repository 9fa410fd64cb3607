// Package manifest reads the Knative Services of knative/500-*.yaml. Each is the only description of a function: for the cluster,
// for the local run, and for the tests that compare folders, manifests and contract.
//
// The types have the members of serving.knative.dev/v1 that the manifests use. Any other member is an error that names the
// file, because the local run would silently ignore it.
package manifest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Service is a Knative Service.
type Service struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       struct {
		Template struct {
			Metadata Metadata `json:"metadata"`
			Spec     PodSpec  `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

// Metadata is the metadata of an object.
type Metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// PodSpec is the pod specification of a revision.
type PodSpec struct {
	ServiceAccountName   string      `json:"serviceAccountName"`
	EnableServiceLinks   bool        `json:"enableServiceLinks"`
	ContainerConcurrency int         `json:"containerConcurrency"`
	TimeoutSeconds       int         `json:"timeoutSeconds"`
	Containers           []Container `json:"containers"`
	Volumes              []Volume    `json:"volumes"`
}

// Container is the only container of a function.
type Container struct {
	Image string `json:"image"`
	Ports []struct {
		ContainerPort int `json:"containerPort"`
	} `json:"ports"`
	Env            []Variable `json:"env"`
	ReadinessProbe Probe      `json:"readinessProbe"`
	LivenessProbe  Probe      `json:"livenessProbe"`
	Resources      struct {
		Requests map[string]string `json:"requests"`
		Limits   map[string]string `json:"limits"`
	} `json:"resources"`
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `json:"allowPrivilegeEscalation"`
		Capabilities             struct {
			Drop []string `json:"drop"`
		} `json:"capabilities"`
		ReadOnlyRootFilesystem bool `json:"readOnlyRootFilesystem"`
		RunAsNonRoot           bool `json:"runAsNonRoot"`
		SeccompProfile         struct {
			Type string `json:"type"`
		} `json:"seccompProfile"`
	} `json:"securityContext"`
	VolumeMounts []struct {
		Name      string `json:"name"`
		MountPath string `json:"mountPath"`
		ReadOnly  bool   `json:"readOnly"`
	} `json:"volumeMounts"`
}

// Variable is an environment variable, with a value or a reference to a value.
type Variable struct {
	Name      string `json:"name"`
	Value     string `json:"value"`
	ValueFrom *struct {
		SecretKeyRef    *OptionalKeyRef `json:"secretKeyRef"`
		ConfigMapKeyRef *KeyRef         `json:"configMapKeyRef"`
	} `json:"valueFrom"`
}

// KeyRef names a key of a secret or a config map.
type KeyRef struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// OptionalKeyRef is a KeyRef that may be optional: then the variable is not set if the key does not exist.
type OptionalKeyRef struct {
	KeyRef

	Optional bool `json:"optional"`
}

// Probe is an HTTP probe.
type Probe struct {
	HTTPGet struct {
		Path string `json:"path"`
	} `json:"httpGet"`
	InitialDelaySeconds int `json:"initialDelaySeconds"`
	PeriodSeconds       int `json:"periodSeconds"`
	TimeoutSeconds      int `json:"timeoutSeconds"`
	FailureThreshold    int `json:"failureThreshold"`
}

// Volume has the files of a secret or a config map.
type Volume struct {
	Name   string `json:"name"`
	Secret *struct {
		SecretName string `json:"secretName"`
	} `json:"secret"`
	ConfigMap *struct {
		Name     string `json:"name"`
		Optional bool   `json:"optional"`
	} `json:"configMap"`
}

const (
	// RoutesAnnotation lists the public paths of a function, as net/http patterns without a method, separated by spaces.
	RoutesAnnotation = "warble.dev/routes"
	// NoRoutes is the value of RoutesAnnotation for a function to which the edge sends nothing.
	NoRoutes = "none"

	// StreamsAnnotation lists those of the routes whose answers may take the timeoutSeconds of the Service, as a guest's may, in
	// place of the edge's UPSTREAM_TIMEOUT.
	StreamsAnnotation = "warble.dev/streams"

	// Guest is a label or annotation with the value "true". It marks a Service that does not belong to Warble: the edge passes its
	// requests and answers on unchanged.
	Guest = "warble.dev/guest"
	// HostsAnnotation lists the public hosts of a guest, without ports, separated by spaces. All paths of these hosts go to the guest.
	HostsAnnotation = "warble.dev/hosts"
	// RateLimitAnnotation is how many requests a caller may send to a guest in a window, for example 100/1m. Without it there is no limit.
	RateLimitAnnotation = "warble.dev/rate-limit"

	// ServiceLabel is on the pods of a function and of its arms. Network policies and scrapers select pods by it, because the pods of
	// arms do not have Knative's own label of a Service.
	ServiceLabel = "warble.dev/service"
	// ExperimentsAnnotation says which experiments may make arms of a function. If it is missing, all may.
	ExperimentsAnnotation = "warble.dev/experiments"
	NoExperiments         = "none"
	ByRequestOnly         = "request"

	imagePrefix = "ko://warble/functions/"
	port        = 8080
)

// Name returns the name of the function.
func (s *Service) Name() string { return s.Metadata.Name }

// Container returns the only container. The Service must have been checked by Read or Parse.
func (s *Service) Container() *Container { return &s.Spec.Template.Spec.Containers[0] }

// Guest reports whether the Service does not belong to Warble.
func (s *Service) Guest() bool {
	return s.Metadata.Labels[Guest] == "true" || s.Metadata.Annotations[Guest] == "true"
}

// Routes returns the paths that the edge sends to the function.
func (s *Service) Routes() []string { return Routes(s.Metadata.Annotations[RoutesAnnotation]) }

// Streams returns the routes in the Service's StreamsAnnotation, each with the number of seconds that an answer may take.
func (s *Service) Streams() map[string]int {
	return Streams(s.Metadata.Annotations[StreamsAnnotation], s.Spec.Template.Spec.TimeoutSeconds)
}

// Streams returns the routes that a StreamsAnnotation lists, each with the timeoutSeconds of its Service; nil if it lists none.
func Streams(annotation string, timeoutSeconds int) map[string]int {
	var streams map[string]int
	for _, route := range strings.Fields(annotation) {
		if streams == nil {
			streams = make(map[string]int)
		}
		streams[route] = timeoutSeconds
	}
	return streams
}

// Routes returns the paths that a RoutesAnnotation lists.
func Routes(annotation string) []string {
	routes := strings.Fields(annotation)
	if len(routes) == 1 && routes[0] == NoRoutes {
		return nil
	}
	return routes
}

// Read reads one manifest.
func Read(file string) (*Service, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if want := "500-" + s.Name() + ".yaml"; filepath.Base(file) != want {
		return nil, fmt.Errorf("%s: metadata.name is %q: expected the file to be called %s", file, s.Name(), want)
	}
	return s, nil
}

// Parse reads and checks the text of one manifest. It reports all mistakes together.
func Parse(text []byte) (*Service, error) {
	var s Service
	if err := yaml.UnmarshalStrict(text, &s); err != nil {
		return nil, err
	}
	return &s, s.check()
}

// ReadAll reads every 500-*.yaml in folder, in the order of the file names. It is an error if two functions have the same path.
func ReadAll(folder string) ([]*Service, error) {
	files, err := filepath.Glob(filepath.Join(folder, "500-*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no 500-*.yaml here", folder)
	}
	var (
		services []*Service
		mistakes []error
		owner    = make(map[string]string)
	)
	for _, file := range files {
		s, err := Read(file)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		services = append(services, s)
		for _, route := range s.Routes() {
			for taken, other := range owner {
				if taken == route {
					mistakes = append(mistakes, fmt.Errorf("%s: %s claims %s, which belongs to %s", file, RoutesAnnotation, route, other))
				} else if err := patterns(taken, route); err != nil {
					mistakes = append(mistakes, fmt.Errorf("%s: %s claims %s, but some of its requests also match %s of %s", file, RoutesAnnotation, route, taken, other))
				}
			}
			owner[route] = s.Name()
		}
	}
	return services, errors.Join(mistakes...)
}

// patterns returns why ServeMux, with which the edge chooses a function, refuses routes: a pattern is malformed, or of two
// overlapping patterns neither is more specific.
func patterns(routes ...string) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	mux := http.NewServeMux()
	for _, route := range routes {
		mux.Handle(route, http.NotFoundHandler())
	}
	return nil
}

func (s *Service) check() error {
	var mistakes []error
	expect := func(ok bool, field, expected string) {
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("%s: expected %s", field, expected))
		}
	}
	expect(s.APIVersion == "serving.knative.dev/v1" && s.Kind == "Service", "kind", "a serving.knative.dev/v1 Service")
	expect(s.Name() != "", "metadata.name", "the function's name")
	if len(s.Spec.Template.Spec.Containers) != 1 {
		return errors.Join(append(mistakes, errors.New("spec.template.spec.containers: expected one container"))...)
	}
	c := s.Container()
	expect(c.Image == imagePrefix+s.Name(), "image", imagePrefix+s.Name())
	expect(len(c.Ports) == 1 && c.Ports[0].ContainerPort == port, "ports", fmt.Sprintf("one containerPort, %d", port))
	expect(c.ReadinessProbe.HTTPGet.Path == "/healthz", "readinessProbe", "an httpGet of /healthz")
	expect(s.Metadata.Annotations[RoutesAnnotation] != "", "metadata.annotations", RoutesAnnotation+", the function's public paths, or "+NoRoutes)
	for _, route := range s.Routes() {
		expect(strings.HasPrefix(route, "/"), RoutesAnnotation, "paths that begin with /, not "+route)
		if err := patterns(route); err != nil {
			expect(false, RoutesAnnotation, fmt.Sprintf("patterns of net/http, not %s: %v", route, err))
		}
	}
	for route, seconds := range s.Streams() {
		expect(slices.Contains(s.Routes(), route) && seconds > 0, StreamsAnnotation, "routes of "+RoutesAnnotation+" and a timeoutSeconds, not "+route)
	}
	public := s.Metadata.Labels["networking.knative.dev/visibility"] != "cluster-local"
	expect(public == (s.Name() == "edge"), "metadata.labels", "networking.knative.dev/visibility: cluster-local on every function but the edge")

	expect(s.Spec.Template.Metadata.Labels[ServiceLabel] == s.Name(),
		"template.metadata.labels", ServiceLabel+": "+s.Name()+", by which network policies and scrapers find its pods and those of its arms")
	experiments, limited := s.Metadata.Annotations[ExperimentsAnnotation]
	expect(!limited || experiments == NoExperiments || experiments == ByRequestOnly, ExperimentsAnnotation,
		fmt.Sprintf("none, request or no such annotation, not %q", experiments))
	expect(s.Spec.Template.Metadata.Labels["tags.datadoghq.com/service"] == s.Name() && s.Spec.Template.Metadata.Labels["admission.datadoghq.com/enabled"] == "true",
		"template.metadata.labels", "tags.datadoghq.com/service: "+s.Name()+" and admission.datadoghq.com/enabled: \"true\", by which a cluster with Datadog's agent has traces")

	security := c.SecurityContext
	expect(security.AllowPrivilegeEscalation != nil && !*security.AllowPrivilegeEscalation && security.ReadOnlyRootFilesystem &&
		security.RunAsNonRoot && len(security.Capabilities.Drop) == 1 && security.Capabilities.Drop[0] == "ALL" &&
		security.SeccompProfile.Type == "RuntimeDefault",
		"securityContext", "the restricted one: no escalation, drop ALL, non-root, read-only root, RuntimeDefault")

	volumes := make(map[string]bool)
	for _, volume := range s.Spec.Template.Spec.Volumes {
		volumes[volume.Name] = true
		expect((volume.Secret != nil) != (volume.ConfigMap != nil), "volumes."+volume.Name, "a secret or a configMap")
	}
	for _, mount := range c.VolumeMounts {
		expect(volumes[mount.Name], "volumeMounts."+mount.Name, "a volume of that name")
	}
	for _, variable := range c.Env {
		from := variable.ValueFrom
		expect(from == nil || variable.Value == "" && (from.SecretKeyRef != nil) != (from.ConfigMapKeyRef != nil),
			"env."+variable.Name, "a value, a secretKeyRef or a configMapKeyRef")
	}
	return errors.Join(mistakes...)
}
