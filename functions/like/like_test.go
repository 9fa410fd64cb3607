package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/feature"
	"warble/shared/function"
	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/telemetry"
	"warble/shared/token"
	"warble/shared/wire"
)

func TestMain(m *testing.M) { apitest.Main(m, main) }

func newAPI(t testing.TB) *apitest.API {
	t.Helper()
	return newAPIWith(t, feature.Set{Likes: true})
}

func newAPIWith(t testing.TB, features feature.Set) *apitest.API {
	t.Helper()
	return apitest.New(t, func(db *store.DB, tokens *token.Verifier, _ *telemetry.Telemetry) function.Routes {
		return New(db, tokens, feature.With(features))
	})
}

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

const done, undone = `{"data":{"liked":true}}`, `{"data":{"liked":false}}` + "\n"

func like(t testing.TB, u apitest.User, tweet int64) {
	t.Helper()
	if got := u.Do("POST", u.Path("/likes"), body(tweet)); got.Status != http.StatusOK || got.Body != done {
		t.Errorf("%d %s", got.Status, got.Body)
	}
}

func count(t testing.TB, api *apitest.API, tweet int64) int {
	t.Helper()
	found, err := api.DB.Tweets(t.Context(), []int64{tweet})
	if err != nil || len(found) != 1 {
		t.Fatalf("tweet %d: %v, %v", tweet, found, err)
	}
	return found[0].LikeCount
}

func TestLikeAndUndo(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob, cyd := api.User("ada", ""), api.User("bob", ""), api.User("cyd", "")
	tweet := post(t, api, ada)
	undo := func(u apitest.User, tweet any) {
		t.Helper()
		got := u.Do("DELETE", u.Path(fmt.Sprint("/likes/", tweet)), "")
		if got.Status != http.StatusOK || got.Body != undone {
			t.Errorf("%d %s", got.Status, got.Body)
		}
	}

	answer, err := api.DB.Retweet(t.Context(), store.NewRetweet{UserID: ada.ID, TweetID: tweet}, idempotency.Key{}, store.Body{})
	if err != nil {
		t.Fatal(err)
	}
	retweet, err := function.ParseID(string(answer.Body))
	if err != nil {
		t.Fatal(err)
	}
	like(t, bob, tweet)
	like(t, bob, tweet)
	like(t, cyd, retweet) // its source
	like(t, ada, tweet)
	if got := count(t, api, tweet); got != 3 {
		t.Errorf("%d likes, want those of ada, bob and cyd", got)
	}
	undo(bob, tweet)
	undo(bob, tweet)
	undo(bob, 17)
	undo(bob, "9999999999999999999") // larger than an int64
	undo(cyd, retweet)
	if got := count(t, api, tweet); got != 1 {
		t.Errorf("%d likes, want ada's", got)
	}
	like(t, bob, tweet)
	if got := count(t, api, tweet); got != 2 {
		t.Errorf("%d likes, want those of ada and, again, bob", got)
	}
}

func TestConcurrentLikesAreOne(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	tweet := post(t, api, ada)
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			key := []string{}
			if i%2 == 0 {
				key = []string{"Idempotency-Key", "k"}
			}
			if got := ada.Do("POST", ada.Path("/likes"), body(tweet), key...); got.Status != http.StatusOK || got.Body != done {
				t.Errorf("%d %s", got.Status, got.Body)
			}
		})
	}
	group.Wait()
	if got := count(t, api, tweet); got != 1 {
		t.Errorf("%d likes", got)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	one, other := post(t, api, ada), post(t, api, ada)
	send := func(tweet int64) apitest.Answer {
		return ada.Do("POST", ada.Path("/likes"), body(tweet), "Idempotency-Key", "k")
	}
	first := send(one)
	ada.Do("DELETE", ada.Path(fmt.Sprint("/likes/", one)), "")
	if again := send(one); again.Body != first.Body || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%s, want the first answer, %s", again.Body, first.Body)
	}
	if got := count(t, api, one); got != 0 {
		t.Errorf("the replay liked again: %d", got)
	}
	if got := send(other); got.Status != http.StatusUnprocessableEntity {
		t.Errorf("same key, other body: %d %s", got.Status, got.Body)
	}
}

