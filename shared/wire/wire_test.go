package wire_test

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/feature"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/wire"
)

func query(t testing.TB, text string) wire.Query {
	t.Helper()
	q, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func parse(text string) (q wire.Query, err error) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.URL.RawQuery = text
	return q, q.FromRequest(r)
}

func TestRowsBecomeTheShapesOfTheAPI(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 2, 3, 4, 5, 6, 7_999_999, time.FixedZone("", 3600))
	tests := []struct {
		value any
		want  string
	}{
		{
			wire.NewTweet(store.Tweet{ID: 9, AuthorID: 2, Text: "RT @ada: hi", CreatedAt: at, RetweetOf: 8, RetweetCount: 1, LikeCount: 3}, feature.Set{Likes: true}),
			`{"id":"9","text":"RT @ada: hi","author_id":"2","created_at":"2026-02-03T03:05:06.007Z",` +
				`"public_metrics":{"retweet_count":1,"reply_count":0,"like_count":3,"quote_count":0,"bookmark_count":0,"impression_count":0},` +
				`"referenced_tweets":[{"type":"retweeted","id":"8"}],"edit_history_tweet_ids":["9"]}`,
		},
		{
			wire.NewUser(store.User{ID: math.MaxInt64, Username: "ada", Name: "Ada", Community: "gophers", CreatedAt: at}),
			`{"id":"9223372036854775807","name":"Ada","username":"ada","created_at":"2026-02-03T03:05:06.007Z"}`,
		},
		{wire.Single[int]{Data: 1}, `{"data":1}`},
		{wire.List[int]{Data: []int{}}, `{"data":[],"meta":{"result_count":0}}`},
		{
			wire.List[int]{Data: []int{1}, Includes: wire.Includes{Users: []wire.User{{}}}, Meta: wire.Meta{ResultCount: 1, NextToken: "n", PreviousToken: "p"}},
			`{"data":[1],"includes":{"users":[{"id":"","name":"","username":"","created_at":""}]},"meta":{"result_count":1,"next_token":"n","previous_token":"p"}}`,
		},
	}
	for _, tt := range tests {
		got, err := json.Marshal(tt.value)
		if diff := cmp.Diff(tt.want, string(got)); diff != "" || err != nil {
			t.Error(diff, err)
		}
	}
}

func TestParametersAcceptTheNamesThatXKnows(t *testing.T) {
	t.Parallel()
	known := map[string]string{
		"tweet.fields": "id,text,attachments,author_id,context_annotations,conversation_id,created_at,entities,geo,in_reply_to_user_id,lang,non_public_metrics,public_metrics,organic_metrics,promoted_metrics,possibly_sensitive,referenced_tweets,reply_settings,source,withheld,edit_controls,edit_history_tweet_ids,note_tweet,community_id,article",
		"post.fields":  "id,text,created_at",
		"user.fields":  "created_at,description,entities,id,location,name,pinned_tweet_id,profile_image_url,protected,public_metrics,url,username,verified,withheld,verified_type,most_recent_tweet_id,subscription_type",
		"media.fields": "duration_ms,height,media_key,preview_image_url,type,url,width,public_metrics,non_public_metrics,organic_metrics,promoted_metrics,alt_text,variants",
		"poll.fields":  "duration_minutes,end_datetime,id,options,voting_status",
		"place.fields": "contained_within,country,country_code,full_name,geo,id,name,place_type",
		"expansions":   "attachments.poll_ids,attachments.media_keys,author_id,entities.mentions.username,geo.place_id,in_reply_to_user_id,referenced_tweets.id,referenced_tweets.id.author_id,pinned_tweet_id,edit_history_tweet_ids",
	}
	for parameter, names := range known {
		q := query(t, parameter+"="+url.QueryEscape(names))
		if all := (store.References{Authors: true, Sources: true, SourceAuthors: true}); parameter == "expansions" && q.Expansions != all {
			t.Errorf("%s: %+v", names, q.Expansions)
		}
		for _, wrong := range []string{names + ",nonsense", "Id", "id,", ",id", "id, id"} {
			_, err := parse(parameter + "=" + url.QueryEscape(wrong))
			if p, ok := errors.AsType[*problem.Problem](err); !ok || p.Kind != problem.Malformed || p.Errors[0].Field != parameter {
				t.Errorf("%s=%s: %v, want a 400 that names it", parameter, wrong, err)
			}
		}
	}
}

// A model of the store: the rows are integers, of which a page asks for some.
func find(rows []int64, page store.Page) []int64 {
	var found []int64
	for _, row := range rows {
		if row > page.After && row < page.Before {
			found = append(found, row)
		}
	}
	if page.Oldest {
		found = found[max(0, len(found)-page.Limit):]
	}
	return found[:min(len(found), page.Limit)]
}

func TestPagesShowEveryRowOnceInBothDirections(t *testing.T) {
	t.Parallel()
	for total := range 12 {
		var rows []int64
		for id := total; id > 0; id-- {
			rows = append(rows, int64(id))
		}
		for size := 1; size <= total+1; size++ {
			at := func(token string) ([]int64, wire.Meta) {
				page, err := new(query(t, "max_results="+strconv.Itoa(size)+"&pagination_token="+token)).Page(1)
				if err != nil {
					t.Fatal(err)
				}
				return wire.Cut(page, find(rows, page.Rows()), func(id int64) int64 { return id })
			}
			got, meta := at("")
			older := slices.Clone(got)
			for meta.NextToken != "" {
				got, meta = at(meta.NextToken)
				older = append(older, got...)
			}
			newer := slices.Clone(got)
			for meta.PreviousToken != "" {
				got, meta = at(meta.PreviousToken)
				newer = append(slices.Clone(got), newer...)
			}
			if !slices.Equal(older, rows) || !slices.Equal(newer, rows) {
				t.Errorf("%d rows in pages of %d: %v and back %v", total, size, older, newer)
			}
		}
	}
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"pagination_token=AAAAAAAAAAAB&max_results=3", "pagination_token=AX__________", "start_time=2026-01-01T00:00:00+02:00&end_time=9999-12-31T00:00:00Z",
		"ids=1,2,2&usernames=a,b", "exclude=retweets&since_id=0&until_id=0", "tweet.fields=id&expansions=author_id", "%", "a;b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := parse(text)
		var page wire.Page
		if err == nil {
			page, err = q.Page(10)
		}
		if err != nil {
			if !errors.Is(err, problem.Malformed) {
				t.Errorf("%q: %v, want a 400", text, err)
			}
			return
		}
		if rows := page.Rows(); rows.Limit < 2 || rows.Limit > 101 || rows.After < -1 || rows.Before < 1 {
			t.Errorf("%q: %+v", text, rows)
		}
		_, meta := wire.Cut(page, []int64{}, func(id int64) int64 { return id })
		for _, token := range []string{meta.NextToken, meta.PreviousToken} {
			if _, err := new(query(t, "pagination_token="+token)).Page(10); err != nil {
				t.Errorf("%q leads to a token that is refused: %v", text, err)
			}
		}
		if texts, ids, err := q.IDs(); err == nil && (len(ids) != len(texts) || len(ids) < 1 || len(ids) > 100 || slices.Min(ids) < 0) {
			t.Errorf("%q: %v", text, ids)
		}
		if usernames, err := q.Usernames(); err == nil && slices.ContainsFunc(usernames, func(u string) bool { return !wire.IsUsername(u) }) {
			t.Errorf("%q: %v", text, usernames)
		}
	})
}
