// Command kn-experiment runs A/B experiments on Knative. On PATH it is `kn experiment`, a plugin of kn; it needs no kn.
//
// It writes what is wanted into the resource Experiment, and watches until steer, in the cluster, has made it so: it needs
// rights on experiments and no more. The cluster is kubectl's (KUBECONFIG), what is stored is in DATABASE_URL; a verb says
// which it misses.
//
// Exit codes: 0 done, 1 failed, 2 wrong usage or file, 3 refused, withheld or stuck, 4 not done in time: it goes on.
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

// run is main without the process, and returns its exit code.
func (s *settings) run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := s.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	code := misused // until a verb runs
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

// The exit codes of what went wrong.
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
