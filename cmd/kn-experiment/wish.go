package main

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/spf13/cobra"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// wish is a verb that writes what a person wants of an experiment, and follows it until it is so.
type wish struct {
	use, short, example string
	from                []rollout.Phase // those in which it makes sense
	want                func(*rollout.Experiment) error
	done                func(*rollout.Experiment) bool
	after               func(*cobra.Command, *rollout.Experiment) error // nil for nothing
	flags               func(*cobra.Command)
}

// asked are the flags of every wish.
type asked struct {
	why, dryRun, output string
	timeout             time.Duration
}

func (a *asked) flags(c *cobra.Command) {
	c.Flags().StringVarP(&a.why, "message", "m", "", "why, for the record")
	choice(c, &a.dryRun, "dry-run", "", "client: print what would be written, and write nothing", "none", "client")
	choice(c, &a.output, "output", "o", "how --dry-run=client prints it: yaml or json", "yaml", "json")
	c.Flags().DurationVar(&a.timeout, "timeout", 5*time.Minute, "how long to wait for it; what is not done then, steer does")
}

func (s *settings) wishes() (verbs []*cobra.Command) {
	live := []rollout.Phase{rollout.Warming, rollout.Running, rollout.Paused, rollout.Promoting}
	to := -1
	write := ""
	state := func(state experiment.State) func(*rollout.Experiment) error {
		return func(e *rollout.Experiment) error { e.Spec.Run.State = state; return nil }
	}
	in := func(phases ...rollout.Phase) func(*rollout.Experiment) bool {
		return func(e *rollout.Experiment) bool { return has(phases, e.Status.Phase) }
	}
	for _, w := range []wish{{
		use: "step NAME", short: "Make the next step of the ramp now, whatever its hold says",
		from: []rollout.Phase{rollout.Running},
		want: func(e *rollout.Experiment) error {
			next := e.Status.Step + 1
			if to >= 0 {
				next = to - 1
			}
			if next >= len(e.Spec.Ramp.Steps) || next <= e.Status.Step {
				return exit(refused, "%s is at step %d of %d: a ramp only grows, step by step, to its last", e.Name, e.Status.Step+1, len(e.Spec.Ramp.Steps))
			}
			e.Spec.Run.Step = next
			return nil
		},
		done:  func(e *rollout.Experiment) bool { return e.Status.Step >= e.Spec.Run.Step },
		flags: func(c *cobra.Command) { c.Flags().IntVar(&to, "to", -1, "a later step, counted from 1") },
	}, {
		use: "pause NAME", short: "Freeze the slots: everyone keeps their arm, and nobody comes in",
		from: []rollout.Phase{rollout.Running, rollout.Paused}, want: state(experiment.Paused), done: in(rollout.Paused),
	}, {
		use: "resume NAME", short: "Go on after a pause",
		from: []rollout.Phase{rollout.Paused, rollout.Running}, want: state(experiment.Running), done: in(rollout.Running),
	}, {
		use: "approve NAME", short: "Approve the next step, where the ramp waits for that",
		from: []rollout.Phase{rollout.Running, rollout.Paused},
		want: func(e *rollout.Experiment) error { e.Spec.Run.Approved = e.Status.Step + 1; return nil },
		done: func(*rollout.Experiment) bool { return true },
	}, {
		use: "promote NAME", short: "Give the treatment to everyone, and end the experiment",
		example: "  kn experiment promote likes --write -m 'five percent more tweets'",
		from:    []rollout.Phase{rollout.Running, rollout.Paused, rollout.Promoting, rollout.Concluding, rollout.Concluded},
		want: func(e *rollout.Experiment) error {
			if c := e.Status.Conclusion; c != "" && c != rollout.WasPromoted {
				return exit(refused, "%s was %s: expected one that runs", e.Name, c)
			}
			e.Spec.Run.State = experiment.Promoted
			return nil
		},
		done: in(rollout.Concluded),
		after: func(c *cobra.Command, e *rollout.Experiment) error {
			if e.Status.Conclusion != rollout.WasPromoted {
				return exit(refused, "%s was not promoted: %s", e.Name, e.Status.Because)
			}
			return writeManifests(c, write, e)
		},
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&write, "write", "", "write the change into the manifests of this folder as well (knative)")
			c.Flags().Lookup("write").NoOptDefVal = "knative"
		},
	}, {
		use: "rollback NAME", short: "End the experiment as lost: everyone back to untouched traffic, at once",
		from: live, want: state(experiment.RolledBack), done: in(rollout.Concluded),
	}, {
		use: "stop NAME", short: "The kill switch: everyone back to untouched traffic, at once, with no verdict",
		from: live, want: state(experiment.Stopped), done: in(rollout.Concluded),
	}, {
		use: "archive NAME", short: "Sweep the rows of single users; report -o json first keeps what the verdict rests on",
		from: []rollout.Phase{rollout.Concluded, rollout.Archived}, want: state(experiment.Archived), done: in(rollout.Archived),
	}} {
		verbs = append(verbs, s.wish(w))
	}
	return verbs
}

