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

// wish is a verb that writes what a person wants of an experiment, and watches until it is so.
type wish struct {
	use, short, long, example string

	from  []experiment.Phase // those in which it makes sense
	want  func(*rollout.Experiment) error
	done  func(e *rollout.Experiment, seen bool) bool
	said  string                                          // once the wish is written
	after func(*cobra.Command, *rollout.Experiment) error // nil for nothing
	flags func(*cobra.Command)
	// timeout is the default; 0 for defaultTimeout.
	timeout time.Duration
}

const defaultTimeout = 5 * time.Minute

// asked are the flags of every wish.
type asked struct {
	why     string
	timeout time.Duration
}

func (a *asked) flags(c *cobra.Command, timeout time.Duration) {
	c.Flags().StringVarP(&a.why, "message", "m", "", "why, for the record")
	c.Flags().DurationVar(&a.timeout, "timeout", cmp.Or(timeout, defaultTimeout), "how long to watch; steer goes on after it")
}

var (
	running = []experiment.Phase{experiment.Running, experiment.Paused}
	live    = []experiment.Phase{experiment.Warming, experiment.Running, experiment.Paused, experiment.Promoting}
)

func (s *settings) wishes() []*cobra.Command {
	return []*cobra.Command{
		s.wish(s.step()), s.wish(s.pause()), s.wish(s.resume()), s.wish(s.approve()), s.wish(s.rebase()), s.wish(s.promote()),
		s.wish(s.end("rollback NAME", "End it as lost: everyone gets the version before it", experiment.RolledBack, experiment.WasRolledBack)),
		s.wish(s.end("stop NAME", "End it with no verdict: everyone gets the version before it", experiment.Stopped, experiment.WasStopped)),
	}
}

func (s *settings) step() wish {
	to := 0
	return wish{
		use: "step NAME", example: "  kn experiment step likes --to 3 -m 'no errors in an hour'", short: "Make the next step of the ramp now, whatever its hold says", from: []experiment.Phase{experiment.Running},
		want: func(e *rollout.Experiment) error {
			at, steps := e.Status.Step+1, len(e.Spec.Ramp.Steps)
			next := cmp.Or(to, at+1)
			if next > steps || next <= at {
				return exit(refused, "%s is at step %d of %d: expected a later one, for a ramp only grows", e.Name, at, steps)
			}
			e.Spec.Step = max(e.Spec.Step, next-1)
			return nil
		},
		done:  func(e *rollout.Experiment, _ bool) bool { return e.Status.Step >= e.Spec.Step },
		flags: func(c *cobra.Command) { c.Flags().IntVar(&to, "to", 0, "a later step, counted from 1 (the next)") },
	}
}

func (s *settings) pause() wish {
	return wish{
		use: "pause NAME", example: "  kn experiment pause likes -m 'we look into an incident'", short: "Make no further step and no promotion: everyone keeps their arm", from: running,
		want: func(e *rollout.Experiment) error { e.Spec.Paused = true; return nil },
		done: func(e *rollout.Experiment, seen bool) bool { return seen && e.Status.Phase == experiment.Paused },
	}
}

func (s *settings) resume() wish {
	return wish{
		use: "resume NAME", example: "  kn experiment resume likes -m 'the incident is over'", short: "Go on after a pause", from: running,
		want: func(e *rollout.Experiment) error { e.Spec.Paused = false; return nil },
		done: func(e *rollout.Experiment, seen bool) bool { // a promotion that was wished before begins at once
			return seen && (e.Status.Phase == experiment.Running || e.Status.Phase == experiment.Promoting)
		},
	}
}

func (s *settings) approve() wish {
	return wish{
		use: "approve NAME", example: "  kn experiment approve likes -m 'the figures look right'", short: "Approve the next step, where the ramp waits for that", from: running,
		want: func(e *rollout.Experiment) error {
			switch {
			case e.Spec.Ramp.Approve != "manual":
				return exit(refused, "ramp.approve of %s is %s: expected manual, or its steps need no approval", e.Name, e.Spec.Ramp.Approve)
			case e.Status.Step+1 >= len(e.Spec.Ramp.Steps):
				return exit(refused, "%s is at its last step, %d: expected one before it", e.Name, e.Status.Step+1)
			}
			e.Spec.Approved = max(e.Spec.Approved, e.Status.Step+1)
			return nil
		},
		done: func(e *rollout.Experiment, seen bool) bool { return seen || e.Status.Step >= e.Spec.Approved }, // its hold may last yet
	}
}