func TestLikeRefuses(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob := api.User("ada", ""), api.User("bob", "")
	tweet, gone := post(t, api, bob), post(t, api, bob)
	if err := api.DB.DeleteTweet(t.Context(), gone, store.Author{ID: bob.ID}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		method, path, body string
		want               int
	}{
		{"POST", bob.Path("/likes"), body(tweet), http.StatusForbidden},
		{"DELETE", bob.Path(fmt.Sprint("/likes/", tweet)), "", http.StatusForbidden},
		{"POST", "/2/users/me/likes", body(tweet), http.StatusBadRequest},
		{"POST", ada.Path("/likes"), body(gone), http.StatusNotFound},
		{"POST", ada.Path("/likes"), body(17), http.StatusNotFound},
		{"POST", ada.Path("/likes"), `{"tweet_id":"9999999999999999999"}`, http.StatusNotFound},
		{"POST", ada.Path("/likes"), `{"tweet_id":"abc"}`, http.StatusUnprocessableEntity},
		{"POST", ada.Path("/likes"), `{"tweet_id":17}`, http.StatusUnprocessableEntity},
		{"POST", ada.Path("/likes"), `{}`, http.StatusUnprocessableEntity},
		{"POST", ada.Path("/likes"), `{"tweet_id":"17","x":1}`, http.StatusUnprocessableEntity},
		{"POST", ada.Path("/likes"), `{"tweet_id":"17","Tweet":1}`, http.StatusUnprocessableEntity},
		{"POST", ada.Path("/likes"), `17`, http.StatusBadRequest},
		{"DELETE", ada.Path("/likes/x"), "", http.StatusBadRequest},
		{"POST", "/2/users/9999999999999999999/likes", body(tweet), http.StatusForbidden},
		{"GET", "/2/tweets/9999999999999999999/liking_users", "", http.StatusNotFound},
		{"GET", "/2/tweets/17/liking_users", "", http.StatusNotFound},
		{"GET", fmt.Sprintf("/2/tweets/%d/liking_users", gone), "", http.StatusNotFound},
		{"GET", fmt.Sprintf("/2/tweets/%d/liking_users?max_results=101", tweet), "", http.StatusBadRequest},
		{"GET", fmt.Sprintf("/2/tweets/%d/liking_users?user.fields=hat", tweet), "", http.StatusBadRequest},
		{"GET", "/2/users/17/liked_tweets", "", http.StatusNotFound},
		{"GET", "/2/users/x/liked_tweets", "", http.StatusBadRequest},
		{"GET", ada.Path("/liked_tweets?tweet.fields=hat"), "", http.StatusBadRequest},
	}
	for _, tt := range tests {
		if got := ada.Do(tt.method, tt.path, tt.body); got.Status != tt.want {
			t.Errorf("%s %s %s: %d %s, want %d", tt.method, tt.path, tt.body, got.Status, got.Body, tt.want)
		}
	}
}

