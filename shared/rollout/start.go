package rollout

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/manifest"
)

// nextDraft returns the next move of an experiment that has not started. A start is stored in the database first, and then in
// the status, with the revisions from which the arms will be made. Neither changes anything else in the cluster.
func (v *View) nextDraft() Move {
	e, past := v.Experiment, v.Past
	begun := past != nil && past.UID == string(e.UID) // the database has the start, and the status does not
	adopted := past != nil && !begun && v.mayAdopt()
	if past != nil && !begun && !adopted {
		s := v.status()
		s.Phase, s.Swept = experiment.Concluded, true
		s.Because = fmt.Sprintf("an experiment %s has been started before, and its rows are in the database: expected another name", e.Name)
		return Write{Status: s}
	}
	if !begun && !adopted { // otherwise it has to continue to its end, even if nobody wishes its start any more
		if m := v.awaitStart(); m != nil {
			return m
		}
	}
	bases, err := v.Admit()
	if err != nil {
		return stalled(reasonRefused, "refused: %s", err)
	}
	switch {
	case begun:
		return v.writeStart(bases)
	case adopted:
		return v.begin(past.Salt, past.PlannedUnits)
	case v.Planned == nil:
		return Plan{}
	case v.Planned.Err != nil:
		return stalled(reasonPlan, "not started: %s", v.Planned.Err)
	}
	return v.begin(cmp.Or(e.Spec.Salt, e.uniqueText("salt")), v.Planned.Units)
}

// mayAdopt reports whether the experiment of that name in the database was started in another cluster and has not ended, so that this
// cluster continues it.
func (v *View) mayAdopt() bool {
	past := v.Past
	return past.Namespace != v.Namespace.UID && (past.Phase == experiment.Promoting || !past.Phase.Over())
}

// awaitStart returns what a draft waits for before its start; nil if it has to start now.
func (v *View) awaitStart() Move {
	e := v.Experiment
	if e.Spec.End != "" || e.Spec.Archive {
		return waits("nothing: it was ended before it started, so it never starts")
	}
	wanted, at := e.Spec.Begins(v.Now)
	switch {
	case wanted:
		return nil
	case at.IsZero():
		return waits("its start: kn experiment start %s", e.Name)
	}
	r := waits("its start at %s", at.UTC().Format("2006-01-02 15:04:05"))
	r.Until = at
	return r
}

// begin returns the move that stores the start in the database.
func (v *View) begin(salt string, planned int64) Move {
	e := v.Experiment
	start := experiment.Start{
		Name: e.Name, Spec: e.Spec, Salt: salt, UID: string(e.UID), Namespace: v.Namespace.UID, PlannedUnits: planned, At: v.Now,
		Metrics: e.Spec.Metrics.Named(v.Own),
	}
	start.Spec.Wishes = experiment.Wishes{}
	return Begin{start}
}

// writeStart returns the move that writes the status of a start that the database has. It takes salt and planned units from the database,
// not from what this driver has planned, because another driver may have begun the experiment at the same moment.
func (v *View) writeStart(bases []Base) Move {
	e, past := v.Experiment, v.Past
	s := Status{
		Phase: experiment.Warming, Step: min(past.Step, len(e.Spec.Ramp.Steps)-1), Planned: past.PlannedUnits, StartedAt: metav1.NewTime(v.Now),
		Bases: bases, Assign: Assign{Salt: past.Salt}, Unrecorded: e.Status.Unrecorded, Conditions: e.Status.Conditions,
		Adopted: past.Phase != experiment.Draft, // another cluster has recorded transitions
	}
	if s.Adopted {
		return v.transition(s, "warming", v.byDriver("its cluster was rebuilt"))
	}
	return v.transition(s, "warming", v.wished("a person has started it"))
}

