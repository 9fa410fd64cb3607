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

// trimService keeps what targetOf reads and a report names.
func trimService(object any) (any, error) {
	s, ok := object.(*servingv1.Service)
	if !ok {
		return object, nil // a deletion that was missed while away
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
		if isGuest(s) && whole(t) {
			trimmed.Status.Traffic = append(trimmed.Status.Traffic, servingv1.TrafficTarget{RevisionName: t.RevisionName, Percent: t.Percent})
		}
	}
	return trimmed, nil
}

// whole tells whether all of a Service's traffic goes to one revision.
func whole(t servingv1.TrafficTarget) bool { return t.Percent != nil && *t.Percent == 100 }

// isGuest reads the label, or the annotation.
func isGuest(s *servingv1.Service) bool {
	return s.Labels[manifest.Guest] == "true" || s.Annotations[manifest.Guest] == "true"
}

// trimRevision keeps what count reads.
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

// targetOf reads where a Service is and what it claims; nil where it is not for the public. Whether it is Ready does not
// matter: behind its address Knative waits for what is starting. A Service that is wrong, or that Knative has not given an
// address, is what it was before.
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
		if guest != nil && whole(t) {
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

// timeoutOf is how long Knative lets an answer of the Service take.
func timeoutOf(s *servingv1.Service) time.Duration {
	if seconds := s.Spec.Template.Spec.TimeoutSeconds; seconds != nil && *seconds > 0 {
		return time.Duration(*seconds) * time.Second
	}
	return defaultSeconds * time.Second
}

// guestOf reads what a Service that is a guest asks for; nil where it is none.
func guestOf(s *servingv1.Service) (*guest, error) {
	if !isGuest(s) {
		return nil, nil //nolint:nilnil // as it says
	}
	g := &guest{timeout: timeoutOf(s)}
	for _, host := range strings.Fields(s.Annotations[manifest.HostsAnnotation]) {
		if host = strings.ToLower(host); !isHost(host) {
			return nil, fmt.Errorf("%s: %q: expected host names without ports, as shop.example.com, between spaces", manifest.HostsAnnotation, host)
		}
		g.hosts = append(g.hosts, host)
	}
	var err error
	if g.limit, err = parseLimit(s.Annotations[manifest.RateLimitAnnotation]); err != nil {
		return nil, fmt.Errorf("%s: %w", manifest.RateLimitAnnotation, err)
	}
	return g, nil
}

// ownTagsOf reads, of the edge's own Service, by which hosts its revisions with a tag are reached: public ones and those of
// the cluster, whose first label is the same. A request that came by one is led to the same tag of the functions, so
// that the candidates of a release are tried out together, and to what serves everybody where they have no such tag.
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

// checkRoutes says what is wrong with an annotation by itself: with none of it another function has to do.
func checkRoutes(routes []string) error {
	if len(routes) == 0 {
		return fmt.Errorf("nothing in it: expected paths between spaces, or %s", manifest.NoRoutes)
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

// addressOf wants plain HTTP, which is what private addresses have unless Knative is set up to encrypt them.
func addressOf(u *apis.URL) (*url.URL, error) {
	if u == nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%q: expected http://host", u)
	}
	return u.URL(), nil
}
