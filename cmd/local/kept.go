package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"warble/shared/experiment"
	"warble/shared/manifest"
	"warble/shared/rollout"
)

// kept is what outlives a run.
type kept struct {
	Experiment rollout.Experiment  `json:"experiment"` // with the spec that is in force
	Services   map[string]*service `json:"services"`
}

// service is a Knative Service, as far as an experiment knows one.
type service struct {
	Template  rollout.Template             `json:"template"`
	Traffic   []rollout.Target             `json:"traffic"`
	Newest    string                       `json:"newest"` // revision
	Ready     string                       `json:"ready"`  // the newest that has been ready
	Made      int                          `json:"made"`
	Revisions map[string]map[string]string `json:"revisions"` // the variables of those that an experiment made

	manifest *manifest.Service
}

// load takes what was kept of e, where that is of e.
func (t *trial) load(e *rollout.Experiment) error {
	text, err := os.ReadFile(t.fleet.state.path(keptExperiment))
	if err == nil {
		err = json.Unmarshal(text, &t.kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: -fresh starts anew", t.fleet.state.path(keptExperiment), err)
	}
	before := t.kept.Experiment
	if before.Name == e.Name {
		if !before.Status.Phase.Live() && before.Status.Conclusion != rollout.WasPromoted {
			t.kept.Services = nil // they are as their manifests say
		}
		if t.kept.Services == nil {
			t.kept.Services = make(map[string]*service)
		}
		return t.want(e)
	}
	if before.Status.Phase.Live() {
		return fmt.Errorf("the experiment %s is %s here: expected its file, or -fresh", before.Name, before.Describe())
	}
	t.kept = kept{Experiment: *e, Services: make(map[string]*service)}
	t.kept.Experiment.Generation = 1
	// The salt and the names of revisions are drawn from it.
	return json.Unmarshal(fmt.Appendf(nil, `{"metadata":{"uid":%q}}`, rand.Text()), &t.kept.Experiment)
}

// want puts another spec in force: of an experiment that has started only what people want of it may change.
func (t *trial) want(e *rollout.Experiment) error {
	present := &t.kept.Experiment
	if same(e.Spec, present.Spec) {
		return nil
	}
	then, now := present.Spec, e.Spec
	then.Run, now.Run = experiment.Run{}, experiment.Run{}
	switch phase := present.Status.Phase; {
	case e.Name != present.Name:
		return fmt.Errorf("metadata.name: it was %s: expected no other in one run", present.Name)
	case phase != "" && phase != rollout.Draft && !same(then, now):
		return errors.New("spec: expected no change but to run, once it has started: -fresh, or another name, starts another")
	}
	present.Spec = e.Spec
	present.Generation++
	return nil
}

// same compares as a file would show them: what is empty there is what is missing.
func same(a, b experiment.Spec) bool {
	one, err := json.Marshal(a)
	other, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(one) == string(other)
}

// untouched is a Service as its manifest and the caller's FEATURES say.
func untouched(m *manifest.Service) *service {
	s := &service{
		Template: rollout.Template{Image: m.Container().Image, Env: make(map[string]string)},
		Traffic:  []rollout.Target{{Latest: true, Percent: 100}},
		Newest:   m.Name() + "-local", Ready: m.Name() + "-local", Made: 1, Revisions: make(map[string]map[string]string),
	}
	for _, v := range m.Container().Env {
		if v.ValueFrom != nil {
			s.Template.Elsewhere = append(s.Template.Elsewhere, v.Name)
		} else {
			s.Template.Env[v.Name] = v.Value
		}
	}
	if features, set := os.LookupEnv("FEATURES"); set {
		s.Template.Env["FEATURES"] = features
	}
	return s
}
