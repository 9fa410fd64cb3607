package telemetry_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/telemetry"
)

// scrape returns what Prometheus gets, and the samples of it whose name starts with prefix.
func scrape(t *testing.T, m *telemetry.Telemetry, prefix string) (whole string, samples map[string]string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Metrics().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	samples = make(map[string]string)
	for line := range strings.Lines(w.Body.String()) {
		if at := strings.LastIndexByte(line, ' '); strings.HasPrefix(line, prefix) {
			samples[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return w.Body.String(), samples
}

// The metrics of the original system keep their exact names and labels, because other people's dashboards read them.
func TestTheOriginalMetricsKeepTheirNamesAndLabels(t *testing.T) {
	t.Parallel()
	m := telemetry.New("login", "login-00001", io.Discard)
	auth := m.AuthMetrics()
	_, atFirst := scrape(t, m, "auth_service_")
	// What has no labels is there before it first happens; a rate needs the 0.
	if diff := cmp.Diff(map[string]string{
		"auth_service_register_total_counter": "0", "auth_service_login_total_counter": "0",
		"auth_service_token_total_counter": "0", "auth_service_token_success_counter": "0",
	}, atFirst); diff != "" {
		t.Error(diff)
	}
	auth.Registration()
	auth.Registered("203.0.113.0/24")
	auth.Login()
	auth.Login()
	auth.LoggedIn("2001:db8:1::/48")
	auth.Validation()
	auth.Validated()
	m.Access(t.Context(), telemetry.Access{Method: "POST", Route: "/auth/login", Status: 200, Client: netip.MustParseAddr("203.0.113.7")})
	m.Access(t.Context(), telemetry.Access{Method: "BREW", Route: "unmatched", Status: 404})
	_, got := scrape(t, m, "auth_service_")
	want := map[string]string{
		`auth_service_counter{ip="203.0.113.0/24",method="POST",path="/auth/login"}`: "1",
		`auth_service_counter{ip="unknown",method="other",path="unmatched"}`:         "1",
		`auth_service_register_success_counter{ip="203.0.113.0/24"}`:                 "1",
		`auth_service_register_total_counter`:                                        "1",
		`auth_service_login_success_counter{ip="2001:db8:1::/48"}`:                   "1",
		`auth_service_login_total_counter`:                                           "2",
		`auth_service_token_total_counter`:                                           "1",
		`auth_service_token_success_counter`:                                         "1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	m = telemetry.New("tweet", "tweet-00001", io.Discard)
	tweets := m.TweetMetrics()
	tweets.Tweet(7, 280)
	tweets.Tweet(7, 12)
	tweets.Retweet(42)
	m.Access(t.Context(), telemetry.Access{Method: "POST", Route: "/2/tweets", Status: 201, Client: netip.MustParseAddr("203.0.113.7")})
	_, got = scrape(t, m, "tweet_service_")
	want = map[string]string{
		`tweet_service_counter{method="POST",path="/2/tweets"}`: "1",
		`tweet_service_retweet_counter{tweet_id="42"}`:          "1",
		`tweet_service_tweet_counter{user_id="7"}`:              "2",
		`tweet_service_tweet_histogram_count{user_id="7"}`:      "2",
		`tweet_service_tweet_histogram_sum{user_id="7"}`:        "292",
	}
	for _, bucket := range []int{10, 20, 40, 60, 80, 100, 140, 180, 220, 260, 280} {
		n := "1"
		switch {
		case bucket < 12:
			n = "0"
		case bucket >= 280:
			n = "2"
		}
		want[fmt.Sprintf(`tweet_service_tweet_histogram_bucket{user_id="7",le="%d"}`, bucket)] = n
	}
	want[`tweet_service_tweet_histogram_bucket{user_id="7",le="+Inf"}`] = "2"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A counter distinguishes 1000 values, the histogram 50, and no event is lost.
func TestTheNumberOfLabelValuesIsLimited(t *testing.T) {
	t.Parallel()
	const users, each = 1500, 2
	m := telemetry.New("tweet", "tweet-00001", io.Discard)
	tweets := m.TweetMetrics()
	for range each {
		for user := range users {
			tweets.Tweet(int64(user+1), 10)
			tweets.Retweet(int64(user + 1))
		}
	}
	for prefix, most := range map[string]int{"tweet_service_tweet_counter{": 1000, "tweet_service_retweet_counter{": 1000, "tweet_service_tweet_histogram_count{": 50} {
		_, samples := scrape(t, m, prefix)
		total, rest := 0, 0
		for series, value := range samples {
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			total += n
			if strings.Contains(series, `"other"`) {
				rest = n
			} else if n != each {
				t.Errorf("%s: %d, want %d: the same user counts twice in one place", series, n, each)
			}
		}
		if len(samples) != most+1 || total != users*each || rest != (users-most)*each {
			t.Errorf("%s %d series, %d events, %d of them other; want %d, %d, %d", prefix, len(samples), total, rest, most+1, users*each, (users-most)*each)
		}
	}
}

// With METRICS_PORT=0 nothing is counted, so that it costs nothing.
func TestNothingIsCountedIfNobodyScrapes(t *testing.T) {
	t.Parallel()
	m := telemetry.New("tweet", "tweet-00001", io.Discard)
	m.CountNothing()
	m.TweetMetrics().Tweet(1, 10)
	m.AuthMetrics().Login()
	m.Access(t.Context(), telemetry.Access{Method: "GET", Route: "/x", Status: 200})
	for _, prefix := range []string{"tweet_service_", "auth_service_", "http_server_"} {
		if _, samples := scrape(t, m, prefix); len(samples) > 0 {
			t.Errorf("%v", samples)
		}
	}
}

func TestTheDurationOfRequestsIsObserved(t *testing.T) {
	t.Parallel()
	m := telemetry.New("tweet", "tweet-00007", io.Discard)
	for _, took := range []time.Duration{2 * time.Millisecond, 20 * time.Second} {
		m.Access(t.Context(), telemetry.Access{Method: "GET", Route: "/2/tweets/{id}", Status: 200, Duration: took})
	}
	for i := range 100 { // all unknown methods are one series
		m.Access(t.Context(), telemetry.Access{Method: "BREW" + strconv.Itoa(i), Route: "unmatched", Status: 404})
	}
	_, counts := scrape(t, m, "http_server_request_duration_seconds_count")
	want := map[string]string{
		`http_server_request_duration_seconds_count{code="200",method="GET",revision="tweet-00007",route="/2/tweets/{id}"}`: "2",
		`http_server_request_duration_seconds_count{code="404",method="other",revision="tweet-00007",route="unmatched"}`:    "100",
	}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
	_, sums := scrape(t, m, `http_server_request_duration_seconds_sum{code="200"`)
	for _, sum := range sums {
		if sum != "20.002" {
			t.Errorf("20 s and 2 ms are %s in seconds", sum)
		}
	}
}

func TestAnArmIsMeasured(t *testing.T) {
	t.Parallel()
	m := telemetry.New("edge", "edge-00001", io.Discard)
	experiments := m.ExperimentMetrics()
	experiments.Answered("likes", "treatment", 200, 20*time.Millisecond)
	experiments.Answered("likes", "treatment", 503, 2*time.Second)
	experiments.Answered("likes", "control", 200, time.Millisecond)
	_, requests := scrape(t, m, "warble_experiment_requests_total")
	if diff := cmp.Diff(map[string]string{
		`warble_experiment_requests_total{arm="treatment",code="200",experiment="likes"}`: "1",
		`warble_experiment_requests_total{arm="treatment",code="503",experiment="likes"}`: "1",
		`warble_experiment_requests_total{arm="control",code="200",experiment="likes"}`:   "1",
	}, requests); diff != "" {
		t.Error(diff)
	}
	_, sums := scrape(t, m, "warble_experiment_request_duration_seconds_sum")
	if diff := cmp.Diff(map[string]string{
		`warble_experiment_request_duration_seconds_sum{arm="treatment",experiment="likes"}`: "2.02",
		`warble_experiment_request_duration_seconds_sum{arm="control",experiment="likes"}`:   "0.001",
	}, sums); diff != "" {
		t.Error(diff)
	}
}

// TestInfoIsReadWhenItIsScraped checks also that Info has the same limit as counters.
func TestInfoIsReadWhenItIsScraped(t *testing.T) {
	t.Parallel()
	m := telemetry.New("edge", "edge-00001", io.Discard)
	var all [][]string
	m.Info("experiments_info", "Experiments.", []string{"experiment", "phase"}, func() [][]string { return all })
	if _, none := scrape(t, m, "experiments_info"); len(none) > 0 {
		t.Errorf("%v", none)
	}
	for i := range 1001 {
		all = append(all, []string{strconv.Itoa(i), "Running"})
	}
	if _, told := scrape(t, m, "experiments_info"); len(told) != 1000 || told[`experiments_info{experiment="7",phase="Running"}`] != "1" {
		t.Errorf("%d are told", len(told))
	}
}

// TestCountingAllocatesNothing checks labels that were seen before, because counting happens for every request.
func TestCountingAllocatesNothing(t *testing.T) { //nolint:paralleltest // it counts the allocations of the process
	m := telemetry.New("tweet", "tweet-00001", io.Discard)
	tweets, auth := m.Counter("tweets_total", "Tweets.", "route", "method", "user"), m.Counter("all_total", "All.")
	lengths := m.Histogram("length", "Lengths.", []float64{1, 2}, 10, "user")
	user := strconv.Itoa(1 << 40)
	if allocations := testing.AllocsPerRun(100, func() {
		tweets.Inc("/2/tweets", "POST", user)
		auth.Inc()
		lengths.Observe(1, user)
	}); allocations > 0 {
		t.Errorf("%g allocations", allocations)
	}
}
