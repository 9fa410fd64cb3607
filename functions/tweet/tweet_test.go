package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/clocktest"
	"warble/shared/feature"
	"warble/shared/function"
	"warble/shared/idempotency"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/telemetry"
	"warble/shared/token"
	"warble/shared/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func newAPI(t testing.TB) *apitest.API {
	t.Helper()
	return newAPIWith(t, feature.Set{})
}

func newAPIWith(t testing.TB, features feature.Set) *apitest.API {
	t.Helper()
	return apitest.New(t, func(db *store.DB, tokens *token.Verifier, tel *telemetry.Telemetry) function.Routes {
		return New(db, tokens, tel.TweetMetrics(), feature.With(features))
	})
}

type (
	single = wire.Single[wire.Tweet]
	lookup = wire.Lookup[wire.Tweet]
)

func body(text string) string { return `{"text":` + jsonString(text) + `}` }

func post(t testing.TB, u apitest.User, text string) string {
	t.Helper()
	return apitest.Decode[single](t, u.Do("POST", "/2/tweets", body(text)), http.StatusCreated).Data.ID
}

// retweet writes the rows that the function retweet would write.
func retweet(t testing.TB, api *apitest.API, u apitest.User, tweet string) string {
	t.Helper()
	id, err := function.ParseID(tweet)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := api.DB.Retweet(t.Context(), store.NewRetweet{UserID: u.ID, TweetID: id}, idempotency.Key{}, store.Body{})
	if err != nil {
		t.Fatal(err)
	}
	return string(answer.Body)
}

func TestATweetIsPostedFoundAndDeleted(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob := api.User("ada", "gophers"), api.User("bob", "")

	posted := ada.Do("POST", "/2/tweets", body("cafe\u0301 <&> \u2028 👋"))
	id := apitest.Decode[single](t, posted, http.StatusCreated).Data.ID
	if want := `{"data":{"id":"` + id + `","text":"café <&> \u2028 👋"}}`; posted.Body != want {
		t.Errorf("posted: %s, want %s", posted.Body, want)
	}
	got := apitest.Get[single](bob, "/2/tweets/"+id).Data
	want := wire.Tweet{
		ID: id, Text: "café <&> \u2028 👋", AuthorID: wire.ID(ada.ID), CreatedAt: got.CreatedAt, EditHistoryTweetIDs: [1]string{id},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if at, err := time.Parse("2006-01-02T15:04:05.000Z", got.CreatedAt); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("created_at %s: %v", got.CreatedAt, err)
	}
	if answer := bob.Do("DELETE", "/2/tweets/"+id, ""); answer.Status != http.StatusForbidden {
		t.Errorf("another's tweet: %d %s", answer.Status, answer.Body)
	}
	if answer := ada.Do("DELETE", "/2/tweets/"+id, ""); answer.Status != http.StatusOK || answer.Body != `{"data":{"deleted":true}}`+"\n" {
		t.Errorf("delete: %d %s", answer.Status, answer.Body)
	}
	for _, method := range []string{"GET", "DELETE"} {
		if answer := ada.Do(method, "/2/tweets/"+id, ""); answer.Status != http.StatusNotFound {
			t.Errorf("%s of a deleted tweet: %d %s", method, answer.Status, answer.Body)
		}
	}
}

// The retweet does not exist for anybody, including the user who made it.
func TestARetweetWhoseSourceWasDeleted(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob := api.User("ada", ""), api.User("bob", "")
	id := post(t, ada, "hello")
	again := retweet(t, api, bob, id)
	if answer := ada.Do("DELETE", "/2/tweets/"+id, ""); answer.Status != http.StatusOK {
		t.Fatalf("delete: %d %s", answer.Status, answer.Body)
	}
	for _, u := range []apitest.User{bob, ada} {
		for _, method := range []string{"GET", "DELETE"} {
			if answer := u.Do(method, "/2/tweets/"+again, ""); answer.Status != http.StatusNotFound {
				t.Errorf("%s by %s: %d %s", method, u.Name, answer.Status, answer.Body)
			}
		}
	}
}

