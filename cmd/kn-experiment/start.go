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

// starting is what a start is asked for.
type starting struct {
	asked
	file   *rollout.Experiment // nil for the draft that is there
	name   string
	begin  experiment.Wishes // the start, at once or at a time
	anyway bool
}

func (s *settings) start() *cobra.Command {
	var b starting
	var knows experiment.Known
	var file, at, dryRun, output string
	c := &cobra.Command{
		Use: "start {-f FILE | NAME}", Short: "Make both arms, wait until each answers, and start the clock",
		Long: `Write the experiment of a file, or take the draft that is there, and start it: steer makes both arms of each Service, waits until
each answers, and starts the clock. Until then nobody is in the experiment, and a treatment that crashes never gets anybody.

A design that cannot find the effect it is for is refused, if DATABASE_URL is set; --anyway starts it.`,
		Example: `  kn experiment start -f knative/experiments/likes.yaml
  kn experiment start -f likes.yaml --at 2026-12-01T09:00:00Z
  kn experiment start -f likes.yaml --dry-run=client -o yaml`,
		ValidArgsFunction: s.names,
		RunE: func(c *cobra.Command, args []string) error {
			if (file == "") == (len(args) != 1) {
				return exit(misused, "expected a file or the name of a draft: %s", c.UseLine())
			}
			if _, err := time.Parse(time.RFC3339, at); at != "" && err != nil {
				return exit(misused, "--at %q: expected a time such as 2026-12-01T09:00:00Z", at)
			}
			b.begin = experiment.Wishes{Start: at == "", StartAt: at}
			if file == "" {
				for _, flag := range []string{"units-per-day", "mean", "cv"} {
					if c.Flags().Changed(flag) {
						return exit(misused, "expected --%s with -f FILE, for a draft has its plan", flag)
					}
				}
				b.name = args[0]
				return s.begin(c, &b, dryRun, output)
			}
			e, err := read(c, file)
			if err != nil {
				return err
			}
			if err := put(knows, e); err != nil {
				return err
			}
			switch {
			case e.Spec.Start && at != "":
				return exit(misused, "--at %s: the file has start: true: expected one of them", at)
			case e.Spec.StartAt != "" && at == "" && !e.Spec.Start: // the file says when
				b.begin = experiment.Wishes{StartAt: e.Spec.StartAt}
			}
			b.file, b.name = e, e.Name
			if dryRun == "client" {
				return printForGit(c, output, s.Namespace, e, b.begin)
			}
			if others := e.Spec.Wishes; others.End != "" || others.Archive || others.Paused || others.Step != 0 || others.Approved != 0 || others.Rebase != nil {
				return exit(misused, "%s: expected no wish but start or startAt: --dry-run=client -o yaml prints the file without", file)
			}
			return s.begin(c, &b, dryRun, output)
		},
	}
	b.flags(c, 0)
	fileFlag(c, &file)
	knownFlags(c, &knows)
	c.Flags().StringVar(&at, "at", "", "when to start, as 2026-12-01T09:00:00Z (now)")
	c.Flags().BoolVar(&b.anyway, "anyway", false, "start a design that cannot find the effect it is for")
	choice(c, &dryRun, "dry-run", "", "client: print what to keep in Git, and write nothing", "none", "client")
	choice(c, &output, "output", "o", "how --dry-run=client prints it: yaml or json", "yaml", "json")
	return c
}

// begin makes an experiment or takes the draft that is there, wishes its start, and watches it.
func (s *settings) begin(c *cobra.Command, b *starting, dryRun, output string) error {
	namespace := ""
	if b.file != nil {
		namespace = b.file.Namespace
	}
	cluster, err := s.cluster(namespace)
	if err != nil {
		return err
	}
	ctx := c.Context()
	var (
		e       *rollout.Experiment
		created bool
		is      watched
	)
	for checked := false; ; checked = true {
		present, err := cluster.Experiment(ctx, b.name)
		if errors.Is(err, rollout.ErrNotFound) && b.file != nil {
			present = nil
		} else if err != nil {
			return found(err, b.name, cluster.NamespaceName())
		}
		if e, err = b.draft(present); err != nil {
			return err
		}
		if dryRun == "client" {
			return printForGit(c, output, s.Namespace, e, b.begin)
		}
		if !checked { // the controller checks again
			if err := s.check(c, cluster, e, b.anyway); err != nil {
				return err
			}
		}
		e.Spec.By, e.Spec.Why = s.by, b.why
		is = watched{name: b.name, stood: e.Describe()}
		switch before := e.Generation; {
		case present == nil:
			created, err = true, cluster.CreateExperiment(ctx, e)
		case b.file != nil:
			err = cluster.UpdateExperiment(ctx, e)
			is.fresh = e.Generation != before
		default:
			err = cluster.Wish(ctx, e)
			is.fresh = e.Generation != before
		}
		if err == nil {
			break
		} else if !errors.Is(err, rollout.ErrConflict) {
			return rejected(err)
		}
		created = false // somebody else has
	}
	is.fresh = is.fresh || created
	is.generation, is.timeout, is.out = e.Generation, b.timeout, c.OutOrStdout()
	is.from = []experiment.Phase{experiment.Draft, experiment.Warming}
	is.done = func(e *rollout.Experiment, seen bool) bool {
		wanted, _ := e.Spec.Begins(time.Now())
		return e.Status.Phase.Runs() || e.CountsBaseline() || !wanted && seen
	}
	uid := e.UID
	e, err = s.watch(ctx, cluster, is)
	if stalled, ok := errors.AsType[*stalledError](err); ok && stalled.reason == reasonRefused {
		if created {
			return errors.Join(err, takeBack(ctx, cluster, b.name, uid))
		}
		return fmt.Errorf("%w\nit starts as soon as nothing is against it; kn experiment stop %s keeps it from that", err, b.name)
	}
	if err == nil && (e.Status.Phase == "" || e.Status.Phase == experiment.Draft || e.CountsBaseline()) {
		c.Printf("waits for %s\n", e.Status.Message)
	}
	return err
}

