package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"warble/shared/experiment"
	"warble/shared/knative"
	"warble/shared/readout"
	"warble/shared/rollout"
)

// startRequest is what the arguments of start ask for.
type startRequest struct {
	asked
	file   *rollout.Experiment // nil to start the draft in the cluster
	name   string
	begin  experiment.Wishes // the start, immediately or at a time
	anyway bool
}

func (s *settings) start() *cobra.Command {
	var b startRequest
	var known knownFlags
	var file, at, dryRun, output string
	c := &cobra.Command{
		Use: "start {-f FILE | NAME}", Short: "Make both arms, wait until each answers, and begin the first step",
		Long: `Start the experiment of a file, or a draft in the cluster. Steer makes both arms of each Service, waits until each answers, and begins
the first step. Until then nobody is in the experiment, so a treatment that crashes never gets traffic.

If DATABASE_URL is set, start refuses a plan that cannot find the effect you asked for. A new installation has no history to plan from:
use --anyway.`,
		Example: `  kn experiment start -f knative/experiments/likes.yaml
  kn experiment start -f likes.yaml --at 2026-12-01T09:00:00Z
  kn experiment start -f likes.yaml --dry-run=client -o yaml`,
		ValidArgsFunction: s.names,
		RunE: func(c *cobra.Command, args []string) error {
			if (file == "") == (len(args) != 1) {
				return exit(misused, "expected either -f FILE or the name of a draft: %s", c.UseLine())
			}
			if _, err := time.Parse(time.RFC3339, at); at != "" && err != nil {
				return exit(misused, "--at %q: expected a time such as 2026-12-01T09:00:00Z", at)
			}
			b.begin = experiment.Wishes{Start: at == "", StartAt: at}
			if file == "" {
				for _, flag := range []string{"units-per-day", "mean", "cv"} {
					if c.Flags().Changed(flag) {
						return exit(misused, "--%s: expected only with -f FILE, because a draft has its own plan", flag)
					}
				}
				b.name = args[0]
				return s.startAndWatch(c, &b, dryRun, output)
			}
			e, err := read(c, file)
			if err != nil {
				return err
			}
			if err := known.applyTo(e); err != nil {
				return err
			}
			switch {
			case e.Spec.Start && at != "":
				return exit(misused, "--at %s: the file says start: true, which starts it immediately: remove one of the two", at)
			case e.Spec.StartAt != "" && at == "" && !e.Spec.Start: // the file names the time
				b.begin = experiment.Wishes{StartAt: e.Spec.StartAt}
			}
			b.file, b.name = e, e.Name
			if dryRun == "client" {
				return printForGit(c, output, s.Namespace, e, b.begin)
			}
			if others := e.Spec.Wishes; others.End != "" || others.Archive || others.Paused || others.Step != 0 || others.Approved != 0 || others.Rebase != nil {
				return exit(misused, "%s: a start needs a file whose only wish is start or startAt: --dry-run=client -o yaml prints the file without the other wishes", file)
			}
			return s.startAndWatch(c, &b, dryRun, output)
		},
	}
	b.flags(c, 0)
	fileFlag(c, &file)
	known.register(c)
	c.Flags().StringVar(&at, "at", "", "when to start, such as 2026-12-01T09:00:00Z (default: now)")
	c.Flags().BoolVar(&b.anyway, "anyway", false, "start even if the plan cannot find the effect that you asked for")
	choice(c, &dryRun, "dry-run", "", "client: print a file for Git, and change nothing", "none", "client")
	choice(c, &output, "output", "o", "format of --dry-run=client: yaml or json", "yaml", "json")
	return c
}