func TestPostRefuses(t *testing.T) {
	t.Parallel()
	ada := newAPI(t).User("ada", "")
	tests := map[string]struct {
		body   string
		status int
		field  string
	}{
		"no JSON":          {`text`, http.StatusBadRequest, ""},
		"no object":        {`["text"]`, http.StatusBadRequest, ""},
		"two objects":      {`{"text":"a"}{"text":"b"}`, http.StatusBadRequest, ""},
		"no text":          {`{}`, http.StatusUnprocessableEntity, "text"},
		"null text":        {`{"text":null}`, http.StatusUnprocessableEntity, "text"},
		"empty text":       {`{"text":""}`, http.StatusUnprocessableEntity, "text"},
		"blank text":       {`{"text":" \n"}`, http.StatusUnprocessableEntity, "text"},
		"text of a number": {`{"text":1}`, http.StatusUnprocessableEntity, "text"},
		"NUL":              {`{"text":"a\u0000"}`, http.StatusUnprocessableEntity, "text"},
		"override":         {`{"text":"a\u202e"}`, http.StatusUnprocessableEntity, "text"},
		"281 characters":   {body(strings.Repeat("a", 281)), http.StatusUnprocessableEntity, "text"},
		"141 wide ones":    {body(strings.Repeat("語", 141)), http.StatusUnprocessableEntity, "text"},
		"over 64 KiB":      {body(strings.Repeat("a", 64<<10)), http.StatusRequestEntityTooLarge, ""},
		"unknown member":   {`{"text":"a","colour":"red"}`, http.StatusUnprocessableEntity, "colour"},
		"null reply":       {`{"text":"a","reply":null}`, http.StatusUnprocessableEntity, "reply"},
	}
	for _, name := range notSupported {
		tests[name] = struct {
			body   string
			status int
			field  string
		}{`{"` + name + `":{},"text":"a"}`, http.StatusUnprocessableEntity, name}
	}
	for name, tt := range tests {
		answer := ada.Do("POST", "/2/tweets", tt.body)
		if answer.Status != tt.status || tt.field != "" && !strings.Contains(answer.Body, `"field":"`+tt.field+`"`) {
			t.Errorf("%s: %d %s, want %d about %q", name, answer.Status, answer.Body, tt.status, tt.field)
		}
	}
	if answer := ada.Do("POST", "/2/tweets", body("a"), "Content-Type", "text/plain"); answer.Status != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: %d %s", answer.Status, answer.Body)
	}
	if answer := ada.Do("POST", "/2/tweets", body("a"), "Content-Type", "application/json; charset=utf-8"); answer.Status != http.StatusCreated {
		t.Errorf("with charset: %d %s", answer.Status, answer.Body)
	}
	if answer := ada.Do("POST", "/2/tweets", body("a"), "Idempotency-Key", strings.Repeat("k", 256)); answer.Status != http.StatusBadRequest {
		t.Errorf("a key of 256 characters: %d %s", answer.Status, answer.Body)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob := api.User("ada", ""), api.User("bob", "")
	first, second := post(t, ada, "first"), post(t, ada, "second")
	again := retweet(t, api, bob, first)

	got := apitest.Get[lookup](ada, "/2/tweets?ids="+strings.Join([]string{second, "17", again, second, "9999999999999999999"}, ",")+
		"&expansions=author_id,referenced_tweets.id,referenced_tweets.id.author_id&tweet.fields=created_at,lang&post.fields=text&user.fields=name&media.fields=url")
	var texts, users, sources, missing []string
	for _, tweet := range got.Data {
		texts = append(texts, tweet.Text)
	}
	for _, user := range got.Includes.Users {
		users = append(users, user.Username)
	}
	for _, tweet := range got.Includes.Tweets {
		sources = append(sources, tweet.Text)
	}
	for _, e := range got.Errors {
		missing = append(missing, e.Value)
	}
	want := [][]string{{"second", "RT @ada: first"}, {"ada", "bob"}, {"first"}, {"17", "9999999999999999999"}}
	if diff := cmp.Diff(want, [][]string{texts, users, sources, missing}); diff != "" {
		t.Error(diff)
	}
	rt := got.Data[1]
	if diff := cmp.Diff([]wire.Reference{{Type: "retweeted", ID: first}}, rt.ReferencedTweets); diff != "" || rt.PublicMetrics.RetweetCount != 1 {
		t.Errorf("retweet: %+v %s", rt, diff)
	}
	if diff := cmp.Diff(wire.LookupError{
		Value: "17", Detail: "Could not find tweet with ids: [17].", Title: "Not Found Error", ResourceType: "tweet",
		Parameter: "ids", ResourceID: "17", Type: "https://warble.dev/problems/not-found",
	}, got.Errors[0]); diff != "" {
		t.Error(diff)
	}
	if answer := ada.Do("GET", "/2/tweets?ids=17", ""); !strings.HasPrefix(answer.Body, `{"data":[],"errors":[{"value":"17",`) {
		t.Errorf("none found: %s", answer.Body)
	}
	if answer := ada.Do("GET", "/2/tweets?ids="+first, ""); strings.Contains(answer.Body, "errors") || strings.Contains(answer.Body, "includes") {
		t.Errorf("all found: %s", answer.Body)
	}
}

