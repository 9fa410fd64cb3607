package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"warble/shared/experiment"
	"warble/shared/knative"
	"warble/shared/readout"
	"warble/shared/report"
	"warble/shared/rollout"
)

func (s *settings) plan() *cobra.Command {
	var file string
	var anyway bool
	var knows experiment.Known
	c := &cobra.Command{
		Use: "plan -f FILE", Short: "Show what a start would make, and what effect it can find", Args: noArgs,
		Long: `What a start would make for each Service; and, from what people have done so far (DATABASE_URL), how many units it needs, when
those will have come at the present rate, and what effect can be found by the planned end. Its exit code is 3 where that is
less than the file wants to find, or a step of the ramp brings too few.

Visitors and users of another issuer have no past but in an experiment before, and in the events of the metric. The file's spec.plan, or
the flags, say what you know of them.`,
		Example: `  kn experiment plan -f knative/experiments/likes.yaml
  kn experiment plan -f banner.yaml --units-per-day 50000 --mean 0.3 --cv 1.8`,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := read(c, file)
			if err != nil {
				return err
			}
			if err := put(knows, e); err != nil {
				return err
			}
			cluster, err := s.cluster(e.Namespace)
			if err != nil {
				return err
			}
			switch bases, err := admit(c.Context(), cluster, e); {
			case apierrors.IsForbidden(err): // or a local run, which serves experiments alone
				c.Printf("what becomes of each Service: unknown, for Knative Services may not be read: %v\n", err)
			case err != nil:
				return err
			default:
				if err := planServices(c, cluster, e, bases); err != nil {
					return err
				}
			}
			db, err := s.database()
			if errors.Is(err, errNoDatabase) {
				c.Printf("what it can be expected to find: unknown, for %v\n", errNoDatabase)
				return nil
			} else if err != nil {
				return err
			}
			defer db.Close()
			own, err := ownMetrics(c, cluster)
			if err != nil {
				return err
			}
			planned, err := readout.Plan(c.Context(), db, e.Spec, own, time.Now())
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
	knownFlags(c, &knows)
	c.Flags().BoolVar(&anyway, "anyway", false, "do not refuse a design that cannot find the effect it is for")
	return c
}

// knownFlags are what people know of units, in place of the file's spec.plan.
func knownFlags(c *cobra.Command, knows *experiment.Known) {
	c.Flags().IntVar(&knows.UnitsPerDay, "units-per-day", 0, "how many new units a day come to the Services, as spec.plan.unitsPerDay")
	c.Flags().Float64Var(&knows.Mean, "mean", 0, "the primary metric's value per unit and window, as spec.plan.mean")
	c.Flags().Float64Var(&knows.CV, "cv", 0, "its coefficient of variation, as spec.plan.cv")
}

// put puts what the flags say into the experiment, so that its start goes by it, too.
func put(knows experiment.Known, e *rollout.Experiment) error {
	if knows == (experiment.Known{}) {
		return nil
	}
	plan := &e.Spec.Plan
	plan.UnitsPerDay, plan.Mean, plan.CV = cmp.Or(knows.UnitsPerDay, plan.UnitsPerDay), cmp.Or(knows.Mean, plan.Mean), cmp.Or(knows.CV, plan.CV)
	if err := e.Spec.Check(); err != nil {
		return exit(misused, "%w", err)
	}
	return nil
}

// admit says what is against a start, or of which revisions the arms would be made. It changes nothing.
func admit(ctx context.Context, cluster *knative.Cluster, e *rollout.Experiment) ([]rollout.Base, error) {
	bases, err := (&rollout.Driver{Cluster: cluster, Now: time.Now}).Admission(ctx, e)
	if isRefused(err) {
		return nil, exit(refused, "%w", err)
	}
	return bases, err
}

// ownMetrics are the metrics of people's own. Who may not read them plans without.
func ownMetrics(c *cobra.Command, cluster *knative.Cluster) ([]experiment.Metric, error) {
	own, err := rollout.OwnMetrics(c.Context(), cluster, func(format string, args ...any) { c.Printf(format+"\n", args...) })
	if apierrors.IsForbidden(err) {
		c.Println("metrics of your own are not known here, for you may not read them: steer does")
		return nil, nil
	}
	return own, err
}

// planServices says what there would be of each Service.
func planServices(c *cobra.Command, cluster *knative.Cluster, e *rollout.Experiment, bases []rollout.Base) error {
	services, err := cluster.Services(c.Context(), nil)
	if err != nil {
		return err
	}
	for _, base := range bases {
		at := slices.IndexFunc(services, func(s *rollout.Service) bool { return s.Name == base.Name })
		if at < 0 { // deleted since
			continue
		}
		c.Printf("%s\n", base.Name)
		c.Printf("  untouched  %s stays, and deploys go on\n", base.Revision)
		c.Printf("  control    a copy of %s\n", base.Revision)
		c.Printf("  treatment  a copy of %s with\n", base.Revision)
		for _, name := range slices.Sorted(maps.Keys(e.Spec.Treatment.Env)) {
			before := "(none)"
			if value, there := services[at].Env[name]; there {
				before = strconv.Quote(value)
			}
			c.Printf("               %s: %s -> %q\n", name, before, e.Spec.Treatment.Env[name])
		}
		if image, there := e.Spec.Treatment.Image[base.Name]; there {
			c.Printf("               image: %s -> %s\n", base.Image, image)
		}
	}
	return nil
}

// refuse says why a design should not be started, unless that is wanted in spite of it.
func refuse(p readout.Planned, anyway bool) error {
	if err := p.Err(); err != nil && !anyway {
		return exit(refused, "%w\n--anyway starts it", err)
	}
	return nil
}
