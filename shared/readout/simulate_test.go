package readout_test

import (
	"flag"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/readout"
)

var simulated = flag.Int("simulated", 6, "experiments that are simulated in each world; the promises are about 2000, and those of all worlds")

// With so few experiments as by default, only every third world is simulated.
func TestWhatTheReadoutPromises(t *testing.T) {
	t.Parallel()
	for i, promise := range readout.Promises() {
		if *simulated < 100 && i > 7 && i%3 != 0 {
			continue
		}
		t.Run(promise.Name, func(t *testing.T) {
			s, err := readout.Simulate(t.Context(), promise.World, *simulated, promise.Seed<<32, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("ends %v, median %.1f days; covered %.3f, wrong %.3f, naive %.3f", s.Ends, s.Days, s.Covered.Value(), s.Wrong.Value(), s.Naive.Value())
			for _, b := range promise.Bounds {
				text, kept := b.Check(s)
				t.Log(text)
				if !kept {
					t.Error("the promise is not kept")
				}
			}
		})
	}
}

// Ten experiments without an effect are simulated in each world.
func TestATreatmentWithoutEffectIsNeverPromoted(t *testing.T) {
	t.Parallel()
	for _, promise := range readout.Promises() {
		if promise.Effect == 0 || promise.Communities != nil { // a method that judges once is wrong in one of twenty experiments, as promised
			continue
		}
		promise.Effect = 0
		s, err := readout.Simulate(t.Context(), promise.World, 10, 1000, nil)
		if err != nil {
			t.Fatal(err)
		}
		if s.Ends["win"] > 0 || s.Runs != 10 {
			t.Errorf("%s without its effect: %v", promise.Name, s.Ends)
		}
	}
}

func TestTheSameSeedGivesTheSameSimulation(t *testing.T) {
	t.Parallel()
	w := readout.Promises()[0].World
	w.Units = 400
	var runs [2]readout.Simulated
	for i := range runs {
		var err error
		if runs[i], err = readout.Simulate(t.Context(), w, 4, 7, nil); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(runs[0], runs[1]); diff != "" {
		t.Error(diff)
	}
	if other, err := readout.Simulate(t.Context(), w, 4, 1007, nil); err != nil || cmp.Equal(runs[0], other) {
		t.Errorf("another seed: %+v, %v", other, err)
	}
}

func TestSimulateRefusesInvalidWorlds(t *testing.T) {
	t.Parallel()
	for _, w := range []readout.World{{}, {Steps: []int{50}, Unit: "user"}, {Steps: []int{50}, Unit: "request"}} {
		if _, err := readout.Simulate(t.Context(), w, 1, 1, nil); err == nil {
			t.Errorf("%+v is simulated", w)
		}
	}
	if _, err := readout.Simulate(t.Context(), readout.Promises()[0].World, 0, 1, nil); err == nil {
		t.Error("no runs are simulated")
	}
}
