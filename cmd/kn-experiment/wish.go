package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"warble/shared/experiment"
	"warble/shared/knative"
	"warble/shared/rollout"
)

// wish is a verb that writes a wish into an experiment, and waits until steer has carried it out.
type wish struct {
	use, short, long, example string

	from    []experiment.Phase // the phases in which the verb is allowed
	want    func(*rollout.Experiment) error
	done    func(e *rollout.Experiment, seen bool) bool
	written string                                          // printed when the wish is written
	after   func(*cobra.Command, *rollout.Experiment) error // called when steer has carried it out; may be nil
	flags   func(*cobra.Command)
	timeout time.Duration // the default of --timeout; 0 means defaultTimeout
}

const defaultTimeout = 5 * time.Minute

// asked are the flags of every verb that writes a wish.
type asked struct {
	why     string
	timeout time.Duration
}

func (a *asked) flags(c *cobra.Command, timeout time.Duration) {
	c.Flags().StringVarP(&a.why, "message", "m", "", "the reason, recorded with the wish")
	c.Flags().DurationVar(&a.timeout, "timeout", cmp.Or(timeout, defaultTimeout), "how long to wait; steer continues after that")
}

var (
	running = []experiment.Phase{experiment.Running, experiment.Paused}
	live    = []experiment.Phase{experiment.Warming, experiment.Running, experiment.Paused, experiment.Promoting}
)

func (s *settings) wishes() []*cobra.Command {
	return []*cobra.Command{
		s.wish(s.step()), s.wish(s.pause()), s.wish(s.resume()), s.wish(s.approve()), s.wish(s.rebase()), s.wish(s.promote()),
		s.wish(s.end("rollback NAME", "End it, and record that the treatment lost; everyone is untouched", experiment.RolledBack, experiment.WasRolledBack)),
		s.wish(s.end("stop NAME", "End the experiment without a verdict; everyone is untouched", experiment.Stopped, experiment.WasStopped)),
	}
}

func (s *settings) step() wish {
	to := 0
	return wish{
		use: "step NAME", example: "  kn experiment step likes --to 3 -m 'no errors in an hour'", short: "Make the next step of the ramp now, even if the hold is not over", from: []experiment.Phase{experiment.Running},
		want: func(e *rollout.Experiment) error {
			at, steps := e.Status.Step+1, len(e.Spec.Ramp.Steps)
			next := cmp.Or(to, at+1)
			if next > steps || next <= at {
				return exit(refused, "%s is at step %d of %d: expected a later step, up to the last one, because a ramp only grows", e.Name, at, steps)
			}
			e.Spec.Step = max(e.Spec.Step, next-1)
			return nil
		},
		done: func(e *rollout.Experiment, _ bool) bool { return e.Status.Step >= e.Spec.Step },
		flags: func(c *cobra.Command) {
			c.Flags().IntVar(&to, "to", 0, "a later step, counted from 1 (default: the next step)")
		},
	}
}

func (s *settings) pause() wish {
	return wish{
		use: "pause NAME", example: "  kn experiment pause likes -m 'we are investigating an incident'", short: "Stop the ramp at its present step: everyone keeps their arm", from: running,
		want: func(e *rollout.Experiment) error { e.Spec.Paused = true; return nil },
		done: func(e *rollout.Experiment, seen bool) bool { return seen && e.Status.Phase == experiment.Paused },
	}
}

func (s *settings) resume() wish {
	return wish{
		use: "resume NAME", example: "  kn experiment resume likes -m 'the incident is over'", short: "Continue after a pause", from: running,
		want: func(e *rollout.Experiment) error { e.Spec.Paused = false; return nil },
		done: func(e *rollout.Experiment, seen bool) bool { // if a promotion was requested before, it begins immediately
			return seen && (e.Status.Phase == experiment.Running || e.Status.Phase == experiment.Promoting)
		},
	}
}

func (s *settings) approve() wish {
	return wish{
		use: "approve NAME", example: "  kn experiment approve likes -m 'the figures look right'", short: "Approve the next step, if ramp.approve is manual", from: running,
		want: func(e *rollout.Experiment) error {
			switch {
			case e.Spec.Ramp.Approve != "manual":
				return exit(refused, "the steps of %s need no approval, because its ramp.approve is %s, not manual", e.Name, e.Spec.Ramp.Approve)
			case e.Status.Step+1 >= len(e.Spec.Ramp.Steps):
				return exit(refused, "%s is at its last step, %d: there is no step to approve", e.Name, e.Status.Step+1)
			}
			e.Spec.Approved = max(e.Spec.Approved, e.Status.Step+1)
			return nil
		},
		done: func(e *rollout.Experiment, seen bool) bool { return seen || e.Status.Step >= e.Spec.Approved }, // not the step itself, because its hold may take longer
	}
}