// startAndWatch writes an experiment with the wish to start, and waits until it has started. With a dry run of client it prints the
// experiment instead.
func (s *settings) startAndWatch(c *cobra.Command, b *startRequest, dryRun, output string) error {
	namespace := ""
	if b.file != nil {
		namespace = b.file.Namespace
	}
	cluster, err := s.cluster(namespace)
	if err != nil {
		return err
	}
	ctx := c.Context()
	if dryRun == "client" {
		_, e, err := b.read(ctx, cluster)
		if err != nil {
			return err
		}
		return printForGit(c, output, s.Namespace, e, b.begin)
	}
	g, started, err := s.writeStart(c, cluster, b)
	if err != nil {
		return err
	}
	e, err := s.watch(ctx, cluster, g)
	if stalled, ok := errors.AsType[*stalledError](err); ok && stalled.reason == reasonRefused {
		if started.created {
			return errors.Join(err, takeBack(ctx, cluster, b.name, started.uid))
		}
		return fmt.Errorf("%w\nsteer starts the experiment as soon as this is solved; to cancel the start: kn experiment stop %s", err, b.name)
	}
	if err == nil && (e.Status.Phase == "" || e.Status.Phase == experiment.Draft || e.CountsBaseline()) {
		c.Printf("waits for %s\n", e.Status.Message)
	}
	return err
}

// started identifies the experiment that a start has written.
type started struct {
	uid     types.UID
	created bool // it did not exist before
}

// writeStart checks the design once, and writes the experiment with the wish to start. If somebody else writes the experiment at the same
// time, writeStart reads it and writes it again. It returns what to watch for.
func (s *settings) writeStart(c *cobra.Command, cluster *knative.Cluster, b *startRequest) (goal, started, error) {
	ctx := c.Context()
	for checked := false; ; checked = true {
		present, e, err := b.read(ctx, cluster)
		if err != nil {
			return goal{}, started{}, err
		}
		if !checked { // once is enough, because steer checks again
			if err := s.checkStart(c, cluster, e, b.anyway); err != nil {
				return goal{}, started{}, err
			}
		}
		e.Spec.By, e.Spec.Why = s.by, b.why
		stood, before := e.Describe(), e.Generation
		switch {
		case present == nil:
			err = cluster.CreateExperiment(ctx, e)
		case b.file != nil:
			err = cluster.UpdateExperiment(ctx, e)
		default:
			err = cluster.Wish(ctx, e)
		}
		if errors.Is(err, rollout.ErrConflict) {
			continue
		} else if err != nil {
			return goal{}, started{}, rejected(err)
		}
		created := present == nil
		return goal{
			name: b.name, stood: stood, generation: e.Generation, fresh: created || e.Generation != before,
			timeout: b.timeout, out: c.OutOrStdout(), from: []experiment.Phase{experiment.Draft, experiment.Warming}, done: hasStarted,
		}, started{uid: e.UID, created: created}, nil
	}
}

// hasStarted reports whether a start is done: the experiment runs or counts its baseline, or its start lies in the future and steer has
// seen the wish.
func hasStarted(e *rollout.Experiment, seen bool) bool {
	wanted, _ := e.Spec.Begins(time.Now())
	return e.Status.Phase.Runs() || e.CountsBaseline() || !wanted && seen
}

// read returns the experiment in the cluster, nil if there is none, and the experiment to write.
func (b *startRequest) read(ctx context.Context, cluster *knative.Cluster) (present, e *rollout.Experiment, err error) {
	present, err = cluster.Experiment(ctx, b.name)
	if errors.Is(err, rollout.ErrNotFound) && b.file != nil {
		present = nil
	} else if err != nil {
		return nil, nil, explainNotFound(err, b.name, cluster.NamespaceName())
	}
	e, err = b.draft(present)
	return present, e, err
}

