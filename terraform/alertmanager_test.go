//go:build infra

package terraform_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"
)

// allReceivers sets each receiver of alerts, in as many ways as there are.
var allReceivers = []string{
	`{page = "pagerduty", ticket = "slack", heartbeat = "webhook"}`,
	`{page = "webhook", ticket = "teams", heartbeat = "slack"}`,
	`{page = "teams", ticket = "pagerduty", heartbeat = "pagerduty"}`,
	`{page = "slack", ticket = "webhook", heartbeat = "teams"}`,
}

// alertmanager computes Alertmanager's configurations from settings of the variable alerts, each into a file of its own. Terraform computes
// them. They do not depend on anything that is in Azure or in the cluster.
func alertmanager(t *testing.T, alerts ...string) (files []string) {
	t.Helper()
	folder := prepared(t, "04-observability")
	for i, setting := range alerts {
		value := console(t, folder, "local.alertmanager", "-var=state_account=warblestate", "-var=alerts="+setting)
		file := filepath.Join(folder, fmt.Sprint("alertmanager-", i, ".yaml"))
		if err := os.WriteFile(file, value, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// console returns the value of an expression in a stack, as JSON. Nothing is planned, so what only a plan knows has no value.
func console(t *testing.T, folder, expression string, args ...string) []byte {
	t.Helper()
	p, err := program()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), p, append([]string{"-chdir=" + folder, "console"}, args...)...)
	command.Env = environment(t)
	command.Stdin = strings.NewReader("base64encode(jsonencode(" + expression + "))\n") // because console prints strings in a form of its own
	var said bytes.Buffer
	command.Stderr = &said
	text, err := command.Output()
	if err != nil {
		t.Fatalf("terraform console: %v\n%s%s", err, text, said.String())
	}
	value, err := base64.StdEncoding.DecodeString(strings.Trim(strings.TrimSpace(string(text)), `"`))
	if err != nil {
		t.Fatalf("%s is %s: %v", expression, text, err)
	}
	return value
}

// builtAmtool is Alertmanager's own tool, built from its module.
var builtAmtool = sync.OnceValues(func() (string, error) { return built("prometheus", "tool", "-n", "amtool") })

func amtool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program, err := builtAmtool()
	if err != nil {
		t.Fatal(err)
	}
	text, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	return string(text), err
}

// ourAlerts returns the severity of each alert in the stack's rules.
func ourAlerts(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("04-observability/rules/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files of rules, %v", len(files), err)
	}
	severities := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		var content struct {
			Groups []struct {
				Rules []struct {
					Alert  string
					Labels map[string]string
				}
			}
		}
		if err == nil {
			err = yaml.Unmarshal(text, &content)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, group := range content.Groups {
			for _, rule := range group.Rules {
				if rule.Alert != "" {
					severities[rule.Alert] = rule.Labels["severity"]
				}
			}
		}
	}
	return severities
}

// TestAlertmanagerTakesItsConfiguration, for each kind of receiver.
func TestAlertmanagerTakesItsConfiguration(t *testing.T) {
	t.Parallel()
	files := alertmanager(t, append(allReceivers, "null", `{page = "pagerduty"}`)...)
	if said, err := amtool(t, append([]string{"check-config"}, files...)...); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	// A check that accepts everything would find nothing.
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for old, altered := range map[string]string{
		`"receiver":"page"`:    `"receiver":"pager"`,
		`routing_key_file`:     `routing_key_fiel`,
		`"group_wait":"30s"`:   `"group_wait":"30"`,
		`severity = critical"`: `severity critical"`,
	} {
		broken := strings.Replace(string(text), old, altered, 1)
		if broken == string(text) {
			t.Errorf("the configuration has no %s: %s", old, text)
		}
		file := filepath.Join(t.TempDir(), "alertmanager.yaml")
		if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if said, err := amtool(t, "check-config", file); err == nil {
			t.Errorf("amtool accepts %s: %s", altered, said)
		}
	}
}

// TestEachAlertReachesItsReceiver: the chart's alerts have other severities than ours.
func TestEachAlertReachesItsReceiver(t *testing.T) {
	t.Parallel()
	type labelled struct{ labels, receiver string }
	few := []labelled{
		{"alertname=Watchdog severity=none", "heartbeat"},
		{"alertname=InfoInhibitor severity=none namespace=warble", "nobody"},
		{"alertname=KubeAPIDown severity=critical", "page"},
		{"alertname=KubePodCrashLooping severity=warning namespace=warble", "ticket"},
		{"alertname=CPUThrottlingHigh severity=info namespace=monitoring", "ticket"},
		{"alertname=IngressDown severity=page", "page"},
		{"alertname=CertificateExpires severity=ticket", "ticket"},
	}
	all := slices.Clone(few)
	severities := ourAlerts(t)
	for _, name := range slices.Sorted(maps.Keys(severities)) {
		receiver := map[string]string{"page": "page", "ticket": "ticket"}[severities[name]]
		all = append(all, labelled{"alertname=" + name + " severity=" + severities[name] + " namespace=warble function=edge", receiver})
	}
	files := alertmanager(t, allReceivers[0], `{page = "pagerduty"}`, "null")
	// Without a receiver of its own, an alert is sent to nobody, and not to somebody else.
	for i, some := range [][]labelled{all, few, few} {
		for _, alert := range some {
			want := alert.receiver
			if i == 1 && want != "page" || i == 2 {
				want = "nobody"
			}
			args := append([]string{"config", "routes", "test", "--config.file=" + files[i], "--verify.receivers=" + want}, strings.Fields(alert.labels)...)
			if said, err := amtool(t, args...); err != nil {
				t.Errorf("%s, with configuration %d: %v, expected %s\n%s", alert.labels, i, err, want, said)
			}
		}
	}
}

