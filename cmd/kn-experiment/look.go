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
		Example: "  kn experiment list",
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
					withKind(&all.Items[i])
				}
				return printAny(c, output, all)
			}
			printList(c.OutOrStdout(), experiments)
			return nil
		},
	}
	choice(c, &output, "output", "o", "text, json or yaml", "text", "json", "yaml")
	return c
}

// longName is the greatest width of the column of names. A longer name gets its own line.
const longName = 16

// printList writes a line for each experiment, and below it the status message.
func printList(out io.Writer, experiments []rollout.Experiment) {
	wide := len("NAME")
	for _, e := range experiments {
		if len(e.Name) <= longName {
			wide = max(wide, len(e.Name))
		}
	}
	row := func(name, phase, step, health, lift string) {
		if len(name) > wide {
			fmt.Fprintln(out, name)
			name = ""
		}
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%-*s  %-9s  %-9s  %-6s  %s", wide, name, phase, step, health, lift), " "))
	}
	row("NAME", "PHASE", "STEP", "HEALTH", "LIFT")
	for i := range experiments {
		e := &experiments[i]
		health := "–"
		if c := condition(e, "Healthy"); c != nil {
			health = map[metav1.ConditionStatus]string{metav1.ConditionTrue: "good", metav1.ConditionFalse: "red"}[c.Status]
		}
		row(e.Name, string(cmp.Or(e.Status.Phase, experiment.Draft)), e.Status.Progress, health, e.Status.Lift)
		if message := strings.ReplaceAll(strings.TrimSpace(e.Status.Message), "\n", "; "); message != "" {
			wrapped(out, "  ", message)
		}
	}
}

// condition returns a condition of the status, or nil if the status does not have it.
func condition(e *rollout.Experiment, kind string) *metav1.Condition {
	return meta.FindStatusCondition(e.Status.Conditions, kind)
}

func (s *settings) status() *cobra.Command {
	var output string
	var watch bool
	c := &cobra.Command{
		Use: "status NAME", Short: "Show the state of an experiment, and what it waits for", Args: oneName, ValidArgsFunction: s.names,
		Long:    `Show the state of an experiment and what it waits for. With DATABASE_URL, also show the present readout.`,
		Example: "  kn experiment status likes --watch",
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
			say := func(text string) { _, _ = io.WriteString(c.OutOrStdout(), text) } // if this fails, the reader has gone
			if watch && terminal(c.OutOrStdout()) {
				say = redraw(c.OutOrStdout())
			}
			var before string
			for {
				e, err := cluster.Experiment(c.Context(), args[0])
				if err != nil {
					return explainNotFound(err, args[0], cluster.NamespaceName())
				}
				if output != "text" {
					return printAny(c, output, withKind(e))
				}
				var text bytes.Buffer
				show(c.Context(), &text, e, judge)
				if text.String() != before {
					before = text.String()
					say(before)
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
	c.Flags().BoolVarP(&watch, "watch", "w", false, "update the status until the experiment has ended")
	return c
}

// judge reads the verdict of one experiment from the database.
type judge func(ctx context.Context, name string, now time.Time) (experiment.Judgement, error)

// show writes an experiment's state and, if judge is not nil, its readout. The slots are those that the edges use now.
func show(ctx context.Context, w io.Writer, e *rollout.Experiment, judge judge) {
	line := func(name, format string, args ...any) {
		wrapped(w, fmt.Sprintf("  %-11s ", name), fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "%s: %s\n", e.Name, e.Describe())
	line("services", "%s", strings.Join(e.Spec.Services, ", "))
	open := e.Rules().Open
	line("slots", "%d control, %d treatment of %d", open.Control, open.Treatment, experiment.Slots)
	if drift := condition(e, "BaseDrifted"); drift != nil && drift.Status == metav1.ConditionTrue {
		line("drift", "%s was deployed after the arms: kn experiment rebase %s", drift.Message, e.Name)
	}
	var verdict experiment.Judgement
	err := errNoDatabase
	if judge != nil && !e.Status.StepAt.IsZero() {
		verdict, err = judge(ctx, e.Name, time.Now())
	}
	switch {
	case err == nil:
		line("entered", "%d control, %d treatment of %d", verdict.Entered.Control, verdict.Entered.Treatment, verdict.Reachable)
		if verdict.Metric != "" {
			line("metric", "%s", verdict.Metric)
		}
		line("health", "%s", health(verdict.Health == "", verdict.Health))
		line("guardrails", "%s %s", verdict.Guardrails, verdict.Reason)
	case !errors.Is(err, errNoDatabase):
		line("readout", "cannot be read: %v", err)
		fallthrough
	default: // without a readout, show what steer last wrote into the status
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
		line("now", "steer has not seen the last wish yet")
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
		Use: "report NAME", Short: "Show the figures: health, guardrails, effects and feedback", Args: oneName, ValidArgsFunction: s.names,
		Long: `Show the readout. It needs only DATABASE_URL, and no cluster. The exit code is 3 if the verdict is withheld because a health check is
red.`,
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
				return exit(failed, "the database has no experiment %s: start it first, or set DATABASE_URL to the database that steer writes to", args[0])
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
				err = exit(refused, "the verdict is withheld, because a health check is red: %s", v.Health)
			}
			return err
		},
	}
	choice(c, &output, "output", "o", "text, json, markdown or html", "text", "json", "markdown", "html")
	return c
}

// terminal reports whether w is a terminal.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
