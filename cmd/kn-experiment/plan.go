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
	var known knownFlags
	c := &cobra.Command{
		Use: "plan -f FILE", Short: "Show what a start would make, and what effect it can find", Args: noArgs,
		Long: `Show what a start would make for each Service. From what people have done so far (DATABASE_URL), also show how many units the
experiment needs, when they will have arrived at the present rate, and the smallest effect that it can find by its planned end. The
exit code is 3 if it cannot find the effect that the file asks for, or if a step of the ramp brings too few units.

For visitors and for users of another issuer, the only history is that of earlier experiments and of the metric's events. Say what you
know of them in the file's spec.plan, or by flags.`,
		Example: `  kn experiment plan -f knative/experiments/likes.yaml
  kn experiment plan -f banner.yaml --units-per-day 50000 --mean 0.3 --cv 1.8`,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := read(c, file)
			if err != nil {
				return err
			}
			if err := known.applyTo(e); err != nil {
				return err
			}
			cluster, err := s.cluster(e.Namespace)
			if err != nil {
				return err
			}
			switch bases, err := checkAdmission(c.Context(), cluster, e); {
			case apierrors.IsForbidden(err): // a local run forbids it too, because it serves only experiments
				c.Printf("cannot show what a start would make, because you may not read Knative Services: %v\n", err)
			case err != nil:
				return err
			default:
				if err := planServices(c, cluster, e, bases); err != nil {
					return err
				}
			}
			db, err := s.database()
			if errors.Is(err, errNoDatabase) {
				c.Printf("cannot show which effect the experiment can find: %v\n", errNoDatabase)
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
			return refuseHopeless(planned, anyway)
		},
	}
	fileFlag(c, &file)
	known.register(c)
	c.Flags().BoolVar(&anyway, "anyway", false, "exit with code 0 even if the experiment cannot find the effect that you asked for")
	return c
}

// knownFlags are flags that replace fields of the file's spec.plan: what people know of the units.
type knownFlags experiment.Known

func (k *knownFlags) register(c *cobra.Command) {
	c.Flags().IntVar(&k.UnitsPerDay, "units-per-day", 0, "new units that call the Services each day, as spec.plan.unitsPerDay")
	c.Flags().Float64Var(&k.Mean, "mean", 0, "mean of the primary metric per unit and window, as spec.plan.mean")
	c.Flags().Float64Var(&k.CV, "cv", 0, "standard deviation of the primary metric, divided by its mean, as spec.plan.cv")
}

// applyTo writes the flags into the experiment's plan, so that a start uses them too.
func (k knownFlags) applyTo(e *rollout.Experiment) error {
	if k == (knownFlags{}) {
		return nil
	}
	plan := &e.Spec.Plan
	plan.UnitsPerDay, plan.Mean, plan.CV = cmp.Or(k.UnitsPerDay, plan.UnitsPerDay), cmp.Or(k.Mean, plan.Mean), cmp.Or(k.CV, plan.CV)
	if err := e.Spec.Check(); err != nil {
		return exit(misused, "%w", err)
	}
	return nil
}

// checkAdmission returns the revisions from which a start would copy the arms, or an error that says why the start would be refused. It
// changes nothing.
func checkAdmission(ctx context.Context, cluster *knative.Cluster, e *rollout.Experiment) ([]rollout.Base, error) {
	bases, err := (&rollout.Driver{Cluster: cluster, Now: time.Now}).Admission(ctx, e)
	if isRefused(err) {
		return nil, exit(refused, "%w", err)
	}
	return bases, err
}

// ownMetrics reads the Metrics of the cluster. Without the right to read them it prints a note, and returns none.
func ownMetrics(c *cobra.Command, cluster *knative.Cluster) ([]experiment.Metric, error) {
	own, err := rollout.OwnMetrics(c.Context(), cluster, func(format string, args ...any) { c.Printf(format+"\n", args...) })
	if apierrors.IsForbidden(err) {
		c.Println("your own metrics are left out, because you may not read Metrics; steer reads them")
		return nil, nil
	}
	return own, err
}

// planServices prints what a start would make for each Service.
func planServices(c *cobra.Command, cluster *knative.Cluster, e *rollout.Experiment, bases []rollout.Base) error {
	services, err := cluster.Services(c.Context(), nil)
	if err != nil {
		return err
	}
	for _, base := range bases {
		at := slices.IndexFunc(services, func(s *rollout.Service) bool { return s.Name == base.Name })
		if at < 0 { // deleted in the meantime
			continue
		}
		c.Printf("%s\n", base.Name)
		c.Printf("  untouched  %s; you can deploy new revisions at any time\n", base.Revision)
		c.Printf("  control    a copy of %s\n", base.Revision)
		c.Printf("  treatment  a copy of %s with\n", base.Revision)
		for _, name := range slices.Sorted(maps.Keys(e.Spec.Treatment.Env)) {
			before := "(none)"
			if value, set := services[at].Env[name]; set {
				before = strconv.Quote(value)
			}
			c.Printf("               %s: %s -> %q\n", name, before, e.Spec.Treatment.Env[name])
		}
		if image, set := e.Spec.Treatment.Image[base.Name]; set {
			c.Printf("               image: %s -> %s\n", base.Image, image)
		}
	}
	return nil
}

// refuseHopeless returns an error if the design cannot find the effect that it asks for, unless anyway is set.
func refuseHopeless(p readout.Planned, anyway bool) error {
	if err := p.Err(); err != nil && !anyway {
		return exit(refused, "%w\nto start it in spite of this, use --anyway", err)
	}
	return nil
}