func (s *settings) rebase() wish {
	var images map[string]string
	number := 0
	return wish{
		use: "rebase NAME", short: "Make both arms again, from the Services as they are now", from: running,
		long: `Make both arms again, as copies of the Services as they are now. The report shows the time of the rebase. If the treatment has an image,
it needs a new image, built from the new code.`,
		example: "  kn experiment rebase likes\n  kn experiment rebase likes --image like=registry.example/like@sha256:...",
		want: func(e *rollout.Experiment) error {
			number = e.Status.Rebases + 1
			if r := e.Spec.Rebase; r != nil && r.Number >= number {
				if number = r.Number; len(images) == 0 { // the wish is written, and steer has not carried it out yet
					return nil
				}
				number++
			}
			wanted := make(map[string]experiment.Image)
			for _, service := range slices.Sorted(maps.Keys(images)) {
				if !slices.Contains(e.Spec.Services, service) {
					return exit(misused, "--image %s: expected a Service of the experiment: %s", service, strings.Join(e.Spec.Services, ", "))
				}
				wanted[service] = experiment.Image(images[service])
			}
			for _, service := range e.Spec.Services {
				if imageOf(e, service) != "" && images[service] == "" {
					return exit(refused, "the treatment of %s has its own image, built from the old code: name a new image with --image %s=IMAGE", service, service)
				}
			}
			e.Spec.Rebase = &experiment.Rebase{Number: number}
			if len(wanted) > 0 {
				e.Spec.Rebase.Image = wanted
			}
			return nil
		},
		done: func(e *rollout.Experiment, _ bool) bool { return e.Status.Rebases >= number && !e.Status.Rebasing },
		flags: func(c *cobra.Command) {
			c.Flags().StringToStringVar(&images, "image", nil, "SERVICE=IMAGE: the new image of the treatment")
		},
	}
}

func (s *settings) promote() wish {
	write, anyway := "", false
	return wish{
		use: "promote NAME", short: "Give the treatment to everyone, and end the experiment",
		long: `Give the treatment to everyone, in stages of a minute, and end the experiment. The promotion is refused while a guardrail is breached
or a health check is red.

With promoteBy: git, everyone gets the treatment when you deploy the manifests. Then the verb is done when steer has accepted the
promotion and the manifests are written (--write). Steer waits until they are deployed.`,
		example: "  kn experiment promote likes --write -m 'five percent more tweets'",
		from:    append([]experiment.Phase{experiment.Promoting, experiment.Concluded}, running...),
		timeout: 20 * time.Minute, // for six stages and the start of new revisions
		want: func(e *rollout.Experiment) error {
			switch c := e.Status.Conclusion; {
			case c == experiment.WasPromoted:
				return nil
			case e.Status.Phase == experiment.Concluded:
				return exit(refused, "%s is %s: only an experiment that runs can be promoted", e.Name, e.Describe())
			case e.Spec.End.Closes():
				return exit(refused, "%s cannot be promoted, because it was asked to end as %s", e.Name, e.Spec.End)
			case e.Spec.Paused && e.Status.Phase != experiment.Promoting:
				return exit(refused, "%s is paused: resume it first, with `kn experiment resume %s`", e.Name, e.Name)
			}
			e.Spec.End, e.Spec.Anyway = experiment.Promoted, e.Spec.Anyway || anyway
			return nil
		},
		done: func(e *rollout.Experiment, _ bool) bool {
			byGit := e.Spec.PromoteBy == "git" && e.Status.Phase == experiment.Promoting
			return byGit || e.Status.Phase == experiment.Concluded
		},
		after: func(c *cobra.Command, e *rollout.Experiment) error {
			if e.Status.Phase == experiment.Concluded && e.Status.Conclusion != experiment.WasPromoted {
				return exit(refused, "%s was not promoted: %s", e.Name, e.Status.Because)
			}
			if err := writeManifests(c, write, e); err != nil {
				return err
			}
			if e.Status.Phase == experiment.Promoting {
				c.Printf("steer waits until the manifests are deployed; to follow: kn experiment status %s --watch\n", e.Name)
			}
			return nil
		},
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&write, "write", "", "also write the change into the manifests of this folder (default: "+defaultManifests+")")
			c.Flags().Lookup("write").NoOptDefVal = defaultManifests
			c.Flags().BoolVar(&anyway, "anyway", false, "promote even if a guardrail is breached or a health check is red")
		},
	}
}

