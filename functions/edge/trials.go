package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"

	"warble/shared/experiment"
	"warble/shared/token"
)

// trial is an experiment in force, as the requests to one Service meet it, or one whose baseline is counted: then it has no more
// than its rules.
type trial struct {
	*experiment.Rules

	service            string
	exposes            bool // whether a request to this Service exposes its user
	control, treatment side
	both               *url.URL // halves the requests between the arms, where these are the unit
	tripwire           *tripwire
}

// side is one arm of a trial.
type side struct {
	arm      experiment.Arm
	url      *url.URL
	revision string

	// What an answer says, made once for all of them.
	experimentHeader, variantHeader, baggage []string
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

// draws tells whether a request that nobody is assigned for goes to the arms: so many of all do, at random.
func (t *trial) draws() bool {
	return t.Unit == experiment.Request && t.both != nil && rand.IntN(experiment.Slots) < t.Open.Control+t.Open.Treatment
}

// drawn is the arm of a request that draws has taken, for a guest: its answers name no revision by which it would be known.
func (t *trial) drawn() experiment.Arm {
	if rand.IntN(t.Open.Control+t.Open.Treatment) < t.Open.Control {
		return experiment.Control
	}
	return experiment.Treatment
}

// served returns the arm that an answer is of where requests are halved between both: that whose revision it names. One that
// names none is not a function's, as when a pod crashed, and counts for nobody.
func (t *trial) served(answer http.Header) experiment.Arm {
	switch revision := answer.Get(headerRevision); revision {
	case "":
		return ""
	case t.treatment.revision:
		return experiment.Treatment
	case t.control.revision:
		return experiment.Control
	}
	return ""
}

func (s *side) describe(header http.Header) {
	header[headerExperiment], header[headerVariant] = s.experimentHeader, s.variantHeader
}

// newTrials returns what is in force of the experiments, by Service. Those without an open slot are not, but for a baseline. Of two that cannot
// both be in force, the first is; the other is refused as a whole. Their tripwires are of wires, where those of the same
// experiment stay the same.
func newTrials(experiments []experiment.Rules, wires *tripwires) (trials map[string]*trial, refused []error) {
	trials = make(map[string]*trial)
	var inForce []*experiment.Rules
	for i := range experiments {
		r := &experiments[i]
		if r.Open == (experiment.Open{}) && len(r.Baseline) == 0 {
			continue
		}
		all, err := trialsOf(r)
		for _, other := range inForce {
			if err == nil {
				err = r.Conflict(other)
			}
		}
		if err != nil {
			refused = append(refused, &refusal{fmt.Errorf("%s: %w", r.Name, err), subject{kindExperiment, r.Name}})
			continue
		}
		inForce = append(inForce, r)
		wire := wires.of(r)
		for service, t := range all {
			t.tripwire = wire
			trials[service] = t
		}
	}
	wires.keep(inForce)
	return trials, refused
}

// trialsOf are an experiment's, by Service.
func trialsOf(r *experiment.Rules) (map[string]*trial, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	all := make(map[string]*trial)
	for _, service := range r.Services {
		reach, there := r.Reach[service]
		t := &trial{Rules: r, service: service, exposes: slices.Contains(r.Exposure, service)}
		if all[service] = t; len(r.Baseline) > 0 {
			continue
		}
		if reach.Host != "" {
			t.both = &url.URL{Scheme: "http", Host: reach.Host}
		}
		for _, arm := range experiment.Arms {
			at := reach.Of(arm)
			if !there || at.Host == "" || r.Unit == experiment.Request && t.both == nil {
				return nil, fmt.Errorf("slots are open, and nothing says where the arms of %s are", service)
			}
			*t.side(arm) = side{
				arm: arm, url: &url.URL{Scheme: "http", Host: at.Host}, revision: at.Revision,
				experimentHeader: []string{r.Name}, variantHeader: []string{string(arm)}, baggage: []string{"experiment=" + r.Name + ",arm=" + string(arm)},
			}
		}
	}
	return all, nil
}
