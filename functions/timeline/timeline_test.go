package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/experiment"
	"warble/shared/feature"
	"warble/shared/function"
	"warble/shared/idempotency"
	"warble/shared/store"
	"warble/shared/telemetry"
	"warble/shared/token"
	"warble/shared/wire"
)

func TestMain(m *testing.M) { apitest.Main(m, main) }

func newAPI(t testing.TB) *apitest.API {
	t.Helper()
	return newAPIWith(t, feature.Set{})
}

func newAPIWith(t testing.TB, features feature.Set) *apitest.API {
	t.Helper()
	return apitest.New(t, func(db *store.DB, tokens *token.Verifier, _ *telemetry.Telemetry) function.Routes {
		return New(db, tokens, feature.With(features))
	})
}

type list = wire.List[wire.Tweet]

const home = "/timelines/reverse_chronological"

// post writes the rows that the function tweet would write.
func post(t testing.TB, api *apitest.API, u apitest.User, community, text string) string {
	t.Helper()
	tweet := store.NewTweet{AuthorID: u.ID, Community: community, Text: text}
	answer, err := api.DB.CreateTweet(t.Context(), tweet, idempotency.Key{}, store.Body{})
	if err != nil {
		t.Fatal(err)
	}
	return string(answer.Body)
}

// retweet writes the rows that the function retweet would write.
func retweet(t testing.TB, api *apitest.API, u apitest.User, community, tweet string) string {
	t.Helper()
	id, err := strconv.ParseInt(tweet, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := api.DB.Retweet(t.Context(), store.NewRetweet{UserID: u.ID, Community: community, TweetID: id}, idempotency.Key{}, store.Body{})
	if err != nil {
		t.Fatal(err)
	}
	return string(answer.Body)
}

func ids(l list) []string {
	found := []string{}
	for _, tweet := range l.Data {
		found = append(found, tweet.ID)
	}
	return found
}

func newestFirst(ids ...string) []string {
	slices.Reverse(ids)
	return ids
}

func TestAnEmptyListHasDataAndMeta(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	for _, community := range []string{"", "gophers"} {
		u := api.User("u"+community, community)
		for _, path := range []string{"/tweets", home} {
			if got, want := u.Do("GET", u.Path(path), "").Body, `{"data":[],"meta":{"result_count":0}}`+"\n"; got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
	}
}

func TestWhichTweetsAUserSees(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob := api.User("ada", "gophers"), api.User("bob", "gophers")
	cyd, dee := api.User("cyd", "sres"), api.User("dee", "")
	byAda := post(t, api, ada, "gophers", "by ada")
	byBob := post(t, api, bob, "gophers", "by bob")
	byCyd := post(t, api, cyd, "sres", "by cyd")
	byDee := post(t, api, dee, "", "by dee")
	again := retweet(t, api, bob, "gophers", byCyd)
	api.Settle()

	tests := []struct {
		caller apitest.User
		path   string
		want   []string
	}{
		{ada, ada.Path(home), newestFirst(byAda, byBob, again)},
		{bob, bob.Path(home), newestFirst(byAda, byBob, again)},
		{cyd, cyd.Path(home), newestFirst(byCyd)},
		{dee, dee.Path(home), newestFirst(byDee)},
		{dee, ada.Path("/tweets"), newestFirst(byAda)},
		{ada, bob.Path("/tweets"), newestFirst(byBob, again)},
		{ada, bob.Path("/tweets?exclude=retweets"), newestFirst(byBob)},
		{ada, bob.Path("/tweets?exclude=replies"), newestFirst(byBob, again)},
		{ada, ada.Path(home + "?exclude=retweets,replies"), newestFirst(byAda, byBob)},
	}
	for _, tt := range tests {
		got := apitest.Get[list](tt.caller, tt.path)
		if diff := cmp.Diff(tt.want, ids(got)); diff != "" {
			t.Errorf("%s asks for %s: %s", tt.caller.Name, tt.path, diff)
		}
		want := wire.Meta{ResultCount: len(tt.want), NewestID: tt.want[0], OldestID: tt.want[len(tt.want)-1]}
		if diff := cmp.Diff(want, got.Meta); diff != "" {
			t.Errorf("%s asks for %s: meta %s", tt.caller.Name, tt.path, diff)
		}
	}
	if answer := ada.Do("GET", bob.Path(home), ""); answer.Status != http.StatusForbidden {
		t.Errorf("another's home timeline: %d %s", answer.Status, answer.Body)
	}
	if answer := ada.Do("GET", "/2/users/17/tweets", ""); answer.Status != http.StatusNotFound {
		t.Errorf("nobody's tweets: %d %s", answer.Status, answer.Body)
	}
}

func TestARetweetInATimeline(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob := api.User("ada", "gophers"), api.User("bob", "gophers")
	source := post(t, api, ada, "", "hello")
	again := retweet(t, api, bob, "gophers", source)

	got := apitest.Get[list](bob, bob.Path(home+"?expansions=author_id,referenced_tweets.id.author_id,referenced_tweets.id"))
	tweet := got.Data[0]
	want := wire.Tweet{
		ID: again, Text: "RT @ada: hello", AuthorID: wire.ID(bob.ID), CreatedAt: tweet.CreatedAt, PublicMetrics: wire.Metrics{RetweetCount: 1},
		ReferencedTweets: []wire.Reference{{Type: "retweeted", ID: source}}, EditHistoryTweetIDs: [1]string{again},
	}
	if diff := cmp.Diff(want, tweet); diff != "" {
		t.Error(diff)
	}
	if i := got.Includes; len(i.Users) != 2 || i.Users[0].Username != "ada" || len(i.Tweets) != 1 || i.Tweets[0].ID != source {
		t.Errorf("includes: %+v", i)
	}
	id, _ := strconv.ParseInt(source, 10, 64)
	if err := api.DB.DeleteTweet(t.Context(), id, store.Author{ID: ada.ID}); err != nil {
		t.Fatal(err)
	}
	if got := apitest.Get[list](bob, bob.Path("/tweets")); len(got.Data) != 0 {
		t.Errorf("the retweet of a deleted tweet is still there: %+v", got.Data)
	}
}

// While another user posts, a reader pages to the oldest tweet and sees each tweet that existed at the start exactly once. On the
// way back the reader sees them again, and then the new tweets. The size of the pages does not matter.
func TestPagesWhileTweetsArePosted(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob := api.User("ada", "gophers"), api.User("bob", "gophers")
	var all []string
	for i := range 47 {
		all = append(all, post(t, api, ada, "gophers", fmt.Sprint("before ", i)))
	}
	there := newestFirst(slices.Clone(all)...)
	pages := 0
	page := func(token string) list {
		pages++
		api.Settle()
		got := apitest.Get[list](ada, ada.Path(fmt.Sprintf("%s?max_results=%d&pagination_token=%s", home, 5+pages%3, token)))
		all = append(all, post(t, api, bob, "gophers", fmt.Sprint("meanwhile ", pages)))
		return got
	}

	got := page("")
	older := ids(got)
	for got.Meta.NextToken != "" {
		got = page(got.Meta.NextToken)
		older = append(older, ids(got)...)
	}
	if diff := cmp.Diff(there, older); diff != "" {
		t.Errorf("to the oldest: %s", diff)
	}
	newer := ids(got)
	for got.Meta.PreviousToken != "" {
		got = page(got.Meta.PreviousToken)
		newer = append(ids(got), newer...)
	}
	if diff := cmp.Diff(newestFirst(all[:len(all)-1]...), newer); diff != "" { // the last was posted after the last page
		t.Errorf("and back: %s", diff)
	}
}

// 8 connections post 10 000 tweets. One reader continuously follows newest_id, another previous_token, alternating between two
// processes. Neither writes. Each sees every tweet once.
func TestAReaderOfATimelineSeesEveryTweetOnce(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 1250
	const settleLimit = 2 * time.Minute // about 2 s, on a machine that is not busy
	api := newAPI(t)
	ada, bob := api.User("ada", "gophers"), api.User("bob", "gophers")
	processes := []*apitest.Process{api.Process(), api.Process()}
	for range 2 { // paging to newer tweets needs a first page
		post(t, api, bob, "gophers", "before")
	}
	api.Settle()
	token := apitest.Get[list](ada, ada.Path(home+"?max_results=1")).Meta.NextToken
	token = apitest.Get[list](ada, ada.Path(home+"?max_results=1&pagination_token="+token)).Meta.PreviousToken

	var writing, reading sync.WaitGroup
	for w := range writers {
		author, db := api.User(fmt.Sprint("author", w), "gophers"), api.Another()
		writing.Go(func() {
			for range each {
				if _, err := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: author.ID, Community: "gophers", Text: "a"}, idempotency.Key{}, store.Body{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	began := time.Now()
	limit := make(chan struct{})
	go func() { writing.Wait(); time.Sleep(settleLimit); close(limit) }()
	follow := func(name string, first, all int, more func(page func(query string) list) []string) {
		reading.Go(func() {
			var met []string
			requests := 0
			for len(met) < all && !t.Failed() {
				select {
				case <-limit:
					t.Errorf("%s: not all were there %s after the last was posted", name, settleLimit)
				default:
				}
				met = append(met, more(func(query string) list {
					requests++
					return apitest.Get[list](ada.At(processes[requests%2]), ada.Path(home+"?max_results=100&"+query))
				})...)
			}
			writing.Wait()
			there := api.Column(`select id::text from tweets order by id offset $1 limit $2`, first, all)
			if !slices.Equal(met, there) {
				slices.Sort(met)
				t.Errorf("%s: met %d tweets, %d of them once, want each of %d", name, len(met), len(slices.Compact(met)), len(there))
			}
			t.Logf("%s: %d tweets in %d requests and %s", name, len(there), requests, time.Since(began))
		})
	}
	newest := ""
	follow("newest_id", 0, 2+writers*each, func(page func(string) list) (met []string) {
		first := page("since_id=" + newest)
		for l := first; ; l = page("since_id=" + newest + "&pagination_token=" + l.Meta.NextToken) {
			met = append(met, ids(l)...)
			if l.Meta.NextToken == "" {
				break
			}
		}
		if len(first.Data) > 0 {
			newest = first.Meta.NewestID
		}
		slices.Reverse(met)
		return met
	})
	follow("previous_token", 1, writers*each, func(page func(string) list) []string {
		l := page("pagination_token=" + token)
		if l.Meta.PreviousToken == "" {
			return nil // wait for a whole page
		}
		token = l.Meta.PreviousToken
		met := ids(l)
		slices.Reverse(met)
		return met
	})
	reading.Wait()
}

// While another transaction has an earlier id, only the author's own list has a new tweet, and no other reader may continue from
// that tweet. After 2 s, others see the tweet too. If the machine stalls for that long, the test tries again.
func TestOnlyTheAuthorSeesWhatAnEarlierTweetMayPrecede(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob, cyd := api.User("ada", "gophers"), api.User("bob", "gophers"), api.User("cyd", "gophers")
	all := []string{post(t, api, cyd, "gophers", "first"), post(t, api, cyd, "gophers", "second")}
	get := func(u apitest.User, query string) list { return apitest.Get[list](u, u.Path(home+"?"+query)) }
	settled := func() {
		t.Helper()
		want := newestFirst(slices.Clone(all)...)
		for deadline := time.Now().Add(time.Minute); !slices.Equal(ids(get(bob, "max_results=100")), want); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("bob does not see %v", want)
			}
		}
	}
	var before, own []string
	var byAda, byBob, page, next, back, one, poll list
	for deadline := time.Now().Add(time.Minute); ; {
		settled()
		before = newestFirst(slices.Clone(all)...)
		api.Hold(`select next_id()`)
		began := time.Now()
		own = newestFirst(post(t, api, ada, "gophers", "third"), post(t, api, ada, "gophers", "fourth"))
		all = append(all, own[1], own[0])
		byAda, byBob = get(ada, "max_results=100"), get(bob, "max_results=100")
		page = get(ada, "max_results=1")
		next = get(ada, "max_results=1&pagination_token="+page.Meta.NextToken)
		back = get(ada, "max_results=100&pagination_token="+next.Meta.PreviousToken)
		one = get(ada, "max_results=1&pagination_token="+next.Meta.PreviousToken)
		poll = get(ada, "max_results=100&since_id="+byAda.Meta.NewestID)
		if time.Since(began) < 2*time.Second || time.Now().After(deadline) {
			break
		}
	}
	for what, lists := range map[string][2][]string{
		"ada's":                        {ids(byAda), append(slices.Clone(own), before...)},
		"bob's":                        {ids(byBob), before},
		"ada's first":                  {ids(page), own[:1]},
		"ada's second":                 {ids(next), own[1:]},
		"up from there":                {ids(back), own},
		"up in pages of one":           {ids(one), {}}, // otherwise it would appear again on the next page
		"ada's since the newest":       {ids(poll), own},
		"newest of ada's and of bob's": {{byAda.Meta.NewestID, byBob.Meta.NewestID}, {before[0], before[0]}},
		"tokens up from there":         {{back.Meta.PreviousToken, one.Meta.PreviousToken}, {"", ""}},
	} {
		if diff := cmp.Diff(lists[1], lists[0]); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	settled()
}

// A page that is empty because all its tweets were deleted still leads back to those that its token had left out.
func TestAnEmptyPageLeadsBack(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	var all []string
	for i := range 4 {
		all = append(all, post(t, api, ada, "", fmt.Sprint(i)))
	}
	api.Settle()
	first := apitest.Get[list](ada, ada.Path("/tweets?max_results=2"))
	api.SQL(`update tweets set deleted_at = now(), text = '' where id in ($1::bigint, $2::bigint)`, all[0], all[1])
	empty := apitest.Get[list](ada, ada.Path("/tweets?max_results=2&pagination_token="+first.Meta.NextToken))
	if len(empty.Data) != 0 || empty.Meta.NextToken != "" || empty.Meta.PreviousToken == "" {
		t.Fatalf("%+v", empty)
	}
	back := apitest.Get[list](ada, ada.Path("/tweets?max_results=2&pagination_token="+empty.Meta.PreviousToken))
	if diff := cmp.Diff(ids(first), ids(back)); diff != "" {
		t.Error(diff)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	at := func(i int) time.Time { return time.Date(2026, 3, 1, 12, 0, 0, i*int(time.Millisecond), time.UTC) }
	var all []string
	for i := range 6 {
		id := store.FirstID(at(i)) + 7 // created_at is the id's time
		api.SQL(`insert into tweets (id, author_id, text) values ($1, $2, 'a')`, id, ada.ID)
		all = append(all, wire.ID(id))
	}
	const precise = "2006-01-02T15:04:05.000Z07:00"
	east := time.FixedZone("", 5*3600+1800)
	tests := map[string][]string{
		"since_id=" + all[3]:                                          all[4:],
		"until_id=" + all[3]:                                          all[:3],
		"since_id=" + all[1] + "&until_id=" + all[4]:                  all[2:4],
		"start_time=" + at(3).Format(precise):                         all[3:],
		"end_time=" + at(3).Format(precise):                           all[:3],
		"end_time=" + url.QueryEscape(at(3).In(east).Format(precise)): all[:3],
		"end_time=" + at(3).In(east).Format(precise):                  all[:3], // + unescaped
		"start_time=1999-12-31T23:59:60Z":                             nil,
		"start_time=0001-01-01T00:00:00Z":                             all,
		"start_time=2026-01-01t00:00:00z":                             all,
		"start_time=9999-12-31T23:59:59Z":                             {},
		"end_time=9999-12-31T23:59:59Z":                               all,
		"end_time=1999-12-31T23:59:59Z":                               {},
		"since_id=9999999999999999999":                                {},
		"until_id=9999999999999999999":                                all,
		"until_id=0":                                                  {},
		"since_id=0":                                                  all,
		"since_id=x":                                                  nil,
		"until_id=-1":                                                 nil,
		"start_time=yesterday":                                        nil,
		"start_time=2026-01-01":                                       nil,
		"start_time=2026-01-01T1:00:00Z":                              nil,
		"start_time=2026-01-01T01:00:00,5Z":                           nil,
		"start_time=2026-01-01T01:00:00%2B24:00":                      nil,
		"start_time=2026-01-01T01:00:00%2B05:60":                      nil,
		"start_time=2026-01-01T01:00:00":                              nil,
		"start_time=2026-01-01%2001:00:00Z":                           nil,
		"exclude=everything":                                          nil,
		"max_results=0":                                               nil,
		"max_results=101":                                             nil,
		"max_results=ten":                                             nil,
		"max_results=100":                                             all,
		"max_results=2":                                               all[4:],
		"pagination_token=x":                                          nil,
		"pagination_token=%00":                                        nil,
		"tweet.fields=everything":                                     nil,
	}
	for query, want := range tests {
		answer := ada.Do("GET", ada.Path("/tweets?"+query), "")
		if want == nil {
			parameter, _, _ := strings.Cut(query, "=")
			if answer.Status != http.StatusBadRequest || !strings.Contains(answer.Body, `"field":"`+parameter+`"`) {
				t.Errorf("%s: %d %s, want a 400 that names it", query, answer.Status, answer.Body)
			}
			continue
		}
		if diff := cmp.Diff(newestFirst(slices.Clone(want)...), ids(apitest.Decode[list](t, answer, http.StatusOK))); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	// A token can be combined with other filters and another page size.
	page := apitest.Get[list](ada, ada.Path("/tweets?max_results=2"))
	got := apitest.Get[list](ada, ada.Path("/tweets?max_results=3&since_id="+all[1]+"&pagination_token="+page.Meta.NextToken))
	if diff := cmp.Diff([]string{all[3], all[2]}, ids(got)); diff != "" {
		t.Error(diff)
	}
}

func TestAPageHasTenTweetsByDefault(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada := api.User("ada", "")
	for range 11 {
		post(t, api, ada, "", "a")
	}
	if got := apitest.Get[list](ada, ada.Path("/tweets")); len(got.Data) != 10 || got.Meta.NextToken == "" || got.Meta.PreviousToken != "" {
		t.Errorf("%d tweets, %+v", len(got.Data), got.Meta)
	}
}

// Likes are visible to users with the feature; a retweet has the number of its source. For other users the number is 0.
func TestLikeCount(t *testing.T) {
	t.Parallel()
	for features, want := range map[feature.Set]int{{Likes: true}: 1, {}: 0} {
		api := newAPIWith(t, features)
		ada := api.User("ada", "gophers")
		tweet := post(t, api, ada, "gophers", "hello")
		retweet(t, api, ada, "gophers", tweet)
		id, err := function.ParseID(tweet)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := api.DB.Like(t.Context(), store.NewLike{UserID: ada.ID, TweetID: id}, idempotency.Key{}, store.Body{}); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/tweets", home} {
			got := apitest.Get[list](ada, ada.Path(path+"?expansions=referenced_tweets.id"))
			shown := slices.Concat(got.Data, got.Includes.Tweets)
			if len(shown) != 3 || slices.ContainsFunc(shown, func(t wire.Tweet) bool { return t.PublicMetrics.LikeCount != want }) {
				t.Errorf("%+v, %s: %+v, want %d likes each", features, path, shown, want)
			}
		}
	}
}

// An exposure that was not recorded would spoil the experiment.
func TestLikesAreHiddenIfTheExposureCannotBeRecorded(t *testing.T) {
	t.Parallel()
	api := newAPIWith(t, feature.Set{Likes: true})
	ada := api.User("ada", "gophers")
	tweet := post(t, api, ada, "gophers", "hello")
	retweet(t, api, ada, "gophers", tweet)
	api.SQL(`update tweet_counts set likes = 5`)
	likes := func(u apitest.User) (shown []int) {
		got := apitest.Get[list](u, u.Path(home+"?expansions=referenced_tweets.id"))
		for _, t := range slices.Concat(got.Data, got.Includes.Tweets) {
			shown = append(shown, t.PublicMetrics.LikeCount)
		}
		return shown
	}
	assigned := ada.Assigned(experiment.Assignment{Experiment: "likes", Arm: experiment.Treatment, Kind: experiment.Community, Unit: "gophers", Exposes: true})
	api.SQL(`revoke insert on exposures from warble_api`)
	if diff := cmp.Diff([]int{0, 0, 0}, likes(assigned)); diff != "" {
		t.Error(diff)
	}
	api.SQL(`grant insert on exposures to warble_api`)
	if diff := cmp.Diff([]int{5, 5, 5}, likes(assigned)); diff != "" {
		t.Error(diff)
	}
}

func TestNeedsToken(t *testing.T) {
	t.Parallel()
	newAPI(t).NeedsToken("GET /2/users/1/tweets", "GET /2/users/1"+home)
}

func FuzzTimeline(f *testing.F) {
	for _, seed := range []string{
		"max_results=5&pagination_token=AAAAAAAAAAAB", "since_id=1&until_id=9999999999999999999", "start_time=2026-01-01T00:00:00+01:00",
		"end_time=9999-12-31T23:59:59Z&exclude=retweets", "expansions=author_id&tweet.fields=id", "%zz",
	} {
		f.Add(seed)
	}
	api := newAPI(f)
	ada := api.User("ada", "gophers")
	post(f, api, ada, "gophers", "a")
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{ada.Path("/tweets?"), ada.Path(home + "?")} {
			if _, err := url.Parse(path + query); err != nil {
				t.Skip("no client can send it")
			}
			ada.In(t).Do("GET", path+query, "") // newAPI fails the test on a 500
		}
	})
}
