// Command kn-experiment runs A/B experiments on Knative. With kn, and this command on PATH, it is the plugin `kn experiment`. It works
// without kn.
//
// A verb writes a wish into the resource Experiment, and waits until steer, in the cluster, has carried it out. So it needs only
// rights on experiments. KUBECONFIG names the cluster, as for kubectl, and DATABASE_URL the database. If a verb needs one of them
// and it is missing, the verb says so.
//
// Exit codes: 0 done, 1 failed, 2 wrong usage or file, 3 refused, withheld or stuck, 4 not done in time; steer continues.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(newSettings().run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs one command line, and returns the exit code of the process.
func (s *settings) run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := s.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	code := misused // an error before a verb runs is a mistake in the command line
	root.PersistentPreRun = func(*cobra.Command, []string) { code = failed }
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "kn experiment:", err)
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return code
}

// The exit codes of errors.
const (
	failed  = 1
	misused = 2
	refused = 3
	late    = 4
)

// exitError is an error with its exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exit(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}
