package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// service is what a Knative Service's status says.
type service struct {
	Metadata struct {
		Name            string
		Generation      int64
		ResourceVersion string
		Annotations     map[string]string
	}
	Spec   struct{ Traffic []traffic }
	Status struct {
		ObservedGeneration        int64
		URL                       string
		LatestCreatedRevisionName string
		LatestReadyRevisionName   string
		Conditions                []condition
		Traffic                   []traffic
	}
}

// ready reports whether the newest revision is, and the way to it.
func (s *service) ready() bool {
	return s.settled() && find(s.Status.Conditions, "Ready").Status == "True" &&
		s.Status.LatestCreatedRevisionName == s.Status.LatestReadyRevisionName &&
		(candidateOf(s.Spec.Traffic) == nil || s.tried())
}

// tried reports whether the candidate's tag leads to the newest revision, from within the cluster alone.
func (s *service) tried() bool {
	tag := candidateOf(s.Status.Traffic)
	return tag != nil && tag.RevisionName == s.Status.LatestReadyRevisionName && strings.Contains(tag.URL, ".svc.")
}

// settled reports whether the status is of what was applied last.
func (s *service) settled() bool { return s.Status.ObservedGeneration == s.Metadata.Generation }

// failed reports whether Knative has given the newest revision up, at least for now.
func (s *service) failed() bool {
	return s.settled() && find(s.Status.Conditions, "ConfigurationsReady").Status == "False"
}

// routed reports whether a revision is named by the traffic, be it with a tag alone.
func (s *service) routed(revision string) bool {
	return slices.ContainsFunc(slices.Concat(s.Spec.Traffic, s.Status.Traffic), func(t traffic) bool { return t.RevisionName == revision })
}

// serving says which revisions answer, in a message.
func (s *service) serving() string {
	var names []string
	for _, traffic := range s.Status.Traffic {
		if traffic.Percent > 0 {
			names = append(names, fmt.Sprintf("%s (%d percent)", traffic.RevisionName, traffic.Percent))
		}
	}
	if len(names) == 0 {
		return "nothing serves it yet"
	}
	return strings.Join(names, ", ") + " serves on"
}

// states returns the cluster's Services by name.
func (d *deployment) states(ctx context.Context) (map[string]*service, error) {
	var list struct{ Items []*service }
	if err := d.cluster.List(ctx, &list, services, ""); err != nil {
		return nil, err
	}
	states := make(map[string]*service, len(list.Items))
	for _, s := range list.Items {
		states[s.Metadata.Name] = s
	}
	return states, nil
}

// reportEvery is how often what is not ready yet is looked into.
const reportEvery = 10 * time.Second

