package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"warble/shared/knative"
	"warble/shared/rollout"
)

const (
	// reportTimeout limits all reports of one view, because the next view waits for them.
	reportTimeout = time.Second
	// reportLife is how long an API server keeps an Event. A refusal that still applies is then reported again.
	reportLife = time.Hour
	// maxMessage is the API server's limit for an Event's message, in bytes.
	maxMessage = 1024
)

// reports writes one Event for each refusal of a Service or Experiment. The Event's name is a hash of its message, so that all
// replicas write the same Event.
type reports struct {
	core      rest.Interface
	namespace string
	log       zerolog.Logger
	now       func() time.Time
	standing  map[string]time.Time // when each Event was written, by its name; zero if that failed
}

func newReports(config *rest.Config, client *http.Client, namespace string, log zerolog.Logger) (*reports, error) {
	core, err := knative.Client(config, client, corev1.SchemeGroupVersion, corev1.AddToScheme)
	return &reports{core: core, namespace: namespace, log: log, now: time.Now}, err
}

// involved returns the references to Services and Experiments that Events contain.
func involved(services []*servingv1.Service, experiments []*rollout.Experiment) map[subject]corev1.ObjectReference {
	all := make(map[subject]corev1.ObjectReference)
	add := func(kind, version string, m metav1.ObjectMeta) {
		all[subject{kind, m.Name}] = corev1.ObjectReference{
			APIVersion: version, Kind: kind, Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
		}
	}
	for _, s := range services {
		add(kindService, servingv1.SchemeGroupVersion.String(), s.ObjectMeta)
	}
	for _, e := range experiments {
		add(kindExperiment, rollout.GroupVersion.String(), e.ObjectMeta)
	}
	return all
}

// reasons are the reasons of Events, by the kind of object that was refused.
var reasons = map[string]string{kindService: "RouteRefused", kindExperiment: "ExperimentRefused"}

// report writes Events for all present refusals. Each refusal's subject must be in involved.
func (r *reports) report(ctx context.Context, involved map[subject]corev1.ObjectReference, refused []*refusal) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	standing := make(map[string]time.Time)
	for _, refusal := range refused {
		event := r.event(involved[refusal.subject], refusal.Error())
		made, known := r.standing[event.Name]
		if !known {
			r.log.Error().Err(refusal).Str("reason", event.Reason).Msg("refused")
		}
		if r.now().Sub(made) >= reportLife {
			err := r.core.Post().Namespace(r.namespace).Resource("events").Body(event).Do(ctx).Error()
			if err == nil || apierrors.IsAlreadyExists(err) {
				made = r.now()
			} else {
				r.log.Warn().Err(err).Str("kind", refusal.kind).Str("name", refusal.name).Msg("cannot write an Event about a refusal: trying again later")
			}
		}
		standing[event.Name] = made
	}
	r.standing = standing
}

func (r *reports) event(about corev1.ObjectReference, message string) *corev1.Event {
	hash := fnv.New64a()
	_, _ = io.WriteString(hash, string(about.UID)+message) // a hash takes anything
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "")
	}
	now := metav1.NewTime(r.now())
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: r.namespace, Name: fmt.Sprintf("%s.%016x", about.Name, hash.Sum64())},
		InvolvedObject: about,
		Type:           corev1.EventTypeWarning, Reason: reasons[about.Kind], Message: message,
		Source: corev1.EventSource{Component: "edge"}, ReportingController: "warble.dev/edge",
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
}
