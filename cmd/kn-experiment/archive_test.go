package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warble/shared/experiment"
	"warble/shared/readout"
)

func TestNoRowsAreDeletedIfTheExportFails(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	a.database = "postgres://nobody@127.0.0.1:1/none?connect_timeout=1"
	a.keep(concluded())
	if _, stderr, code := a.run(t, "archive", "likes"); code != failed || !strings.Contains(stderr, "no rows were deleted: ") {
		t.Errorf("exit code %d, says %q", code, stderr)
	}
	if writes := a.writes(""); len(writes) > 0 {
		t.Errorf("wrote %q", writes)
	}
}

// The rows may be deleted already, and an incomplete export must not replace a complete one.
func TestNothingIsExportedAfterAnEarlierArchive(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	a.database = "postgres://nobody@127.0.0.1:1/none?connect_timeout=1"
	e := concluded()
	e.Spec.Archive, e.Generation = true, 2
	a.keep(e)
	to := filepath.Join(t.TempDir(), "likes.json")
	_, stderr, code := a.run(t, "archive", "likes", "--to", to)
	if code != 0 || !strings.Contains(stderr, "nothing is exported") {
		t.Errorf("exit code %d, says %q", code, stderr)
	}
	if _, err := os.Stat(to); err == nil {
		t.Errorf("%s exists", to)
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	e := concluded()
	e.Status.Assign.Salt = "salt"
	r := readout.Report{Experiment: "likes", Salt: "salt", Phase: experiment.Concluded}
	to := filepath.Join(t.TempDir(), "likes.json")
	var out bytes.Buffer
	if err := export(&out, e, r, to); err != nil || out.Len() > 0 {
		t.Fatal(err, out.String())
	}
	text, err := os.ReadFile(to)
	if err != nil || !strings.Contains(string(text), `"salt": "salt"`) {
		t.Errorf("%v: %s", err, text)
	}
	var failure *exitError
	if err := export(&out, e, r, to); !errors.As(err, &failure) || failure.code != refused || !strings.Contains(err.Error(), "expected a new file") {
		t.Errorf("a file that exists: %v", err)
	}
	if err := export(&out, e, r, ""); err != nil || out.String() != string(text) {
		t.Errorf("%v: %s", err, &out)
	}
	r.Salt = "other"
	if err := export(&out, e, r, ""); !errors.Is(err, errOtherDatabase) {
		t.Errorf("another experiment of that name: %v", err)
	}
}
