package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/rollout"
	"warble/shared/store"
)

func (s *settings) metrics() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "metrics", Short: "List your own metrics, with the number of their events", Args: noArgs,
		Long: `List the Metrics of the namespace. With DATABASE_URL the list shows how many events of each are stored, and the time of the last one.
If a metric has no events, either no Trigger delivers them, or nobody has sent any.`,
		Example: "  kn experiment metrics",
		RunE: func(c *cobra.Command, _ []string) error {
			cluster, err := s.cluster("")
			if err != nil {
				return err
			}
			all, err := cluster.Metrics(c.Context())
			if err != nil {
				return err
			}
			if output != "text" {
				list := rollout.MetricList{Items: all}
				list.APIVersion, list.Kind = rollout.GroupVersion.String(), rollout.MetricKind+"List"
				for i := range list.Items {
					m := &list.Items[i]
					m.APIVersion, m.Kind, m.ManagedFields = rollout.GroupVersion.String(), rollout.MetricKind, nil
				}
				return printAny(c, output, list)
			}
			if len(all) == 0 {
				c.Printf("there is no Metric in the namespace %s\n", cluster.NamespaceName())
				return nil
			}
			stored, err := s.storedEvents(c.Context(), all)
			if errors.Is(err, errNoDatabase) {
				c.Println("the number of events is not known, because DATABASE_URL is not set")
			} else if err != nil {
				return err
			}
			return listMetrics(c.OutOrStdout(), all, stored)
		},
	}
	choice(c, &output, "output", "o", "text, json or yaml", "text", "json", "yaml")
	return c
}

// storedEvents counts the events of each metric in the database. The result has the order of all.
func (s *settings) storedEvents(ctx context.Context, all []rollout.Metric) ([]store.Stored, error) {
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	own := make([]experiment.Metric, len(all))
	for i := range all {
		own[i] = experiment.Metric{Name: all[i].Name, EventMetric: all[i].Spec}
	}
	return db.StoredEvents(ctx, own)
}

// listMetrics writes a line for each metric, and then every mistake in them. stored is nil without a database.
func listMetrics(out io.Writer, all []rollout.Metric, stored []store.Stored) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tLABEL\tEVENT\tUNIT\tBETTER\tEVENTS\tLAST\tCONDITION")
	var wrong []string
	for i := range all {
		m := &all[i]
		m.Spec.Default()
		events, last, condition := "–", "–", "ready"
		if stored != nil {
			events = figures.Whole(stored[i].Events)
			if !stored[i].Last.IsZero() {
				last = stored[i].Last.UTC().Format(time.DateTime)
			}
		}
		if err := errors.Join(experiment.CheckMetricName(m.Name), m.Spec.Check()); err != nil {
			condition = "wrong"
			for line := range strings.Lines(err.Error()) {
				wrong = append(wrong, m.Name+": "+strings.TrimSpace(line))
			}
		}
		better := map[string]string{"up": "more", "down": "less"}[m.Spec.Direction]
		fmt.Fprintln(t, strings.Join([]string{m.Name, m.Spec.Label, m.Spec.Event.Type, m.Spec.Unit, better, events, last, condition}, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range wrong {
		fmt.Fprintln(out, line)
	}
	return nil
}
