package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"warble/shared/manifest"
)

// trimService keeps the fields that targetOf reads and that a report names.
func trimService(object any) (any, error) {
	s, ok := object.(*servingv1.Service)
	if !ok {
		return object, nil // cache.DeletedFinalStateUnknown: the informer missed a deletion
	}
	trimmed := &servingv1.Service{ObjectMeta: trimMeta(s.ObjectMeta)}
	trimmed.Annotations = make(map[string]string)
	for _, name := range []string{manifest.RoutesAnnotation, manifest.StreamsAnnotation, manifest.HostsAnnotation, manifest.RateLimitAnnotation} {
		if annotation, ok := s.Annotations[name]; ok {
			trimmed.Annotations[name] = annotation
		}
	}
	trimmed.Spec.Template.Spec.TimeoutSeconds = s.Spec.Template.Spec.TimeoutSeconds
	if isGuest(s) {
		trimmed.Annotations[manifest.Guest] = "true"
	}
	trimmed.Status.Address = s.Status.Address
	for _, t := range s.Status.Traffic {
		if t.Tag != "" {
			trimmed.Status.Traffic = append(trimmed.Status.Traffic, servingv1.TrafficTarget{Tag: t.Tag, URL: t.URL, RevisionName: t.RevisionName})
		}
		if isGuest(s) && hasAllTraffic(t) {
			trimmed.Status.Traffic = append(trimmed.Status.Traffic, servingv1.TrafficTarget{RevisionName: t.RevisionName, Percent: t.Percent})
		}
	}
	return trimmed, nil
}

// hasAllTraffic reports whether all of a Service's traffic goes to this revision.
func hasAllTraffic(t servingv1.TrafficTarget) bool { return t.Percent != nil && *t.Percent == 100 }

// isGuest reports whether a Service is a guest. trimService turns the label into an annotation.
func isGuest(s *servingv1.Service) bool {
	return s.Labels[manifest.Guest] == "true" || s.Annotations[manifest.Guest] == "true"
}

// trimRevision keeps the fields that updateReplicas reads.
func trimRevision(object any) (any, error) {
	r, ok := object.(*servingv1.Revision)
	if !ok {
		return object, nil
	}
	trimmed := &servingv1.Revision{ObjectMeta: trimMeta(r.ObjectMeta)}
	trimmed.Status.ActualReplicas = r.Status.ActualReplicas
	return trimmed, nil
}

func trimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, CreationTimestamp: m.CreationTimestamp}
}

// targetOf reads a Service's address and its claims to routes and hosts. It returns nil if the Service is not public. The Service
// need not be Ready, because Knative holds requests until a pod has started. If the Service has an error or no address yet,
// targetOf returns before, the previous target.
func targetOf(s *servingv1.Service, before *target) (*target, error) {
	annotation, ok := s.Annotations[manifest.RoutesAnnotation]
	public := ok && strings.TrimSpace(annotation) != manifest.NoRoutes
	guest, err := guestOf(s)
	if err != nil {
		return before, err
	}
	if !public && (guest == nil || len(guest.hosts) == 0) {
		return nil, nil
	}
	routes := manifest.Routes(annotation)
	if err := checkRoutes(routes); public && err != nil {
		return before, fmt.Errorf("%s: %w", manifest.RoutesAnnotation, err)
	}
	if s.Status.Address == nil || s.Status.Address.URL == nil {
		return before, nil
	}
	address, err := addressOf(s.Status.Address.URL)
	if err != nil {
		return before, fmt.Errorf("status.address.url: %w", err)
	}
	to := &target{name: s.Name, url: address, routes: routes, guest: guest, tags: make(map[string]tagged)}
	to.streams = streamsOf(manifest.Streams(s.Annotations[manifest.StreamsAnnotation], int(timeoutOf(s).Seconds())))
	for _, t := range s.Status.Traffic {
		if guest != nil && hasAllTraffic(t) {
			guest.revision = t.RevisionName
		}
		if t.Tag == "" {
			continue
		}
		address, err := addressOf(t.URL)
		if err != nil {
			return before, fmt.Errorf("status.traffic, tag %s: %w", t.Tag, err)
		}
		to.tags[t.Tag] = tagged{address, t.RevisionName}
	}
	return to, nil
}

// timeoutOf returns how long Knative lets an answer of the Service take.
func timeoutOf(s *servingv1.Service) time.Duration {
	if seconds := s.Spec.Template.Spec.TimeoutSeconds; seconds != nil && *seconds > 0 {
		return time.Duration(*seconds) * time.Second
	}
	return defaultSeconds * time.Second
}

// guestOf reads the settings of a guest; nil if the Service is not a guest.
func guestOf(s *servingv1.Service) (*guest, error) {
	if !isGuest(s) {
		return nil, nil //nolint:nilnil // nil means no guest
	}
	g := &guest{timeout: timeoutOf(s)}
	for _, host := range strings.Fields(s.Annotations[manifest.HostsAnnotation]) {
		if host = strings.ToLower(host); !isHost(host) {
			return nil, fmt.Errorf("%s: %q: expected host names without ports, such as shop.example.com, separated by spaces", manifest.HostsAnnotation, host)
		}
		g.hosts = append(g.hosts, host)
	}
	var err error
	if g.limit, err = parseLimit(s.Annotations[manifest.RateLimitAnnotation]); err != nil {
		return nil, fmt.Errorf("%s: %w", manifest.RateLimitAnnotation, err)
	}
	return g, nil
}

// ownTagsOf returns the tags of the edge's own Service, by the first label of the hosts of their revisions. Public hosts and hosts
// inside the cluster have the same first label. A request to such a host goes to the same tag of each function, so that all
// candidates of a release are tried together. A function without the tag serves such a request like any other.
func ownTagsOf(s *servingv1.Service) map[string]string {
	tags := make(map[string]string)
	for _, t := range s.Status.Traffic {
		if t.Tag != "" && t.URL != nil {
			label, _, _ := strings.Cut(t.URL.Host, ".")
			tags[label] = t.Tag
		}
	}
	return tags
}

// checkRoutes checks one annotation by itself. It finds the mistakes that can be corrected without changing another function.
func checkRoutes(routes []string) error {
	if len(routes) == 0 {
		return fmt.Errorf("it is empty: expected paths separated by spaces, or %s", manifest.NoRoutes)
	}
	mux, seen := http.NewServeMux(), make(map[string]bool)
	for _, route := range routes {
		if seen[route] {
			continue
		}
		seen[route] = true
		if err := handle(mux, route, &target{}); err != nil {
			return err
		}
	}
	return nil
}

// addressOf returns the address of a URL. It requires plain HTTP, which private addresses have unless Knative is set up to encrypt
// them.
func addressOf(u *apis.URL) (*url.URL, error) {
	if u == nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%q: expected http://host", u)
	}
	return u.URL(), nil
}
