package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/readout"
	"warble/shared/report"
	"warble/shared/rollout"
)

func (s *settings) archive() *cobra.Command {
	var a asked
	var to string
	var noExport bool
	c := &cobra.Command{
		Use: "archive NAME", Short: "Export the data, then delete the rows of single users", Args: oneName, ValidArgsFunction: s.names,
		Long: `Write the report as JSON, with the data behind the verdict, to a file or to the standard output. Then ask steer to delete the rows of
single users. The report is read from DATABASE_URL. Deleted rows cannot be restored.`,
		Example: "  kn experiment archive likes --to likes.json",
		RunE: func(c *cobra.Command, args []string) error {
			if noExport && to != "" {
				return exit(misused, "--to %s with --no-export: expected one of them", to)
			}
			return s.sweep(c, args[0], a, to, noExport)
		},
	}
	a.flags(c, 0)
	c.Flags().StringVar(&to, "to", "", "a new file for the export (default: the standard output)")
	c.Flags().BoolVar(&noExport, "no-export", false, "delete the rows without an export")
	return c
}

// sweep exports the report, and then writes the wish to archive. If that wish was written before, nothing is exported, because the rows
// may be deleted already.
func (s *settings) sweep(c *cobra.Command, name string, a asked, to string, noExport bool) error {
	cluster, err := s.cluster("")
	if err != nil {
		return err
	}
	ctx, out := c.Context(), c.OutOrStdout()
	e, err := cluster.Experiment(ctx, name)
	if err != nil {
		return explainNotFound(err, name, cluster.NamespaceName())
	}
	if err := archivable(e); err != nil {
		return err
	}
	over := []experiment.Phase{experiment.Concluded, experiment.Archived}
	switch {
	case noExport:
	case e.Spec.Archive || e.Status.Phase == experiment.Archived:
		c.PrintErrln("nothing is exported: archive was requested before, so rows may be deleted already")
	case s.databaseURL == "":
		return exit(refused, "no export is possible: %w; --no-export deletes the rows without one", errNoDatabase)
	default:
		if to == "" {
			out = c.ErrOrStderr() // the standard output gets only the export
		}
		// The edges send their last counts while the arms drain.
		e, err = s.watch(ctx, cluster, goal{
			name: name, stood: e.Describe(), from: over, timeout: a.timeout, out: out,
			done: func(e *rollout.Experiment, _ bool) bool { return e.Status.Swept },
		})
		if err != nil {
			return err
		}
		r, err := s.readReport(ctx, e)
		if err == nil {
			err = export(c.OutOrStdout(), e, r, to)
		}
		if err != nil {
			return fmt.Errorf("no rows were deleted: %w", err)
		}
	}
	g, err := s.writeWish(ctx, cluster, name, a.why, func(e *rollout.Experiment) error {
		if err := archivable(e); err != nil {
			return err
		}
		e.Spec.Archive = true
		return nil
	})
	if err != nil {
		return err
	}
	g.from, g.timeout, g.out = over, a.timeout, out
	g.done = func(e *rollout.Experiment, _ bool) bool { return e.Status.Phase == experiment.Archived }
	_, err = s.watch(ctx, cluster, g)
	return err
}

// archivable returns an error if an experiment has no rows to delete. If an experiment never ran because its name was used before, the
// rows under that name belong to the earlier experiment.
func archivable(e *rollout.Experiment) error {
	switch {
	case e.Status.Phase != experiment.Concluded && e.Status.Phase != experiment.Archived:
		return exit(refused, "%s is %s: archive needs an experiment that is Concluded", e.Name, e.Describe())
	case e.Status.Conclusion == "":
		return exit(refused, "%s never ran: %s", e.Name, e.Status.Because)
	}
	return nil
}

// readReport reads the report of an experiment from the database.
func (s *settings) readReport(ctx context.Context, e *rollout.Experiment) (readout.Report, error) {
	db, err := s.database()
	if err != nil {
		return readout.Report{}, err
	}
	defer db.Close()
	r, err := readout.Read(ctx, db, e.Name, time.Now())
	if errors.Is(err, problem.NotFound) {
		err = exit(refused, "%w", errOtherDatabase)
	}
	return r, err
}

var errOtherDatabase = errors.New("the database of DATABASE_URL does not have this experiment: expected the database that steer writes to; --no-export deletes the rows without an export")

// export writes a report of e to the new file named by to, or to out if to is empty.
func export(out io.Writer, e *rollout.Experiment, r readout.Report, to string) error {
	if r.Salt != e.Status.Assign.Salt { // an experiment with the same name, of another cluster
		return exit(refused, "%s: %w", e.Name, errOtherDatabase)
	}
	if to == "" {
		return report.JSON(out, r)
	}
	file, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // the report has no data of single users
	if err != nil {
		return exit(refused, "%w: expected a new file", err)
	}
	err = report.JSON(file, r)
	err = errors.Join(err, file.Sync(), file.Close()) // the export must be on disk before the rows are deleted
	if err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}