// Without the feature, every request gets the same answer and changes nothing.
func TestTheFeatureIsNotOpen(t *testing.T) {
	t.Parallel()
	api := newAPIWith(t, feature.Set{})
	ada, bob := api.User("ada", ""), api.User("bob", "")
	tweet := post(t, api, bob)
	for _, tt := range []struct{ method, path, body string }{
		{"POST", ada.Path("/likes"), body(tweet)},
		{"POST", bob.Path("/likes"), body(tweet)},
		{"POST", ada.Path("/likes"), `{`},
		{"DELETE", ada.Path(fmt.Sprint("/likes/", tweet)), ""},
		{"GET", fmt.Sprintf("/2/tweets/%d/liking_users", tweet), ""},
		{"GET", "/2/tweets/x/liking_users", ""},
		{"GET", ada.Path("/liked_tweets"), ""},
	} {
		var got struct{ Type, Detail string }
		answer := ada.Do(tt.method, tt.path, tt.body)
		if err := json.Unmarshal([]byte(answer.Body), &got); err != nil || answer.Status != http.StatusNotFound ||
			got.Type != problem.NotOpen.Type() || got.Detail != "the feature likes is not open to you" {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, answer.Status, answer.Body)
		}
	}
	if got := count(t, api, tweet); got != 0 {
		t.Errorf("%d likes", got)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	tweet := post(t, api, ada)
	liking := fmt.Sprintf("/2/tweets/%d/liking_users", tweet)
	for _, path := range []string{liking, ada.Path("/liked_tweets")} {
		if got, want := ada.Do("GET", path, "").Body, `{"data":[],"meta":{"result_count":0}}`+"\n"; got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	var users, tweets []string // the latest like first
	for i := range 7 {
		u := api.User(fmt.Sprint("user", i), "")
		like(t, u, tweet)
		users = slices.Insert(users, 0, wire.ID(u.ID))
	}
	posted := make([]int64, 7)
	for i := range posted {
		posted[i] = post(t, api, ada)
	}
	for _, id := range slices.Backward(posted) { // the latest liked is the first posted
		like(t, ada, id)
		tweets = slices.Insert(tweets, 0, wire.ID(id))
	}
	api.Settle()
	pages(t, ada, liking, users, func(u wire.User) string { return u.ID })
	pages(t, ada, ada.Path("/liked_tweets"), tweets, func(t wire.Tweet) string { return t.ID })

	got := apitest.Get[wire.List[wire.Tweet]](ada, ada.Path("/liked_tweets?max_results=1&expansions=author_id"))
	if len(got.Data) != 1 || got.Data[0].PublicMetrics.LikeCount != 1 || len(got.Includes.Users) != 1 || got.Includes.Users[0].Username != "ada" {
		t.Errorf("%+v", got)
	}
	if err := api.DB.DeleteTweet(t.Context(), posted[0], store.Author{ID: ada.ID}); err != nil {
		t.Fatal(err)
	}
	pages(t, ada, ada.Path("/liked_tweets"), tweets[1:], func(t wire.Tweet) string { return t.ID })
}

// pages follows the tokens of a list to its end and back.
func pages[T any](t *testing.T, u apitest.User, path string, want []string, id func(T) string) {
	t.Helper()
	ids := func(l wire.List[T]) (ids []string) {
		for _, item := range l.Data {
			ids = append(ids, id(item))
		}
		return ids
	}
	page := apitest.Get[wire.List[T]](u, path+"?max_results=3")
	older := ids(page)
	for page.Meta.NextToken != "" {
		page = apitest.Get[wire.List[T]](u, path+"?max_results=3&pagination_token="+page.Meta.NextToken)
		older = append(older, ids(page)...)
	}
	if diff := cmp.Diff(want, older); diff != "" {
		t.Errorf("%s, to the oldest: %s", path, diff)
	}
	newer := ids(page)
	for page.Meta.PreviousToken != "" {
		page = apitest.Get[wire.List[T]](u, path+"?max_results=3&pagination_token="+page.Meta.PreviousToken)
		newer = append(ids(page), newer...)
	}
	if diff := cmp.Diff(want, newer); diff != "" {
		t.Errorf("%s, and back: %s", path, diff)
	}
}

func TestNeedsToken(t *testing.T) {
	t.Parallel()
	requests := []string{"POST /2/users/1/likes", "DELETE /2/users/1/likes/2", "GET /2/tweets/1/liking_users", "GET /2/users/1/liked_tweets"}
	newAPI(t).NeedsToken(requests...)
	newAPIWith(t, feature.Set{}).NeedsToken(requests...)
}

func FuzzLike(f *testing.F) {
	for _, seed := range []string{body(17), `{"tweet_id":"9999999999999999999"}`, `{"tweet_id":null}`, `{"tweet_id":""}`, `{`} {
		f.Add(seed, "x")
	}
	f.Add(body(17), "max_results=1&pagination_token=AAAAAAAAAAAB")
	api := newAPI(f)
	ada := api.User("ada", "")
	tweet := post(f, api, ada)
	f.Fuzz(func(t *testing.T, body, text string) {
		u := ada.In(t) // its requests fail the test on a 500
		u.Do("POST", ada.Path("/likes"), body, "Content-Type", "application/json")
		u.Do("DELETE", ada.Path("/likes/")+url.PathEscape(text), "")
		for _, path := range []string{fmt.Sprintf("/2/tweets/%d/liking_users?%s", tweet, text), ada.Path("/liked_tweets?" + text)} {
			if _, err := url.Parse(path); err == nil {
				u.Do("GET", path, "")
			}
		}
	})
}
