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

// draft is of an experiment that has not started: it keeps what is started, and of which revisions the arms will be made.
// Nothing in the cluster has changed then but its status.
func (v *View) draft() Move {
	e := v.Experiment
	past := v.Past
	begun := past != nil && past.UID == string(e.UID) // the database has the start, and the status has not
	adopted := past != nil && !begun && past.Namespace != v.Namespace.UID && (past.Phase == experiment.Promoting || !past.Phase.Over())
	if past != nil && !begun && !adopted {
		s := v.status()
		s.Phase, s.Swept = experiment.Concluded, true
		s.Because = fmt.Sprintf("an experiment %s has been started before: expected another name, for its rows are that one's", e.Name)
		return Write{Status: s}
	}
	wanted, at := e.Spec.Begins(v.Now)
	switch {
	case begun, adopted: // what it has in the database has to come to an end, whatever is wished now
	case e.Spec.End != "" || e.Spec.Archive:
		return waits("nothing: its end was wished before its start, so that it never starts")
	case !wanted && !at.IsZero():
		r := waits("its start at %s", at.UTC().Format("2006-01-02 15:04:05"))
		r.Until = at
		return r
	case !wanted:
		return waits("its start: kn experiment start %s", e.Name)
	}
	bases, err := v.Admit()
	if err != nil {
		return stalled(reasonRefused, "refused: %s", err)
	}
	switch {
	case begun:
		return v.start(bases)
	case adopted:
		return v.begin(past.Salt, past.PlannedUnits)
	case v.Planned == nil:
		return Plan{}
	case v.Planned.Err != nil:
		return stalled(reasonPlan, "not started: %s", v.Planned.Err)
	}
	return v.begin(cmp.Or(e.Spec.Salt, e.unique("salt")), v.Planned.Units)
}

func (v *View) begin(salt string, planned int64) Move {
	e := v.Experiment
	start := experiment.Start{
		Name: e.Name, Spec: e.Spec, Salt: salt, UID: string(e.UID), Namespace: v.Namespace.UID, PlannedUnits: planned, At: v.Now,
		Metrics: e.Spec.Metrics.Named(v.Own),
	}
	start.Spec.Wishes = experiment.Wishes{}
	return Begin{start}
}

// start is of what the database has the start of. The status says what that says and not what this driver has planned, for
// another may have begun it at the same moment.
func (v *View) start(bases []Base) Move {
	e, past := v.Experiment, v.Past
	s := Status{
		Phase: experiment.Warming, Step: min(past.Step, len(e.Spec.Ramp.Steps)-1), Planned: past.PlannedUnits, StartedAt: metav1.NewTime(v.Now),
		Bases: bases, Assign: Assign{Salt: past.Salt}, Unrecorded: e.Status.Unrecorded, Conditions: e.Status.Conditions,
		Adopted: past.Phase != experiment.Draft, // its transitions are of another cluster
	}
	if s.Adopted {
		return v.transition(s, "warming", why{v.Actor, "its cluster was built anew", nil})
	}
	return v.transition(s, "warming", v.wished("a person has started it"))
}

// Admit says of which revision of each Service the arms would be made; its error has everything that is against it, a line
// each.
func (v *View) Admit() ([]Base, error) {
	e := v.Experiment
	mistakes := []error{experiment.CheckName(e.Name), e.Spec.Check(), e.Spec.CheckNames(e.Name)}
	rules := e.Rules()
	taken := make(map[string]bool)
	for i := range v.Others {
		if o := &v.Others[i]; o.Status.Phase.Live() {
			theirs := o.Rules()
			if err := rules.Conflict(&theirs); err != nil {
				mistakes = append(mistakes, fmt.Errorf("%w (%s is %s)", err, o.Name, o.Describe()))
			}
			for _, service := range o.Spec.Services {
				taken[service] = true
			}
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
		mistakes = append(mistakes, e.fits(s, image))
	}
	if v.Connections > 0 {
		mistakes = append(mistakes, v.connect(taken))
	}
	return bases, errors.Join(mistakes...)
}

// connect says by how much the database is short of connections, if the pods of everything were as many as may be. taken
// are the Services that have arms by another experiment. What the cluster makes of a Service without max-scale, steer may
// not read.
func (v *View) connect(taken map[string]bool) error {
	if len(v.Unlimited) > 0 {
		return fmt.Errorf("nothing limits the pods of %s, nor how many of the database's %d connections they open (DATABASE_CONNECTIONS of steer): expected autoscaling.knative.dev/max-scale in the template",
			strings.Join(v.Unlimited, ", "), v.Connections)
	}
	open, more := 0, 0
	for name, pool := range v.Pools {
		open += pool
		if taken[name] { // by both arms of another experiment
			open += 2 * pool
		}
	}
	for _, name := range v.Experiment.Spec.Services {
		more += 2 * v.Pools[name]
	}
	if open+more <= v.Connections {
		return nil
	}
	return fmt.Errorf("its arms may open %d connections to the database at max-scale, and what runs %d: expected %d together at most (DATABASE_CONNECTIONS of steer), so lower max-scale",
		more, open, v.Connections)
}

// fits says what is against giving a Service arms; image is the treatment's, if it has another.
func (e *Experiment) fits(s *Service, image string) error {
	var mistakes []error
	expect := func(ok bool, format string, args ...any) {
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("%s: %s", s.Name, fmt.Sprintf(format, args...)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Spec.Treatment.Env)) {
		expect(!slices.Contains(s.Elsewhere, name), "the variable %s has its value from a secret or config map: expected one that the treatment can set", name)
	}
	for _, name := range []string{experiment.EnvService, experiment.EnvExperiment, experiment.EnvArm} {
		_, there := s.Env[name]
		expect(!there && !slices.Contains(s.Elsewhere, name), "its template has the variable %s: expected none, for by it an arm is told what it is", name)
	}
	expect(image == "" || repository(image) == repository(s.Image), "the treatment's image is of %s: expected the repository of what runs, %s", repository(image), repository(s.Image))
	expect(s.Settled && s.Ready != "" && s.Created == s.Ready, "it is not ready: expected its newest revision, and the way to it")
	expect(s.Latest, "its newest revision has not all of its traffic: expected that, for the arms are copies of it")
	expect(s.Guest || !e.Spec.Identity.Foreign(), "it has no label %s, and the identity %s is of guests alone: expected that label, or identity token", manifest.Guest, e.Spec.Identity.Kind)
	switch s.Experiments {
	case manifest.NoExperiments:
		expect(false, "%s is %s, for no caller reaches it through the edge: expected another Service", manifest.ExperimentsAnnotation, manifest.NoExperiments)
	case manifest.ByRequestOnly:
		expect(e.Spec.Unit == experiment.Request, "%s is %s, for it does not record who was exposed: expected another Service, or unit request", manifest.ExperimentsAnnotation, manifest.ByRequestOnly)
		slow := slices.ContainsFunc(e.Spec.Metrics.Guardrails, func(g experiment.Guardrail) bool { return g.Name == experiment.SlowShare })
		expect(!slow, "%s is %s, for it records no latency: expected the guardrail %s alone", manifest.ExperimentsAnnotation, manifest.ByRequestOnly, experiment.ErrorShare)
	}
	return errors.Join(mistakes...)
}

// repository is an image without its tag and digest.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if at := strings.LastIndexByte(image, ':'); at > strings.LastIndexByte(image, '/') {
		image = image[:at]
	}
	return image
}