func TestBadQueries(t *testing.T) {
	t.Parallel()
	ada := newAPI(t).User("ada", "")
	id := post(t, ada, "a")
	tests := map[string]int{
		"/2/tweets":                                       http.StatusBadRequest,
		"/2/tweets?ids=":                                  http.StatusBadRequest,
		"/2/tweets?ids=1,,2":                              http.StatusBadRequest,
		"/2/tweets?ids=a":                                 http.StatusBadRequest,
		"/2/tweets?ids=-1":                                http.StatusBadRequest,
		"/2/tweets?ids=1%2C2":                             http.StatusOK,
		"/2/tweets?ids=1&ids=2":                           http.StatusOK,
		"/2/tweets?ids=%zz":                               http.StatusBadRequest,
		"/2/tweets?ids=1;2":                               http.StatusBadRequest,
		"/2/tweets/abc":                                   http.StatusBadRequest,
		"/2/tweets/" + id + "0":                           http.StatusNotFound,
		"/2/tweets/00000000000000000001":                  http.StatusBadRequest,
		"/2/tweets/9999999999999999999":                   http.StatusNotFound,
		"/2/tweets/" + id + "?tweet.fields=nonsense":      http.StatusBadRequest,
		"/2/tweets/" + id + "?post.fields=id,nonsense":    http.StatusBadRequest,
		"/2/tweets/" + id + "?user.fields=text":           http.StatusBadRequest,
		"/2/tweets/" + id + "?expansions=author":          http.StatusBadRequest,
		"/2/tweets/" + id + "?expansions=pinned_tweet_id": http.StatusOK,
		"/2/tweets/" + id + "?tweet.fields=":              http.StatusOK,
		"/2/tweets/" + id + "?utm_source=x":               http.StatusOK,
	}
	many := make([]string, 101)
	for i := range many {
		many[i] = wire.ID(int64(i + 1))
	}
	tests["/2/tweets?ids="+strings.Join(many, ",")] = http.StatusBadRequest
	tests["/2/tweets?ids="+strings.Join(many[:100], ",")] = http.StatusOK
	for path, want := range tests {
		if answer := ada.Do("GET", path, ""); answer.Status != want {
			t.Errorf("%.80s: %d %s, want %d", path, answer.Status, answer.Body, want)
		}
	}
	answer := ada.Do("GET", "/2/tweets/"+id+"?tweet.fields=nonsense", "")
	if !strings.Contains(answer.Body, `"field":"tweet.fields","parameters":{"tweet.fields":["nonsense"]}`) {
		t.Errorf("it does not say what is wrong: %s", answer.Body)
	}
}