// Admit returns the revisions of the Services from which the arms would be made. Its error lists everything that speaks against the start,
// one problem a line.
func (v *View) Admit() ([]Base, error) {
	e := v.Experiment
	mistakes := []error{experiment.CheckName(e.Name), e.Spec.Check(), e.Spec.CheckNames(e.Name)}
	rules := e.Rules()
	withArms := make(map[string]bool) // Services that another experiment has made arms of
	for i := range v.Others {
		o := &v.Others[i]
		if !o.Status.Phase.Live() {
			continue
		}
		theirs := o.Rules()
		if err := rules.Conflict(&theirs); err != nil {
			mistakes = append(mistakes, fmt.Errorf("%w (%s is %s)", err, o.Name, o.Describe()))
		}
		for _, service := range o.Spec.Services {
			withArms[service] = true
		}
	}
	var bases []Base
	for _, name := range e.Spec.Services {
		s := v.Services[name]
		if s == nil {
			mistakes = append(mistakes, fmt.Errorf("services: there is no Knative Service %s", name))
			continue
		}
		image := string(e.Spec.Treatment.Image[name])
		bases = append(bases, Base{Name: name, UID: s.UID, Revision: s.Ready, Image: s.Image, Treatment: image})
		mistakes = append(mistakes, e.checkService(s, image))
	}
	if v.Connections > 0 {
		mistakes = append(mistakes, v.checkConnections(withArms))
	}
	return bases, errors.Join(mistakes...)
}

// checkConnections returns an error if the database has too few connections for all pods at max-scale. withArms are the Services that have
// arms of another experiment. A Service without max-scale is an error, because steer may not read the cluster's default.
func (v *View) checkConnections(withArms map[string]bool) error {
	if len(v.Unlimited) > 0 {
		return fmt.Errorf("nothing limits how many pods %s may have, and how many of the database's %d connections they open (DATABASE_CONNECTIONS of steer): expected autoscaling.knative.dev/max-scale in the template",
			strings.Join(v.Unlimited, ", "), v.Connections)
	}
	present, added := 0, 0
	for name, pool := range v.Pools {
		present += pool
		if withArms[name] { // two more copies of the Service
			present += 2 * pool
		}
	}
	for _, name := range v.Experiment.Spec.Services {
		added += 2 * v.Pools[name]
	}
	if present+added <= v.Connections {
		return nil
	}
	return fmt.Errorf("at max-scale its arms may open %d connections to the database, and everything else %d: expected at most %d together (DATABASE_CONNECTIONS of steer), so lower max-scale",
		added, present, v.Connections)
}

// checkService returns what speaks against making arms of a Service; nil if nothing does. image is the treatment's own image, or empty.
func (e *Experiment) checkService(s *Service, image string) error {
	var mistakes []error
	expect := func(ok bool, format string, args ...any) {
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("%s: %s", s.Name, fmt.Sprintf(format, args...)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Spec.Treatment.Env)) {
		expect(!slices.Contains(s.Elsewhere, name), "the variable %s comes from a secret or config map: expected one that the treatment can set", name)
	}
	for _, name := range []string{experiment.EnvService, experiment.EnvExperiment, experiment.EnvArm} {
		_, set := s.Env[name]
		expect(!set && !slices.Contains(s.Elsewhere, name), "its template has the variable %s: expected none, because steer sets it in the arms", name)
	}
	expect(image == "" || repository(image) == repository(s.Image), "the treatment's image is from %s: expected the repository of the Service's image, %s", repository(image), repository(s.Image))
	expect(s.Settled && s.Ready != "" && s.Created == s.Ready, "it is not ready: expected its newest revision and its route to be ready")
	expect(s.Latest, "its newest revision does not have all of its traffic: expected 100 percent, because the arms are copies of it")
	expect(s.Guest || !e.Spec.Identity.Foreign(), "it has no label %s, but the identity %s is only for guests: expected that label, or identity token", manifest.Guest, e.Spec.Identity.Kind)
	switch s.Experiments {
	case manifest.NoExperiments:
		expect(false, "%s is %s, because the edge sends it no requests: expected another Service", manifest.ExperimentsAnnotation, manifest.NoExperiments)
	case manifest.ByRequestOnly:
		expect(e.Spec.Unit == experiment.Request, "%s is %s, because it does not record who was exposed: expected another Service, or unit request", manifest.ExperimentsAnnotation, manifest.ByRequestOnly)
		slow := slices.ContainsFunc(e.Spec.Metrics.Guardrails, func(g experiment.Guardrail) bool { return g.Name == experiment.SlowShare })
		expect(!slow, "%s is %s, because it records no latency: expected only the guardrail %s", manifest.ExperimentsAnnotation, manifest.ByRequestOnly, experiment.ErrorShare)
	}
	return errors.Join(mistakes...)
}

// repository returns an image without its tag and digest.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if at := strings.LastIndexByte(image, ':'); at > strings.LastIndexByte(image, '/') {
		image = image[:at]
	}
	return image
}
