// Command local runs all of Warble on this machine: a PostgreSQL server, and the real functions behind the edge. Each function is a
// process, started as its manifest in knative/ says.
//
//	go run ./cmd/local [-fresh] [-demo] [-experiment FILE] [-guest FOLDER] [-board 127.0.0.1:8070] [-listen 127.0.0.1:8080] [-state DIR] [-v] [-json]
//
// The arms of an experiment are processes too, and the experiment moves as in a cluster. Start and end it with kn experiment and the
// kubeconfig in the state folder. -experiment starts the experiment of a file. The board shows the experiments.
//
// -guest also runs a Service that does not belong to Warble: a Go program with a service.yaml, as in docs/guests.md.
//
// A terminal shows a line for each request or, with -v, every line of every process. A pipe gets every line, and with -json a terminal gets
// the same.
//
// Only one run can use a state folder. A second run needs another -listen and another -state.
//
// SIGHUP builds again and replaces the functions one by one, without failing a request. Ctrl-C stops everything.
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

	experiment string // a file, or "none"
	guest      string // a folder, or empty
	board      string // an address, or "none"

	verbose, json bool
}

const (
	// demoExperiment is the default of -experiment. It puts everybody into an arm immediately, so that the playground shows both arms.
	demoExperiment = "knative/experiments/likes-demo.yaml"
	// boardAddress is the default of -board.
	boardAddress = "127.0.0.1:8070"
)

// register defines the flags of the command line.
func (o *options) register(flags *flag.FlagSet) {
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of the API")
	flags.StringVar(&o.state, "state", defaultState(), "folder for the database, the keys and the binaries")
	flags.BoolVar(&o.fresh, "fresh", false, "start with an empty database")
	flags.BoolVar(&o.demo, "demo", false, "add 20 users and 200 tweets")
	flags.StringVar(&o.experiment, "experiment", "", "start the experiment of this file; none starts no experiment (default: "+demoExperiment+", or none if FEATURES is set)")
	flags.StringVar(&o.guest, "guest", "", "also run the guest of this folder, such as e2e/guest: a Go program, service.yaml, and metric.yaml if it has metrics")
	flags.StringVar(&o.board, "board", boardAddress, "address of the board of experiments; none starts no board")
	flags.BoolVar(&o.verbose, "v", false, "show every line of every function, not only the requests")
	flags.BoolVar(&o.json, "json", false, "show every line of every function in JSON, as in a pipe")
}

func main() {
	var o options
	o.register(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "local:", err)
		os.Exit(1)
	}
}

// defaultState returns .warble in the checkout. For root it returns a folder for the checkout under /var/tmp: PostgreSQL does not run as
// root, and the account that it uses instead often cannot reach root's folders.
func defaultState() string {
	here, err := os.Getwd()
	if err != nil || os.Geteuid() != 0 {
		return ".warble"
	}
	return filepath.Join("/var/tmp/warble", filepath.Base(here)+"-"+shortHash(here))
}

// inputs are what a run reads before it changes anything.
type inputs struct {
	services   []*manifest.Service // including the guest's
	guest      *guest              // nil without -guest
	experiment *rollout.Experiment // nil for none
	asked      bool                // somebody has asked for the experiment with -experiment
}

// readInputs reads the manifests, the guest and the experiment. If -experiment is not set, it sets o.experiment to the default.
func readInputs(o *options) (in inputs, err error) {
	if in.services, err = manifest.ReadAll("knative"); err != nil {
		return in, err
	}
	if o.guest != "" {
		if in.guest, err = readGuest(o.guest, in.services); err != nil {
			return in, err
		}
		in.services = append(in.services, in.guest.service)
	}
	in.asked = o.experiment != ""
	if !in.asked && os.Getenv("FEATURES") == "" { // with FEATURES, both arms would have the change
		o.experiment = demoExperiment
	}
	if o.experiment != "" && o.experiment != none {
		in.experiment, err = readFile(o.experiment)
	}
	return in, err
}

