package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"warble/shared/experiment"
	"warble/shared/experiment/readout"
	"warble/shared/manifest"
	"warble/shared/rollout"
	"warble/shared/store"
)

const (
	// keptExperiment and databaseURL are files of the state folder: what a trial keeps, and how `kn experiment` reads it.
	keptExperiment = "experiment.json"
	databaseURL    = "database-url"

	// fileInterval is how often the experiment's file is looked at.
	fileInterval = 250 * time.Millisecond
	// reconcileInterval is how often the experiment is, besides: a readout takes as long as a page of requests.
	reconcileInterval = 5 * time.Second
)

// trial is the experiment of a local run. It is a rollout.Cluster: the resource is a file, a revision of a Service a
// process, and a tag an entry of the routes file. What else a cluster knows is kept in the state folder, so that another
// run goes on.
type trial struct {
	file  string
	fleet *fleet
	db    *store.DB
	run   context.Context //nolint:containedctx // a process outlives the Reconcile that has started it

	text []byte // the file as it was last read
	kept kept
}

// openTrial reads the file, and what another run has kept of its experiment.
func openTrial(ctx context.Context, file string, f *fleet, services []*manifest.Service) (*trial, error) {
	t := &trial{file: file, fleet: f, run: ctx}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("-experiment: %w", err)
	}
	e, err := parseTrial(text)
	if err != nil {
		return nil, fmt.Errorf("-experiment %s: %w", file, err)
	}
	if err := t.load(e); err != nil {
		return nil, fmt.Errorf("-experiment %s: %w", file, err)
	}
	t.text = text
	for _, m := range services {
		if t.kept.Services[m.Name()] == nil {
			t.kept.Services[m.Name()] = untouched(m)
		}
		t.kept.Services[m.Name()].manifest = m
	}
	url := f.secrets[manifest.KeyRef{Name: "warble-database-ops", Key: "url"}]
	if err := os.WriteFile(f.state.path(databaseURL), []byte(url+"\n"), 0o600); err != nil {
		return nil, err
	}
	t.db, err = store.Open(url, 2)
	return t, err
}

// parseTrial reads an experiment that a local run can have. Where nothing is said, it is to run.
func parseTrial(text []byte) (*rollout.Experiment, error) {
	e, err := rollout.Parse(text)
	switch {
	case err != nil:
		return nil, err
	case len(e.Spec.Treatment.Image) > 0:
		return nil, errors.New("treatment.image: expected treatment.env, for a local run has one program of each function")
	case e.Spec.Unit == experiment.Request:
		return nil, errors.New("unit: request is split by Knative: expected user or community in a local run")
	}
	if e.Spec.Run.State == experiment.Draft {
		e.Spec.Run.State = experiment.Running
	}
	return e, nil
}

// resume brings up what was made before this run.
func (t *trial) resume() error {
	for _, s := range t.kept.Services {
		for revision, env := range s.Revisions {
			if err := t.start(s, revision, env); err != nil {
				return err
			}
		}
	}
	return t.route()
}

// start starts a revision's process, by what its template says otherwise than the manifest.
func (t *trial) start(s *service, revision string, env map[string]string) error {
	var settings []string
	manifests := untouched(s.manifest).Template.Env
	for name, value := range env {
		if before, there := manifests[name]; !there || before != value {
			settings = append(settings, name+"="+value)
		}
	}
	name := strings.TrimSpace(s.manifest.Name() + " " + env[experiment.EnvArm])
	one, err := t.fleet.add(s.manifest, revision, name, settings)
	if err != nil {
		return err
	}
	t.fleet.bringLater(t.run, one)
	return nil
}

// route tells the edge.
func (t *trial) route() error {
	traffic := make(map[string][]rollout.Target)
	for name, s := range t.kept.Services {
		for _, target := range s.Traffic {
			if target.Latest {
				target.Revision = s.Ready
			}
			traffic[name] = append(traffic[name], target)
		}
	}
	var rules []experiment.Rules
	if e := &t.kept.Experiment; e.Status.Phase.Live() {
		rules = append(rules, e.Rules())
	}
	return t.fleet.route(traffic, rules)
}

// save comes before whatever it brings, so that a run which is killed is gone on with.
func (t *trial) save() error {
	return errors.Join(replaceFile(t.fleet.state.path(keptExperiment), &t.kept), t.route())
}

// follow moves the experiment until it is stopped.
func (t *trial) follow() (stop func()) {
	ctx, cancel := context.WithCancel(t.run)
	var following sync.WaitGroup
	following.Go(func() { t.reconcile(ctx) })
	return func() {
		cancel()
		following.Wait()
	}
}

func (t *trial) reconcile(ctx context.Context) {
	say := func(line string) { t.fleet.console.print(line + "\n") }
	r := rollout.Reconciler{Cluster: t, Store: t.db, Readout: readout.Driver{DB: t.db}, Now: time.Now, Actor: "local", Say: say}
	name := t.kept.Experiment.Name
	say(fmt.Sprintf("%[1]s: %[2]s. What you want of it is spec.run in %[3]s: {state: Paused}, Stopped, Promoted ...\n"+
		"%[1]s: its readout: DATABASE_URL=$(cat %[4]s) go run ./cmd/kn-experiment report %[1]s",
		name, t.kept.Experiment.Describe(), t.file, t.fleet.state.path(databaseURL)))
	var due time.Time
	var said string
	for ctx.Err() == nil {
		changed, err := t.reread()
		if changed || !time.Now().Before(due) {
			var o rollout.Outcome
			if o, err = r.Reconcile(ctx, name); err == nil {
				err = t.collect()
			}
			due = time.Now().Add(reconcileInterval)
			if err != nil || o.Moving() {
				due = time.Now()
			}
			if err == nil && o.Stuck && said == "" {
				err = errors.New(o.Waits)
			} else if err == nil && o.Stuck {
				err = errors.New(said) // its figures change all the time
			}
			if err == nil {
				said = ""
			}
		}
		if err != nil && err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			say(name + ": " + said)
		}
		select {
		case <-ctx.Done():
		case <-time.After(fileInterval):
		}
	}
}

// reread takes what people have made of the file.
func (t *trial) reread() (changed bool, err error) {
	text, err := os.ReadFile(t.file)
	if err != nil || string(text) == string(t.text) {
		return false, err
	}
	t.text = text
	e, err := parseTrial(text)
	if err == nil {
		err = t.want(e)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w: what it said before is in force", t.file, err)
	}
	return true, t.save()
}

// collect ends what nothing leads to any more, once the experiment has ended.
func (t *trial) collect() error {
	if t.kept.Experiment.Status.Phase.Live() {
		return nil
	}
	var gone []string
	for _, s := range t.kept.Services {
		for revision := range s.Revisions {
			if revision != s.Newest {
				delete(s.Revisions, revision)
				gone = append(gone, revision)
			}
		}
		if s.Made > 1 {
			gone = append(gone, s.manifest.Name()+"-local")
		}
	}
	if t.fleet.drop(gone) {
		return t.save()
	}
	return nil
}

func (t *trial) close() { t.db.Close() }
