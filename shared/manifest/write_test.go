package manifest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/manifest"
)

// SetEnv changes only the line of the variable, in each of the manifests.
func TestSetEnvChangesOneLine(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"like", "tweet", "timeline"} {
		text, err := os.ReadFile("../../knative/500-" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		got, err := manifest.SetEnv(text, "FEATURES", "likes")
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Replace(string(text), "- name: FEATURES\n              value: \"\"", "- name: FEATURES\n              value: \"likes\"", 1)
		if diff := cmp.Diff(want, string(got)); diff != "" || want == string(text) {
			t.Errorf("%s: %s", name, diff)
		}
		if again, err := manifest.SetEnv(got, "FEATURES", "likes"); err != nil || string(again) != string(got) {
			t.Errorf("%s: a second time %v", name, err)
		}
	}
}

func TestSetEnvAddsAMissingVariable(t *testing.T) {
	t.Parallel()
	const text = "spec:\n  template:\n    spec:\n      containers:\n        - image: x\n          env:\n            # the first\n            - name: A\n              value: 'it''s' # so\n"
	got, err := manifest.SetEnv([]byte(text), "B", "2")
	want := strings.Replace(text, "            - name: A", "            - name: B\n              value: \"2\"\n            - name: A", 1)
	if err != nil || string(got) != want {
		t.Errorf("%v %s", err, cmp.Diff(want, string(got)))
	}
	got, err = manifest.SetEnv([]byte(text), "A", "1")
	if want := strings.Replace(text, "'it''s'", `"1"`, 1); err != nil || string(got) != want {
		t.Errorf("%v %s", err, cmp.Diff(want, string(got)))
	}
	for _, wrong := range []string{"spec: {}\n", strings.Replace(text, "value: 'it''s' # so", "valueFrom: {}", 1), "a: [\n"} {
		if _, err := manifest.SetEnv([]byte(wrong), "A", "1"); err == nil {
			t.Errorf("%q: expected an error", wrong)
		}
	}
}
