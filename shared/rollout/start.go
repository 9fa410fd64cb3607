package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

// starting is the lock of whoever starts an experiment, a name that none has: of two that want one Service and start at the
// same moment each would find it free.
const starting = "-start"

// start makes of a draft what was asked for: it writes down how everything is found, and how the arms will be called.
// Nothing of any Service has changed then.
func (r *Reconciler) start(ctx context.Context, e *Experiment) (move, error) {
	if e.Spec.Run.State != experiment.Running {
		return waits("its start: kn experiment start %s", e.Name)
	}
	release, err := r.Cluster.Lock(ctx, starting, lockLife)
	if errors.Is(err, ErrLocked) {
		return waits("another experiment that is being started")
	} else if err != nil {
		return move{}, err
	}
	defer release()
	services, err := r.Admit(ctx, e)
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return stuck("%s", refused)
	} else if err != nil {
		return move{}, err
	}
	planned, err := r.plan(ctx, e)
	if err != nil {
		return stuck("not started: %v", err)
	}
	salt := e.Spec.Salt
	if salt == "" {
		salt = e.unique("salt")
	}
	began := experiment.Start{Name: e.Name, Spec: e.Spec, Salt: salt, PlannedUnits: planned, At: r.Now()}
	began.Spec.Run = experiment.Run{}
	if err := r.Store.StartExperiment(ctx, began); err != nil {
		return stuck("not started: %v", err)
	}
	if !e.held() {
		return r.hold(ctx, e)
	}
	e.Status = Status{
		Phase: Warming, Salt: salt, Planned: planned, StartedAt: metav1.NewTime(r.Now()), Services: services,
		Unrecorded: e.Status.Unrecorded,
	}
	return r.transition(ctx, e, "warming", r.wished(e, "a person has started it"))
}

func (r *Reconciler) plan(ctx context.Context, e *Experiment) (int64, error) {
	if r.Readout == nil {
		return 0, errors.New("there is no readout, so nobody can say when a verdict is due: expected DATABASE_URL")
	}
	return r.Readout.Plan(ctx, e.Spec)
}

// RefusedError is all that is against starting an experiment, one a line.
type RefusedError struct{ Mistakes error }

func (e *RefusedError) Error() string { return "refused: " + e.Mistakes.Error() }
func (e *RefusedError) Unwrap() error { return e.Mistakes }

// Admit says how each Service is found, and what its arms' revisions will be called; a RefusedError has everything that is
// against it. It changes nothing.
func (r *Reconciler) Admit(ctx context.Context, e *Experiment) ([]ServiceStatus, error) {
	mistakes := []error{experiment.CheckName(e.Name), e.Spec.Check()}
	others, err := r.Cluster.Experiments(ctx)
	if err != nil {
		return nil, err
	}
	var taken []string
	for i := range others {
		if o := &others[i]; o.Name != e.Name && o.Status.Phase.Live() {
			o.Spec.Default()
			mistakes = append(mistakes, e.disputes(o))
			taken = append(taken, o.Spec.Services...)
		}
	}
	var services []ServiceStatus
	for _, name := range e.Spec.Services {
		s, err := r.Cluster.Service(ctx, name)
		if errors.Is(err, ErrNotFound) {
			mistakes = append(mistakes, fmt.Errorf("services: there is no Knative Service %s", name))
			continue
		} else if err != nil {
			return nil, err
		}
		found, err := e.found(s)
		services = append(services, found)
		if !slices.Contains(taken, name) { // else it is as the other experiment has it
			mistakes = append(mistakes, err)
		}
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, &RefusedError{err}
	}
	return services, nil
}