func (s *settings) wish(w wish) *cobra.Command {
	var a asked
	c := &cobra.Command{Use: w.use, Short: w.short, Example: w.example, Args: oneName, ValidArgsFunction: s.names}
	c.RunE = func(c *cobra.Command, args []string) error {
		cluster, err := s.cluster("")
		if err != nil {
			return err
		}
		e, err := s.write(c.Context(), cluster, args[0], a, func(e *rollout.Experiment) error {
			if !has(w.from, e.Status.Phase) {
				return exit(refused, "%s is %s: %s is for one that is %v", e.Name, cmp.Or(e.Status.Phase, rollout.Draft), c.Name(), w.from)
			}
			return w.want(e)
		})
		if err != nil {
			return err
		}
		if a.dryRun == "client" {
			return print(c, a.output, e, false)
		}
		if e, err = s.follow(c, cluster, e.Name, a.timeout, w.done); err != nil || w.after == nil {
			return err
		}
		return w.after(c, e)
	}
	a.flags(c)
	if w.flags != nil {
		w.flags(c)
	}
	return c
}

// write changes what is wanted of an experiment, as it is now; in a dry run only here.
func (s *settings) write(ctx context.Context, cluster *rollout.Knative, name string, a asked, want func(*rollout.Experiment) error) (*rollout.Experiment, error) {
	for {
		e, err := cluster.Experiment(ctx, name)
		if err != nil {
			return nil, err
		}
		before := e.Spec.Run
		if err := want(e); err != nil {
			return nil, err
		}
		if reflect.DeepEqual(e.Spec.Run, before) {
			return e, nil
		}
		e.Spec.Run.By, e.Spec.Run.Why = s.by, a.why
		if a.dryRun == "client" {
			return e, nil
		}
		if err := cluster.Want(ctx, e); !errors.Is(err, rollout.ErrConflict) {
			return e, err
		}
	}
}

const (
	lookEvery = 500 * time.Millisecond
	// patience is how long something may look hopeless: a pod that crashed once may come back.
	patience = 20 * time.Second
)

// follow makes the moves that follow from a wish until it has come true.
func (s *settings) follow(c *cobra.Command, cluster rollout.Cluster, name string, timeout time.Duration, done func(*rollout.Experiment) bool) (*rollout.Experiment, error) {
	r, closeAll, err := s.reconciler(c, cluster)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	said, hopeless := "", time.Time{}
	for {
		o, err := r.Reconcile(ctx, name)
		switch {
		case errors.Is(err, rollout.ErrLocked): // another makes the move
			if o.Experiment, err = cluster.Experiment(ctx, name); err != nil {
				return nil, err
			}
		case errors.Is(err, context.DeadlineExceeded): // a slow cluster: what is left is made next time
		case err != nil && ctx.Err() == nil:
			return o.Experiment, err
		}
		if o.Experiment != nil && done(o.Experiment) {
			c.Printf("%s is %s\n", name, o.Experiment.Describe())
			return o.Experiment, nil
		}
		if o.Waits != "" && o.Waits != said {
			said = o.Waits
			c.Printf("waits for %s\n", said)
		}
		switch {
		case !o.Stuck:
			hopeless = time.Time{}
		case !o.Experiment.Status.Phase.Live():
			return o.Experiment, exit(refused, "%s: %s", name, o.Waits)
		case hopeless.IsZero():
			hopeless = time.Now()
		case time.Since(hopeless) > patience:
			return o.Experiment, exit(refused, "%s: %s\nnobody is in it for that; `kn experiment stop %s` takes away what was made", name, o.Waits, name)
		}
		select {
		case <-ctx.Done():
			return o.Experiment, exit(late, "%s: not after %s; it waits for %s, and steer goes on", name, timeout, said)
		case <-time.After(lookEvery):
		}
	}
}

func has(phases []rollout.Phase, phase rollout.Phase) bool {
	for _, p := range phases {
		if p == phase {
			return true
		}
	}
	return false
}

// names completes the name of an experiment.
func (s *settings) names(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	cluster, err := s.cluster("")
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	experiments, err := cluster.Experiments(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, e := range experiments {
		names = append(names, e.Name+"\t"+e.Describe())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