func (s *settings) rebase() wish {
	var images map[string]string
	number := 0
	return wish{
		use: "rebase NAME", short: "Make both arms again, of the Services as they are deployed now", from: running,
		long: `Make both arms again, of the Services as they are deployed now. The report shows it as a break. A treatment that has an image
needs one that was built of the new code.`,
		example: "  kn experiment rebase likes\n  kn experiment rebase likes --image like=registry.example/like@sha256:...",
		want: func(e *rollout.Experiment) error {
			number = e.Status.Rebases + 1
			if r := e.Spec.Rebase; r != nil && r.Number >= number {
				if number = r.Number; len(images) == 0 { // it is wished, and not done yet
					return nil
				}
				number++
			}
			wanted := make(map[string]experiment.Image)
			for _, service := range slices.Sorted(maps.Keys(images)) {
				if !slices.Contains(e.Spec.Services, service) {
					return exit(misused, "--image %s: expected one of %s", service, strings.Join(e.Spec.Services, ", "))
				}
				wanted[service] = experiment.Image(images[service])
			}
			for _, service := range e.Spec.Services {
				if imageOf(e, service) != "" && images[service] == "" {
					return exit(refused, "the treatment of %s is an image of the code before: expected --image %s=IMAGE", service, service)
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
			c.Flags().StringToStringVar(&images, "image", nil, "SERVICE=IMAGE: the image of the treatment from then on")
		},
	}
}

func (s *settings) promote() wish {
	write, anyway := "", false
	return wish{
		use: "promote NAME", short: "Give the treatment to everyone, and end the experiment",
		long: `Give the treatment to everyone, and end the experiment. Each stage takes a minute. It is refused while a guardrail is breached
or a health check is red.

With promoteBy: git nobody but the manifests gives it: the verb is done once steer has accepted the promotion and the
manifests are written (--write), and steer waits until they are deployed.`,
		example: "  kn experiment promote likes --write -m 'five percent more tweets'",
		from:    append([]experiment.Phase{experiment.Promoting, experiment.Concluded}, running...),
		timeout: 20 * time.Minute, // six stages, and revisions that start
		want: func(e *rollout.Experiment) error {
			switch c := e.Status.Conclusion; {
			case c == experiment.WasPromoted:
				return nil
			case e.Status.Phase == experiment.Concluded:
				return exit(refused, "%s is %s: expected one that runs", e.Name, e.Describe())
			case e.Spec.End.Closes():
				return exit(refused, "the end of %s is wished as %s: expected one that runs", e.Name, e.Spec.End)
			case e.Spec.Paused && e.Status.Phase != experiment.Promoting:
				return exit(refused, "%s is paused, and is not promoted before `kn experiment resume %s`", e.Name, e.Name)
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
				c.Printf("steer waits until the manifests have brought it: kn experiment status %s --watch\n", e.Name)
			}
			return nil
		},
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&write, "write", "", "write the change into the manifests of this folder as well ("+defaultManifests+")")
			c.Flags().Lookup("write").NoOptDefVal = defaultManifests
			c.Flags().BoolVar(&anyway, "anyway", false, "promote although a guardrail is breached or a health check is red")
		},
	}
}

// end closes every slot. The edges do that within 2 s of the wish, with or without steer; the arms go later.
func (s *settings) end(use, short string, as experiment.End, was experiment.Conclusion) wish {
	return wish{
		use: use, short: short, example: "  kn experiment " + strings.Fields(use)[0] + " likes -m 'the support team asks for it'", from: append([]experiment.Phase{experiment.Draft, experiment.Concluded}, live...),
		said: "no slot is open any more: the edges follow within 2s",
		want: func(e *rollout.Experiment) error {
			phase := cmp.Or(e.Status.Phase, experiment.Draft)
			switch {
			case phase == experiment.Concluded && e.Status.Conclusion != was:
				return exit(refused, "%s is %s: expected one that has not ended", e.Name, e.Describe())
			case phase == experiment.Concluded:
				return nil
			case phase == experiment.Draft && e.Spec.End == "" && !e.Spec.Start && e.Spec.StartAt == "":
				return exit(refused, "%s is a draft, and nobody has wished its start: kubectl delete experiment %s takes it away", e.Name, e.Name)
			case e.Spec.End.Closes() && e.Spec.End != as:
				return exit(refused, "every slot of %s is closed: its end is wished as %s", e.Name, e.Spec.End)
			}
			e.Spec.End = as
			return nil
		},
		done: func(e *rollout.Experiment, seen bool) bool {
			if phase := cmp.Or(e.Status.Phase, experiment.Draft); phase == experiment.Draft {
				return seen // one that ends before its start never starts
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
		is, err := s.write(c.Context(), cluster, args[0], a.why, func(e *rollout.Experiment) error {
			if phase := cmp.Or(e.Status.Phase, experiment.Draft); !slices.Contains(w.from, phase) {
				return exit(refused, "%s is %s: %s is for one that is %s", e.Name, e.Describe(), c.Name(), either(w.from))
			}
			return w.want(e)
		})
		if err != nil {
			return err
		}
		if is.fresh && w.said != "" {
			c.Println(w.said)
		}
		is.from, is.done, is.timeout, is.out = w.from, w.done, a.timeout, c.OutOrStdout()
		e, err := s.watch(c.Context(), cluster, is)
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

// write writes what is wanted of an experiment as it is now, and says from where a watch begins. A wish that changes nothing
// is not written.
func (s *settings) write(ctx context.Context, cluster *knative.Cluster, name, why string, want func(*rollout.Experiment) error) (watched, error) {
	for {
		e, err := cluster.Experiment(ctx, name)
		if err != nil {
			return watched{}, found(err, name, cluster.NamespaceName())
		}
		e.Spec.Default()
		is, before := watched{name: name, generation: e.Generation, stood: e.Describe()}, *e.Spec.Wishes.DeepCopy()
		if err := want(e); err != nil || reflect.DeepEqual(e.Spec.Wishes, before) {
			return is, err
		}
		e.Spec.By, e.Spec.Why = s.by, why
		switch err := cluster.Wish(ctx, e); {
		case errors.Is(err, rollout.ErrConflict): // steer has written its status
		case err != nil:
			return watched{}, rejected(err)
		default:
			is.fresh, is.generation = e.Generation != is.generation, e.Generation
			return is, nil
		}
	}
}

// rejected gives what the rules of the resource refuse its exit code.
func rejected(err error) error {
	if apierrors.IsInvalid(err) {
		return exit(refused, "%w", err)
	}
	return err
}

// either is A, B or C.
func either(phases []experiment.Phase) string {
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
