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

// routedExperiment is an experiment for the requests to one Service. It is in force, or its baseline is being counted. During the
// baseline only Rules, service and tripwire are set.
type routedExperiment struct {
	*experiment.Rules

	service            string
	exposes            bool // whether a request to this Service exposes its user
	control, treatment routedArm
	splitURL           *url.URL // an address that splits requests evenly between the arms, if the unit is a request
	tripwire           *tripwire
}

// routedArm is one arm of a routedExperiment.
type routedArm struct {
	name     experiment.Arm
	url      *url.URL
	revision string

	// The headers of answers and requests, made once.
	experimentHeader, variantHeader, baggage []string
}

// Headers of an answer to a user of an experiment.
const (
	headerExperiment = "X-Experiment"
	headerVariant    = "X-Variant"
	headerRevision   = "X-Revision"
)

// assign returns the caller's arm, and the assignment that the function receives; nil if the experiment does not include the
// caller.
func (exp *routedExperiment) assign(c *token.Claims) (*routedArm, experiment.Assignment) {
	arm, unit := exp.Assign(c.UserID, c.Community)
	if arm == "" {
		return nil, experiment.Assignment{}
	}
	return exp.arm(arm), experiment.Assignment{
		Experiment: exp.Name, Arm: arm, Kind: exp.Unit, Unit: unit, Generation: exp.Generation, Exposes: exp.exposes,
	}
}

func (exp *routedExperiment) arm(arm experiment.Arm) *routedArm {
	if arm == experiment.Control {
		return &exp.control
	}
	return &exp.treatment
}

// drawRequest decides at random whether a request goes to the arms, if the unit is a request. The probability is the share of open
// slots.
func (exp *routedExperiment) drawRequest() bool {
	return exp.Unit == experiment.Request && exp.splitURL != nil && rand.IntN(experiment.Slots) < exp.Open.Control+exp.Open.Treatment
}

// drawArm chooses the arm at random for a guest's request that drawRequest sends to the arms. A guest's answer names no revision,
// so the arm cannot be read from the answer.
func (exp *routedExperiment) drawArm() experiment.Arm {
	if rand.IntN(exp.Open.Control+exp.Open.Treatment) < exp.Open.Control {
		return experiment.Control
	}
	return experiment.Treatment
}

// answeringArm returns the arm whose revision the answer names, for requests that are split evenly between both arms. It returns ""
// for an answer without a revision, because no function gave that answer: for example, a pod crashed.
func (exp *routedExperiment) answeringArm(answer http.Header) experiment.Arm {
	switch revision := answer.Get(headerRevision); revision {
	case "":
		return ""
	case exp.treatment.revision:
		return experiment.Treatment
	case exp.control.revision:
		return experiment.Control
	}
	return ""
}

// setHeaders names the experiment and the arm in the headers of an answer.
func (a *routedArm) setHeaders(header http.Header) {
	header[headerExperiment], header[headerVariant] = a.experimentHeader, a.variantHeader
}

// routeExperiments returns the experiments in force, by Service, and those whose baseline is counted. Other experiments without an
// open slot are left out. If two conflict, the first is in force and the other is refused completely. wires provides the tripwires,
// so that an experiment keeps its tripwire.
func routeExperiments(experiments []experiment.Rules, wires *tripwires) (routed map[string]*routedExperiment, refused []error) {
	routed = make(map[string]*routedExperiment)
	var inForce []*experiment.Rules
	for i := range experiments {
		r := &experiments[i]
		if r.Open == (experiment.Open{}) && len(r.Baseline) == 0 {
			continue
		}
		all, err := routeExperiment(r)
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
		wire := wires.forExperiment(r)
		for service, exp := range all {
			exp.tripwire = wire
			routed[service] = exp
		}
	}
	wires.keepOnly(inForce)
	return routed, refused
}

// routeExperiment returns a routedExperiment for each Service of an experiment.
func routeExperiment(r *experiment.Rules) (map[string]*routedExperiment, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	all := make(map[string]*routedExperiment)
	for _, service := range r.Services {
		reach, reachable := r.Reach[service]
		exp := &routedExperiment{Rules: r, service: service, exposes: slices.Contains(r.Exposure, service)}
		if all[service] = exp; len(r.Baseline) > 0 {
			continue
		}
		if reach.Host != "" {
			exp.splitURL = &url.URL{Scheme: "http", Host: reach.Host}
		}
		for _, arm := range experiment.Arms {
			at := reach.Side(arm)
			if !reachable || at.Host == "" || r.Unit == experiment.Request && exp.splitURL == nil {
				return nil, fmt.Errorf("slots are open, but there is no address for the arms of %s", service)
			}
			*exp.arm(arm) = routedArm{
				name: arm, url: &url.URL{Scheme: "http", Host: at.Host}, revision: at.Revision,
				experimentHeader: []string{r.Name}, variantHeader: []string{string(arm)}, baggage: []string{"experiment=" + r.Name + ",arm=" + string(arm)},
			}
		}
	}
	return all, nil
}
