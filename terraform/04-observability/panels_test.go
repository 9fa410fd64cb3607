//go:build infra

package observability_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// dataLimit is the longest time until a query has data. There is a scrape and an evaluation each second, on a busy machine.
const dataLimit = 2 * time.Minute

// dashboard is the part of Grafana's JSON that the tests read.
type dashboard struct {
	UID, Title, Description string
	Templating              struct {
		List []struct{ Name, Type, Definition string }
	}
	Annotations struct {
		List []struct {
			Name, Expr      string
			Enable          bool
			Step            string
			UseValueForTime bool
		}
	}
	Links  []link
	Panels []struct {
		ID          int
		Type, Title string
		GridPos     struct{ X, Y, W, H int }
		FieldConfig struct {
			Defaults struct {
				Unit       string
				Thresholds struct {
					Steps []struct {
						Color string
						Value *float64
					}
				}
				Custom struct{ ThresholdsStyle struct{ Mode string } }
			}
		}
		Targets []struct {
			Expr     string
			Exemplar bool
		}
		Links []link
	}
}

// link leads to a page of docs, by its path in the repository, or to traces. Terraform adds the URL of the site.
type link struct{ Type, Title, URL string }

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	all := make(map[string]dashboard)
	for _, file := range glob(t, "dashboards/*.json") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(file)] = d
	}
	return all
}

func TestDashboardsAreWhole(t *testing.T) {
	t.Parallel()
	uids := make(map[string]string)
	for file, d := range dashboards(t) {
		if other := uids[d.UID]; other != "" || d.UID != "warble-"+strings.TrimSuffix(file, ".json") || d.Title == "" || d.Description == "" {
			t.Errorf("%s: uid %q (also of %q), title %q, description %q", file, d.UID, other, d.Title, d.Description)
		}
		uids[d.UID] = file
		ids := make(map[int]bool)
		for i, p := range d.Panels {
			if ids[p.ID] || p.Title == "" || p.Type != "row" && (p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0) {
				t.Errorf("%s, panel %d %q: expected an id of its own, a title, a unit and a query", file, p.ID, p.Title)
			}
			ids[p.ID] = true
			a := p.GridPos
			for _, q := range d.Panels[:i] {
				b := q.GridPos
				if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H || a.X+a.W > 24 {
					t.Errorf("%s: %q lies on %q, or past the edge", file, p.Title, q.Title)
				}
			}
		}
	}
}

// TestLinksOfDashboardsLead to existing pages, and each alert on Warble's metrics has a panel with a link to its page.
func TestLinksOfDashboardsLead(t *testing.T) {
	t.Parallel()
	linked := make(map[string]bool)
	for file, d := range dashboards(t) {
		all := slices.Clone(d.Links)
		for _, p := range d.Panels {
			all = append(all, p.Links...)
		}
		for _, l := range all {
			if l.Type == "dashboards" || l.URL == "traces" {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, l.URL)); err != nil || l.Title == "" {
				t.Errorf("%s: link %q: %v", file, l.Title, err)
			}
			linked[l.URL] = true
		}
		if !slices.ContainsFunc(d.Links, func(l link) bool { return l.URL == "traces" }) || !slices.ContainsFunc(d.Links, func(l link) bool { return l.URL == pages+"/README.md" }) {
			t.Errorf("%s: expected links to the traces and the runbooks in %v", file, d.Links)
		}
	}
	for _, r := range rules(t) {
		if page := r.Annotations["runbook_url"]; r.Alert != "" && !linked[page] {
			t.Errorf("%s: no panel leads to %s", r.Alert, page)
		}
	}
}

// TestThresholdsAreThePromises: panels show the promised limits and the limits of alerts.
func TestThresholdsAreThePromises(t *testing.T) {
	t.Parallel()
	all := dashboards(t)
	for _, one := range []struct {
		file, panel string
		want        []float64
	}{
		{"overview.json", "Availability of the last 30 days", []float64{0.999}},
		{"overview.json", "Answered within 0.5 s, last 30 days", []float64{0.99}},
		{"overview.json", "Left of the month's failures", []float64{0, 0.25}},
		{"overview.json", "Left of the month's slow answers", []float64{0, 0.25}},
		{"overview.json", "Errors", []float64{0.001}},
		{"overview.json", "Duration, 99th percentile", []float64{0.5}},
		{"overview.json", "Burn of the availability budget, 1 h", []float64{3, 14.4}},
		{"overview.json", "Time since the edge last saw Knative", []float64{300}},
		{"database.json", "Wait for a connection, mean", []float64{0.1}},
		{"database.json", "Age of the oldest event", []float64{300}},
		{"experiment.json", "Errors", []float64{0.001}},
		{"experiment.json", "Duration, 99th percentile", []float64{0.5}},
	} {
		found := false
		for _, p := range all[one.file].Panels {
			if p.Title != one.panel {
				continue
			}
			found = true
			var got []float64
			for _, step := range p.FieldConfig.Defaults.Thresholds.Steps {
				if step.Value != nil {
					got = append(got, *step.Value)
				}
			}
			if diff := cmp.Diff(one.want, got); diff != "" {
				t.Errorf("%s, %s: thresholds %s", one.file, one.panel, diff)
			}
			if p.Type == "timeseries" && p.FieldConfig.Defaults.Custom.ThresholdsStyle.Mode == "" {
				t.Errorf("%s, %s: its thresholds are not drawn", one.file, one.panel)
			}
		}
		if !found {
			t.Errorf("%s has no panel %q", one.file, one.panel)
		}
	}
}

