package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/report"
)

// percent is a flag like 5% or -10%.
type percent struct{ *experiment.Percent }

func (p percent) Type() string { return "percent" }

func (p percent) String() string {
	if p.Percent == nil {
		return ""
	}
	return p.Percent.String()
}

func (p percent) Set(value string) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, p.Percent)
}

func (s *settings) simulate() *cobra.Command {
	var (
		file, output             string
		users, communities, runs int
		seed                     uint64
		effect                   experiment.Percent
		promises                 bool
	)
	w := readout.Plain(4000)
	c := &cobra.Command{
		Use: "simulate [-f FILE]", Short: "Simulate a design: false positives, power, time to a decision", Args: noArgs,
		Long: `Simulate experiments of a design, and judge each at every look with the code that judges real experiments. Half of them have no
effect: they show how often the verdict is a false positive. The other half have an effect: they show how often it is found. No cluster
and no database are needed. The same seed gives the same figures.

With --promises, simulate instead the worlds for which the readout makes promises. The exit code is 1 if a promise is not kept. 2000
runs take half an hour.`,
		Example: `  kn experiment simulate --units 2000 --effect 10%
  kn experiment simulate -f knative/experiments/likes.yaml --units 3000
  kn experiment simulate --promises --runs 100`,
		RunE: func(c *cobra.Command, _ []string) error {
			progress := func(string) func(done, runs int) { return nil }
			if out := c.ErrOrStderr(); terminal(out) {
				progress = func(name string) func(done, runs int) { return report.Bar(out, name) }
			}
			if promises {
				for _, flag := range []string{"filename", "units", "communities", "effect", "looks", "mean", "cv", "icc"} {
					if c.Flags().Changed(flag) {
						return exit(misused, "--%s: expected only without --promises, because --promises has its own worlds", flag)
					}
				}
				return keepPromises(c, runs, seed, output, progress)
			}
			if output == "markdown" {
				return exit(misused, "--output markdown: expected only with --promises, because only promises have a table")
			}
			if file != "" {
				e, err := read(c, file)
				if err != nil {
					return err
				}
				if err := design(&w, e.Spec, communities); err != nil {
					return err
				}
				if !c.Flags().Changed("effect") {
					effect = e.Spec.Metrics.Primary.MinimumEffect
				}
			}
			w.Units = users
			if communities > 0 {
				w.Unit, w.Units, w.Members = experiment.Community, communities, users/communities
			} else {
				w.ICC = 0
			}
			if effect == 0 {
				return exit(misused, "--effect 0%%: expected another effect, because half of the experiments have no effect in any case")
			}
			results := make([]readout.Simulated, 2)
			for i, planted := range []experiment.Percent{0, effect} {
				w.Name, w.Effect = "A/A", float64(planted)
				if planted != 0 {
					w.Name = "A/B, " + planted.String()
				}
				if err := w.Check(runs); err != nil {
					return exit(misused, "%w", err)
				}
				var err error
				// Two seeds, because with one seed both would simulate the same people.
				if results[i], err = readout.Simulate(c.Context(), w, runs, seed<<32+uint64(i)<<31, progress(w.Name)); err != nil { //nolint:gosec // i is 0 or 1
					return err
				}
			}
			if output == "json" {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(results)
			}
			return report.Simulation(c.OutOrStdout(), results[0], results[1])
		},
	}
	flags := c.Flags()
	fileFlag(c, &file)
	flags.IntVar(&users, "units", 4000, "number of users, in both arms together")
	flags.IntVar(&communities, "communities", 0, "randomise this number of communities, instead of users; the users are divided among them")
	effect = experiment.Percent(w.MinimumEffect)
	flags.Var(percent{&effect}, "effect", "relative effect of half of the experiments; with -f, by default the file's minimumEffect")
	flags.IntVar(&w.Looks, "looks", w.Looks, "number of looks at each experiment, up to its planned end")
	flags.Float64Var(&w.Mean, "mean", w.Mean, "mean of the primary metric, per user and window")
	flags.Float64Var(&w.CV, "cv", w.CV, "coefficient of variation of the primary metric: its standard deviation over its mean")
	flags.Float64Var(&w.ICC, "icc", .05, "intraclass correlation of the primary metric: the share of its variance between communities")
	flags.IntVar(&runs, "runs", 500, "number of experiments without the effect, and of experiments with it")
	flags.Uint64Var(&seed, "seed", 1, "the same seed simulates the same experiments")
	flags.BoolVar(&promises, "promises", false, "simulate the worlds for which the readout makes promises")
	choice(c, &output, "output", "o", "text or json; with --promises: text, or markdown for a table", "text", "json", "markdown")
	return c
}

// design gives a world the ramp, window, minimum effect and alpha of a file.
func design(w *readout.World, spec experiment.Spec, communities int) error {
	switch {
	case spec.Unit == experiment.Request:
		return exit(misused, "unit: request: expected user or community, because only guardrails judge requests; to simulate guardrails, use --promises")
	case spec.Assignment == "list":
		return exit(misused, "assignment: list: expected slots, because a list is not random and its verdicts cannot be simulated")
	case spec.Unit == experiment.Community && communities == 0:
		return exit(misused, "unit: community: expected --communities with the number of communities")
	case spec.Unit == experiment.User && communities > 0:
		return exit(misused, "--communities: expected only if the file has unit: community")
	}
	w.Steps, w.Hold, w.Window = spec.Ramp.Steps, experiment.Duration(spec.Ramp.Hold.Least()), spec.Metrics.Window
	w.MinimumEffect, w.Alpha = float64(spec.Metrics.Primary.MinimumEffect), spec.Alpha
	return nil
}

// keepPromises simulates the worlds for which the readout makes promises. It returns an error if a promise is not kept.
func keepPromises(c *cobra.Command, runs int, seed uint64, output string, progress func(string) func(done, runs int)) error {
	if output == "json" {
		return exit(misused, "--output json: expected text or markdown with --promises")
	}
	write := report.Promise
	if output == "markdown" {
		write = report.PromiseRow
		if err := report.PromiseHead(c.OutOrStdout()); err != nil {
			return err
		}
	}
	missed := 0
	for _, promise := range readout.Promises() {
		if err := promise.Check(runs); err != nil {
			return exit(misused, "%w", err)
		}
		result, err := readout.Simulate(c.Context(), promise.World, runs, (seed-1+promise.Seed)<<32, progress(promise.Name))
		if err != nil {
			return err
		}
		kept, err := write(c.OutOrStdout(), promise, result)
		if err != nil {
			return err
		}
		if !kept {
			missed++
		}
	}
	if missed > 0 {
		return exit(failed, "the readout does not keep its promises in %d of the worlds", missed)
	}
	return nil
}