// end returns the verb that ends an experiment. The edges close every slot within 2 s of the wish, even without steer. Steer deletes the
// arms later.
func (s *settings) end(use, short string, as experiment.End, was experiment.Conclusion) wish {
	return wish{
		use: use, short: short, example: "  kn experiment " + strings.Fields(use)[0] + " likes -m 'the support team asks for it'", from: append([]experiment.Phase{experiment.Draft, experiment.Concluded}, live...),
		written: "every slot is closed: within 2 s every edge sends everyone to the untouched Services",
		want: func(e *rollout.Experiment) error {
			phase := cmp.Or(e.Status.Phase, experiment.Draft)
			switch {
			case phase == experiment.Concluded && e.Status.Conclusion != was:
				return exit(refused, "%s is %s: it has ended already", e.Name, e.Describe())
			case phase == experiment.Concluded:
				return nil
			case phase == experiment.Draft && e.Spec.End == "" && !e.Spec.Start && e.Spec.StartAt == "":
				return exit(refused, "%s is a draft, and nobody has asked for its start. To delete it: kubectl delete experiment %s", e.Name, e.Name)
			case e.Spec.End.Closes() && e.Spec.End != as:
				return exit(refused, "%s was already asked to end as %s, and that cannot be changed", e.Name, e.Spec.End)
			}
			e.Spec.End = as
			return nil
		},
		done: func(e *rollout.Experiment, seen bool) bool {
			if phase := cmp.Or(e.Status.Phase, experiment.Draft); phase == experiment.Draft {
				return seen // it never starts, so its phase stays Draft
			}
			return e.Status.Phase == experiment.Concluded
		},
	}
}

func (s *settings) wish(w wish) *cobra.Command {
	var a asked
	c := &cobra.Command{Use: w.use, Short: w.short, Long: w.long, Example: w.example, Args: oneName, ValidArgsFunction: s.names}
	c.RunE = func(c *cobra.Command, args []string) error {
		cluster, err := s.cluster("")
		if err != nil {
			return err
		}
		g, err := s.writeWish(c.Context(), cluster, args[0], a.why, func(e *rollout.Experiment) error {
			if phase := cmp.Or(e.Status.Phase, experiment.Draft); !slices.Contains(w.from, phase) {
				return exit(refused, "%s is %s: %s needs an experiment that is %s", e.Name, e.Describe(), c.Name(), alternatives(w.from))
			}
			return w.want(e)
		})
		if err != nil {
			return err
		}
		if g.fresh && w.written != "" {
			c.Println(w.written)
		}
		g.from, g.done, g.timeout, g.out = w.from, w.done, a.timeout, c.OutOrStdout()
		e, err := s.watch(c.Context(), cluster, g)
		if err != nil || w.after == nil {
			return err
		}
		return w.after(c, e)
	}
	a.flags(c, w.timeout)
	if w.flags != nil {
		w.flags(c)
	}
	return c
}

// writeWish reads an experiment, lets want change its wishes, and writes them. It writes nothing if want changes nothing. It returns the
// goal of a watch, without the fields from, done, timeout and out.
func (s *settings) writeWish(ctx context.Context, cluster *knative.Cluster, name, why string, want func(*rollout.Experiment) error) (goal, error) {
	for {
		e, err := cluster.Experiment(ctx, name)
		if err != nil {
			return goal{}, explainNotFound(err, name, cluster.NamespaceName())
		}
		e.Spec.Default()
		g, before := goal{name: name, generation: e.Generation, stood: e.Describe()}, *e.Spec.Wishes.DeepCopy()
		if err := want(e); err != nil || reflect.DeepEqual(e.Spec.Wishes, before) {
			return g, err
		}
		e.Spec.By, e.Spec.Why = s.by, why
		switch err := cluster.Wish(ctx, e); {
		case errors.Is(err, rollout.ErrConflict): // read again: steer has written the status, or a person a wish
		case err != nil:
			return goal{}, rejected(err)
		default:
			g.fresh, g.generation = e.Generation != g.generation, e.Generation
			return g, nil
		}
	}
}

// rejected gives an error the exit code of a refusal if the rules of the resource are its reason.
func rejected(err error) error {
	if apierrors.IsInvalid(err) {
		return exit(refused, "%w", err)
	}
	return err
}

// alternatives joins phases, such as "Draft, Warming or Running".
func alternatives(phases []experiment.Phase) string {
	if len(phases) == 1 {
		return string(phases[0])
	}
	last := len(phases) - 1
	var names []string
	for _, phase := range phases[:last] {
		names = append(names, string(phase))
	}
	return fmt.Sprintf("%s or %s", strings.Join(names, ", "), phases[last])
}