// draft returns the experiment to write: the design of the file, if there is a file, and the wish to start. present is the
// experiment in the cluster, nil if there is none.
func (b *startRequest) draft(present *rollout.Experiment) (*rollout.Experiment, error) {
	var e *rollout.Experiment
	switch {
	case present == nil:
		e = b.file.DeepCopy()
		e.Status, e.ResourceVersion, e.UID, e.Generation = rollout.Status{}, "", "", 0
		e.Spec.Wishes = experiment.Wishes{}
	case present.DeletionTimestamp != nil:
		return nil, exit(refused, "%s is being deleted: start it again when the deletion is done", b.name)
	case present.Status.Phase.Live():
		return nil, exit(refused, "%s is %s: a start needs a draft, or a name that is not used yet", b.name, present.Describe())
	case present.Status.Phase.Over():
		return nil, exit(refused, "%s is %s: give the new experiment another name, because the rows under this name belong to the old one", b.name, present.Describe())
	case present.Spec.End != "" || present.Spec.Archive:
		return nil, exit(refused, "%s never starts, because somebody ended it before its start: delete it with `kubectl delete experiment %s`, and start it again", b.name, b.name)
	default:
		e = present.DeepCopy()
		if b.file != nil {
			wishes := e.Spec.Wishes
			e.Spec = *b.file.Spec.DeepCopy()
			e.Spec.Wishes = wishes
			e.Labels, e.Annotations = overridden(e.Labels, b.file.Labels), overridden(e.Annotations, b.file.Annotations)
		}
	}
	if e.Spec.Start && b.begin.StartAt != "" {
		return nil, exit(refused, "%s was already asked to start immediately: leave out the time", b.name)
	}
	e.Spec.Default()
	e.Spec.Start = b.begin.Start
	if b.begin.StartAt != "" {
		e.Spec.StartAt = b.begin.StartAt
	}
	return e, nil
}

// overridden returns present with the keys of more added or replaced.
func overridden(present, more map[string]string) map[string]string {
	if len(more) == 0 {
		return present
	}
	all := make(map[string]string, len(present)+len(more))
	maps.Copy(all, present)
	maps.Copy(all, more)
	return all
}

// checkStart returns an error if something prevents a start. It is called before anything is written, because steer carries out the wish
// as soon as nothing prevents it.
func (s *settings) checkStart(c *cobra.Command, cluster *knative.Cluster, e *rollout.Experiment, anyway bool) error {
	db, err := s.database()
	switch {
	case errors.Is(err, errNoDatabase):
		c.Println("the plan is not checked, because DATABASE_URL is not set")
	case err != nil:
		return err
	default:
		defer db.Close()
		own, err := ownMetrics(c, cluster)
		if err != nil {
			return err
		}
		planned, err := readout.Plan(c.Context(), db, e.Spec, own, time.Now())
		if err != nil {
			return err
		}
		if err := refuseHopeless(planned, anyway); err != nil {
			return err
		}
	}
	_, err = checkAdmission(c.Context(), cluster, e)
	wanted, _ := e.Spec.Begins(time.Now())
	switch {
	case apierrors.IsForbidden(err):
		c.Println("the Services are not checked here, because you may not read them; steer checks them")
	case err != nil && !wanted && isRefused(err): // the reason may be gone when the start comes
		c.Printf("a start now would be %v\nsteer checks again at the time of the start\n", err)
	default:
		return err
	}
	return nil
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*rollout.RefusedError](err)
	return ok
}

// takeBack deletes an experiment whose start was refused. First it writes the wish to stop, for the version that it has read. This
// prevents a start meanwhile, and an experiment that has started is not deleted.
func takeBack(ctx context.Context, cluster *knative.Cluster, name string, uid types.UID) error {
	for {
		e, err := cluster.Experiment(ctx, name)
		switch {
		case errors.Is(err, rollout.ErrNotFound):
			return nil
		case err != nil:
			return err
		case e.UID != uid:
			return nil // another experiment with the same name
		case e.Status.Phase != "" && e.Status.Phase != experiment.Draft:
			return fmt.Errorf("%s was not deleted, because it is %s by now: see `kn experiment status %s`", name, e.Describe(), name)
		case e.Spec.End == "":
			e.Spec.End = experiment.Stopped
			if err := cluster.Wish(ctx, e); err != nil && !errors.Is(err, rollout.ErrConflict) {
				return err
			}
			continue
		}
		if err := cluster.DeleteExperiment(ctx, name); err != nil && !errors.Is(err, rollout.ErrNotFound) {
			return fmt.Errorf("%s was stopped before its start, but could not be deleted: %w", name, err)
		}
		return nil
	}
}
