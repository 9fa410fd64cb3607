// Command bench measures Warble and bare equivalents in turn on one machine, and prints the ratios.
//
//	go run ./e2e/bench [-only REGEXP] [-time 3s] [-rounds 5] [-soak 1000000] [-readout 1000000] [-json bench.json] [-strict]
//
// Everything runs as in production: binaries with ko.yaml's flags, the manifests' environment, access log (to a file) and metrics on, and
// PostgreSQL with fsync. The load comes from another process (generate.go) on the same machine. The figures are ratios of values that were
// measured within the same seconds. They say little about other machines.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"
)

type bench struct {
	*rig
	time, warmup time.Duration
	rounds       int
	requests     int // of the soak
	exposed      int // users of the experiment that is read
}

// saturating is the number of connections that keep a function busy.
const saturating = 32

// saturate returns a load that measures a server's throughput: requests of a few users, as fast as possible.
func (b *bench) saturate(s *server, kinds ...request) load {
	return load{
		Address: s.address, Connections: saturating, Warmup: b.warmup, Time: b.time,
		Kinds: kinds, Tokens: b.path("tokens"), Distinct: few,
	}
}

// part is a group of figures that are measured together.
type part struct {
	name    string
	measure func(context.Context) ([]figure, error)
}

type options struct {
	bench  bench
	only   *regexp.Regexp
	json   string
	strict bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == generateVerb {
		exit(generate(os.Stdin, os.Stdout))
	}
	o := options{bench: bench{warmup: 500 * time.Millisecond}}
	only := flag.String("only", "", "measure only what matches this regular expression: validate, tweet, read, like, login, edge, assign, guest, peer, telemetry, start, size, soak, readout")
	flag.DurationVar(&o.bench.time, "time", 3*time.Second, "length of one measurement")
	flag.IntVar(&o.bench.rounds, "rounds", 5, "measurements of each side")
	flag.IntVar(&o.bench.requests, "soak", 0, "also send this many requests and watch the memory; 1000000 takes minutes")
	flag.IntVar(&o.bench.exposed, "readout", 0, "also read an experiment of this many users; 1000000 takes minutes, most of them to make their rows")
	flag.StringVar(&o.json, "json", "bench.json", "file for the figures as JSON")
	flag.BoolVar(&o.strict, "strict", false, "exit with status 1 where a target is missed")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		exit(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	exit(o.run(ctx))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (o *options) run(ctx context.Context) (err error) {
	b := &o.bench
	parts := []part{
		{"validate", b.validate},
		{"tweet", b.tweet},
		{"read", b.read},
		{"like", b.like},
		{"login", b.login},
		{"edge", b.edge},
		{"assign", b.assign},
		{"guest", b.guest},
		{"peer", b.peer},
		{"telemetry", b.telemetry},
		{"start", b.start},
		{"size", b.size},
		{"soak", b.soak},
		{"readout", b.readout},
	}
	parts = slices.DeleteFunc(parts, func(p part) bool {
		return !o.only.MatchString(p.name) || p.name == "soak" && b.requests == 0 || p.name == "readout" && b.exposed == 0
	})
	if len(parts) == 0 {
		return fmt.Errorf("-only %s: nothing to measure: expected a part that -h lists; soak and readout need their size, for example -readout 1000000", o.only)
	}
	if b.rig, err = newRig(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	var figures []figure
	missed := 0
	printHead(os.Stdout)
	for _, part := range parts {
		measured, err := part.measure(ctx)
		for _, f := range measured {
			f.print(os.Stdout)
			if !f.Met {
				missed++
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		figures = append(figures, measured...)
	}
	if err := writeFile(o.json, figures); err != nil {
		return err
	}
	if missed > 0 && o.strict {
		return fmt.Errorf("%d of %d targets missed", missed, len(figures))
	}
	return nil
}