// TestAnAlertIsMutedByItsCause, and by nothing else.
func TestAnAlertIsMutedByItsCause(t *testing.T) {
	t.Parallel()
	folder, err := mirror() // which is removed at the end
	if err != nil {
		t.Fatal(err)
	}
	mutes := filepath.Join(folder, "mutes")
	if _, err := built("prometheus", "build", "-o", mutes, "./mutes"); err != nil {
		t.Fatal(err)
	}
	file, severities := alertmanager(t, allReceivers[0])[0], ourAlerts(t)
	// ours returns the labels of one of our alerts. More labels are names and values in turn.
	ours := func(name string, more ...string) map[string]string {
		if severities[name] == "" {
			t.Fatalf("there is no alert %s", name)
		}
		labels := map[string]string{"alertname": name, "severity": severities[name]}
		for i := 0; i < len(more); i += 2 {
			labels[more[i]] = more[i+1]
		}
		return labels
	}
	charts := func(name, severity, namespace string) map[string]string {
		return map[string]string{"alertname": name, "severity": severity, "namespace": namespace}
	}
	var budgets, others []map[string]string
	for _, name := range slices.Sorted(maps.Keys(severities)) {
		if strings.Contains(name, "BudgetBurns") {
			budgets = append(budgets, ours(name, "function", name)) // in a function of its own, so that they do not mute each other
		} else {
			others = append(others, ours(name))
		}
	}
	if len(budgets) != 4 {
		t.Fatalf("%d alerts about budgets, expected 4", len(budgets))
	}
	watchdog := charts("Watchdog", "none", "monitoring")
	for what, one := range map[string]struct{ causes, muted, heard []map[string]string }{
		"the public URL is down": {
			causes: []map[string]string{ours("IngressDown")},
			muted:  budgets, heard: []map[string]string{ours("EventsDelayed"), ours("MailFails"), ours("CertificateExpires"), watchdog},
		},
		"Knative is down": {
			causes: []map[string]string{ours("KnativeDown", "namespace", "knative-serving", "deployment", "activator")},
			muted:  budgets, heard: []map[string]string{ours("IngressDown"), ours("RelayMissing"), ours("SteerMissing"), watchdog},
		},
		"no edge runs": {
			causes: []map[string]string{ours("EdgeMissing", "namespace", "warble", "function", "edge")},
			muted:  budgets, heard: []map[string]string{ours("IngressDown"), ours("DatabasePoolSaturated", "function", "tweet"), watchdog},
		},
		// Everything continues to run, so other alerts have other causes.
		"a part that no request needs is down": {
			causes: []map[string]string{ours("PlatformDown", "namespace", "cert-manager", "deployment", "cert-manager")},
			heard:  budgets,
		},
		"all alerts but those about budgets": {heard: others},
		"errors of one function burn fast": {
			causes: []map[string]string{ours("ErrorBudgetBurnsFast", "function", "tweet")},
			muted:  []map[string]string{ours("ErrorBudgetBurnsSlowly", "function", "tweet")},
			heard:  []map[string]string{ours("ErrorBudgetBurnsSlowly", "function", "like"), ours("LatencyBudgetBurnsSlowly", "function", "tweet")},
		},
		"one function is slow": {
			causes: []map[string]string{ours("LatencyBudgetBurnsFast", "function", "tweet")},
			muted:  []map[string]string{ours("LatencyBudgetBurnsSlowly", "function", "tweet")},
			heard:  []map[string]string{ours("LatencyBudgetBurnsSlowly", "function", "like"), ours("ErrorBudgetBurnsSlowly", "function", "tweet")},
		},
		"an alert of the chart at two severities": {
			causes: []map[string]string{charts("KubePersistentVolumeFillingUp", "critical", "monitoring")},
			muted:  []map[string]string{charts("KubePersistentVolumeFillingUp", "warning", "monitoring")},
			heard:  []map[string]string{charts("KubePersistentVolumeFillingUp", "warning", "warble"), charts("KubePodCrashLooping", "warning", "monitoring"), watchdog},
		},
		"notes about a namespace without trouble": {
			causes: []map[string]string{charts("InfoInhibitor", "none", "monitoring")},
			muted:  []map[string]string{charts("CPUThrottlingHigh", "info", "monitoring")},
			heard:  []map[string]string{charts("CPUThrottlingHigh", "info", "warble"), watchdog},
		},
	} {
		firing := slices.Concat(one.causes, one.muted, one.heard)
		given, err := json.Marshal(firing)
		if err != nil {
			t.Fatal(err)
		}
		command := exec.CommandContext(t.Context(), mutes, file)
		var said bytes.Buffer
		command.Stdin, command.Stderr = bytes.NewReader(given), &said
		text, err := command.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", what, err, said.String())
		}
		var muted []bool
		if err := json.Unmarshal(text, &muted); err != nil || len(muted) != len(firing) {
			t.Fatalf("%s: %s: %v", what, text, err)
		}
		for i, labels := range firing {
			if want := i >= len(one.causes) && i < len(one.causes)+len(one.muted); muted[i] != want {
				t.Errorf("%s: %v is muted: %t, expected %t", what, labels, muted[i], want)
			}
		}
	}
}
