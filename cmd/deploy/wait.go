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

// reportEvery is how often what is not ready yet is looked into. What has failed, or whose pod is stuck, two looks in a row
// is not waited for: a pod that crashed once may come back.
const reportEvery = 10 * time.Second

// wait returns when every function is ready, or when those that are not have failed. It leaves their names in notReady.
func (d *deployment) wait(ctx context.Context) error {
	start := time.Now()
	report := start.Add(reportEvery)
	ready, said, looks := make(map[string]bool), make(map[string]string), make(map[string]int)
	for {
		if err := d.hide(ctx); err != nil {
			return err
		}
		states, err := d.states(ctx)
		if err != nil {
			return err
		}
		var waiting []*service
		for _, f := range d.functions {
			switch s := states[f.Name()]; {
			case s == nil:
				return fmt.Errorf("%s: the Service has gone from the cluster", f.Name())
			case !s.ready():
				waiting = append(waiting, s)
			case !ready[f.Name()]:
				ready[f.Name()] = true
				d.say("%s is ready: %s (%s)", f.Name(), s.Status.LatestReadyRevisionName, time.Since(start).Round(time.Second))
			}
		}
		if len(waiting) == 0 {
			d.strangers(states)
			return nil
		}
		hopeless := 0
		if time.Now().After(report) {
			report = time.Now().Add(reportEvery)
			for _, s := range waiting {
				name := s.Metadata.Name
				line, stuck := d.podSays(ctx, revisionLabel+s.Status.LatestCreatedRevisionName, complaint)
				if looks[name]++; !stuck && (line != "" || !s.failed()) {
					looks[name] = 0 // a pod that waits for a node is "failed" to Knative, and may get one
				}
				if line = cmp.Or(line, find(s.Status.Conditions, "Ready").Message); line != said[name] {
					said[name] = line
					d.say("%s is not ready yet: %s", name, line)
				}
				if looks[name] > 1 {
					hopeless++
				}
			}
		}
		if hopeless == len(waiting) || time.Since(start) > d.timeout {
			return d.why(ctx, waiting)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// revisionLabel selects a revision's pods.
const revisionLabel = "serving.knative.dev/revision="

// why says which functions are not ready, what Knative has to say about each, and what its pod has.
func (d *deployment) why(ctx context.Context, waiting []*service) error {
	var all []error
	for _, s := range waiting {
		d.notReady = append(d.notReady, s.Metadata.Name)
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

// strangers names Services that no manifest has any more: what a manifest's deletion leaves behind is not deleted here.
func (d *deployment) strangers(states map[string]*service) {
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
