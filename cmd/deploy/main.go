// Command deploy puts Warble into the cluster of kubectl's current context.
//
//	deploy [up]           build, apply and wait until every function is ready
//	deploy candidate      the same with the traffic where it is, then a journey through the new revisions by their tags
//	deploy promote        give the traffic to what the journey has tried
//	deploy check          say what is wrong with the manifests, and touch nothing
//	deploy release FILE   build, and write one file that kubectl apply takes
//	deploy secrets        make what release.yaml leaves out: secrets, keys, the database's logins
//	deploy rotate-keys    take the next of the three steps that replace the key of the access tokens
//
// It runs at the root of the repository, and runs ko. KO_DOCKER_REPO names the registry. DATABASE_DIRECT_URL
// is the database as this machine reaches it, as its owner, who may create roles; where pods reach it under another name,
// DATABASE_POD_HOST has it, and DATABASE_POOLER_HOST that of a pooler. INGRESS_ADDRESS is where this machine reaches the
// ingress, if the URL of the edge does not lead there. Secrets are printed nowhere.
//
// Exit codes: 0 done, 1 failed or no such verb, 2 a wrong flag.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"warble/shared/env"
	"warble/shared/store/migrations"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], env.FromOS(), os.Stdout, os.Stderr, migrations.Files()))
}

// run is main without the process, and returns its exit code. files are the migrations of this release.
func run(ctx context.Context, args []string, e *env.Reader, stdout, stderr io.Writer, files fs.FS) int {
	root := newCommand(e, files)
	root.SetArgs(withTwoDashes(args))
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "deploy:", err)
	if _, ok := errors.AsType[*flagError](err); ok {
		return 2
	}
	return 1
}
