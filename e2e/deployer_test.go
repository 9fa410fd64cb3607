//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/manifest"
)

// deployer deploys a copy of the manifests, like make deploy.
type deployer struct {
	t                    *testing.T
	folder, tool, config string // config is ko's
}

func newDeployer(t *testing.T) *deployer {
	t.Helper()
	if os.Getenv("KO_DOCKER_REPO") == "" {
		t.Fatal("it needs a registry: expected KO_DOCKER_REPO, as e2e/cluster/env.sh sets it")
	}
	d := &deployer{t: t, folder: filepath.Join(t.TempDir(), "knative"), tool: filepath.Join(t.TempDir(), "deploy"), config: "ko.yaml"}
	if err := os.CopyFS(d.folder, os.DirFS("../knative")); err != nil {
		t.Fatal(err)
	}
	for _, limit := range limits { // the edge keeps the limits that the tests have set
		d.set("edge", limit, generousLimit)
	}
	if _, err := execute(t.Context(), "", "go", "build", "-o", d.tool, "./cmd/deploy"); err != nil {
		t.Fatal(err)
	}
	return d
}

// rebuild makes the next deployment build different images of some functions, with a build tag that no file uses. The tag is
// stored in the binary, and no other package is compiled.
func (d *deployer) rebuild(functions ...string) {
	d.t.Helper()
	text, err := os.ReadFile("../ko.yaml")
	if err != nil {
		d.t.Fatal(err)
	}
	for i, name := range functions {
		if i == 0 {
			text = append(text, "builds:\n"...)
		}
		text = fmt.Appendf(text, "  - {main: ./functions/%s, flags: [-buildvcs=false, -tags=rebuilt]}\n", name)
	}
	d.config = filepath.Join(d.t.TempDir(), "ko.yaml")
	if err := os.WriteFile(d.config, text, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// set gives a function one more setting.
func (d *deployer) set(function, name, value string) {
	d.t.Helper()
	file := filepath.Join(d.folder, "500-"+function+".yaml")
	text, err := os.ReadFile(file)
	if err == nil {
		text, err = manifest.SetEnv(text, name, value)
	}
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// deploy runs make deploy with settings in its environment.
func (d *deployer) deploy(settings ...string) (said string, err error) {
	d.t.Helper()
	return d.verb(settings)
}

// verb runs deploy with arguments.
func (d *deployer) verb(settings []string, args ...string) (said string, err error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.tool, append([]string{"-manifests", d.folder}, args...)...)
	cmd.Dir = ".."
	// ko finds binaries that it has linked before in this cache.
	cmd.Env = append(append(os.Environ(), "KO_CONFIG_PATH="+d.config, "KOCACHE="+filepath.Join(filepath.Dir(d.tool), "ko")), settings...)
	began := time.Now()
	text, err := cmd.CombinedOutput()
	d.t.Logf("deploy %s: %s", strings.Join(append(settings, args...), " "), time.Since(began).Round(100*time.Millisecond))
	return string(text), err
}

// refused checks that a deployment is refused with a reason.
func (d *deployer) refused(why string) {
	d.t.Helper()
	if said, err := d.deploy(); err == nil || !strings.Contains(said, why) {
		d.t.Errorf("a deployment: %v; want a refusal with %q:\n%s", err, why, said)
	}
}

// A deployment during an experiment changes only what the untouched get. A rebase makes both arms from it. After a promotion, a
// deployment that would remove the treatment is refused. No request fails meanwhile.
func TestLongDeploymentsAroundAnExperiment(t *testing.T) {
	cluster(t)
	d := newDeployer(t)
	e := newExperiment(t, func(*experiment.Spec) {})
	id, l := e.startUnderLoad()

	before := map[experiment.Arm]map[string]string{experiment.Control: e.images(experiment.Control), experiment.Treatment: e.images(experiment.Treatment)}
	d.rebuild(experimented...)
	if said, err := d.deploy(); err != nil || !strings.Contains(said, "kn experiment rebase "+e.name) {
		t.Fatalf("%v\n%s", err, said)
	}
	if diff := cmp.Diff(before[experiment.Control], e.images(experiment.Control)); diff != "" {
		t.Errorf("a deployment has changed an arm: %s", diff)
	}
	e.mustKn("rebase", e.name)
	control, treatment := e.images(experiment.Control), e.images(experiment.Treatment)
	for _, name := range experimented {
		if control[name] != treatment[name] || control[name] == before[experiment.Control][name] || treatment[name] == before[experiment.Treatment][name] {
			t.Errorf("%s: the arms are of %s and %s, and were of %s", name, control[name], treatment[name], before[experiment.Control][name])
		}
	}
	if _, said := e.kn("report", e.name, "-o", "json"); !strings.Contains(said, "both arms were made again") {
		t.Error("its report does not show the rebase")
	}

	e.mustKn("promote", e.name, "--anyway", "--timeout=15m")
	d.refused(`FEATURES is "", but the experiment ` + e.name + ` was promoted: expected "likes"`)
	e.mustKn("promote", e.name, "--write="+d.folder)
	if said, err := d.deploy(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	t.Logf("%d requests meanwhile, none failed", l.stop())
	e.checkPromoted(id)
}

// images returns the images of an arm, by Service.
func (e *experimentRun) images(arm experiment.Arm) map[string]string {
	e.t.Helper()
	images := make(map[string]string)
	for name, revision := range e.revisions(arm) {
		images[name] = run(e.t, "get", "revision", revision, "--output=jsonpath={.spec.containers[0].image}")
	}
	return images
}