// run starts Warble and serves it until ctx ends.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	in, err := readInputs(&o)
	if err != nil {
		return err
	}
	lock, err := lockState(o)
	if err != nil {
		return err
	}
	defer lock.Close() // when everything else has ended
	if err := checkListen(o.listen); err != nil {
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
	if err := in.keep(records, o); err != nil {
		return err
	}
	console := openConsole(out, o, in.services)
	began, built := time.Now(), make(chan error, 1)
	go func() {
		err := build(ctx, state, in.guest)
		if err == nil {
			console.done("every function is built", began)
		}
		built <- err
	}()
	database, err := openDatabase(ctx, state, console.writerFor("postgres"))
	if err != nil {
		return err
	}
	defer database.stop()
	if err := state.writeSecrets(database.secrets); err != nil {
		return err
	}
	console.done("PostgreSQL answers", began)
	if err := <-built; err != nil {
		return err
	}
	fleet, err := newFleet(state, console, o.listen, in.services, database, records.read())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer fleet.stop()
	defer cancel()
	cluster, err := newCluster(ctx, records, fleet, in.services)
	if err != nil {
		return err
	}
	sink, stopBroker, err := startBroker(ctx, fleet, in.guest)
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
	replaceOnSignal(ctx, fleet, in.guest)
	console.print("stopping\n")
	return nil
}

// checkListen returns an error if the address of the API is taken. It is called before anything is built or deleted, so that the most
// frequent mistake is reported immediately.
func checkListen(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("-listen %s: %w: is another Warble running? choose another address", address, err)
	}
	return listener.Close()
}

// keep stores the guest's metrics and the experiment. If nobody has asked for the experiment, an experiment of the same name stays as it
// is.
func (in *inputs) keep(r *records, o options) error {
	if in.guest != nil {
		if err := in.guest.keepMetrics(r); err != nil {
			return err
		}
	}
	if in.experiment != nil {
		if err := r.createOnce(in.experiment); err != nil && in.asked {
			return fmt.Errorf("-experiment %s: %w", o.experiment, err)
		}
	}
	return nil
}

// openConsole returns the console, and greets people on a terminal.
func openConsole(out io.Writer, o options, services []*manifest.Service) *console {
	shown := everything
	if terminal(out) && !o.verbose && !o.json {
		shown = requests
	}
	c := newConsole(out, shown, services)
	c.colour = c.colour && !o.json
	if shown == requests {
		c.print("\nWarble is starting. The first time takes a few minutes.\n\n")
	}
	return c
}

// startBroker starts the broker with the Triggers of knative/ and, if there is a guest with metrics, of the guest.
func startBroker(ctx context.Context, f *fleet, g *guest) (sink string, stop func(), err error) {
	b, err := newBroker("knative", os.Getenv("K_SINK"), f.addressFor, f.console.writerFor("broker"))
	if err != nil {
		return "", nil, err
	}
	if g != nil && len(g.metrics) > 0 {
		if err := readTriggers(g.metricFile(), b.subscribers); err != nil {
			return "", nil, err
		}
	}
	return b.start(ctx)
}

// replaceOnSignal builds and replaces the functions at each SIGHUP, until ctx ends.
func replaceOnSignal(ctx context.Context, f *fleet, g *guest) {
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
			if err := build(ctx, f.state, g); err != nil {
				f.console.print(err.Error() + "\n")
				continue
			}
			f.replace(ctx)
			f.console.print("replaced every function but the edge\n")
		}
	}
}

// build writes binaries into the state folder: every function, kn experiment, which serves the board, and the guest, if there is one.
func build(ctx context.Context, s state, g *guest) error {
	if g != nil { // in its own folder, because it may belong to another module
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

// welcome returns what a newcomer can do now, in 80 columns.
func welcome(base, board string, s state) string {
	text := fmt.Sprintf(`
Warble is at %[1]s

  %-30[2]s the playground: two people, one may like tweets
`, base, base+"/")
	if board != none {
		text += fmt.Sprintf("  %-30s the board: the experiment and its report\n", "http://"+board+"/")
	}
	return text + fmt.Sprintf(`  %-30[1]s the API, to try out

In another terminal:

  make try                       make an account, tweet, read the timeline
  make load                      send synthetic people

To watch and end experiments with kn experiment, as in a cluster:

  export KUBECONFIG=%[2]s
  export DATABASE_URL=$(cat %[3]s)
  go run ./cmd/kn-experiment list

Ctrl-C stops everything.

`, base+"/docs", s.path(kubeconfig), s.path(databaseURL))
}
