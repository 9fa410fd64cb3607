package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"warble/shared/rollout"
)

const (
	// candidateJob is the Job that tries a candidate out, and candidateFile its manifest.
	candidateJob  = "candidate"
	candidateFile = "candidate/job.yaml"
	// urlFlag tells the Job where the edge's candidate is, and revisionsFlag which revisions may answer.
	urlFlag       = "-url="
	revisionsFlag = "-revisions="
)

// readCandidateJob reads the Job that is not among the other manifests. It is checked and its image is built with theirs.
func readCandidateJob(folder string) (*object, error) {
	file := filepath.Join(folder, candidateFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	objects, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(objects) != 1 || objects[0].Kind != "Job" || objects[0].Metadata.Name != candidateJob {
		return nil, fmt.Errorf("%s: expected one Job, %s", file, candidateJob)
	}
	objects[0].file = candidateFile
	return objects[0], nil
}

// setTrafficAside pins the traffic of the Services that are there, and gives their newest revisions the candidate's tag.
func (d *deployment) setTrafficAside(ctx context.Context) error {
	return d.eachService(ctx, func(s *service) (*change, error) {
		next, was, err := besideCandidate(s)
		if err != nil || candidateOf(s.Spec.Traffic) != nil && sameTargets(s.Spec.Traffic, next) {
			return nil, err
		}
		if was == nil {
			return &change{traffic: next}, nil
		}
		text, err := json.Marshal(was)
		annotation := string(text)
		return &change{traffic: next, annotation: &annotation}, err
	})
}

// hide keeps the edge's candidate from the public, by the label of the Kubernetes Service that Knative makes for a tag. The
// public's host of it would also want a name in the DNS and, where there is TLS, a certificate for each release. It returns
// false, and changes nothing, as long as that Service is not there.
func (d *deployment) hide(ctx context.Context) (hidden bool, err error) {
	label := map[string]any{"metadata": map[string]any{"labels": map[string]string{"networking.knative.dev/visibility": "cluster-local"}}}
	err = d.cluster.Patch(ctx, coreServices, candidateTag+"-edge", label)
	return err == nil, unlessNotFound(err)
}

// withdraw takes the candidate's tags away. The traffic stays pinned, or it would follow the candidate.
func (d *deployment) withdraw(ctx context.Context) error {
	withdrawn := false
	err := d.eachService(ctx, func(s *service) (*change, error) {
		if candidateOf(s.Spec.Traffic) == nil {
			return nil, nil
		}
		withdrawn = true
		return &change{traffic: withoutCandidate(s.Spec.Traffic), annotation: annotationOf(s)}, nil
	})
	if withdrawn && err == nil {
		err = errors.New("the traffic is where it was, and the candidates have none: make deploy, or another candidate, goes on from here")
	}
	return err
}

// giveTraffic ends what setTrafficAside began.
func (d *deployment) giveTraffic(ctx context.Context) error {
	var mistakes []error
	err := d.eachService(ctx, func(s *service) (*change, error) {
		if annotationOf(s) == nil && candidateOf(s.Spec.Traffic) == nil {
			return nil, nil
		}
		next, ok, err := afterPromotion(s)
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("%s: its traffic was changed while a candidate was beside it, and stays as it is: kubectl -n %s edit ksvc %s",
				s.Metadata.Name, d.namespace, s.Metadata.Name))
		}
		return &change{traffic: next}, err
	})
	return errors.Join(append(mistakes, err)...)
}

