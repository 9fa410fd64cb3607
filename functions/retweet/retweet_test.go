package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
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
	return apitest.New(t, func(db *store.DB, tokens *token.Verifier, tel *telemetry.Telemetry) function.Routes {
		return New(db, tokens, tel.TweetMetrics(), feature.With(feature.Set{Likes: true}))
	})
}

// answer is the body of the answers to a retweet and to its undoing.
type answer = wire.Single[struct {
	Retweeted bool   `json:"retweeted"`
	RestID    string `json:"rest_id"`
}]

// post writes the rows that the function tweet would write.
func post(t testing.TB, api *apitest.API, u apitest.User) int64 {
	t.Helper()
	answer, err := api.DB.CreateTweet(t.Context(), store.NewTweet{AuthorID: u.ID, Text: "hello"}, idempotency.Key{}, store.Body{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := function.ParseID(string(answer.Body))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func body(tweet int64) string { return fmt.Sprintf(`{"tweet_id":"%d"}`, tweet) }

func retweet(t testing.TB, u apitest.User, tweet int64) string {
	t.Helper()
	got := apitest.Decode[answer](t, u.Do("POST", u.Path("/retweets"), body(tweet)), http.StatusOK)
	if !got.Data.Retweeted || got.Data.RestID == "" {
		t.Errorf("%+v", got)
	}
	return got.Data.RestID
}

func count(t testing.TB, api *apitest.API, tweet int64) int {
	t.Helper()
	found, err := api.DB.Tweets(t.Context(), []int64{tweet})
	if err != nil || len(found) != 1 {
		t.Fatalf("tweet %d: %v, %v", tweet, found, err)
	}
	return found[0].RetweetCount
}

func TestRetweetAndUndo(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob, cyd := api.User("ada", ""), api.User("bob", ""), api.User("cyd", "")
	tweet := post(t, api, ada)
	undo := func(u apitest.User, tweet any) {
		t.Helper()
		got := u.Do("DELETE", u.Path(fmt.Sprint("/retweets/", tweet)), "")
		if got.Status != http.StatusOK || got.Body != `{"data":{"retweeted":false}}`+"\n" {
			t.Errorf("%d %s", got.Status, got.Body)
		}
	}

	first := retweet(t, bob, tweet)
	if again := retweet(t, bob, tweet); again != first {
		t.Errorf("a second time made %s of %s", again, first)
	}
	id, _ := function.ParseID(first)
	retweet(t, cyd, id) // a retweet of a retweet refers to the source
	retweet(t, ada, tweet)
	if got := count(t, api, tweet); got != 3 {
		t.Errorf("%d retweets, want those of ada, bob and cyd", got)
	}
	undo(bob, tweet)
	undo(bob, tweet)
	undo(bob, 17)
	undo(bob, "9999999999999999999") // larger than an int64
	if got := count(t, api, tweet); got != 2 {
		t.Errorf("%d retweets, want those of ada and cyd", got)
	}
	if again := retweet(t, bob, tweet); again == first {
		t.Error("the retweet that was undone is back")
	}
}

func TestConcurrentRetweetsAreOne(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	tweet := post(t, api, ada)
	var group sync.WaitGroup
	ids := make([]string, 20)
	for i := range ids {
		group.Go(func() {
			key := []string{}
			if i%2 == 0 {
				key = []string{"Idempotency-Key", "k"}
			}
			got := ada.Do("POST", ada.Path("/retweets"), body(tweet), key...)
			ids[i] = fmt.Sprint(got.Status, " ", got.Body)
		})
	}
	group.Wait()
	if unique := slices.Compact(ids); len(unique) != 1 || count(t, api, tweet) != 1 {
		t.Errorf("%q, and %d retweets", unique, count(t, api, tweet))
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	one, other := post(t, api, ada), post(t, api, ada)
	send := func(tweet int64) apitest.Answer {
		return ada.Do("POST", ada.Path("/retweets"), body(tweet), "Idempotency-Key", "k")
	}
	first := send(one)
	ada.Do("DELETE", ada.Path(fmt.Sprint("/retweets/", one)), "")
	if again := send(one); again.Body != first.Body || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%s, want the first answer, %s", again.Body, first.Body)
	}
	if got := count(t, api, one); got != 0 {
		t.Errorf("the replay retweeted again: %d", got)
	}
	if got := send(other); got.Status != http.StatusUnprocessableEntity {
		t.Errorf("same key, other body: %d %s", got.Status, got.Body)
	}
}

func TestRetweetRefuses(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob := api.User("ada", ""), api.User("bob", "")
	tweet := post(t, api, bob)
	gone := post(t, api, bob)
	if err := api.DB.DeleteTweet(t.Context(), gone, store.Author{ID: bob.ID}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		method, path, body string
		want               int
	}{
		{"POST", bob.Path("/retweets"), body(tweet), http.StatusForbidden},
		{"DELETE", bob.Path(fmt.Sprint("/retweets/", tweet)), "", http.StatusForbidden},
		{"POST", "/2/users/me/retweets", body(tweet), http.StatusBadRequest},
		{"POST", ada.Path("/retweets"), body(gone), http.StatusNotFound},
		{"POST", ada.Path("/retweets"), body(17), http.StatusNotFound},
		{"POST", ada.Path("/retweets"), `{"tweet_id":"9999999999999999999"}`, http.StatusNotFound},
		{"POST", ada.Path("/retweets"), `{"tweet_id":"abc"}`, http.StatusUnprocessableEntity},
		{"POST", ada.Path("/retweets"), `{"tweet_id":17}`, http.StatusUnprocessableEntity},
		{"POST", ada.Path("/retweets"), `{}`, http.StatusUnprocessableEntity},
		{"POST", ada.Path("/retweets"), `{"tweet_id":"17","x":1}`, http.StatusUnprocessableEntity},
		{"POST", ada.Path("/retweets"), `17`, http.StatusBadRequest},
		{"DELETE", ada.Path("/retweets/x"), "", http.StatusBadRequest},
		{"POST", "/2/users/9999999999999999999/retweets", body(tweet), http.StatusForbidden},
		{"GET", "/2/tweets/9999999999999999999/retweeted_by", "", http.StatusNotFound},
		{"GET", "/2/tweets/17/retweeted_by", "", http.StatusNotFound},
		{"GET", fmt.Sprintf("/2/tweets/%d/retweeted_by", gone), "", http.StatusNotFound},
		{"GET", fmt.Sprintf("/2/tweets/%d/retweeted_by?max_results=101", tweet), "", http.StatusBadRequest},
		{"GET", fmt.Sprintf("/2/tweets/%d/retweeted_by?user.fields=hat", tweet), "", http.StatusBadRequest},
		{"GET", "/2/tweets/17/retweets", "", http.StatusNotFound},
		{"GET", fmt.Sprintf("/2/tweets/%d/retweets", gone), "", http.StatusNotFound},
		{"GET", fmt.Sprintf("/2/tweets/%d/retweets?max_results=101", tweet), "", http.StatusBadRequest},
		{"GET", fmt.Sprintf("/2/tweets/%d/retweets?pagination_token=x", tweet), "", http.StatusBadRequest},
	}
	for _, tt := range tests {
		if got := ada.Do(tt.method, tt.path, tt.body); got.Status != tt.want {
			t.Errorf("%s %s %s: %d %s, want %d", tt.method, tt.path, tt.body, got.Status, got.Body, tt.want)
		}
	}
}

func TestWhoRetweetedIsPaged(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	tweet := post(t, api, ada)
	by, retweets := fmt.Sprintf("/2/tweets/%d/retweeted_by", tweet), fmt.Sprintf("/2/tweets/%d/retweets", tweet)
	for _, path := range []string{by, retweets} {
		if got, want := ada.Do("GET", path, "").Body, `{"data":[],"meta":{"result_count":0}}`+"\n"; got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	var names, made []string // the latest first
	for i := range 7 {
		u := api.User(fmt.Sprint("user", i), "")
		names, made = slices.Insert(names, 0, u.Name), slices.Insert(made, 0, retweet(t, u, tweet))
	}
	api.Settle()
	user, retweeted := func(u wire.User) string { return u.Username }, func(t wire.Tweet) string { return t.ID }
	pages(t, ada, by, names, user)
	pages(t, ada, retweets, made, retweeted)
	pages(t, ada, "/2/tweets/"+made[3]+"/retweeted_by", names, user) // those of its source
	pages(t, ada, "/2/tweets/"+made[3]+"/retweets", made, retweeted)

	got := apitest.Get[wire.List[wire.Tweet]](ada, retweets+"?max_results=1&expansions=author_id,referenced_tweets.id")
	if r := got.Data[0]; r.Text != "RT @ada: hello" || len(r.ReferencedTweets) != 1 || r.ReferencedTweets[0].ID != wire.ID(tweet) || r.PublicMetrics.RetweetCount != 7 {
		t.Errorf("%+v", r)
	}
	if i := got.Includes; got.Meta.NewestID != made[0] || len(i.Users) != 1 || i.Users[0].Username != names[0] || len(i.Tweets) != 1 || i.Tweets[0].ID != wire.ID(tweet) {
		t.Errorf("%+v", got)
	}
}

// pages goes through a list to its oldest entry and back.
func pages[T any](t *testing.T, u apitest.User, path string, want []string, name func(T) string) {
	t.Helper()
	page := func(token string) (names []string, _ wire.Meta) {
		l := apitest.Get[wire.List[T]](u, path+"?max_results=3&pagination_token="+token)
		for _, item := range l.Data {
			names = append(names, name(item))
		}
		return names, l.Meta
	}
	got, meta := page("")
	older := got
	for meta.NextToken != "" {
		got, meta = page(meta.NextToken)
		older = slices.Concat(older, got)
	}
	newer := got
	for meta.PreviousToken != "" {
		got, meta = page(meta.PreviousToken)
		newer = slices.Concat(got, newer)
	}
	if diff := cmp.Diff(want, older); diff != "" {
		t.Errorf("%s, to the oldest: %s", path, diff)
	}
	if diff := cmp.Diff(want, newer); diff != "" {
		t.Errorf("%s, and back: %s", path, diff)
	}
}

func TestMetricsCountRetweets(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	tweet := post(t, api, ada)
	for range 2 {
		ada.Do("POST", ada.Path("/retweets"), body(tweet), "Idempotency-Key", "k")
	}
	if want := fmt.Sprintf(`tweet_service_retweet_counter{tweet_id="%d"} 1`, tweet); !slices.Contains(api.Metrics(), want) {
		t.Errorf("no %s in\n%s", want, strings.Join(api.Metrics(), "\n"))
	}
}

func TestNeedsToken(t *testing.T) {
	t.Parallel()
	newAPI(t).NeedsToken("POST /2/users/1/retweets", "DELETE /2/users/1/retweets/2", "GET /2/tweets/1/retweeted_by", "GET /2/tweets/1/retweets")
}

func FuzzRetweet(f *testing.F) {
	for _, seed := range []string{body(17), `{"tweet_id":"9999999999999999999"}`, `{"tweet_id":null}`, `{"tweet_id":""}`, `{`} {
		f.Add(seed, "x")
	}
	f.Add(body(17), "max_results=1&pagination_token=AAAAAAAAAAAB")
	api := newAPI(f)
	ada := api.User("ada", "")
	tweet := post(f, api, ada)
	f.Fuzz(func(t *testing.T, body, text string) {
		u := ada.In(t) // its requests fail the test on a 500
		u.Do("POST", ada.Path("/retweets"), body, "Content-Type", "application/json")
		u.Do("DELETE", ada.Path("/retweets/")+url.PathEscape(text), "")
		for _, list := range []string{"retweeted_by", "retweets"} {
			if path := fmt.Sprintf("/2/tweets/%d/%s?%s", tweet, list, text); isURL(path) {
				u.Do("GET", path, "")
			}
		}
	})
}

func isURL(text string) bool {
	_, err := url.Parse(text)
	return err == nil
}
