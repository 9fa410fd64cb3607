package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"warble/shared/experiment"
	"warble/shared/experiment/readout"
	"warble/shared/experiment/report"
	"warble/shared/problem"
	"warble/shared/rollout"
)

func (s *settings) list() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "list", Short: "List experiments", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cluster, err := s.cluster("")
			if err != nil {
				return err
			}
			experiments, err := cluster.Experiments(c.Context())
			if err != nil {
				return err
			}
			if output != "text" {
				return printAny(c, output, rollout.ExperimentList{Items: experiments})
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tPHASE\tSTEP\tLIFT\tVERDICT")
			for _, e := range experiments {
				phase := e.Status.Phase
				if phase == "" {
					phase = rollout.Draft
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.Name, phase, e.Status.Progress, e.Status.Lift, e.Status.Message)
			}
			return w.Flush()
		},
	}
	choice(c, &output, "output", "o", "text, json or yaml", "text", "json", "yaml")
	return c
}

func (s *settings) status() *cobra.Command {
	var output string
	var watch bool
	c := &cobra.Command{
		Use: "status NAME", Short: "Show where an experiment stands, and what it waits for", Args: oneName, ValidArgsFunction: s.names,
		Long: `Where an experiment stands, and what it waits for. Without a cluster, as of a local run, it is what DATABASE_URL has of it.`,
		RunE: func(c *cobra.Command, args []string) error {
			db, err := s.database()
			if err == nil {
				defer db.Close()
			} else if !errors.Is(err, errNoDatabase) {
				return err
			}
			var judge func(ctx context.Context, name string, now time.Time) (experiment.Verdict, error)
			if db != nil {
				judge = readout.Driver{DB: db}.Judge
			}
			var look func(ctx context.Context, name string) (*rollout.Experiment, error)
			switch cluster, err := s.cluster(""); {
			case err == nil:
				look = cluster.Experiment
			case errors.Is(err, errNoCluster) && db != nil:
				look = stored{db}.Experiment
			default:
				return err
			}
			var before []byte
			for {
				e, err := look(c.Context(), args[0])
				if err != nil {
					return err
				}
				if output != "text" {
					return print(c, output, e, true)
				}
				var text bytes.Buffer
				show(&text, c.Context(), e, judge)
				if !bytes.Equal(text.Bytes(), before) {
					before = text.Bytes()
					c.OutOrStdout().Write(before) //nolint:errcheck // the terminal is gone, and whoever looked with it
				}
				if !watch || e.Status.Phase == rollout.Concluded || e.Status.Phase == rollout.Archived {
					return nil
				}
				select {
				case <-c.Context().Done():
					return nil
				case <-time.After(2 * time.Second):
				}
			}
		},
	}
	choice(c, &output, "output", "o", "text, json or yaml", "text", "json", "yaml")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show each change until it has ended")
	return c
}

// show writes an experiment's state, and of what is stored of it as much as there is.
func show(w io.Writer, ctx context.Context, e *rollout.Experiment, judge func(context.Context, string, time.Time) (experiment.Verdict, error)) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "%s: %s\n", e.Name, e.Describe())
	line("services", "%v", e.Spec.Services)
	line("slots", "%d control, %d treatment of %d", e.Status.Open.Control, e.Status.Open.Treatment, experiment.Slots)
	switch {
	case e.Status.StepAt.IsZero():
	case judge == nil:
		line("readout", "unknown, for %v", errNoDatabase)
	default:
		v, err := judge(ctx, e.Name, time.Now())
		if err != nil {
			line("readout", "there is none: %v", err)
			break
		}
		line("entered", "%d control, %d treatment of %d", v.Entered.Control, v.Entered.Treatment, v.Reachable)
		if v.Health != "" {
			line("health", "red: %s", v.Health)
		} else {
			line("health", "good")
		}
		line("guardrails", "%s %s", v.Guardrails, v.Reason)
		if v.Lift != "" {
			line("lift", "%s", v.Lift)
		}
		if v.Sentence != "" {
			line("verdict", "%s", v.Sentence)
		}
	}
	if e.Status.Message != "" {
		line("now", "%s", e.Status.Message)
	}
}

func (s *settings) report() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "report NAME", Short: "The readout: health, guardrails, effects, per group and what people say", Args: oneName, ValidArgsFunction: s.names,
		Long: `The readout, from DATABASE_URL alone. Its exit code is 3 where the verdict is withheld, because a health check is red.`,
		Example: `  kn experiment report likes
  kn experiment report likes -o html >likes.html`,
		RunE: func(c *cobra.Command, args []string) error {
			db, err := s.database()
			if err != nil {
				return err
			}
			defer db.Close()
			r, err := readout.Read(c.Context(), db, args[0], time.Now())
			if errors.Is(err, problem.NotFound) {
				return exit(failed, "no experiment %s has been started", args[0])
			} else if err != nil {
				return err
			}
			out := c.OutOrStdout()
			switch output {
			case "json":
				err = report.JSON(out, r)
			case "markdown":
				err = report.Markdown(out, r)
			case "html":
				err = report.HTML(out, r)
			default:
				err = report.Text(out, r, terminal(out) && os.Getenv("NO_COLOR") == "")
			}
			if err != nil {
				return err
			}
			v, err := r.Judged()
			if err == nil && v.Health != "" {
				err = exit(refused, "the verdict is withheld: %s", v.Health)
			}
			return err
		},
	}
	choice(c, &output, "output", "o", "text, json, markdown or html", "text", "json", "markdown", "html")
	return c
}

// terminal tells whether people see what is written.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (s *settings) run() *cobra.Command {
	var every time.Duration
	c := &cobra.Command{
		Use: "run", Short: "Move all experiments from here, as steer does, until you stop it", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cluster, err := s.cluster("")
			if err != nil {
				return err
			}
			db, err := s.database()
			if err != nil {
				return err
			}
			db.Close()
			r, closeAll, err := s.reconciler(c, cluster)
			if err != nil {
				return err
			}
			defer closeAll()
			for {
				experiments, err := cluster.Experiments(c.Context())
				if err != nil && c.Context().Err() == nil {
					c.PrintErrln(err)
				}
				for _, e := range experiments {
					if _, err := r.Reconcile(c.Context(), e.Name); err != nil && !errors.Is(err, rollout.ErrLocked) && c.Context().Err() == nil {
						c.PrintErrf("%s: %v\n", e.Name, err)
					}
				}
				select {
				case <-c.Context().Done():
					return nil
				case <-time.After(every):
				}
			}
		},
	}
	c.Flags().DurationVar(&every, "every", 5*time.Second, "how often they are looked at")
	return c
}
