// Command deploy puts Warble into the cluster of kubectl's current context.
//
//	deploy [up]           build, apply and wait until every function is ready
//	deploy candidate      deploy without moving the traffic, then try the new revisions through their tags
//	deploy promote        give the traffic to the candidates that were tried out
//	deploy check          list every mistake in the manifests, and change nothing
//	deploy release FILE   build, and write one file for kubectl apply
//	deploy secrets        make what release.yaml leaves out: secrets, keys, the database's logins
//	deploy rotate-keys    make the next of the three steps that replace the key of the access tokens
//
// It must run at the root of the repository, and runs ko. KO_DOCKER_REPO names the registry. DATABASE_DIRECT_URL is the database's URL from
// this machine, with its owner, who may create roles. If pods reach the database at another host, set DATABASE_POD_HOST, and
// DATABASE_POOLER_HOST for a pooler. Set INGRESS_ADDRESS if the URL of the edge does not lead to the ingress from this machine. Secrets are
// never printed.
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

// run runs one command line, and returns the exit code. files are the migrations of this release.
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