// draft is the experiment as it is to be written: the design of the file, if there is one, and the wish to start. present is
// what the cluster has, nil for nothing.
func (b *starting) draft(present *rollout.Experiment) (*rollout.Experiment, error) {
	var e *rollout.Experiment
	switch {
	case present == nil:
		e = b.file.DeepCopy()
		e.Status, e.ResourceVersion, e.UID, e.Generation = rollout.Status{}, "", "", 0
		e.Spec.Wishes = experiment.Wishes{}
	case present.DeletionTimestamp != nil:
		return nil, exit(refused, "%s is being deleted: expected to start it after that", b.name)
	case present.Status.Phase.Live():
		return nil, exit(refused, "%s is %s: expected a draft", b.name, present.Describe())
	case present.Status.Phase.Over():
		return nil, exit(refused, "%s is %s: expected another name, for its rows are that one's", b.name, present.Describe())
	case present.Spec.End != "" || present.Spec.Archive:
		return nil, exit(refused, "the end of %s was wished before its start, so that it never starts: kubectl delete experiment %s, and start it again", b.name, b.name)
	default:
		e = present.DeepCopy()
		if b.file != nil {
			wishes := e.Spec.Wishes
			e.Spec = *b.file.Spec.DeepCopy()
			e.Spec.Wishes = wishes
			e.Labels, e.Annotations = merged(e.Labels, b.file.Labels), merged(e.Annotations, b.file.Annotations)
		}
	}
	if e.Spec.Start && b.begin.StartAt != "" {
		return nil, exit(refused, "the start of %s is wished already, and not for a time: expected none before", b.name)
	}
	e.Spec.Default()
	e.Spec.Start = b.begin.Start
	if b.begin.StartAt != "" {
		e.Spec.StartAt = b.begin.StartAt
	}
	return e, nil
}

func merged(present, more map[string]string) map[string]string {
	if len(more) == 0 {
		return present
	}
	all := maps.Clone(more)
	for key, value := range present {
		if _, there := all[key]; !there {
			all[key] = value
		}
	}
	return all
}

// check says what is against a start before anything is written: steer would start what is wished as soon as it can.
func (s *settings) check(c *cobra.Command, cluster *knative.Cluster, e *rollout.Experiment, anyway bool) error {
	db, err := s.database()
	switch {
	case errors.Is(err, errNoDatabase):
		c.Println("the design is not checked against the past, for DATABASE_URL is not set")
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
		if err := refuse(planned, anyway); err != nil {
			return err
		}
	}
	_, err = admit(c.Context(), cluster, e)
	wanted, _ := e.Spec.Begins(time.Now())
	switch {
	case apierrors.IsForbidden(err): // steer, which may read them, checks again
		c.Println("the Services are not checked, for you may not read them: steer does")
	case err != nil && !wanted && isRefused(err): // by then it may be otherwise
		c.Printf("now it would be %v\nit is checked again at its start\n", err)
	default:
		return err
	}
	return nil
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*rollout.RefusedError](err)
	return ok
}

// takeBack deletes what was refused. First its end is wished, by version: that keeps it from being started meanwhile, and an
// experiment that has started is not deleted.
func takeBack(ctx context.Context, cluster *knative.Cluster, name string, uid types.UID) error {
	for {
		e, err := cluster.Experiment(ctx, name)
		switch {
		case errors.Is(err, rollout.ErrNotFound):
			return nil
		case err != nil:
			return err
		case e.UID != uid:
			return nil // another of that name
		case e.Status.Phase != "" && e.Status.Phase != experiment.Draft:
			return fmt.Errorf("%s is %s meanwhile: kn experiment status %s", name, e.Describe(), name)
		case e.Spec.End == "":
			e.Spec.End = experiment.Stopped
			if err := cluster.Wish(ctx, e); err != nil && !errors.Is(err, rollout.ErrConflict) {
				return err
			}
			continue
		}
		if err := cluster.DeleteExperiment(ctx, name); err != nil && !errors.Is(err, rollout.ErrNotFound) {
			return fmt.Errorf("%s never starts, and is still there: %w", name, err)
		}
		return nil
	}
}
