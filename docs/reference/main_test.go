package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPagesAreAsGenerated(t *testing.T) {
	t.Parallel()
	const root = "../.."
	pages, err := write(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range pages {
		written, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(written)); diff != "" {
			t.Errorf("%s is stale: run make generate (- generated, + written)\n%s", name, diff)
		}
	}
}
