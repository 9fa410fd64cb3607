package main

import (
	"context"
	"errors"
	"os"
	"time"
)

// starts is how many pairs of starts are timed.
const starts = 20

// start times every function from exec to its first 200, in turn with a bare hello of the same toolchain. The first 200
// of a function with a database takes a connection to it and a look at its migrations.
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

// idle is how long a function has had nothing to do when its memory is read.
const idle = 5 * time.Second

// size reads every function's memory after its first 200 and a pause, that of all functions together, and the size of each binary.
func (b *bench) size(ctx context.Context) (figures []figure, err error) {
	err = b.with(ctx, func(running map[string]*server) error {
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
		if s.Name() == "edge" {
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
