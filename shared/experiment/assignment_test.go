package experiment_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
)

func TestAnAssignmentCanBeWrittenAndReadBack(t *testing.T) {
	t.Parallel()
	for text, a := range map[string]experiment.Assignment{
		"likes=treatment;community=gophers;generation=3;exposes": {"likes", experiment.Treatment, experiment.Community, "gophers", 3, true},
		"a.b-c=control;user=1234567890123456789;generation=0":    {"a.b-c", experiment.Control, experiment.User, "1234567890123456789", 0, false},
	} {
		if got := a.String(); got != text {
			t.Errorf("%+v is written %q, want %q", a, got, text)
		}
		if got, err := experiment.ParseAssignment(text); err != nil || got != a {
			t.Errorf("%s: %v %s", text, err, cmp.Diff(a, got))
		}
	}
}

var notAssignments = []string{
	"", "likes", "likes=treatment", "likes=treatment;community=gophers", "likes=treatment;community=gophers;generation=",
	"=treatment;community=gophers;generation=3", "likes=;community=gophers;generation=3", "likes=both;community=gophers;generation=3",
	"likes=treatment;request=1;generation=3", "likes=treatment;community=;generation=3", "likes=treatment;community=gophers;generation=+3",
	"likes=treatment;community=gophers;3", "likes=treatment;community=gophers;generation=3;exposes;exposes", "likes=treatment;community=gophers;generation=3;",
	"likes=treatment;community=gophers;generation=03", "likes=treatment;community=gophers;generation=99999999999999999999",
	"likes=treatment;community=gophers;generation=3 ", "likes=treatment;community=gophers;generation=3, x=control;user=1;generation=1",
}

func TestATextThatIsNoAssignmentIsAnError(t *testing.T) {
	t.Parallel()
	for _, text := range notAssignments {
		a, err := experiment.ParseAssignment(text)
		if err == nil || a != (experiment.Assignment{}) || !strings.Contains(err.Error(), "Warble-Assignment") || !strings.Contains(err.Error(), "expected experiment=") {
			t.Errorf("%q: %+v, %v", text, a, err)
		}
	}
}

// FuzzParseAssignment checks that a text that can be read is written again byte for byte, and completely.
func FuzzParseAssignment(f *testing.F) {
	f.Add("likes=treatment;community=gophers;generation=3;exposes")
	f.Add("likes=control;user=7;generation=-1")
	for _, text := range notAssignments {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := experiment.ParseAssignment(text)
		if err != nil {
			return
		}
		if a.String() != text || a.Experiment == "" || a.Unit == "" || a.Arm != experiment.Control && a.Arm != experiment.Treatment {
			t.Errorf("%q is read as %+v, which is written %q", text, a, a.String())
		}
	})
}
