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

// service is the part of a Knative Service that this command reads.
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

// ready reports whether the newest revision and the route to it are ready. With a candidate, the candidate's tag must lead to that revision.
func (s *service) ready() bool {
	return s.settled() && find(s.Status.Conditions, "Ready").Status == "True" &&
		s.Status.LatestCreatedRevisionName == s.Status.LatestReadyRevisionName &&
		(candidateOf(s.Spec.Traffic) == nil || s.candidateReady())
}

// candidateReady reports whether the candidate's tag leads to the newest revision, and only from within the cluster.
func (s *service) candidateReady() bool {
	tag := candidateOf(s.Status.Traffic)
	return tag != nil && tag.RevisionName == s.Status.LatestReadyRevisionName && strings.Contains(tag.URL, ".svc.")
}

// settled reports whether the status belongs to the latest spec.
func (s *service) settled() bool { return s.Status.ObservedGeneration == s.Metadata.Generation }

// failed reports whether Knative has given up on the newest revision, at least for now.
func (s *service) failed() bool {
	return s.settled() && find(s.Status.Conditions, "ConfigurationsReady").Status == "False"
}

// routed reports whether the traffic names a revision, even if only with a tag.
func (s *service) routed(revision string) bool {
	return slices.ContainsFunc(slices.Concat(s.Spec.Traffic, s.Status.Traffic), func(t traffic) bool { return t.RevisionName == revision })
}

// serving returns which revisions answer, for a message.
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
	return strings.Join(names, ", ") + " continues to serve"
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

// reportEvery is the time between two reports on functions that are not ready yet.
const reportEvery = 10 * time.Second

// wait returns when every function is ready. If the functions that are not ready have failed, or take longer than the deployment's timeout,
// it returns their names, and an error with the reasons. If hideCandidate is set, it also hides the edge's candidate from the public as soon
// as the candidate exists.
func (d *deployment) wait(ctx context.Context, hideCandidate bool) (unready []string, err error) {
	now := time.Now()
	w := watch{deployment: d, start: now, nextReport: now.Add(reportEvery), ready: make(map[string]bool), printed: make(map[string]string), failures: make(map[string]int)}
	hidden := !hideCandidate
	for {
		if !hidden {
			if hidden, err = d.hide(ctx); err != nil {
				return nil, err
			}
		}
		waiting, err := w.waiting(ctx)
		if err != nil || len(waiting) == 0 {
			return nil, err
		}
		if w.hopeless(ctx, waiting) || time.Since(w.start) > d.timeout {
			return namesOf(waiting), d.explain(ctx, waiting)
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// watch is what a wait remembers between two polls. The maps are by function.
type watch struct {
	*deployment
	start, nextReport time.Time
	ready             map[string]bool   // it was printed as ready
	printed           map[string]string // the last printed reason why it is not ready
	failures          map[string]int    // in how many reports in a row it had failed
}

// waiting returns the functions that are not ready, and prints which have become ready. If all are ready, it also prints Services without a
// manifest. It returns an error if a Service was deleted.
func (w *watch) waiting(ctx context.Context) ([]*service, error) {
	states, err := w.states(ctx)
	if err != nil {
		return nil, err
	}
	waiting, err := w.notReady(states)
	if err == nil && len(waiting) == 0 {
		w.nameStrangers(states)
	}
	return waiting, err
}

func (w *watch) notReady(states map[string]*service) ([]*service, error) {
	var waiting []*service
	for _, f := range w.functions {
		name := f.Name()
		s := states[name]
		switch {
		case s == nil:
			return nil, fmt.Errorf("somebody has deleted the Service %s: deploy again", name)
		case !s.ready():
			waiting = append(waiting, s)
		case !w.ready[name]:
			w.ready[name] = true
			w.say("%s is ready: %s (%s)", name, s.Status.LatestReadyRevisionName, time.Since(w.start).Round(time.Second))
		}
	}
	return waiting, nil
}

// hopeless reports whether all waiting functions have failed in two reports in a row. One failure is not enough, because a pod that crashed
// once may start again. It makes a report at most every reportEvery, and returns false between two reports.
func (w *watch) hopeless(ctx context.Context, waiting []*service) bool {
	if !time.Now().After(w.nextReport) {
		return false
	}
	w.nextReport = time.Now().Add(reportEvery)
	all := true
	for _, s := range waiting {
		w.report(ctx, s)
		all = all && w.failures[s.Metadata.Name] > 1
	}
	return all
}

// report prints why a function is not ready, unless the reason was printed before, and counts its failures in a row. A function has
// failed if its pod is stuck, or if Knative has given up on it and the pod complains of nothing. A pod that waits for a node does
// complain: Knative calls it failed, but it may still get a node.
func (w *watch) report(ctx context.Context, s *service) {
	name := s.Metadata.Name
	line, stuck := w.podSays(ctx, revisionLabel+s.Status.LatestCreatedRevisionName, complaint)
	if stuck || s.failed() && line == "" {
		w.failures[name]++
	} else {
		w.failures[name] = 0
	}
	reason := cmp.Or(line, find(s.Status.Conditions, "Ready").Message)
	if reason != w.printed[name] {
		w.printed[name] = reason
		w.say("%s is not ready yet: %s", name, reason)
	}
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

// explain returns an error that names the functions that are not ready, with the messages of Knative and of each pod.
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
		message, _, _ := strings.Cut(ready.Message, "\n") // the following lines are a crashed container's whole log
		text := fmt.Sprintf("%s is not ready: revision %s: %s", s.Metadata.Name, revision, strings.TrimSpace(ready.Reason+" "+message))
		if line, _ := d.podSays(ctx, revisionLabel+revision, complaint); line != "" {
			text += "\n  its pod: " + line
		}
		all = append(all, errors.New(text+"\n  in the meantime: "+s.serving()))
	}
	return errors.Join(all...)
}

// nameStrangers prints the Services that have no manifest any more. A deployment does not delete them.
func (d *deployment) nameStrangers(states map[string]*service) {
	for _, f := range d.functions {
		delete(states, f.Name())
	}
	for name := range states {
		d.say("Service %s is in the cluster and has no manifest. To delete it: kubectl -n %s delete ksvc %s", name, d.namespace, name)
	}
}

// neverReady returns the newest revisions that have not become ready, if no traffic names them.
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

// retry deletes revisions that have failed. Knative seldom or never retries them, even if the reason was outside of the revision. If the
// Service has not changed, Knative makes a new revision of the same name.
func (d *deployment) retry(ctx context.Context, names []string) error {
	for _, name := range names {
		d.say("%s never became ready: deleting it, so that Knative tries again", name)
		if err := unlessNotFound(d.cluster.Delete(ctx, revisions, name)); err != nil {
			return err
		}
	}
	return nil
}
