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
	// urlFlag gives the Job the URL of the edge's candidate, and revisionsFlag the revisions that may answer.
	urlFlag       = "-url="
	revisionsFlag = "-revisions="
)

// readCandidateJob reads the Job, which has its own folder. It is checked and built together with the other manifests.
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

// setTrafficAside pins the traffic of every existing Service, and gives its newest revision the candidate's tag.
func (d *deployment) setTrafficAside(ctx context.Context) error {
	return d.eachService(ctx, func(s *service) (*change, error) {
		next, was, err := withCandidate(s)
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

// hide hides the edge's candidate from the public, with a label on the Kubernetes Service that Knative makes for a tag. A public host would
// also need a DNS name and, with TLS, a certificate for each release. hide returns false, and changes nothing, while that Service does not
// exist.
func (d *deployment) hide(ctx context.Context) (hidden bool, err error) {
	label := map[string]any{"metadata": map[string]any{"labels": map[string]string{"networking.knative.dev/visibility": "cluster-local"}}}
	err = d.cluster.Patch(ctx, coreServices, candidateTag+"-edge", label)
	return err == nil, unlessNotFound(err)
}

// withdraw removes the candidate's tags. The traffic stays pinned, because otherwise it would follow the candidate.
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
		err = errors.New("the old revisions keep the traffic: when the problem is solved, run make deploy, or make deploy ARGS=candidate")
	}
	return err
}

// giveTraffic removes the candidates and restores the former traffic, which setTrafficAside has pinned.
func (d *deployment) giveTraffic(ctx context.Context) error {
	var mistakes []error
	err := d.eachService(ctx, func(s *service) (*change, error) {
		if annotationOf(s) == nil && candidateOf(s.Spec.Traffic) == nil {
			return nil, nil
		}
		next, ok, err := afterPromotion(s)
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("%s: its traffic stays as it is, because somebody has changed it since the candidate was deployed: set it by kubectl -n %s edit ksvc %s",
				s.Metadata.Name, d.namespace, s.Metadata.Name))
		}
		return &change{traffic: next}, err
	})
	return errors.Join(append(mistakes, err)...)
}

// tryCandidates runs the Job against the tagged revisions.
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
	d.say("trying out the candidates")
	err = d.await(ctx, candidateJob)
	if err == nil {
		return nil
	}
	if p := d.newestPod(ctx, "batch.kubernetes.io/job-name="+candidateJob); p != nil {
		log, _ := d.cluster.Log(ctx, p.Metadata.Name, p.Spec.Containers[0].Name, 20, false) // without a log, the error is still reported
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

// newest returns the functions' newest ready revisions, separated by commas.
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

// requireTried returns an error unless the Job has tried out the newest revisions, and has succeeded.
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
		return errors.New("the newest revisions have not been tried out within a day: run make deploy ARGS=candidate first")
	}
	return nil
}

// change is a new traffic for a Service, and a new value of trafficAnnotation; nil removes the annotation.
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

// conflictTries is how often a change is tried if somebody else changes the Service at the same time.
const conflictTries = 5

// eachService changes the traffic of every function's Service, the edge's last. decide returns nil to change nothing. If somebody else changes
// a Service between the read and the write, the Service is read again.
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