// hundredSends posts a hundred times concurrently with one key, and calls meanwhile while the requests run.
func hundredSends(t *testing.T, u apitest.User, key string, meanwhile func()) []apitest.Answer {
	t.Helper()
	var group sync.WaitGroup
	answers := make([]apitest.Answer, 100)
	for i := range answers {
		group.Go(func() { answers[i] = u.Do("POST", "/2/tweets", body("once"), "Idempotency-Key", key) })
	}
	meanwhile()
	group.Wait()
	return answers
}

// TestRequestsThatWaitForAKeyDoNotDelayOthers: a hundred requests have a key whose first request is still running. Each could
// occupy a connection for a second while waiting for the key. This function has four connections, and only one of them may be used
// for waiting.
func TestRequestsThatWaitForAKeyDoNotDelayOthers(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob := api.User("ada", ""), api.User("bob", "")
	post(t, bob, "warm up")
	api.Hold(`insert into idempotency_keys (user_id, route, key, fingerprint, status, body) values ($1, 'POST /2/tweets', 'held', '', 201, '')`, ada.ID)
	const waiting = `select 'one' from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
	var took time.Duration
	answers := hundredSends(t, ada, "held", func() {
		for deadline := time.Now().Add(time.Minute); len(api.Column(waiting)) == 0; {
			if time.Now().After(deadline) {
				t.Fatal("nobody waits for the key: it proves nothing")
			}
		}
		took = clocktest.Took(func() { post(t, bob, "meanwhile") })
	})
	if took > 5*time.Second { // with all four connections occupied, the last of them would take 25 seconds
		t.Errorf("another user's tweet took %s", took)
	}
	for _, answer := range answers {
		if answer.Status != http.StatusConflict {
			t.Errorf("%d %s, want a 409", answer.Status, answer.Body)
		}
	}
}

// A hundred requests with one key make one tweet and get equal answers.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob := api.User("ada", ""), api.User("bob", "")
	post(t, ada, "warm up")

	answers := hundredSends(t, ada, "k1", func() { post(t, bob, "meanwhile") })

	first := 0
	for _, answer := range answers {
		if answer.Status == http.StatusConflict { // if the first request takes longer than the others wait
			answer = ada.Do("POST", "/2/tweets", body("once"), "Idempotency-Key", "k1")
		}
		if answer.Status != http.StatusCreated || answer.Body != answers[0].Body {
			t.Errorf("%d %s, want %s", answer.Status, answer.Body, answers[0].Body)
		}
		if answer.Header.Get("Idempotency-Replayed") != "true" {
			first++
		}
	}
	if first != 1 {
		t.Errorf("%d answers are not replayed, want 1", first)
	}
	tweets, err := api.DB.UserTweets(t.Context(), ada.ID, store.Page{Limit: 100})
	if err != nil || len(tweets) != 2 {
		t.Errorf("%d tweets, %v; want the one and the one before it", len(tweets), err)
	}
	if answer := ada.Do("POST", "/2/tweets", body("twice"), "Idempotency-Key", "k1"); answer.Status != http.StatusUnprocessableEntity {
		t.Errorf("same key, other body: %d %s", answer.Status, answer.Body)
	}
	if answer := bob.Do("POST", "/2/tweets", body("once"), "Idempotency-Key", "k1"); answer.Header.Get("Idempotency-Replayed") != "" || answer.Body == answers[0].Body {
		t.Errorf("another user's equal key: %s", answer.Body)
	}
}

func TestETag(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	id := post(t, ada, "a")
	path := "/2/tweets/" + id + "?expansions=author_id"
	tag := ada.Do("GET", path, "").Header.Get("ETag")
	if answer := ada.Do("GET", path, "", "If-None-Match", tag); answer.Status != http.StatusNotModified || answer.Body != "" {
		t.Errorf("unchanged: %d %s", answer.Status, answer.Body)
	}
	retweet(t, api, api.User("bob", ""), id)
	if answer := ada.Do("GET", path, "", "If-None-Match", tag); answer.Status != http.StatusOK || answer.Header.Get("ETag") == tag {
		t.Errorf("retweeted since: %d %s", answer.Status, answer.Body)
	}
}

// Likes are visible to users with the feature; a retweet has the number of its source. For other users the number is 0.
func TestLikeCount(t *testing.T) {
	t.Parallel()
	for features, want := range map[feature.Set]int{{Likes: true}: 1, {}: 0} {
		api := newAPIWith(t, features)
		ada, bob := api.User("ada", ""), api.User("bob", "")
		id := post(t, ada, "hello")
		again := retweet(t, api, bob, id)
		source, err := function.ParseID(id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := api.DB.Like(t.Context(), store.NewLike{UserID: bob.ID, TweetID: source}, idempotency.Key{}, store.Body{}); err != nil {
			t.Fatal(err)
		}
		one := apitest.Get[single](ada, "/2/tweets/"+again+"?expansions=referenced_tweets.id")
		several := apitest.Get[lookup](ada, "/2/tweets?ids="+id+"&expansions=referenced_tweets.id")
		for where, shown := range map[string][]wire.Tweet{"one": {one.Data}, "included": one.Includes.Tweets, "several": several.Data} {
			if len(shown) != 1 || shown[0].PublicMetrics.LikeCount != want {
				t.Errorf("%+v, %s: %+v, want %d likes", features, where, shown, want)
			}
		}
	}
}

func TestNeedsToken(t *testing.T) {
	t.Parallel()
	newAPI(t).NeedsToken("POST /2/tweets", "GET /2/tweets?ids=1", "GET /2/tweets/1", "DELETE /2/tweets/1")
}

func TestMetricsCountTweetsOnce(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	for range 3 {
		ada.Do("POST", "/2/tweets", body("once"), "Idempotency-Key", "k")
	}
	post(t, ada, strings.Repeat("a", 270))
	scraped := api.Metrics()
	id := wire.ID(ada.ID)
	for _, want := range []string{
		`tweet_service_tweet_counter{user_id="` + id + `"} 2`,
		`tweet_service_tweet_histogram_sum{user_id="` + id + `"} 274`,
		`tweet_service_counter{method="POST",path="/2/tweets"} 4`,
	} {
		if !slices.Contains(scraped, want) {
			t.Errorf("no %s in\n%s", want, strings.Join(scraped, "\n"))
		}
	}
}

func FuzzPost(f *testing.F) {
	for _, seed := range []string{body("a"), `{"text":"a","reply":{}}`, `{"Text":"\ud800"}`, `{"text":"a"`, `{"text":{}}`, `[]`, `{"text":"\u0000"}`} {
		f.Add(seed)
	}
	ada := newAPI(f).User("ada", "")
	f.Fuzz(func(t *testing.T, text string) {
		answer := ada.In(t).Do("POST", "/2/tweets", text, "Content-Type", "application/json") // newAPI fails the test on a 500
		if answer.Status == http.StatusCreated && !json.Valid([]byte(answer.Body)) {
			t.Errorf("%q: %s", text, answer.Body)
		}
	})
}

func FuzzLookup(f *testing.F) {
	for _, seed := range []string{"ids=1,2", "ids=9223372036854775807", "ids=1&expansions=author_id", "ids=%00", "tweet.fields=id,&ids=1"} {
		f.Add(seed)
	}
	ada := newAPI(f).User("ada", "")
	id := post(f, ada, "a")
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/2/tweets?", "/2/tweets/" + id + "?", fmt.Sprintf("/2/tweets/%s?", url.PathEscape(query))} {
			if _, err := url.Parse(path + query); err != nil {
				continue
			}
			ada.In(t).Do("GET", path+query, "")
		}
	})
}
