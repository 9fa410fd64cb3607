package main

import (
	"context"
	"errors"
	"os"
	"time"
)

// starts is the number of measured pairs of starts.
const starts = 20

// start measures the time from exec to the first 200 for every function, in turn with a bare program of the same toolchain. A function with a
// database first has to connect to it and to read its migrations.
func (b *bench) start(ctx context.Context) (figures []figure, err error) {
	for _, s := range b.services {
		rows, err := interleave(ctx, starts, b.firstAnswer(s.Name()), b.firstAnswer("hello"))
		if err != nil {
			return figures, err
		}
		figures = append(figures, ratioAtMost(5).figure("exec to first 200, "+s.Name()+" / hello", "ms", rows[0], rows[1]))
	}
	return figures, nil
}

func (b *bench) firstAnswer(name string) contestant {
	return func(ctx context.Context) (milliseconds float64, err error) {
		s, err := b.rig.start(ctx, name)
		if err != nil {
			return 0, err
		}
		took := time.Since(s.started)
		return float64(took.Microseconds()) / 1000, s.stop()
	}
}

// idle is the time without requests before a function's memory is read.
const idle = 5 * time.Second

// size measures every function's memory after its first 200 and a pause, the memory of all functions together, and the size of each binary.
func (b *bench) size(ctx context.Context) (figures []figure, err error) {
	err = b.withServers(ctx, func(running map[string]*server) error {
		time.Sleep(idle)
		var all memory
		for _, s := range b.services {
			m, err := running[s.Name()].memory()
			if err != nil {
				return err
			}
			all.held += m.held
			all.own += m.own
			figures = append(figures, atMost(35).figure("memory when idle, "+s.Name(), "MiB", []float64{m.held}, nil))
		}
		figures = append(figures,
			atMost(250).figure("memory when idle, all functions", "MiB", []float64{all.held}, nil),
			atMost(100).figure("of it no pages of binaries", "MiB", []float64{all.own}, nil))
		return nil
	}, b.names()...)
	for _, s := range b.services {
		limit := 30.0
		if s.Name() == "edge" || s.Name() == "steer" { // they link the clients of Kubernetes and Knative
			limit = 60
		}
		info, statErr := os.Stat(b.path("bin/" + s.Name()))
		if statErr != nil {
			return figures, errors.Join(err, statErr)
		}
		figures = append(figures, atMost(limit).figure("binary, "+s.Name(), "MB", []float64{float64(info.Size()) / 1e6}, nil))
	}
	return figures, err
}

func (b *bench) names() (names []string) {
	for _, s := range b.services {
		names = append(names, s.Name())
	}
	return names
}
