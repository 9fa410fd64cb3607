package function

import (
	"io"
	"strings"
	"testing"
)

func TestTheVariablesOfAnArmAreChecked(t *testing.T) {
	t.Parallel()
	const faultsExpected = "expected error=5%,slow=300ms@10%, with shares up to 100% and a delay up to 30s"
	for settings, want := range map[string]string{
		"":                                 "",
		"FAULTS=error=0.5%":                "",
		"FAULTS=slow=30s@100%, error=100%": "",
		"FAULTS=crash=5%":                  `FAULTS is "crash=5%": ` + faultsExpected,
		"FAULTS=error=5":                   `FAULTS is "error=5": ` + faultsExpected,
		"FAULTS=error=101%":                `FAULTS is "error=101%": ` + faultsExpected,
		"FAULTS=error=NaN%":                `FAULTS is "error=NaN%": ` + faultsExpected,
		"FAULTS=error":                     `FAULTS is "error": ` + faultsExpected,
		"FAULTS=slow=300ms":                `FAULTS is "slow=300ms": ` + faultsExpected,
		"FAULTS=slow=31s@1%":               `FAULTS is "slow=31s@1%": ` + faultsExpected,
		"FAULTS=slow=-1s@1%":               `FAULTS is "slow=-1s@1%": ` + faultsExpected,
		"WARBLE_ARM=control":               "WARBLE_EXPERIMENT is not set: expected the name of the experiment, because WARBLE_ARM is set",
		"WARBLE_EXPERIMENT=likes WARBLE_ARM=both": `WARBLE_ARM is "both": expected control or treatment, because WARBLE_EXPERIMENT is set`,
		"WARBLE_EXPERIMENT=likes":                 `WARBLE_ARM is "": expected control or treatment, because WARBLE_EXPERIMENT is set`,
	} {
		f := NewTest(io.Discard, strings.Split(strings.ReplaceAll(settings, ", ", ","), " ")...)
		f.RecordLatencies(nil)
		got := ""
		if err := f.mistakes(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", settings, got, want)
		}
	}
	f := NewTest(io.Discard, "WARBLE_EXPERIMENT=likes", "WARBLE_ARM=control")
	const want = `WARBLE_EXPERIMENT is "likes": expected nothing, because this function keeps no record of an experiment`
	if err := f.mistakes(); err == nil || err.Error() != want {
		t.Errorf("without RecordLatencies: %v", err)
	}
}
