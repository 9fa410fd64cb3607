package experiment_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"warble/shared/experiment"
)

// roundTrip reads what a file has, writes it, and reads that again.
func roundTrip[T comparable](t *testing.T, text string, want T, written string) {
	t.Helper()
	var got, again T
	if err := json.Unmarshal([]byte(`"`+text+`"`), &got); err != nil || got != want {
		t.Errorf("%s: %v, want %v; %v", text, got, want, err)
	}
	out, err := json.Marshal(want)
	if err != nil || string(out) != `"`+written+`"` || fmt.Sprint(want) != written {
		t.Errorf("%s is written %s, want %s; %v", text, out, written, err)
	}
	if err := json.Unmarshal(out, &again); err != nil || again != want {
		t.Errorf("%s is read as %v, want %v; %v", out, again, want, err)
	}
}

func TestQuantitiesCanBeWrittenAndReadBack(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"250ms": 250 * time.Millisecond, "0s": 0, "10s": 10 * time.Second, "2m": 2 * time.Minute, "1h": time.Hour, "1h30m": 90 * time.Minute,
		"1h0m10s": time.Hour + 10*time.Second, "10m10s": 610 * time.Second, "1d": 24 * time.Hour, "7d": 7 * 24 * time.Hour, "36h": 36 * time.Hour, "1.5s": 1500 * time.Millisecond,
	} {
		roundTrip(t, text, experiment.Duration(want), text)
	}
	roundTrip(t, "24h", experiment.Duration(24*time.Hour), "1d")
	roundTrip(t, "90m", experiment.Duration(90*time.Minute), "1h30m")
	for text, want := range map[string]float64{"5%": .05, "0.5%": .005, "100%": 1, "-2.5%": -.025, "0%": 0, "33.3%": .333} {
		roundTrip(t, text, experiment.Percent(want), text)
	}
	for text, want := range map[string]float64{"0.5pp": .005, "1pp": .01, "0.1pp": .001, "7pp": .07, "0.00001pp": 1e-7} {
		roundTrip(t, text, experiment.Points(want), text)
	}
}

func TestATextThatIsNoQuantityIsAnError(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`5`, `"5"`, `""`, `"d"`, `"1.5d"`, `"99999d"`, `"5%"`, `"x"`, `null`, `{}`, `"7 d"`} {
		var d experiment.Duration
		refused(t, text, json.Unmarshal([]byte(text), &d), "a duration such as 250ms, 24h or 7d")
	}
	for _, text := range []string{`5`, `"5"`, `"%"`, `"5pp"`, `"NaN%"`, `"Inf%"`, `"1e999%"`, `"1e1%"`, `"0x1p1%"`, `null`, `"5 %"`} {
		p := experiment.Percent(math.Pi)
		refused(t, text, json.Unmarshal([]byte(text), &p), "a percentage such as 5%")
		if p != math.Pi {
			t.Errorf("%s changed the value to %v", text, p)
		}
	}
	for _, text := range []string{`0.5`, `"0.5"`, `"0.5%"`, `"pp"`, `"-infpp"`} {
		var p experiment.Points
		refused(t, text, json.Unmarshal([]byte(text), &p), "percentage points such as 0.5pp")
	}
}

func refused(t *testing.T, text string, err error, expected string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "expected "+expected) {
		t.Errorf("%s: %v, want %q", text, err, expected)
	}
}
