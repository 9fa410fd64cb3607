package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// assigned is a line of the benchmark of assign: the unit, and the CPU time in ns and the allocations of each assignment.
var assigned = regexp.MustCompile(`(?m)^BenchmarkAssign/(\w+?)(?:-\d+)?\s.*\s([\d.]+) cpu-ns/op\s+\d+ B/op\s+(\d+) allocs/op$`)

// assign measures what an experiment adds to a request in the edge: it finds the arm of a unit, and writes the headers of the request and of
// the answer. The edge's own benchmark measures it, because it is too short to be seen in the throughput of a process. An assignment
// allocates only its header and, if users are the unit, the user's id in it.
func (b *bench) assign(ctx context.Context) (figures []figure, err error) {
	command := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^BenchmarkAssign$", "-benchmem", //nolint:gosec // the arguments are numbers
		"-benchtime="+b.time.String(), "-count="+strconv.Itoa(b.rounds), "./functions/edge")
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -bench: %w\n%s", err, output)
	}
	nanoseconds, allocations := make(map[string][]float64), make(map[string][]float64)
	for _, line := range assigned.FindAllSubmatch(output, -1) {
		unit := string(line[1])
		ns, err1 := strconv.ParseFloat(string(line[2]), 64)
		n, err2 := strconv.ParseFloat(string(line[3]), 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		nanoseconds[unit], allocations[unit] = append(nanoseconds[unit], ns), append(allocations[unit], n)
	}
	for _, of := range []struct {
		unit        string
		allocations float64
	}{{"community", 1}, {"user", 2}} {
		if len(nanoseconds[of.unit]) != b.rounds {
			return nil, fmt.Errorf("%d results for the unit %s, expected %d:\n%s", len(nanoseconds[of.unit]), of.unit, b.rounds, output)
		}
		figures = append(figures,
			atMost(1000).figure("assign a "+of.unit, "ns of CPU", nanoseconds[of.unit], nil),
			atMost(of.allocations).figure("assign a "+of.unit, "allocations", allocations[of.unit], nil))
	}
	return figures, nil
}
