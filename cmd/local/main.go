// Command local runs all of Warble on this machine: the real functions, each a process of its own started as its
// manifest in knative/ says, a PostgreSQL server, and the edge in front.
//
//	go run ./cmd/local [-fresh] [-demo] [-experiment FILE] [-guest FOLDER] [-board 127.0.0.1:8070] [-listen 127.0.0.1:8080] [-state DIR] [-v] [-json]
//
// An experiment gets two arms, processes of their own, and moves as in a cluster. It is started and ended with kn experiment,
// by the kubeconfig in the state folder; -experiment starts that of a file, and the board beside the API shows them.
//
// -guest runs a Service that is not Warble's beside the functions: a program in Go with its service.yaml, as docs/guests.md has one.
//
// A terminal gets a line for each request, and with -v all that the processes say. A pipe gets that, too.
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
	"time"

	"warble/shared/manifest"
	"warble/shared/rollout"
)

type options struct {
	listen string
	state  string
	fresh  bool
	demo   bool

	experiment string // a file, or none
	guest      string // a folder, or empty
	board      string // an address, or none

	verbose, json bool
}

const (
	// playing is the experiment that there is for the playground: everybody is in one arm or the other at once.
	playing = "knative/experiments/likes-demo.yaml"
	// boardAddress is where the board is, unless -board says otherwise.
	boardAddress = "127.0.0.1:8070"
)

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of the API")
	flag.StringVar(&o.state, "state", defaultState(), "folder for the database, the keys and the binaries")
	flag.BoolVar(&o.fresh, "fresh", false, "empty the database first")
	flag.BoolVar(&o.demo, "demo", false, "fill in 20 users and 200 tweets")
	flag.StringVar(&o.experiment, "experiment", "", "start the experiment of this file; none starts none ("+playing+", but where FEATURES is set)")
	flag.StringVar(&o.guest, "guest", "", "run the guest of this folder, too, as e2e/guest: a program in Go, service.yaml, and metric.yaml if it has metrics")
	flag.StringVar(&o.board, "board", boardAddress, "address of the board of experiments; none starts none")
	flag.BoolVar(&o.verbose, "v", false, "show every line of every function, and not the requests alone")
	flag.BoolVar(&o.json, "json", false, "as for a pipe: every line of every function, in JSON")
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
	var visited *guest
	if o.guest != "" {
		if visited, err = readGuest(o.guest, services); err != nil {
			return err
		}
		services = append(services, visited.service)
	}
	var file *rollout.Experiment
	asked := o.experiment != ""
	if !asked && os.Getenv("FEATURES") == "" { // which would be in both arms
		o.experiment = playing
	}
	if o.experiment != "" && o.experiment != none {
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
	if visited != nil {
		if err := visited.keepMetrics(records); err != nil {
			return err
		}
	}
	if file != nil {
		if err := records.begin(file); err != nil && asked { // what nobody has asked for leaves what is there
			return fmt.Errorf("-experiment %s: %w", o.experiment, err)
		}
	}
	said := everything
	if terminal(out) && !o.verbose && !o.json {
		said = requests
	}
	console := newConsole(out, said, services)
	if said == requests {
		console.print("\nWarble is starting. The first time takes a few minutes.\n\n")
	}
	began, built := time.Now(), make(chan error, 1)
	go func() {
		err := build(ctx, state, visited)
		if err == nil {
			console.done("every function is built", began)
		}
		built <- err
	}()
	database, err := openDatabase(ctx, state, console.named("postgres"))
	if err != nil {
		return err
	}
	defer database.stop()
	if err := state.keep(database.secrets); err != nil {
		return err
	}
	console.done("PostgreSQL answers", began)
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
	broker, err := newBroker("knative", os.Getenv("K_SINK"), fleet.addressFor, console.named("broker"))
	if err != nil {
		return err
	}
	if visited != nil && len(visited.metrics) > 0 {
		if err := readTriggers(visited.metricFile(), broker.subscribers); err != nil {
			return err
		}
	}
	sink, stopBroker, err := broker.start(ctx)
	if err != nil {
		return err
	}
	defer stopBroker()
	fleet.sink = sink
	began = time.Now()
	if err := fleet.start(ctx); err != nil {
		return err
	}
	console.done("every function answers", began)
	stop, err := moveExperiments(ctx, state, cluster, database)
	if err != nil {
		return err
	}
	defer stop()
	board, stopBoard, err := startBoard(state, console, o.board)
	if err != nil {
		return err
	}
	defer stopBoard()
	base := "http://" + o.listen
	if o.demo {
		if err := demo(ctx, base); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	console.print(welcome(base, board, state))

	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	for {
		select {
		case <-ctx.Done():
			console.print("stopping\n")
			return nil
		case <-again:
			if err := build(ctx, state, visited); err != nil {
				console.print(err.Error() + "\n")
				continue
			}
			fleet.replace(ctx)
			console.print("replaced every function but the edge\n")
		}
	}
}

// build puts every function's binary into the state folder, that of kn experiment, which serves the board, and the guest's, if there is
// one.
func build(ctx context.Context, s state, g *guest) error {
	if g != nil { // its folder may be of another module
		command := exec.CommandContext(ctx, "go", "build", "-o", s.path("bin", g.service.Name()), ".")
		command.Dir = g.folder
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("go build in %s: %w\n%s", g.folder, err, output)
		}
	}
	command := exec.CommandContext(ctx, "go", "build", "-o", s.path("bin")+"/", "./functions/...", "./cmd/kn-experiment")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./functions/... ./cmd/kn-experiment: %w\n%s", err, output)
	}
	return nil
}

// welcome is what a newcomer can do now, in 80 columns.
func welcome(base, board string, s state) string {
	text := fmt.Sprintf(`
Warble is at %[1]s

  %-30[2]s the playground: two people, one may like
`, base, base+"/")
	if board != none {
		text += fmt.Sprintf("  %-30s the board: the experiment, live\n", "http://"+board+"/")
	}
	return text + fmt.Sprintf(`  %-30[1]s the API, to try out

In another terminal:

  make try                       an account, a tweet, a timeline
  make load                      synthetic people

An experiment is followed with kn experiment, as in a cluster:

  export KUBECONFIG=%[2]s
  export DATABASE_URL=$(cat %[3]s)
  go run ./cmd/kn-experiment list

Ctrl-C stops everything.

`, base+"/docs", s.path(kubeconfig), s.path(databaseURL))
}
