package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"warble/shared/experiment"
	"warble/shared/manifest"
	"warble/shared/rollout"
)

// The variables are written into a copy of the real manifests. An image cannot be written, so its line is printed.
func TestAPromotionIsWrittenIntoTheManifests(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS("../../knative")); err != nil {
		t.Fatal(err)
	}
	var e rollout.Experiment
	e.Spec.Services = []string{"like", "tweet"}
	e.Spec.Treatment = experiment.Treated{
		Env:   map[string]experiment.Value{"FEATURES": "likes", "FAULTS": "slow=1ms@1%"},
		Image: map[string]experiment.Image{"like": "registry.test/like@sha256:2"},
	}
	var said bytes.Buffer
	c := &cobra.Command{}
	c.SetErr(&said)
	c.SetOut(&said)
	if err := writeManifests(c, folder, &e); err != nil {
		t.Fatal(err)
	}
	like, tweet := filepath.Join(folder, "500-like.yaml"), filepath.Join(folder, "500-tweet.yaml")
	text, err := os.ReadFile(like)
	if err != nil {
		t.Fatal(err)
	}
	above, _, _ := strings.Cut(string(text), "image: ko://warble/functions/like\n")
	want := fmt.Sprintf("%s:%d: image: ko://warble/functions/like: registry.test/like@sha256:2 was promoted: before the next deployment, check out the code that it was built from; otherwise the deployment removes it for everyone\n"+
		"wrote %[1]s: commit it\nwrote %[3]s: commit it\n", like, 1+strings.Count(above, "\n"), tweet)
	if diff := cmp.Diff(want, said.String()); diff != "" {
		t.Error(diff)
	}
	for _, file := range []string{like, tweet} {
		m, err := manifest.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		has := make(map[string]string)
		for _, v := range m.Container().Env {
			has[v.Name] = v.Value
		}
		if has["FEATURES"] != "likes" || has["FAULTS"] != "slow=1ms@1%" {
			t.Errorf("%s has %v", file, has)
		}
	}
	said.Reset()
	if err := writeManifests(c, folder, &e); err != nil || strings.Contains(said.String(), "wrote") {
		t.Errorf("the second time: %v %s", err, &said)
	}
}

// TestAPromotionOfAServiceFromElsewhereIsPrinted, without a file that does not exist: most guests have their manifests in another folder.
func TestAPromotionOfAServiceFromElsewhereIsPrinted(t *testing.T) {
	t.Parallel()
	var e rollout.Experiment
	e.Spec.Services = []string{"shop"}
	e.Spec.Treatment = experiment.Treated{
		Env:   map[string]experiment.Value{"BANNER": "Free delivery today"},
		Image: map[string]experiment.Image{"shop": "registry.test/shop@sha256:2"},
	}
	var said bytes.Buffer
	c := &cobra.Command{}
	c.SetErr(&said)
	c.SetOut(&said)
	if err := writeManifests(c, "", &e); err != nil {
		t.Fatal(err)
	}
	want := "shop: registry.test/shop@sha256:2 was promoted: before the next deployment, check out the code that it was built from; otherwise the deployment removes it for everyone\n" +
		"shop: has BANNER=Free delivery today now: add it to the manifest that you deploy; otherwise the next deployment removes it for everyone\n"
	if diff := cmp.Diff(want, said.String()); diff != "" {
		t.Error(diff)
	}
}