// disputes says what two live experiments cannot both have.
func (e *Experiment) disputes(o *Experiment) error {
	var mistakes []error
	for _, name := range e.Spec.Services {
		if slices.Contains(o.Spec.Services, name) {
			mistakes = append(mistakes, fmt.Errorf("services: %s is in the experiment %s, which is %s: expected one at a time", name, o.Name, o.Describe()))
		}
	}
	a, b := e.Rules(), o.Rules()
	if a.Layer.Name != b.Layer.Name || a.Unit == experiment.Request || b.Unit == experiment.Request {
		return errors.Join(mistakes...)
	}
	if a.Unit != b.Unit {
		mistakes = append(mistakes, fmt.Errorf("layer: %s has %s, and %s of the experiment %s: expected one kind of unit", a.Layer.Name, a.Unit, b.Unit, o.Name))
	}
	if a.Layer.From < b.Layer.To && b.Layer.From < a.Layer.To {
		mistakes = append(mistakes, fmt.Errorf("layer.slots: %d to %d of %s overlap those of the experiment %s, %d to %d: expected others", a.Layer.From, a.Layer.To, a.Layer.Name, o.Name, b.Layer.From, b.Layer.To))
	}
	return errors.Join(mistakes...)
}

// found says how a Service is, and what is against giving it arms.
func (e *Experiment) found(s *Service) (ServiceStatus, error) {
	found := ServiceStatus{Name: s.Name, Traffic: s.Traffic, Revision: s.Ready, Env: make(map[string]string)}
	found.on(e, s.Template.Image, 0)
	var mistakes []error
	expect := func(ok bool, format string, args ...any) {
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("%s: %s", s.Name, fmt.Sprintf(format, args...)))
		}
	}
	for _, name := range e.variables() {
		if value, there := s.Template.Env[name]; there {
			found.Env[name] = value
		}
		expect(!slices.Contains(s.Template.Elsewhere, name), "the variable %s has its value from a secret or config map: expected one that the treatment can set", name)
	}
	const host = 63 // characters of a part of a host name
	expect(len(found.Treatment) <= host, "a revision would be called %s: expected a shorter name of the experiment", found.Treatment)
	expect(s.Template.Revision == "", "its template names its revision, %s: expected Knative to draw a name", s.Template.Revision)
	expect(s.Current && s.Routed, "it is not ready: expected its newest revision, and the way to it")
	for _, arm := range arms {
		expect(tagged(s.Traffic, experiment.Tag(e.Name, arm)) == nil, "it has a tag %s: expected to make that", experiment.Tag(e.Name, arm))
	}
	_, plain := s.Template.Env["DATABASE_URL"]
	expect(e.Spec.Unit == experiment.Request || plain || slices.Contains(s.Template.Elsewhere, "DATABASE_URL"),
		"it has no DATABASE_URL, so it cannot write who was exposed: expected a function with a database, or unit request")
	return found, errors.Join(mistakes...)
}

// on names the revisions of both arms, made of an image, which is the base of that number.
func (s *ServiceStatus) on(e *Experiment, image string, base int) {
	name := func(arm experiment.Arm) string {
		return fmt.Sprintf("%s-%s-%s", s.Name, experiment.Tag(e.Name, arm), e.unique(fmt.Sprint("revision/", base))[:5])
	}
	s.Image, s.Control, s.Treatment = image, name(experiment.Control), name(experiment.Treatment)
}

var arms = []experiment.Arm{experiment.Control, experiment.Treatment}

// variables are those that the arms set.
func (e *Experiment) variables() []string {
	names := []string{experiment.EnvExperiment, experiment.EnvArm}
	return append(names, slices.Sorted(maps.Keys(e.Spec.Treatment.Env))...)
}

func (s ServiceStatus) revision(arm experiment.Arm) string {
	if arm == experiment.Treatment {
		return s.Treatment
	}
	return s.Control
}

// template is present made that of an arm; of no arm, what it was before, with the treatment's change where that has won.
func (e *Experiment) template(s ServiceStatus, present Template, arm experiment.Arm, won bool) Template {
	next := present
	next.Env = maps.Clone(present.Env)
	for _, name := range e.variables() {
		delete(next.Env, name)
	}
	if next.Env == nil {
		next.Env = make(map[string]string)
	}
	maps.Copy(next.Env, s.Env)
	next.Image, next.Revision = s.Image, ""
	if arm == experiment.Treatment || won {
		for name, value := range e.Spec.Treatment.Env {
			next.Env[name] = string(value)
		}
		if image, ok := e.Spec.Treatment.Image[s.Name]; ok {
			next.Image = string(image)
		}
	}
	if arm != "" {
		next.Env[experiment.EnvExperiment], next.Env[experiment.EnvArm] = e.Name, string(arm)
		next.Revision = s.revision(arm)
	}
	return next
}