// wait returns when every function is ready. If those that are not have failed, or take longer than the deployment's timeout,
// it returns their names, and why in the error. beside has the edge's candidate hidden from the public as soon as it is there.
func (d *deployment) wait(ctx context.Context, beside bool) (unready []string, err error) {
	w := watch{deployment: d, start: time.Now(), ready: make(map[string]bool), said: make(map[string]string), failures: make(map[string]int)}
	report := w.start.Add(reportEvery)
	for hidden := !beside; ; {
		if !hidden {
			if hidden, err = d.hide(ctx); err != nil {
				return nil, err
			}
		}
		states, err := d.states(ctx)
		if err != nil {
			return nil, err
		}
		waiting, err := w.waiting(states)
		if err != nil {
			return nil, err
		}
		if len(waiting) == 0 {
			d.nameStrangers(states)
			return nil, nil
		}
		hopeless := false
		if time.Now().After(report) {
			report = time.Now().Add(reportEvery)
			hopeless = w.lookInto(ctx, waiting)
		}
		if hopeless || time.Since(w.start) > d.timeout {
			return namesOf(waiting), d.explain(ctx, waiting)
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// watch is what a wait remembers from one look to the next, by function.
type watch struct {
	*deployment
	start    time.Time
	ready    map[string]bool   // it was said to be
	said     map[string]string // why it is not, as said last
	failures map[string]int    // in how many looks in a row it had failed
}

// waiting returns the functions that are not ready, and says which have become so. It is an error if a Service has gone.
func (w *watch) waiting(states map[string]*service) ([]*service, error) {
	var waiting []*service
	for _, f := range w.functions {
		name := f.Name()
		s := states[name]
		switch {
		case s == nil:
			return nil, fmt.Errorf("%s: the Service has gone from the cluster", name)
		case !s.ready():
			waiting = append(waiting, s)
		case !w.ready[name]:
			w.ready[name] = true
			w.say("%s is ready: %s (%s)", name, s.Status.LatestReadyRevisionName, time.Since(w.start).Round(time.Second))
		}
	}
	return waiting, nil
}

// lookInto says why the functions are not ready, unless it was said before. It returns true if all of them have failed, or
// their pods are stuck, in two looks in a row: a pod that crashed once may come back.
func (w *watch) lookInto(ctx context.Context, waiting []*service) (hopeless bool) {
	hopeless = true
	for _, s := range waiting {
		name := s.Metadata.Name
		line, stuck := w.podSays(ctx, revisionLabel+s.Status.LatestCreatedRevisionName, complaint)
		if stuck || s.failed() && line == "" { // a pod that waits for a node says so, is "failed" to Knative, and may get one
			w.failures[name]++
		} else {
			w.failures[name] = 0
		}
		if line = cmp.Or(line, find(s.Status.Conditions, "Ready").Message); line != w.said[name] {
			w.said[name] = line
			w.say("%s is not ready yet: %s", name, line)
		}
		hopeless = hopeless && w.failures[name] > 1
	}
	return hopeless
}

func namesOf(services []*service) []string {
	names := make([]string, len(services))
	for i, s := range services {
		names[i] = s.Metadata.Name
	}
	return names
}

// revisionLabel selects a revision's pods.
const revisionLabel = "serving.knative.dev/revision="

// explain says which functions are not ready, what Knative has to say about each, and what its pod has.
func (d *deployment) explain(ctx context.Context, waiting []*service) error {
	var all []error
	for _, s := range waiting {
		revision := s.Status.LatestCreatedRevisionName
		var state struct {
			Status struct{ Conditions []condition }
		}
		if err := d.cluster.Get(ctx, &state, revisions, revision); err != nil {
			all = append(all, err)
		}
		ready := find(state.Status.Conditions, "Ready")
		message, _, _ := strings.Cut(ready.Message, "\n") // behind it, a crashed container's whole log
		text := fmt.Sprintf("%s is not ready: revision %s: %s", s.Metadata.Name, revision, strings.TrimSpace(ready.Reason+" "+message))
		if line, _ := d.podSays(ctx, revisionLabel+revision, complaint); line != "" {
			text += "\n  its pod: " + line
		}
		all = append(all, errors.New(text+"\n  meanwhile: "+s.serving()))
	}
	return errors.Join(all...)
}

// nameStrangers names Services that no manifest has any more: what a manifest's deletion leaves behind is not deleted here.
func (d *deployment) nameStrangers(states map[string]*service) {
	for _, f := range d.functions {
		delete(states, f.Name())
	}
	for name := range states {
		d.say("Service %s is in the cluster and has no manifest: kubectl -n %s delete ksvc %s", name, d.namespace, name)
	}
}

// neverReady returns the newest revisions of Services that have not become ready and that no traffic names.
func (d *deployment) neverReady(ctx context.Context) ([]string, error) {
	states, err := d.states(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range d.functions {
		s := states[f.Name()]
		if s == nil {
			continue
		}
		newest := s.Status.LatestCreatedRevisionName
		if newest != "" && newest != s.Status.LatestReadyRevisionName && !s.routed(newest) {
			names = append(names, newest)
		}
	}
	return names, nil
}

// retry takes revisions away. Knative tries one that has failed again seldom or never, whatever was wrong outside of it, and
// makes a new one of the same name where the Service has stayed as it was.
func (d *deployment) retry(ctx context.Context, names []string) error {
	for _, name := range names {
		d.say("%s, which never was ready, makes room", name)
		if err := unlessNotFound(d.cluster.Delete(ctx, revisions, name)); err != nil {
			return err
		}
	}
	return nil
}
