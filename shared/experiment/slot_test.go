package experiment_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"warble/shared/experiment"
)

// A unit's slot must be the same in every version. The figures were computed with Python's hashlib.
func TestSlotsNeverChange(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		salt, unit string
		want       int
	}{
		{"", "", 3192},
		{"likes", "gophers", 9823},
		{"likes", "rustaceans", 1860},
		{"likes", "1", 5461},
		{"engagement", "gophers", 8368},
		{"likesg", "ophers", 4710}, // salt and unit are apart
		{"3f6c2b9d1e", "1234567890123456789", 616},
		{"Salz", "grüße", 9690},
		{"s", strings.Repeat("0123456789", 20), 6939}, // past the buffer, and past one block of the hash
	} {
		if got := experiment.Slot(v.salt, v.unit); got != v.want {
			t.Errorf("Slot(%q, %q) is %d, want %d", v.salt, v.unit, got, v.want)
		}
	}
	if got := experiment.LayerSlot("engagement", "gophers"); got != 9103 || got != experiment.Slot("layer/engagement", "gophers") {
		t.Errorf("LayerSlot is %d, want 9103", got)
	}
}

const many = 100_000 // synthetic units

// within checks that n of many units are a share of them, to three standard deviations.
func within(t *testing.T, what string, n int, share float64) {
	t.Helper()
	want, sigma := share*many, math.Sqrt(many*share*(1-share))
	if off := math.Abs(float64(n) - want); off > 3*sigma {
		t.Errorf("%s: %d of %d units, want %.0f; %.1f sigma off", what, n, many, want, off/sigma)
	}
}

// TestSlotsSpreadEvenly checks that each tenth of the slots has a tenth of the units, and so do the slots with each last digit.
func TestSlotsSpreadEvenly(t *testing.T) {
	t.Parallel()
	var tenths, digits [10]int
	for i := range many {
		slot := experiment.Slot("salt", fmt.Sprint(i))
		if slot < 0 || slot >= experiment.Slots {
			t.Fatalf("slot %d", slot)
		}
		tenths[slot/1000]++
		digits[slot%10]++
	}
	for i := range 10 {
		within(t, fmt.Sprint("tenth ", i), tenths[i], .1)
		within(t, fmt.Sprint("digit ", i), digits[i], .1)
	}
}

func TestSlotDoesNotAllocate(t *testing.T) { //nolint:paralleltest // it counts what all allocate
	salt, unit := strings.Repeat("s", 63), strings.Repeat("u", 64)
	if n := testing.AllocsPerRun(100, func() { experiment.Slot(salt, unit) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}
