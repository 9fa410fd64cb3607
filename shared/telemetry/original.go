package telemetry

import "strconv"

// The metrics of the system from which Warble grew, with their exact names, so that its dashboards still work. The names break
// Prometheus's naming rules; do not use them as examples for new metrics.

// AuthMetrics has the metrics of register, login and validate.
type AuthMetrics struct {
	registrations, registered *Counter
	logins, loggedIn          *Counter
	validations, validated    *Counter
}

// AuthMetrics registers the auth_service_* metrics; auth_service_counter then counts each request by itself.
func (t *Telemetry) AuthMetrics() *AuthMetrics {
	requests := t.Counter("auth_service_counter", "Requests to the authentication endpoints, by route pattern, method and client network.", "path", "method", "ip")
	t.counted = func(a Access) { requests.Inc(a.Route, knownMethod(a.Method), Network(a.Client)) }
	return &AuthMetrics{
		registrations: t.Counter("auth_service_register_total_counter", "Attempts to register."),
		registered:    t.Counter("auth_service_register_success_counter", "Registrations, by client network.", "ip"),
		logins:        t.Counter("auth_service_login_total_counter", "Attempts to log in."),
		loggedIn:      t.Counter("auth_service_login_success_counter", "Logins, by client network.", "ip"),
		validations:   t.Counter("auth_service_token_total_counter", "Tokens looked at by validate."),
		validated:     t.Counter("auth_service_token_success_counter", "Tokens that validate found valid."),
	}
}

// Registration counts an attempt to register.
func (m *AuthMetrics) Registration() { m.registrations.Inc() }

// Registered counts a registration from a network.
func (m *AuthMetrics) Registered(network string) { m.registered.Inc(network) }

// Login counts an attempt to log in.
func (m *AuthMetrics) Login() { m.logins.Inc() }

// LoggedIn counts a login from a network.
func (m *AuthMetrics) LoggedIn(network string) { m.loggedIn.Inc(network) }

// Validation counts a token that validate checks.
func (m *AuthMetrics) Validation() { m.validations.Inc() }

// Validated counts a token that validate found valid.
func (m *AuthMetrics) Validated() { m.validated.Inc() }

// TweetMetrics has the metrics of tweet, retweet, like, timeline, users and feedback.
type TweetMetrics struct {
	tweets, retweets *Counter
	lengths          *Histogram
}

// maxHistograms is how many users the length histogram distinguishes, because each user is a dozen series.
const maxHistograms = 50

// TweetMetrics registers the tweet_service_* metrics; tweet_service_counter then counts each request by itself.
func (t *Telemetry) TweetMetrics() *TweetMetrics {
	requests := t.Counter("tweet_service_counter", "Requests to the tweet endpoints, by route pattern and method.", "path", "method")
	t.counted = func(a Access) { requests.Inc(a.Route, knownMethod(a.Method)) }
	return &TweetMetrics{
		tweets:   t.Counter("tweet_service_tweet_counter", "Tweets posted, by author.", "user_id"),
		retweets: t.Counter("tweet_service_retweet_counter", "Retweets, by the tweet they repeat.", "tweet_id"),
		lengths: t.Histogram("tweet_service_tweet_histogram", "Weighted length of tweets, by author.",
			[]float64{10, 20, 40, 60, 80, 100, 140, 180, 220, 260, 280}, maxHistograms, "user_id"),
	}
}

// Tweet counts a tweet and observes its weighted length, 1 to 280.
func (m *TweetMetrics) Tweet(userID int64, length int) {
	user := strconv.FormatInt(userID, 10)
	m.tweets.Inc(user)
	m.lengths.Observe(float64(length), user)
}

// Retweet counts a retweet of a tweet.
func (m *TweetMetrics) Retweet(tweetID int64) { m.retweets.Inc(strconv.FormatInt(tweetID, 10)) }
