package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"warble/shared/experiment"
	"warble/shared/experiment/readout"
	"warble/shared/experiment/report"
	"warble/shared/rollout"
)

func (s *settings) start() *cobra.Command {
	var a asked
	var file string
	var anyway bool
	c := &cobra.Command{
		Use: "start {-f FILE | NAME}", Short: "Make both arms, wait until each answers, and start the clock",
		Long: `Make a revision and a tag for each arm at each Service, wait until every tag answers with its revision, and start the
clock. Until then nobody is in the experiment, and a treatment that crashes never gets anybody.`,
		Example:           "  kn experiment start -f knative/experiments/likes.yaml\n  kn experiment start -f likes.yaml --dry-run=client -o yaml",
		ValidArgsFunction: s.names,
		RunE: func(c *cobra.Command, args []string) error {
			if (file == "") == (len(args) != 1) {
				return exit(misused, "expected a file or the name of a draft: %s", c.UseLine())
			}
			e := &rollout.Experiment{}
			if file != "" {
				var err error
				if e, err = read(c, file); err != nil {
					return err
				}
				e.Spec.Run.State, e.Spec.Run.By, e.Spec.Run.Why = experiment.Running, s.by, a.why
				if a.dryRun == "client" {
					return print(c, a.output, e, false)
				}
			} else {
				e.Name = args[0]
			}
			return s.begin(c, e, file != "", a, anyway)
		},
	}
	a.flags(c)
	c.Flags().StringVarP(&file, "filename", "f", "", "file of the Experiment, - for the standard input")
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json") // the flag was just made
	c.Flags().BoolVar(&anyway, "anyway", false, "start a design that will tell nothing, too")
	return c
}

// begin makes an experiment or takes the draft that is there, and starts it.
func (s *settings) begin(c *cobra.Command, e *rollout.Experiment, fromFile bool, a asked, anyway bool) error {
	cluster, err := s.cluster(e.Namespace)
	if err != nil {
		return err
	}
	db, err := s.database()
	if err != nil {
		return err
	}
	defer db.Close()
	ctx := c.Context()
	present, err := cluster.Experiment(ctx, e.Name)
	switch {
	case errors.Is(err, rollout.ErrNotFound) && !fromFile:
		return exit(failed, "there is no experiment %s: expected -f and its file", e.Name)
	case errors.Is(err, rollout.ErrNotFound):
		present = nil
	case err != nil:
		return err
	case present.Status.Phase.Live():
		return exit(refused, "%s is %s: expected a draft", e.Name, present.Describe())
	case present.Status.Phase == rollout.Concluded, present.Status.Phase == rollout.Archived:
		return exit(refused, "%s is %s: expected another name, for its rows are that one's", e.Name, present.Describe())
	case fromFile:
		e.ResourceVersion = present.ResourceVersion
	default:
		e = present
		e.Spec.Default()
	}
	planned, err := readout.Plan(ctx, db, e.Spec, time.Now())
	if err != nil {
		return err
	}
	if err := refuse(planned, anyway); err != nil {
		return err
	}
	e.Spec.Run.State, e.Spec.Run.By, e.Spec.Run.Why = experiment.Running, s.by, a.why
	if a.dryRun == "client" {
		return print(c, a.output, e, false)
	}
	if err := admit(ctx, cluster, e, nil); err != nil { // before it is wished, or steer would start it once it can
		return err
	}
	write := cluster.Want
	switch {
	case present == nil:
		write = cluster.CreateExperiment
	case fromFile:
		write = cluster.UpdateExperiment
	}
	if err := write(ctx, e); err != nil {
		return err
	}
	_, err = s.follow(c, cluster, e.Name, a.timeout, func(e *rollout.Experiment) bool {
		return e.Status.Phase == rollout.Running || e.Status.Phase == rollout.Paused
	})
	if failure, ok := errors.AsType[*exitError](err); ok && failure.code == refused {
		return errors.Join(err, withdraw(ctx, cluster, e.Name))
	}
	return err
}

// withdraw takes back the wish to start what was refused: another has been faster, and once that ends steer would start it.
func withdraw(ctx context.Context, cluster *rollout.Knative, name string) error {
	for {
		e, err := cluster.Experiment(ctx, name)
		if err != nil || e.Status.Phase.Live() {
			return err
		}
		e.Spec.Run.State = experiment.Draft
		if err := cluster.Want(ctx, e); !errors.Is(err, rollout.ErrConflict) {
			return err
		}
	}
}

// refuse says why a design should not be started, unless it is to be all the same.
func refuse(p readout.Planned, anyway bool) error {
	if err := p.Err(); err != nil && !anyway {
		return exit(refused, "%w\n--anyway starts it", err)
	}
	return nil
}

func (s *settings) plan() *cobra.Command {
	var file string
	var anyway bool
	c := &cobra.Command{
		Use: "plan -f FILE", Short: "Show what a start would change at each Service, and what it can be expected to find", Args: noArgs,
		Long: `What a start would change at each Service; and, from what people have done so far (DATABASE_URL), how many units it needs,
when those will have come at the present rate, and what effect can be found by the planned end. Its exit code is 3 where
that is less than the file wants to find, or a step of the ramp brings too few.`,
		Example: "  kn experiment plan -f knative/experiments/likes.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := read(c, file)
			if err != nil {
				return err
			}
			cluster, err := s.cluster(e.Namespace)
			if err != nil {
				return err
			}
			if err := admit(c.Context(), cluster, e, func(found rollout.ServiceStatus) { planService(c, e, found) }); err != nil {
				return err
			}
			db, err := s.database()
			if errors.Is(err, errNoDatabase) {
				c.Printf("what it can be expected to find: unknown, for %v\n", errNoDatabase)
				return nil
			} else if err != nil {
				return err
			}
			defer db.Close()
			planned, err := readout.Plan(c.Context(), db, e.Spec, time.Now())
			if err != nil {
				return err
			}
			if err := report.Plan(c.OutOrStdout(), planned); err != nil {
				return err
			}
			return refuse(planned, anyway)
		},
	}
	fileFlag(c, &file)
	c.Flags().BoolVar(&anyway, "anyway", false, "do not refuse a design that will tell nothing")
	return c
}

// admit says what is against a start, and calls each with what would become of every Service where nothing is.
func admit(ctx context.Context, cluster rollout.Cluster, e *rollout.Experiment, each func(rollout.ServiceStatus)) error {
	services, err := (&rollout.Reconciler{Cluster: cluster}).Admit(ctx, e)
	if no, ok := errors.AsType[*rollout.RefusedError](err); ok {
		return exit(refused, "%w", no)
	}
	for _, found := range services {
		if each != nil {
			each(found)
		}
	}
	return err
}

func planService(c *cobra.Command, e *rollout.Experiment, s rollout.ServiceStatus) {
	c.Printf("%s\n", s.Name)
	c.Printf("  untouched  stays at %s, pinned until the end\n", s.Revision)
	c.Printf("  control    tag %s: a revision of its own, as %s is\n", experiment.Tag(e.Name, experiment.Control), s.Revision)
	c.Printf("  treatment  tag %s:\n", experiment.Tag(e.Name, experiment.Treatment))
	for _, name := range slices.Sorted(maps.Keys(e.Spec.Treatment.Env)) {
		c.Printf("               %s: %q -> %q\n", name, s.Env[name], e.Spec.Treatment.Env[name])
	}
	if image, ok := e.Spec.Treatment.Image[s.Name]; ok {
		c.Printf("               image: %s -> %s\n", s.Image, image)
	}
}
