//go:build infra

// Package observability_test checks the rules and dashboards against the metrics that the functions really have.
package observability_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const (
	root  = "../.."
	pages = "docs/runbooks" // of root
)

// rule is a recording rule or an alert.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	for _, file := range glob(t, "rules/*.yaml") {
		var content struct {
			Groups []struct{ Rules []rule }
		}
		read(t, file, &content)
		for _, group := range content.Groups {
			all = append(all, group.Rules...)
		}
	}
	return all
}

// TestRules checks the rules and runs their tests with promtool.
func TestRules(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		append([]string{"check", "rules", "--lint=all", "--lint-fatal"}, glob(t, "rules/*.yaml")...),
		append([]string{"test", "rules"}, glob(t, "rules/tests/*.yaml")...),
	} {
		if text, err := exec.CommandContext(t.Context(), tool(t, "promtool"), args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args[:2], " "), err, text)
		}
	}
}

// TestPromtoolRefuses finds a check that would accept everything.
func TestPromtoolRefuses(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("rules/parts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for what, altered := range map[string]string{
		"an expression that is none": strings.Replace(string(text), "> 300", "> > 300", 1),
		"the same rule twice":        string(text) + strings.Replace(string(text[strings.Index(string(text), "  - name: warble-edge"):]), "warble-edge", "again", 1),
	} {
		file := filepath.Join(t.TempDir(), "rules.yaml")
		if err := os.WriteFile(file, []byte(altered), 0o600); err != nil {
			t.Fatal(err)
		}
		if said, err := exec.CommandContext(t.Context(), tool(t, "promtool"), "check", "rules", "--lint=all", "--lint-fatal", file).CombinedOutput(); err == nil {
			t.Errorf("%s is accepted: %s", what, said)
		}
	}
}

// TestAlertsAreTested: each alert fires in one of promtool's tests, and does not fire in another.
func TestAlertsAreTested(t *testing.T) {
	t.Parallel()
	fires, silent := make(map[string]bool), make(map[string]bool)
	for _, file := range glob(t, "rules/tests/*.yaml") {
		var content struct {
			Tests []struct {
				Alerts []struct {
					Name     string `json:"alertname"`
					Expected []any  `json:"exp_alerts"`
				} `json:"alert_rule_test"`
			}
		}
		read(t, file, &content)
		for _, test := range content.Tests {
			for _, alert := range test.Alerts {
				if len(alert.Expected) > 0 {
					fires[alert.Name] = true
				} else {
					silent[alert.Name] = true
				}
			}
		}
	}
	for _, r := range rules(t) {
		if r.Alert != "" && (!fires[r.Alert] || !silent[r.Alert]) {
			t.Errorf("%s: fires in a test: %t, is silent in one: %t", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
}

// TestEveryAlertHasItsRunbook, and every runbook has its alert, and every section that somebody on call needs.
func TestEveryAlertHasItsRunbook(t *testing.T) {
	t.Parallel()
	var alerts, runbooks []string
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		alerts = append(alerts, r.Alert)
		if want := pages + "/" + r.Alert + ".md"; r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
		if severity := r.Labels["severity"]; severity != "page" && severity != "ticket" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: expected a severity of page or ticket, a summary and a description", r.Alert)
		}
	}
	for _, file := range glob(t, filepath.Join(root, pages, "*.md")) {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		if name == "README" {
			continue
		}
		runbooks = append(runbooks, name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"# " + name + "\n", "**Means**", "**Impact**", "**Look**", "```sh\n", "**Do**"} {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s has no %q", file, part)
			}
		}
	}
	slices.Sort(alerts)
	if diff := cmp.Diff(slices.Compact(alerts), runbooks); diff != "" {
		t.Errorf("alerts and runbooks: %s", diff)
	}
}

// TestLinksOfThePagesLead to existing pages, and the metrics of their queries exist (see TestPanels).
func TestLinksOfThePagesLead(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]*)(#[a-z0-9-]+)?\)`)
	files := append(glob(t, filepath.Join(root, "docs/*.md")), glob(t, filepath.Join(root, pages, "*.md"))...)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			to := file
			if found[1] != "" {
				to = filepath.Join(filepath.Dir(file), found[1])
			}
			target, err := os.ReadFile(to)
			if info, statErr := os.Stat(to); statErr == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if found[2] != "" && !strings.Contains(anchors(string(target)), "\n"+found[2]+"\n") {
				t.Errorf("%s: %s has no heading %s", file, to, found[2])
			}
		}
	}
}

// anchors returns the headings of a page in the form of links, one on each line.
func anchors(page string) string {
	names := "\n"
	for line := range strings.Lines(page) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			name := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			names += "#" + strings.ReplaceAll(name, " ", "-") + "\n"
		}
	}
	return names
}

// tool builds one of Prometheus's programs, unless it is built already, and returns its path.
func tool(t testing.TB, name string) string {
	t.Helper()
	program, err := prometheusTool(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func prometheusTool(ctx context.Context, name string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "-n", name)
	cmd.Dir = filepath.Join(root, "tools/prometheus")
	cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -tags=remove_all_sd", "GOWORK=off") // without service discovery for clouds, which is nine tenths of the code
	text, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go tool %s: %w\n%s", name, err, text)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1], nil // the lines before are about downloads
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	return files
}

func read(t testing.TB, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
