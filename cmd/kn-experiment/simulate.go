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
		Long: `Draw synthetic experiments of a design and judge each at every look, by the code that judges real ones: some without any
effect, which tell how often there are false positives, and as many with one, which tell how often it is found. It asks no
cluster and no database. The same seed gives the same figures.

With --promises it is instead the worlds of which the readout promises something, and the exit code is 1 where one of the
promises is not kept: 2000 runs take half an hour.`,
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
						return exit(misused, "--%s with --promises: expected none, for those are of worlds of their own", flag)
					}
				}
				return keepPromises(c, runs, seed, output, progress)
			}
			if output == "markdown" {
				return exit(misused, "--output markdown: expected --promises with it, for it is their table")
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
				return exit(misused, "--effect 0%%: expected the effect that is to be found; experiments without one are simulated beside it")
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
				// Seeds of their own, or both would be of the same people.
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
	flags.IntVar(&users, "units", 4000, "users there are, of both arms")
	flags.IntVar(&communities, "communities", 0, "randomise so many communities, among which the users are shared out, and not users")
	flags.Var(percent{&effect}, "effect", "relative effect that is planted (the file's minimumEffect, or 5%)")
	flags.IntVar(&w.Looks, "looks", w.Looks, "how often each experiment is looked at, to its planned end")
	flags.Float64Var(&w.Mean, "mean", w.Mean, "of the primary metric, per user and window")
	flags.Float64Var(&w.CV, "cv", w.CV, "coefficient of variation of it: its standard deviation over its mean")
	flags.Float64Var(&w.ICC, "icc", .05, "intraclass correlation of it: the share of its variance that is between communities")
	flags.IntVar(&runs, "runs", 500, "experiments of each kind")
	flags.Uint64Var(&seed, "seed", 1, "the same one draws the same experiments")
	flags.BoolVar(&promises, "promises", false, "simulate what the readout promises")
	choice(c, &output, "output", "o", "text, json, or with --promises markdown: a table", "text", "json", "markdown")
	effect = experiment.Percent(w.MinimumEffect)
	return c
}

// design makes a world judge as a file says.
func design(w *readout.World, spec experiment.Spec, communities int) error {
	switch {
	case spec.Unit == experiment.Request:
		return exit(misused, "unit: request is judged by guardrails alone, whatever its users do: expected user or community; --promises simulates guardrails")
	case spec.Assignment == "list":
		return exit(misused, "assignment: a list is no experiment, so that nothing can be told of how often it is wrong: expected slots")
	case spec.Unit == experiment.Community && communities == 0:
		return exit(misused, "unit: community: expected --communities, how many there are")
	case spec.Unit == experiment.User && communities > 0:
		return exit(misused, "--communities: the file randomises users: expected none")
	}
	w.Steps, w.Hold, w.Window = spec.Ramp.Steps, experiment.Duration(spec.Ramp.Hold.Least()), spec.Metrics.Window
	w.MinimumEffect, w.Alpha = float64(spec.Metrics.Primary.MinimumEffect), spec.Alpha
	return nil
}

// keepPromises simulates the worlds of which something is promised.
func keepPromises(c *cobra.Command, runs int, seed uint64, output string, progress func(string) func(done, runs int)) error {
	if output == "json" {
		return exit(misused, "--output json with --promises: expected text or markdown")
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
		return exit(failed, "%d of the worlds are not as promised", missed)
	}
	return nil
}
