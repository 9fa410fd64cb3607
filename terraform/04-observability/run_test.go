//go:build infra

package observability_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"sigs.k8s.io/yaml"

	"warble/shared/apitest"
	"warble/shared/process"
	"warble/shared/telemetry/telemetrytest"
)

// warble is a local run with the observability of a cluster: a real Prometheus with the real rules scrapes it, its traces
// go to a fake of Datadog's agent, and its events to a subscriber. It has an experiment.
var warble watched

type watched struct {
	*apitest.Local
	agent      telemetrytest.Agent
	subscriber subscriber
	prometheus string // its URL

	folder  string
	servers []*httptest.Server
	ended   <-chan error
	cmd     *exec.Cmd
	leave   chan struct{} // closed to stop the people
	left    chan error    // the people's result
}

func TestMain(m *testing.M) {
	code := 1
	err := warble.start(context.Background())
	if err == nil {
		code = m.Run()
	}
	if err = errors.Join(err, warble.stop()); err != nil {
		fmt.Fprintln(os.Stderr, "observability:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func (w *watched) serve(handler http.Handler) (url string) {
	server := httptest.NewServer(handler)
	w.servers = append(w.servers, server)
	return server.URL
}

func (w *watched) start(ctx context.Context) (err error) {
	w.Local, err = apitest.StartExperiment(ctx, "knative/experiments/likes-demo.yaml", "DD_TRACE_AGENT_URL="+w.serve(&w.agent), "DD_ENV=test", "DD_TRACE_SAMPLE_RATE=1", "K_SINK="+w.serve(&w.subscriber))
	if err != nil {
		return err
	}
	if w.folder, err = os.MkdirTemp("", "warble-prometheus-"); err != nil {
		return err
	}
	if err := w.startPrometheus(ctx); err != nil {
		return err
	}
	w.leave, w.left = make(chan struct{}), make(chan error, 1)
	go func() { w.left <- busy(w.leave) }()
	return nil
}

func (w *watched) stop() (err error) {
	if w.leave != nil {
		close(w.leave)
		err = <-w.left
	}
	if w.cmd != nil {
		_ = w.cmd.Process.Signal(syscall.SIGTERM) // the wait below reports an error
		select {
		case ended := <-w.ended:
			err = errors.Join(err, ended)
		case <-time.After(2 * time.Minute):
			err = errors.Join(err, fmt.Errorf("prometheus did not stop: %w", w.cmd.Process.Kill()))
		}
	}
	if w.Local != nil {
		err = errors.Join(err, w.Local.Stop())
	}
	for _, server := range w.servers {
		server.Close()
	}
	return errors.Join(err, os.RemoveAll(w.folder))
}

// startPrometheus starts a Prometheus that scrapes the local run like podmonitor.yaml, with the features of prometheus-values.yaml.
func (w *watched) startPrometheus(ctx context.Context) error {
	rules, err := w.hurriedRules()
	if err != nil {
		return err
	}
	relabelings, err := podRelabelings()
	if err != nil {
		return err
	}
	config, err := yaml.Marshal(map[string]any{
		"global":     map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{rules + "/*.yaml"},
		"scrape_configs": []any{
			map[string]any{
				"job_name":        "functions",
				"file_sd_configs": []any{map[string]any{"files": []string{w.Targets()}}},
				"relabel_configs": relabelings,
			},
			map[string]any{
				"job_name":       "kube-state-metrics",
				"honor_labels":   true, // like the chart's monitor
				"static_configs": []any{map[string]any{"targets": []string{strings.TrimPrefix(w.serve(http.HandlerFunc(deployments)), "http://")}}},
			},
		},
	})
	if err != nil {
		return err
	}
	file := filepath.Join(w.folder, "prometheus.yml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	program, err := prometheusTool(ctx, "prometheus")
	if err != nil {
		return err
	}
	features, err := prometheusFeatures()
	if err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	w.prometheus = "http://" + address
	w.cmd = exec.Command(program, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(w.folder, "data"), "--web.listen-address="+address, //nolint:noctx // stop ends it
		"--log.level=warn", "--enable-feature="+features)
	w.cmd.Stdout, w.cmd.Stderr = os.Stderr, os.Stderr
	w.ended, err = process.Start(w.cmd, syscall.SIGKILL)
	return err
}

// hurriedRules copies the rules without the groups' own intervals, so that no test waits for five minutes.
func (w *watched) hurriedRules() (folder string, err error) {
	files, err := filepath.Glob("rules/*.yaml")
	for _, file := range files {
		text, readErr := os.ReadFile(file)
		hurried := regexp.MustCompile(`(?m)^    interval: .*\n`).ReplaceAll(text, nil)
		err = errors.Join(err, readErr, os.WriteFile(filepath.Join(w.folder, filepath.Base(file)), hurried, 0o600))
	}
	return w.folder, err
}

// deployments replaces kube-state-metrics, which a local run does not have: it has the creation time of one revision.
func deployments(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprintf(w, "# TYPE kube_deployment_created gauge\nkube_deployment_created{namespace=\"warble\",deployment=\"tweet-00007-deployment\"} %d\n", deployedAt)
}

const deployedAt = 1764500000

// podRelabelings returns the PodMonitor's relabelings in the form in which its operator writes them. They come after a relabeling that gives a
// process of the local run the labels of a pod, and before one that gives the scrape its real address: pods have their
// own addresses and the same port, and processes have the same address and their own ports.
func podRelabelings() ([]any, error) {
	text, err := os.ReadFile("podmonitor.yaml")
	if err != nil {
		return nil, err
	}
	var monitor struct {
		Spec struct {
			PodMetricsEndpoints []struct {
				Relabelings []struct {
					SourceLabels                    []string
					Regex, TargetLabel, Replacement string
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &monitor); err != nil {
		return nil, err
	}
	all := []any{
		relabeling("__tmp_address", "$1", "", "__address__"),
		relabeling("__meta_kubernetes_pod_label_warble_dev_service", "$1", "", "function"),
		relabeling("function", "nothing has named it", ""),
		relabeling("__meta_kubernetes_pod_ip", "10.88.0.7", ""),
	}
	for _, endpoint := range monitor.Spec.PodMetricsEndpoints {
		for _, r := range endpoint.Relabelings {
			all = append(all, relabeling(r.TargetLabel, r.Replacement, r.Regex, r.SourceLabels...))
		}
	}
	return append(all,
		relabeling("pod_address", "$1", "", "__address__"), // for TestPodsAreScrapedOnTheirSecondPort
		relabeling("__address__", "$1", "", "__tmp_address"),
	), nil
}

func relabeling(target, replacement, regex string, sources ...string) map[string]any {
	r := map[string]any{"target_label": target}
	if replacement != "" {
		r["replacement"] = replacement
	}
	if regex != "" {
		r["regex"] = regex
	}
	if len(sources) > 0 {
		r["source_labels"] = sources
	}
	return r
}

// prometheusFeatures returns the features that the chart's values switch on.
func prometheusFeatures() (string, error) {
	text, err := os.ReadFile("prometheus-values.yaml")
	if err != nil {
		return "", err
	}
	var values struct {
		Prometheus struct {
			PrometheusSpec struct{ EnableFeatures []string }
		}
	}
	err = yaml.Unmarshal(text, &values)
	if err == nil && len(values.Prometheus.PrometheusSpec.EnableFeatures) == 0 {
		err = errors.New("prometheus-values.yaml: expected features in prometheus.prometheusSpec.enableFeatures")
	}
	return strings.Join(values.Prometheus.PrometheusSpec.EnableFeatures, ","), err
}

// subscriber receives and stores events.
type subscriber struct {
	mu    sync.Mutex
	taken []event.Event
}

func (s *subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.taken = append(s.taken, *e)
	s.mu.Unlock()
	w.WriteHeader(http.StatusAccepted)
}

// about returns the received event of a subject, or nil if there is none yet.
func (s *subscriber) about(subject string) *event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.taken {
		if e.Subject() == subject {
			return &e
		}
	}
	return nil
}

// errUnavailable is a 503. On a busy machine, a call of the database may take longer than a function's limit.
var errUnavailable = errors.New("503, to be tried again")

// busy makes people send the requests that the dashboards show, until stop is closed. It returns the first failure that is not errUnavailable.
func busy(stop <-chan struct{}) error {
	ada, err := register("ada")
	if err != nil {
		return err
	}
	bob, err := registerBeside(ada)
	if err != nil {
		return err
	}
	for {
		for _, do := range []func() error{
			func() error {
				id, err := ada.post("hello, warble")
				if err != nil {
					return err
				}
				return bob.call("POST", "/2/users/"+bob.id+"/retweets", map[string]string{"tweet_id": id}, nil)
			},
			func() error { return bob.call("GET", "/2/users/"+bob.id+"/timelines/reverse_chronological", nil, nil) },
			func() error { return bob.call("GET", "/auth/validate", nil, nil) },
			func() error {
				return person{}.call("POST", "/auth/login", map[string]string{"email": ada.email, "password": password}, nil)
			},
		} {
			if err := do(); err != nil && !errors.Is(err, errUnavailable) {
				return err
			}
		}
		select {
		case <-stop:
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// person is a caller of the API.
type person struct{ email, token, id string }

const password = "analytical-engine-1843"

func register(name string) (p person, err error) {
	p.email = name + "@example.org"
	var answer struct{ Token string }
	if err := p.call("POST", "/auth/register", map[string]string{"name": name, "username": name, "email": p.email, "password": password, "community": "gophers"}, &answer); err != nil {
		return p, err
	}
	p.token = answer.Token
	var me struct{ Data struct{ ID string } }
	err = p.call("GET", "/2/users/me", nil, &me)
	p.id = me.Data.ID
	return p, err
}

// registerBeside registers somebody who is not in p's arm of the experiment.
func registerBeside(p person) (person, error) {
	own, err := p.variant()
	if err != nil {
		return person{}, err
	}
	for n := range 50 { // half of all people are
		other, err := register(fmt.Sprint("bob", n))
		if err != nil {
			return person{}, err
		}
		if theirs, err := other.variant(); err != nil || theirs != own {
			return other, err
		}
	}
	return person{}, fmt.Errorf("fifty people are in the arm %s, and nobody in the other", own)
}

// variant waits until the experiment is in force, and returns p's arm.
func (p person) variant() (string, error) {
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		request, err := http.NewRequest(http.MethodGet, warble.URL+"/2/users/"+p.id+"/timelines/reverse_chronological", http.NoBody) //nolint:noctx // the client has a timeout
		if err != nil {
			return "", err
		}
		request.Header.Set("Authorization", "Bearer "+p.token)
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		response.Body.Close()
		if variant := response.Header.Get("X-Variant"); variant != "" {
			return variant, nil
		}
		if time.Since(start) > dataLimit {
			return "", fmt.Errorf("nobody is assigned within %s: %s", dataLimit, response.Status)
		}
	}
}

// call calls the API, and decodes a 2xx into answer. headers are names and values in turn.
func (p person) call(method, path string, body, answer any, headers ...string) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, warble.URL+path, bytes.NewReader(text)) //nolint:noctx // the client has a timeout
	if err != nil {
		return err
	}
	if body == nil {
		request.Body, request.ContentLength = http.NoBody, 0
	}
	request.Header.Set("Content-Type", "application/json")
	if p.token != "" {
		request.Header.Set("Authorization", "Bearer "+p.token)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was read to its end
	said, err := io.ReadAll(response.Body)
	if response.StatusCode == http.StatusServiceUnavailable {
		return fmt.Errorf("%s %s: %w", method, path, errUnavailable)
	}
	if err != nil || response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s %s %w", method, path, response.Status, said, err)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(said, answer)
}

var client = &http.Client{Timeout: time.Minute}

func (p person) post(text string, headers ...string) (id string, err error) {
	var answer struct{ Data struct{ ID string } }
	err = p.call("POST", "/2/tweets", map[string]string{"text": text}, &answer, headers...)
	return answer.Data.ID, err
}

// freeAddress returns a free loopback address, which it finds by listening and closing.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// eventually polls until a condition holds. what describes the condition.
func eventually(t testing.TB, ok func() (what string)) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		what := ok()
		if what == "" {
			return
		}
		if time.Since(start) > dataLimit {
			t.Fatalf("not within %s: %s", dataLimit, what)
		}
	}
}
