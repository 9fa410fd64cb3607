package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/readout"
	"warble/shared/report"
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
				all := rollout.ExperimentList{Items: experiments}
				all.APIVersion, all.Kind = rollout.GroupVersion.String(), rollout.Kind+"List"
				for i := range all.Items {
					named(&all.Items[i])
				}
				return printAny(c, output, all)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tPHASE\tSTEP\tLIFT\tHEALTHY\tMESSAGE")
			for i := range experiments {
				e := &experiments[i]
				healthy := ""
				if c := condition(e, "Healthy"); c != nil {
					healthy = string(c.Status)
				}
				message := strings.ReplaceAll(strings.TrimSpace(e.Status.Message), "\n", "; ")
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Name, cmp.Or(e.Status.Phase, experiment.Draft), e.Status.Progress, e.Status.Lift, healthy, message)
			}
			return w.Flush()
		},
	}
	choice(c, &output, "output", "o", "text, json or yaml", "text", "json", "yaml")
	return c
}

// condition is nil where the status does not have it.
func condition(e *rollout.Experiment, kind string) *metav1.Condition {
	return meta.FindStatusCondition(e.Status.Conditions, kind)
}

func (s *settings) status() *cobra.Command {
	var output string
	var watch bool
	c := &cobra.Command{
		Use: "status NAME", Short: "Show where an experiment stands, and what it waits for", Args: oneName, ValidArgsFunction: s.names,
		Long: `Where an experiment stands, and what it waits for: the status of the resource, and if DATABASE_URL is set the readout of this
moment. It needs KUBECONFIG; a local run writes one.`,
		RunE: func(c *cobra.Command, args []string) error {
			cluster, err := s.cluster("")
			if err != nil {
				return err
			}
			var judge judge
			switch db, err := s.database(); {
			case err == nil:
				defer db.Close()
				judge = readout.Driver{DB: db}.Judge
			case !errors.Is(err, errNoDatabase):
				return err
			}
			var before []byte
			for {
				e, err := cluster.Experiment(c.Context(), args[0])
				if err != nil {
					return found(err, args[0], cluster.NamespaceName())
				}
				if output != "text" {
					return printAny(c, output, named(e))
				}
				var text bytes.Buffer
				show(c.Context(), &text, e, judge)
				if !bytes.Equal(text.Bytes(), before) {
					before = text.Bytes()
					c.OutOrStdout().Write(before) //nolint:errcheck // the terminal is gone, and whoever looked with it
				}
				if !watch || e.Status.Phase == experiment.Concluded || e.Status.Phase == experiment.Archived {
					return nil
				}
				select {
				case <-c.Context().Done():
					return nil
				case <-time.After(4 * s.pace.every):
				}
			}
		},
	}
	choice(c, &output, "output", "o", "text, json or yaml", "text", "json", "yaml")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show each change until it has ended")
	return c
}

// judge is the readout of one experiment.
type judge func(ctx context.Context, name string, now time.Time) (experiment.Verdict, error)

// show writes an experiment's state, and if judge is not nil what is stored of it. Slots are those that the edges assign by.
func show(ctx context.Context, w io.Writer, e *rollout.Experiment, judge judge) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-11s %s\n", name, strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
	fmt.Fprintf(w, "%s: %s\n", e.Name, e.Describe())
	line("services", "%s", strings.Join(e.Spec.Services, ", "))
	open := e.Rules().Open
	line("slots", "%d control, %d treatment of %d", open.Control, open.Treatment, experiment.Slots)
	if drift := condition(e, "BaseDrifted"); drift != nil && drift.Status == metav1.ConditionTrue {
		line("drift", "%s deployed since the arms were made: kn experiment rebase %s", drift.Message, e.Name)
	}
	var verdict experiment.Verdict
	err := errNoDatabase
	if judge != nil && !e.Status.StepAt.IsZero() {
		verdict, err = judge(ctx, e.Name, time.Now())
	}
	switch {
	case err == nil:
		line("entered", "%d control, %d treatment of %d", verdict.Entered.Control, verdict.Entered.Treatment, verdict.Reachable)
		line("health", "%s", health(verdict.Health == "", verdict.Health))
		line("guardrails", "%s %s", verdict.Guardrails, verdict.Reason)
	case !errors.Is(err, errNoDatabase):
		line("readout", "none: %v", err)
		fallthrough
	default: // what steer saw last
		if c := condition(e, "Healthy"); c != nil {
			line("health", "%s", health(c.Status == metav1.ConditionTrue, c.Message))
		}
		if c := condition(e, "GuardrailsPassing"); c != nil {
			line("guardrails", "%s %s", strings.ToLower(c.Reason), c.Message)
		}
	}
	if lift := cmp.Or(verdict.Lift, e.Status.Lift); lift != "" {
		line("lift", "%s", lift)
	}
	if verdict.Sentence != "" {
		line("verdict", "%s", verdict.Sentence)
	}
	if e.Status.ObservedGeneration < e.Generation {
		line("now", "steer has not looked at the last wish yet")
	} else if e.Status.Message != "" {
		line("now", "%s", e.Status.Message)
	}
}

func health(good bool, message string) string {
	if good {
		return "good"
	}
	return "red: " + message
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
