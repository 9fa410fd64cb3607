package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"warble/shared/experiment"
	"warble/shared/token"
)

// trial is an experiment in force, as the requests to one Service meet it.
type trial struct {
	*experiment.Rules

	exposes            bool // whether a request to this Service exposes its user
	control, treatment side
}

// side is one arm of a trial.
type side struct {
	arm      experiment.Arm
	tag      string
	url      *url.URL // of the tag; nil as long as any tag of the experiment is missing at any of its Services
	revision string   // behind the tag, where the cluster says so

	// What an answer says, made once for all of them.
	experimentHeader, variantHeader []string
}

// The headers of an answer to a user of an experiment.
const (
	headerExperiment = "X-Experiment"
	headerVariant    = "X-Variant"
	headerRevision   = "X-Revision"
)

// assign returns the side of who calls, and what the function is told of it; nil where the experiment does not take them.
func (t *trial) assign(c *token.Claims) (*side, experiment.Assignment) {
	arm, unit := t.Assign(c.UserID, c.Community)
	if arm == "" {
		return nil, experiment.Assignment{}
	}
	return t.side(arm), experiment.Assignment{
		Experiment: t.Name, Arm: arm, Kind: t.Unit, Unit: unit, Generation: t.Generation, Exposes: t.exposes,
	}
}

func (t *trial) side(arm experiment.Arm) *side {
	if arm == experiment.Control {
		return &t.control
	}
	return &t.treatment
}

// complete reports that each arm can be reached at each Service of the experiment.
func (t *trial) complete() bool { return t.control.url != nil }

// served returns the arm that an answer is of where Knative has split by request: that whose revision it names. One that
// names none is not a function's, as when a pod crashed, and is the treatment's, which is what is on trial.
func (t *trial) served(answer http.Header) experiment.Arm {
	switch revision := answer.Get(headerRevision); revision {
	case "", t.treatment.revision:
		return experiment.Treatment
	case t.control.revision:
		return experiment.Control
	}
	return ""
}

func (s *side) describe(header http.Header) {
	header[headerExperiment], header[headerVariant] = s.experimentHeader, s.variantHeader
}

// newTrials returns what is in force of the experiments, by Service. Those without an open slot are not. Of two that claim
// one Service, or slots of a layer that the other has, the first has it; the other is refused as a whole. The targets are
// by name.
func newTrials(experiments []experiment.Rules, targets map[string]*target) (trials map[string]*trial, refused []error) {
	trials = make(map[string]*trial)
	var inForce []*experiment.Rules
	for i := range experiments {
		r := &experiments[i]
		if r.Open == (experiment.Open{}) {
			continue
		}
		err := checkRules(r)
		for _, other := range inForce {
			if err == nil {
				err = conflict(r, other)
			}
		}
		if err != nil {
			refused = append(refused, &refusal{fmt.Errorf("%s: %w", r.Name, err), subject{kindExperiment, r.Name}})
			continue
		}
		inForce = append(inForce, r)
		for _, service := range r.Services {
			trials[service] = newTrial(r, service, targets)
		}
	}
	return trials, refused
}

func newTrial(r *experiment.Rules, service string, targets map[string]*target) *trial {
	t := &trial{Rules: r, exposes: slices.Contains(r.Exposure, service)}
	complete := !slices.ContainsFunc(r.Services, func(name string) bool {
		to := targets[name]
		return to == nil || to.tags[experiment.Tag(r.Name, experiment.Control)].url == nil || to.tags[experiment.Tag(r.Name, experiment.Treatment)].url == nil
	})
	for _, arm := range []experiment.Arm{experiment.Control, experiment.Treatment} {
		s := t.side(arm)
		*s = side{arm: arm, tag: experiment.Tag(r.Name, arm), experimentHeader: []string{r.Name}, variantHeader: []string{string(arm)}}
		if complete {
			tag := targets[service].tags[s.tag]
			s.url, s.revision = tag.url, tag.revision
		}
	}
	return t
}

// checkRules says what is wrong with an experiment by itself.
func checkRules(r *experiment.Rules) error {
	if wrong := validation.IsDNS1123Label(r.Name); wrong != nil { // it becomes part of hosts and of headers
		return fmt.Errorf("its name: %s", strings.Join(wrong, ", "))
	}
	if r.Unit != experiment.Community && r.Unit != experiment.User && r.Unit != experiment.Request {
		return fmt.Errorf("unit %q: expected community, user or request", r.Unit)
	}
	if r.Layer.From < 0 || r.Layer.From >= r.Layer.To || r.Layer.To > experiment.Slots {
		return fmt.Errorf("slots %d to %d of a layer: expected a range within 0 to %d", r.Layer.From, r.Layer.To, experiment.Slots)
	}
	if r.Open.Control < 0 || r.Open.Treatment < 0 || r.Open.Control+r.Open.Treatment > experiment.Slots {
		return fmt.Errorf("%d slots of control and %d of treatment are open: expected %d together at most", r.Open.Control, r.Open.Treatment, experiment.Slots)
	}
	if r.Salt == "" && r.List == nil && r.Unit != experiment.Request {
		return fmt.Errorf("slots are open, and there is no salt to find them by")
	}
	return nil
}

// conflict says why two experiments cannot both be in force.
func conflict(r, older *experiment.Rules) error {
	for _, service := range r.Services {
		if slices.Contains(older.Services, service) {
			return fmt.Errorf("it claims %s, which is in %s and stays so", service, older.Name)
		}
	}
	if r.Layer.Name == "" || r.Layer.Name != older.Layer.Name || r.Unit == experiment.Request || older.Unit == experiment.Request {
		return nil
	}
	if r.Unit != older.Unit {
		return fmt.Errorf("it assigns by %s in the layer %s, in which %s assigns by %s", r.Unit, r.Layer.Name, older.Name, older.Unit)
	}
	if r.Layer.From < older.Layer.To && older.Layer.From < r.Layer.To {
		return fmt.Errorf("its slots %d to %d of the layer %s overlap with %d to %d, which are %s's and stay so",
			r.Layer.From, r.Layer.To, r.Layer.Name, older.Layer.From, older.Layer.To, older.Name)
	}
	return nil
}