// TestAnnotations: each dashboard marks the time of each new revision, and of each change of an experiment's phase. Prometheus
// reports the start of this run's experiment as a change, and not the time after it.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	for file, d := range dashboards(t) {
		var names []string
		for _, a := range d.Annotations.List {
			names = append(names, a.Name)
			if !a.Enable {
				t.Errorf("%s: %s is off", file, a.Name)
			}
			if a.UseValueForTime {
				has(t, fmt.Sprintf("(%s) == %d000", substitute(t, a.Expr), deployedAt)) // in milliseconds
				continue
			}
			expr := substitute(t, a.Expr)
			has(t, fmt.Sprintf(`count_over_time((%s)[30m:1s]) and on (experiment) (warble_experiment_info{experiment="likes-demo"})`, expr))
			eventually(t, func() string {
				if again, problem := query(t, expr); len(again) > 0 || problem != "" {
					return fmt.Sprintf("%s goes on marking a change: %v %s", file, again, problem)
				}
				return ""
			})
		}
		slices.Sort(names)
		if diff := cmp.Diff([]string{"Deployments", "Experiments"}, names); diff != "" {
			t.Errorf("%s: annotations %s", file, diff)
		}
	}
}

// TestASlowBucketLeadsToATrace: Prometheus has the trace that the caller began as an exemplar of the function's duration.
func TestASlowBucketLeadsToATrace(t *testing.T) {
	t.Parallel()
	const trace = "5af7651916cd43dd8448eb211c80319d"
	dora, err := register("dora")
	if err != nil {
		t.Fatal(err)
	}
	var panels []string
	for _, p := range dashboards(t)["overview.json"].Panels {
		for _, target := range p.Targets {
			if target.Exemplar {
				panels = append(panels, substitute(t, target.Expr))
			}
		}
	}
	if len(panels) == 0 {
		t.Fatal("no panel of the overview shows exemplars")
	}
	for _, expr := range panels {
		eventually(t, func() string {
			// Each bucket keeps only the newest exemplar, and other requests replace it: repeat until a scrape comes in between.
			if _, err := dora.post("slow", "Traceparent", "00-"+trace+"-b7ad6b7169203331-01"); err != nil {
				return err.Error()
			}
			var found []struct {
				SeriesLabels map[string]string
				Exemplars    []struct{ Labels map[string]string }
			}
			now := time.Now()
			if problem := ask(t, "query_exemplars", expr, &found, "start", strconv.FormatInt(now.Add(-time.Hour).Unix(), 10), "end", strconv.FormatInt(now.Add(time.Minute).Unix(), 10)); problem != "" {
				return problem
			}
			by := make(map[string]bool)
			for _, series := range found {
				for _, e := range series.Exemplars {
					if e.Labels["trace_id"] == trace {
						by[series.SeriesLabels["function"]] = true
					}
				}
			}
			if !by["edge"] || !by["tweet"] {
				return fmt.Sprintf("%s: exemplars of the trace at %v, expected edge and tweet", expr, by)
			}
			return ""
		})
	}
}

// TestPanels: the query of every panel and variable, and every metric of a rule or a page, has data in a
// Prometheus that scraped a real run.
func TestPanels(t *testing.T) {
	t.Parallel()
	for file, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				t.Run(file+"/"+p.Title, func(t *testing.T) {
					t.Parallel()
					has(t, substitute(t, target.Expr))
				})
			}
		}
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			found := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(v.Definition)
			if found == nil {
				t.Errorf("%s: variable %s: %q, expected label_values(SELECTOR, LABEL)", file, v.Name, v.Definition)
				continue
			}
			t.Run(file+"/$"+v.Name, func(t *testing.T) {
				t.Parallel()
				has(t, fmt.Sprintf(`count by (%s) (%s) and on () count(%s{%s!=""})`, found[2], found[1], strings.SplitN(found[1], "{", 2)[0], found[2]))
			})
		}
	}
	for where, expr := range expressions(t) {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			for _, name := range selected(t, expr) {
				if others.MatchString(name) {
					continue
				}
				has(t, `count({__name__="`+name+`"})`)
			}
		})
	}
}

// others are metrics of other programs in a cluster. promtool's tests of the rules have them, and a local run does not.
var others = regexp.MustCompile(`^(kube_|probe_|externalsecret_)`)

// substitute replaces variables, like Grafana before a query.
func substitute(t *testing.T, expr string) string {
	t.Helper()
	expr = strings.NewReplacer("$__rate_interval", "30s", "$__range", "5m", "$function", ".+", "$experiment", "likes-demo").Replace(expr)
	if strings.Contains(expr, "$") {
		t.Fatalf("%s: a variable that nothing here stands for", expr)
	}
	return expr
}

