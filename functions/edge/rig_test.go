package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"warble/shared/env"
	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/telemetry"
	"warble/shared/token"
)

// TestMain runs the edge itself, or a function, if a test has started this binary as such a process: see process_test.go.
func TestMain(m *testing.M) {
	switch os.Getenv(binaryRoleEnv) {
	case "edge":
		main()
		return
	case "function":
		echo()
		return
	}
	os.Exit(m.Run())
}

// rig is an edge that serves over HTTP, with everything that tests need of it.
type rig struct {
	url       string
	log       *logBuffer
	edge      *Edge
	telemetry *telemetry.Telemetry
	routes    *routes
	issuer    *token.Issuer
}

// functionEntry describes a function in the routes file.
type functionEntry struct {
	Name     string   `json:"name"`
	URL      string   `json:"url"`
	Starting bool     `json:"starting"`
	Routes   []string `json:"routes"`

	Tags  map[string]string `json:"tags,omitempty"`
	Guest *guestSettings    `json:"guest,omitempty"`

	Streams map[string]int `json:"streams,omitempty"`
}

// generous has limits that no test reaches, unless it is about limits.
var generous = limits{{1e6, time.Hour}, {1e6, time.Hour}, {1e6, time.Hour}}

// start serves an edge with these functions. Unset fields of c get the defaults of production, except for a timeout that suits a
// busy machine.
func start(t testing.TB, c config, functions ...functionEntry) *rig {
	t.Helper()
	if c.upstreamTimeout == 0 {
		c.upstreamTimeout = time.Minute
	}
	if c.limits == (limits{}) {
		c.limits = generous
	}
	g := &rig{log: new(logBuffer)}
	f := function.NewTest(g.log)
	g.telemetry = f.Telemetry
	g.routes = &routes{file: filepath.Join(t.TempDir(), "routes.json"), log: f.Telemetry.Log}
	g.write(t, functions...)
	var tokens *token.Verifier
	g.issuer, tokens = tokenPair(t)
	g.edge = New(c, g.routes, tokens, function.TestKey, f.Telemetry)
	g.url = serve(t, f.WholeHandler(g.edge, g.routes, tokens))
	return g
}

// scrape returns the metrics in Prometheus's format.
func scrape(t testing.TB, m *telemetry.Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Metrics().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// serve serves a handler over HTTP/1.1 and HTTP/2 without TLS, as shared/function does.
func serve(t testing.TB, handler http.Handler) (url string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// write replaces the routes file and reads it.
func (g *rig) write(t testing.TB, functions ...functionEntry) {
	t.Helper()
	g.writeExperiments(t, nil, functions...)
}

// writeExperiments replaces the routes file, including experiments, and reads it.
func (g *rig) writeExperiments(t testing.TB, experiments []experiment.Rules, functions ...functionEntry) {
	t.Helper()
	writeRoutes(t, g.routes.file, experiments, functions...)
	if err := g.routes.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// writeRoutes replaces a routes file atomically, as every writer of one must.
func writeRoutes(t testing.TB, file string, experiments []experiment.Rules, functions ...functionEntry) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"functions": append([]functionEntry{}, functions...), "experiments": experiments})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// serveFunction serves routes as a function behind the edge.
func serveFunction(t testing.TB, routes function.Routes) (url string, log *logBuffer) {
	t.Helper()
	log = new(logBuffer)
	return serve(t, function.NewTest(log).Handler(routes)), log
}

// handlerFunc makes a handler of a function.
func handlerFunc(h func(http.ResponseWriter, *http.Request)) http.Handler { return http.HandlerFunc(h) }

// refusingAddress returns an address that refuses connections.
func refusingAddress(t testing.TB) (host string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// tokenFiles makes a pair of keys and returns the files, private and public.
func tokenFiles(t testing.TB) (private, public string) {
	t.Helper()
	folder := t.TempDir()
	private, public = filepath.Join(folder, "private.pem"), filepath.Join(folder, "jwks.json")
	if err := token.NewKeyPair(private, public); err != nil {
		t.Fatal(err)
	}
	return private, public
}

func tokenPair(t testing.TB) (*token.Issuer, *token.Verifier) {
	t.Helper()
	private, public := tokenFiles(t)
	return tokensOf(t, private, public)
}

func tokensOf(t testing.TB, private, public string) (*token.Issuer, *token.Verifier) {
	t.Helper()
	e := variables(map[string]string{"TOKEN_PRIVATE_KEY_FILE": private, "TOKEN_PUBLIC_KEYS_FILE": public})
	issuer, tokens := token.IssuerFromEnv(e), token.VerifierFromEnv(e)
	if err := e.Err(); err != nil {
		t.Fatal(err)
	}
	return issuer, tokens
}

func variables(set map[string]string) *env.Reader {
	return env.New(func(name string) (string, bool) { value, ok := set[name]; return value, ok })
}

// bearer returns the Authorization header of a user.
func (g *rig) bearer(t testing.TB, userID int64) string {
	t.Helper()
	return bearerOf(t, g.issuer, userID, "")
}

func bearerOf(t testing.TB, issuer *token.Issuer, userID int64, community string) string {
	t.Helper()
	text, _, err := issuer.Issue(token.Subject{UserID: userID, Username: "ada", Community: community})
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + text
}

// answer is an answer whose body has been read.
type answer struct {
	*http.Response
	body string
}

// send sends a request with headers in pairs. It follows no redirect and adds no Accept-Encoding.
func send(t testing.TB, method, url, body string, headers ...string) answer {
	t.Helper()
	a, err := try(t.Context(), method, url, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var transport = &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 256}

func try(ctx context.Context, method, url, body string, headers ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response, string(text)}, err
}

// wantProblem checks that an answer is a complete problem of this kind.
func wantProblem(t testing.TB, a answer, kind *problem.Kind) {
	t.Helper()
	var p struct {
		Type, Title, Detail, Instance string
		Status                        int
		Errors                        []problem.Item
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%s %q: %v", a.Status, a.body, err)
	}
	if a.StatusCode != kind.Status || p.Status != kind.Status || p.Type != kind.Type() || p.Title != kind.Title {
		t.Errorf("%s %s, want %d %s", a.Status, a.body, kind.Status, kind.Slug)
	}
	if p.Detail == "" || len(p.Errors) == 0 || p.Errors[0].Message == "" || p.Instance == "" || p.Instance != a.Header.Get("X-Request-Id") {
		t.Errorf("an incomplete problem, or not this request's: %s %v", a.body, a.Header)
	}
	if kind := a.Header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("Content-Type %q", kind)
	}
	if retry := a.Header.Get("Retry-After"); (kind == problem.Unavailable || kind == problem.TooMany) != (retry != "") {
		t.Errorf("%d with Retry-After %q", kind.Status, retry)
	}
}

// logBuffer is a log that can be read while a server writes it.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// line waits for the access line of a request. The edge writes it after the answer.
func (b *logBuffer) line(t testing.TB, requestID string) (fields map[string]any) {
	t.Helper()
	eventually(t, "the access line of "+requestID, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for line := range strings.Lines(b.text.String()) {
			fields = nil
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatalf("log line %q: %v", line, err)
			}
			if fields["http.request_id"] == requestID {
				return true
			}
		}
		return false
	})
	return fields
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// eventually waits until a condition holds, for longer than any machine should need.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