// tryCandidates runs the Job against the revisions that the tags lead to.
func (d *deployment) tryCandidates(ctx context.Context, job *object) error {
	states, err := d.states(ctx)
	if err != nil {
		return err
	}
	containers := member(member(member(member(job.node.Content[0], "spec"), "template"), "spec"), "containers")
	arguments := member(containers.Content[0], "args")
	arguments.Kind = yaml.SequenceNode
	arguments.Content = append(arguments.Content, scalar(urlFlag+candidateOf(states["edge"].Status.Traffic).URL), scalar(revisionsFlag+d.newest(states)))
	if err := d.apply(ctx, []*object{job}); err != nil {
		return err
	}
	d.say("trying the candidates out")
	err = d.await(ctx, candidateJob)
	if err == nil {
		return nil
	}
	if p := d.newestPod(ctx, "batch.kubernetes.io/job-name="+candidateJob); p != nil {
		log, _ := d.cluster.Log(ctx, p.Metadata.Name, p.Spec.Containers[0].Name, 20, false) // it explains what is an error already
		err = fmt.Errorf("%w\n  its log:\n    %s", err, strings.ReplaceAll(strings.TrimSpace(log), "\n", "\n    "))
	}
	for _, f := range d.functions {
		revision := states[f.Name()].Status.LatestReadyRevisionName
		if line, _ := d.podSays(ctx, revisionLabel+revision, complaint); line != "" {
			err = fmt.Errorf("%w\n  %s: %s", err, revision, line)
		}
	}
	return err
}

// newest lists the functions' newest revisions that are ready, between commas.
func (d *deployment) newest(states map[string]*service) string {
	var names []string
	for _, f := range d.functions {
		if s := states[f.Name()]; s != nil {
			names = append(names, s.Status.LatestReadyRevisionName)
		}
	}
	return strings.Join(names, ",")
}

func (d *deployment) removeCandidateJob(ctx context.Context) error {
	return unlessNotFound(d.cluster.Delete(ctx, jobs, candidateJob))
}

// requireTried returns an error unless the Job has tried the newest revisions out, to its end.
func (d *deployment) requireTried(ctx context.Context) error {
	states, err := d.states(ctx)
	if err != nil {
		return err
	}
	var job struct {
		Spec struct {
			Template struct {
				Spec struct{ Containers []struct{ Args []string } }
			}
		}
		Status struct{ Conditions []condition }
	}
	if err := unlessNotFound(d.cluster.Get(ctx, &job, jobs, candidateJob)); err != nil {
		return err
	}
	newest := revisionsFlag + d.newest(states)
	if containers := job.Spec.Template.Spec.Containers; find(job.Status.Conditions, "Complete").Status != "True" || !slices.Contains(containers[0].Args, newest) {
		return errors.New("no candidate of these revisions has been tried out, or that is more than a day ago: expected make deploy ARGS=candidate before, and to its end")
	}
	return nil
}

// change is a Service's traffic, and what it was found as; nil for nothing.
type change struct {
	traffic    []traffic
	annotation *string
}

func annotationOf(s *service) *string {
	if text, ok := s.Metadata.Annotations[trafficAnnotation]; ok {
		return &text
	}
	return nil
}

// conflictTries is how often a change is made anew because somebody else was first.
const conflictTries = 5

// eachService changes the functions' Services, the edge's last. Each is written as it was read or not at all; what
// somebody else changes at that moment is read again.
func (d *deployment) eachService(ctx context.Context, decide func(*service) (*change, error)) error {
	names := []string{"edge"}
	for _, f := range slices.Backward(d.functions) {
		if f.Name() != "edge" {
			names = slices.Insert(names, 0, f.Name())
		}
	}
	states, err := d.states(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		s := states[name]
		for try := 1; s != nil; try++ {
			wish, err := decide(s)
			if err != nil {
				return err
			}
			if wish == nil {
				break
			}
			err = d.cluster.Patch(ctx, services, name, map[string]any{
				"metadata": map[string]any{"resourceVersion": s.Metadata.ResourceVersion, "annotations": map[string]any{trafficAnnotation: wish.annotation}},
				"spec":     map[string]any{"traffic": wish.traffic},
			})
			if err == nil {
				break
			}
			if !errors.Is(err, rollout.ErrConflict) || try == conflictTries {
				return err
			}
			s = new(service)
			if err := d.cluster.Get(ctx, s, services, name); err != nil {
				return err
			}
		}
	}
	return nil
}