// expressions returns the expressions of the rules, and the queries of the pages.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, r := range rules(t) {
		all["rule/"+r.Record+r.Alert] = r.Expr
	}
	asked := regexp.MustCompile(`(?m)\bask '([^']+)'`)
	for _, file := range slices.Concat(glob(t, filepath.Join(root, "docs/*.md")), glob(t, filepath.Join(root, pages, "*.md"))) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, found := range asked.FindAllStringSubmatch(string(text), -1) {
			all[fmt.Sprintf("page/%s/%d", filepath.Base(file), i)] = found[1]
		}
	}
	return all
}

// selected returns the names of the metrics that an expression reads, with Prometheus's own parser.
func selected(t *testing.T, expr string) (names []string) {
	t.Helper()
	var tree any
	if problem := ask(t, "parse_query", expr, &tree); problem != "" {
		t.Fatalf("%s: %s", expr, problem)
	}
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			if kind := node["type"]; kind == "vectorSelector" || kind == "matrixSelector" {
				names = append(names, node["name"].(string))
			}
			for _, below := range node {
				walk(below)
			}
		case []any:
			for _, below := range node {
				walk(below)
			}
		}
	}
	walk(tree)
	if len(names) == 0 {
		t.Fatalf("%s reads no metric", expr)
	}
	return names
}

// has waits until an expression has a sample with a number.
func has(t *testing.T, expr string) {
	t.Helper()
	eventually(t, func() string {
		samples, problem := query(t, expr)
		for _, s := range samples {
			if !math.IsNaN(s.value) {
				return ""
			}
		}
		return fmt.Sprintf("%s: %d samples that are no numbers; %s", expr, len(samples), problem)
	})
}

type sample struct {
	labels map[string]string
	value  float64
}

func query(t *testing.T, expr string) (samples []sample, problem string) {
	t.Helper()
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	problem = ask(t, "query", expr, &data)
	for _, r := range data.Result {
		value, err := strconv.ParseFloat(r.Value[1].(string), 64)
		if err != nil {
			t.Fatal(err)
		}
		samples = append(samples, sample{r.Metric, value})
	}
	return samples, problem
}

// ask sends a query to Prometheus's API. It returns the API's error, or an error if Prometheus does not answer yet. more are names and
// values of parameters in turn.
func ask(t *testing.T, endpoint, expr string, into any, more ...string) (problem string) {
	t.Helper()
	parameters := url.Values{"query": {expr}}
	for i := 0; i < len(more); i += 2 {
		parameters.Set(more[i], more[i+1])
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, warble.prometheus+"/api/v1/"+endpoint+"?"+parameters.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close() //nolint:errcheck // it was read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Sprintf("%s: %s", response.Status, text)
	}
	if answer.Status != "success" {
		return answer.Error
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		t.Fatalf("%s: %v", answer.Data, err)
	}
	return ""
}

// TestPodsAreScrapedOnTheirSecondPort: the PodMonitor's own relabelings, applied by Prometheus.
func TestPodsAreScrapedOnTheirSecondPort(t *testing.T) {
	t.Parallel()
	has(t, `up{function="edge", job="functions"} == 1`)
	samples, problem := query(t, `up{job="functions"}`)
	if problem != "" {
		t.Fatal(problem)
	}
	for _, s := range samples {
		if s.labels["pod_address"] != "10.88.0.7:2112" || s.labels["namespace"] != "warble" || strings.Contains(s.labels["function"], " ") {
			t.Errorf("a pod of Knative's is scraped as %v", s.labels)
		}
	}
}

// unusual are names that break Prometheus's rules: the names of the original system, whose dashboards need
// them. A counter's name should end in _total, and no name should contain its type. No other names may be listed here.
var unusual = []string{
	"auth_service_counter", "auth_service_login_success_counter", "auth_service_login_total_counter", "auth_service_register_success_counter",
	"auth_service_register_total_counter", "auth_service_token_success_counter", "auth_service_token_total_counter",
	"tweet_service_counter", "tweet_service_retweet_counter", "tweet_service_tweet_counter", "tweet_service_tweet_histogram",
}

// TestPromlint lints the metrics of every function, after the function has had requests.
func TestPromlint(t *testing.T) {
	t.Parallel()
	has(t, "sum(tweet_service_retweet_counter) > 0 and sum(auth_service_login_success_counter) > 0 and sum(relay_events_total) > 0")
	text, err := os.ReadFile(warble.Targets())
	if err != nil {
		t.Fatal(err)
	}
	var targets []struct{ Targets []string }
	if err := json.Unmarshal(text, &targets); err != nil || len(targets) == 0 {
		t.Fatalf("%s: %v", text, err)
	}
	found := make(map[string]bool)
	for _, target := range targets {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+target.Targets[0]+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		problems, err := promlint.New(response.Body).Lint()
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			found[p.Metric] = true
			if !slices.Contains(unusual, p.Metric) {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	}
	var all []string
	for name := range found {
		all = append(all, name)
	}
	slices.Sort(all)
	if diff := cmp.Diff(unusual, all); diff != "" { // a renamed or deleted metric must be removed from the list
		t.Error(diff)
	}
}
