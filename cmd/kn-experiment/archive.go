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
		Use: "archive NAME", Short: "Keep what the verdict rests on, and sweep the rows of single users", Args: oneName, ValidArgsFunction: s.names,
		Long: `Write the report as JSON, with what the verdict rests on, to FILE or to the standard output; then have the rows of single users
swept. The report is read from DATABASE_URL. What is swept does not come back.`,
		Example: "  kn experiment archive likes --to likes.json",
		RunE: func(c *cobra.Command, args []string) error {
			if noExport && to != "" {
				return exit(misused, "--to %s with --no-export: expected one of them", to)
			}
			return s.sweep(c, args[0], a, to, noExport)
		},
	}
	a.flags(c, 0)
	c.Flags().StringVar(&to, "to", "", "file of the export, which must not be there yet (the standard output)")
	c.Flags().BoolVar(&noExport, "no-export", false, "sweep without an export")
	return c
}

// sweep exports, and then wishes the sweep. Once that is wished nothing is exported: the rows may be gone.
func (s *settings) sweep(c *cobra.Command, name string, a asked, to string, noExport bool) error {
	cluster, err := s.cluster("")
	if err != nil {
		return err
	}
	ctx, out := c.Context(), c.OutOrStdout()
	e, err := cluster.Experiment(ctx, name)
	if err != nil {
		return found(err, name, cluster.NamespaceName())
	}
	if err := archivable(e); err != nil {
		return err
	}
	over := []experiment.Phase{experiment.Concluded, experiment.Archived}
	switch {
	case noExport:
	case e.Spec.Archive || e.Status.Phase == experiment.Archived:
		c.PrintErrln("its sweep was wished before: nothing is exported")
	case s.databaseURL == "":
		return exit(refused, "there is no export: %w; --no-export sweeps without one", errNoDatabase)
	default:
		if to == "" {
			out = c.ErrOrStderr() // the standard output has the export alone
		}
		// The edges send their last counts while the arms drain.
		e, err = s.watch(ctx, cluster, watched{
			name: name, stood: e.Describe(), from: over, timeout: a.timeout, out: out,
			done: func(e *rollout.Experiment, _ bool) bool { return e.Status.Swept },
		})
		if err != nil {
			return err
		}
		r, err := s.read(ctx, e)
		if err == nil {
			err = export(c.OutOrStdout(), e, r, to)
		}
		if err != nil {
			return fmt.Errorf("nothing is swept: %w", err)
		}
	}
	is, err := s.write(ctx, cluster, name, a.why, func(e *rollout.Experiment) error {
		if err := archivable(e); err != nil {
			return err
		}
		e.Spec.Archive = true
		return nil
	})
	if err != nil {
		return err
	}
	is.from, is.timeout, is.out = over, a.timeout, out
	is.done = func(e *rollout.Experiment, _ bool) bool { return e.Status.Phase == experiment.Archived }
	_, err = s.watch(ctx, cluster, is)
	return err
}

// archivable says why an experiment has no rows to sweep. One that never ran because its name was used has none of its own:
// those of that name are another's.
func archivable(e *rollout.Experiment) error {
	switch {
	case e.Status.Phase != experiment.Concluded && e.Status.Phase != experiment.Archived:
		return exit(refused, "%s is %s: archive is for one that is Concluded", e.Name, e.Describe())
	case e.Status.Conclusion == "":
		return exit(refused, "%s never ran: %s", e.Name, e.Status.Because)
	}
	return nil
}

// read reads the report.
func (s *settings) read(ctx context.Context, e *rollout.Experiment) (readout.Report, error) {
	db, err := s.database()
	if err != nil {
		return readout.Report{}, err
	}
	defer db.Close()
	r, err := readout.Read(ctx, db, e.Name, time.Now())
	if errors.Is(err, problem.NotFound) {
		err = exit(refused, "%w", errNotIts)
	}
	return r, err
}

var errNotIts = errors.New("DATABASE_URL does not have this experiment: expected the database that steer writes; --no-export sweeps without an export")

// export writes a report of e to a new file, or to out.
func export(out io.Writer, e *rollout.Experiment, r readout.Report, to string) error {
	if r.Salt != e.Status.Assign.Salt { // one of that name in another cluster
		return exit(refused, "%s: %w", e.Name, errNotIts)
	}
	if to == "" {
		return report.JSON(out, r)
	}
	file, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // it has no row of a single user
	if err != nil {
		return exit(refused, "%w: expected a new file", err)
	}
	err = report.JSON(file, r)
	err = errors.Join(err, file.Sync(), file.Close()) // before the rows go
	if err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}