func (t Template) equal(o Template) bool {
	return t.Revision == o.Revision && t.Image == o.Image && maps.Equal(t.Env, o.Env)
}

// warm makes the arms: a revision of each, then a tag to each, and ends when every tag has answered with its revision. All
// the time nobody is assigned.
func (r *Reconciler) warm(ctx context.Context, e *Experiment) (move, error) {
	for _, step := range []func(context.Context, *Experiment, ServiceStatus) (move, error){r.makeRevisions, r.tag, r.hear} {
		var waiting []string
		failed := false
		for _, s := range e.Status.Services {
			m, err := step(ctx, e, s)
			if err != nil || m.made {
				return m, err
			}
			if m.waits != "" {
				waiting = append(waiting, m.waits)
				failed = failed || m.stuck
			}
		}
		if len(waiting) > 0 {
			return move{waits: strings.Join(waiting, "; "), stuck: failed}, nil
		}
	}
	return r.enter(ctx, e, 0, r.wished(e, "every arm answers"))
}

// makeRevisions makes the control's revision, then the treatment's. The template is one, so the second waits until there
// is the first, ready or not. What was found to follow the newest revision is pinned in the same write that makes one.
func (r *Reconciler) makeRevisions(ctx context.Context, e *Experiment, s ServiceStatus) (move, error) {
	var waiting move
	for _, arm := range arms {
		revision, err := r.Cluster.Revision(ctx, s.revision(arm))
		switch {
		case errors.Is(err, ErrNotFound):
			return r.change(ctx, s.Name, "makes "+s.revision(arm), func(present *Service) {
				present.Template = e.template(s, present.Template, arm, false)
				if e.Status.Phase == Warming { // else it is what the arms that are there want
					present.Traffic = arrangement{}.targets(e.Name, s, present.Traffic)
				}
			}, func() (move, error) { return waits("the revision %s to be made", s.revision(arm)) })
		case err != nil:
			return move{}, err
		case revision.Failed != "":
			waiting, _ = stuck("the %s of %s, revision %s, does not get ready: %s", arm, s.Name, s.revision(arm), revision.Failed)
		case !revision.Ready && !waiting.stuck:
			waiting, _ = waits("the revision %s to be ready", s.revision(arm))
		}
	}
	return waiting, nil
}

// tag names the arms in the traffic, without a percentage.
func (r *Reconciler) tag(ctx context.Context, e *Experiment, s ServiceStatus) (move, error) {
	return r.change(ctx, s.Name, "tags its arms", func(present *Service) {
		present.Traffic = arrangement{arms: true}.targets(e.Name, s, present.Traffic)
	}, nil)
}

// hear asks each arm by its tag: what the cluster says of itself is not what a request finds.
func (r *Reconciler) hear(ctx context.Context, e *Experiment, s ServiceStatus) (move, error) {
	for _, arm := range arms {
		tag := experiment.Tag(e.Name, arm)
		switch answered, err := r.Cluster.Answers(ctx, s.Name, tag); {
		case err != nil:
			return waits("the tag %s of %s to answer: %v", tag, s.Name, err)
		case answered != s.revision(arm):
			return waits("the tag %s of %s to lead to %s, and not to %q", tag, s.Name, s.revision(arm), answered)
		}
	}
	return move{}, nil
}

// change writes what edit makes of a Service, where that is something new; where it is not, otherwise says what there is
// to wait for.
func (r *Reconciler) change(ctx context.Context, name, what string, edit func(*Service), otherwise func() (move, error)) (move, error) {
	s, err := r.Cluster.Service(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return stuck("there is no Knative Service %s any more", name)
	} else if err != nil {
		return move{}, err
	}
	next := *s
	edit(&next)
	if next.Template.equal(s.Template) && same(next.Traffic, s.Traffic) {
		if otherwise != nil {
			return otherwise()
		}
		return move{}, nil
	}
	if err := r.Cluster.UpdateService(ctx, &next); err != nil {
		return move{}, err
	}
	r.say("%s: %s", name, what)
	return made(nil)
}
