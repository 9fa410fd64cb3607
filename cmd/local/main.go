// Command local runs all of Warble on this machine: the real functions, each a process of its own started as its
// manifest in knative/ says, a PostgreSQL server, and the edge in front.
//
//	go run ./cmd/local [-fresh] [-demo] [-experiment FILE] [-listen 127.0.0.1:8080] [-state DIR]
//
// An experiment gets two arms, processes of their own, and moves as in a cluster. It is started and ended with kn experiment,
// by the kubeconfig in the state folder; -experiment starts that of a file.
//
// A folder is one run's at a time. A second run beside the first has a -listen and a -state of its own.
//
// SIGHUP builds anew and replaces the functions one by one without failing a request. Ctrl-C stops everything.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"warble/shared/manifest"
	"warble/shared/rollout"
)

type options struct {
	listen string
	state  string
	fresh  bool
	demo   bool

	experiment string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of the API")
	flag.StringVar(&o.state, "state", defaultState(), "folder for the database, the keys and the binaries")
	flag.BoolVar(&o.fresh, "fresh", false, "empty the database first")
	flag.BoolVar(&o.demo, "demo", false, "fill in 20 users and 200 tweets")
	flag.StringVar(&o.experiment, "experiment", "", "start the experiment of this file, as knative/experiments/likes-demo.yaml")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "local:", err)
		os.Exit(1)
	}
}

// defaultState is .warble in the checkout. PostgreSQL refuses root, and the account it runs as then must reach the
// folder, which it often cannot inside of root's own; so root's state is under /var/tmp, one folder per checkout.
func defaultState() string {
	here, err := os.Getwd()
	if err != nil || os.Geteuid() != 0 {
		return ".warble"
	}
	return filepath.Join("/var/tmp/warble", filepath.Base(here)+"-"+shortHash(here))
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	services, err := manifest.ReadAll("knative")
	if err != nil {
		return err
	}
	var file *rollout.Experiment
	if o.experiment != "" {
		if file, err = readFile(o.experiment); err != nil {
			return err
		}
	}
	lock, err := lockState(o)
	if err != nil {
		return err
	}
	defer lock.Close() // the last thing: everything else has ended by then
	// Tried before anything is built or deleted, so that the commonest mistake is told at once.
	if listener, err := net.Listen("tcp", o.listen); err != nil {
		return fmt.Errorf("-listen %s: %w: is another Warble running? choose another address", o.listen, err)
	} else if err := listener.Close(); err != nil {
		return err
	}
	state, err := openState(o.state, o.fresh)
	if err != nil {
		return err
	}
	records, err := openRecords(state.path(keptFile))
	if err != nil {
		return err
	}
	if file != nil {
		if err := records.begin(file); err != nil {
			return fmt.Errorf("-experiment %s: %w", o.experiment, err)
		}
	}
	console := newConsole(out, services)
	built := make(chan error, 1)
	go func() { built <- build(ctx, state) }()
	database, err := openDatabase(ctx, state, console.named("postgres"))
	if err != nil {
		return err
	}
	defer database.stop()
	if err := <-built; err != nil {
		return err
	}
	fleet, err := newFleet(state, console, o.listen, services, database, records.read())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer fleet.stop()
	defer cancel()
	cluster, err := newCluster(ctx, records, fleet, services)
	if err != nil {
		return err
	}
	if err := fleet.start(ctx); err != nil {
		return err
	}
	stop, err := moveExperiments(ctx, state, cluster, database)
	if err != nil {
		return err
	}
	defer stop()
	base := "http://" + o.listen
	if o.demo {
		if err := demo(ctx, base); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	console.print(welcome(base, state))

	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	for {
		select {
		case <-ctx.Done():
			console.print("stopping\n")
			return nil
		case <-again:
			if err := build(ctx, state); err != nil {
				console.print(err.Error() + "\n")
				continue
			}
			fleet.replace(ctx)
			console.print("replaced every function but the edge\n")
		}
	}
}

// build puts every function's binary into the state folder.
func build(ctx context.Context, s state) error {
	command := exec.CommandContext(ctx, "go", "build", "-o", s.path("bin")+"/", "./functions/...")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./functions/...: %w\n%s", err, output)
	}
	return nil
}

func welcome(base string, s state) string {
	return fmt.Sprintf(`
Warble is at %[1]s, its contract at %[1]s/docs. Try:

  TOKEN=$(curl -s %[1]s/auth/register -H 'Content-Type: application/json' -d '{"name":"Ada","email":"ada'$RANDOM'@example.org","password":"analytical-engine-1843","community":"gophers"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  curl -s %[1]s/2/tweets -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"text":"hello, warble"}'
  curl -s "%[1]s/2/users/$(curl -s %[1]s/2/users/me -H "Authorization: Bearer $TOKEN" | sed 's/.*"id":"\([0-9]*\)".*/\1/')/timelines/reverse_chronological" -H "Authorization: Bearer $TOKEN"

An experiment is started, watched and ended with kn experiment, as in a cluster (go run ./cmd/kn-experiment), in a shell with:

  export KUBECONFIG=%[2]s DATABASE_URL=$(cat %[3]s)

Ctrl-C stops everything.
`, base, s.path(kubeconfig), s.path(databaseURL))
}
