//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	ada := register(t, "")
	stranger := &user{t: t}
	session := func(path, body string) session {
		t.Helper()
		return decode[session](t, stranger.do("POST", path, body), http.StatusOK)
	}
	refused := func(path, body string) {
		t.Helper()
		if a := stranger.do("POST", path, body); a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s, want 401", path, a.status, a.body)
		}
	}
	login := object("email", ada.email, "password", password)

	first := session("/auth/login", login)
	if first.Data.ID != ada.id || first.Data.Username != ada.name {
		t.Errorf("logged in as %+v, want %s %s", first.Data, ada.id, ada.name)
	}
	second := session("/auth/refresh", object("refresh_token", first.RefreshToken))
	ada.token = second.Token
	var claims struct{ Sub, Username string }
	answer := ada.do("GET", "/auth/validate", "")
	if err := json.Unmarshal([]byte(answer.body), &claims); err != nil || answer.status != http.StatusOK || claims.Sub != ada.id || claims.Username != ada.name {
		t.Errorf("validate: %d %s %v", answer.status, answer.body, err)
	}
	if got := answer.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control: %q, want no-store", got)
	}

	// Two tabs, or a lost answer. Once the next token was used, the first one may have been stolen, and the session ends.
	if again := session("/auth/refresh", object("refresh_token", first.RefreshToken)); again.RefreshToken != second.RefreshToken {
		t.Error("refreshed twice within seconds: two successors, want one")
	}
	third := session("/auth/refresh", object("refresh_token", second.RefreshToken))
	refused("/auth/refresh", object("refresh_token", first.RefreshToken))
	refused("/auth/refresh", object("refresh_token", third.RefreshToken))
	fourth := session("/auth/login", login)
	if a := stranger.do("POST", "/auth/logout", object("refresh_token", fourth.RefreshToken)); a.status != http.StatusNoContent {
		t.Errorf("logout: %d %s", a.status, a.body)
	}
	refused("/auth/refresh", object("refresh_token", fourth.RefreshToken))
	refused("/auth/login", object("email", ada.email, "password", "difference-engine-1822"))
	refused("/auth/login", object("email", "nobody-"+ada.email, "password", password))
}

func TestAnAccountIsDeleted(t *testing.T) {
	t.Parallel()
	ada, bob, stranger := register(t, ""), register(t, ""), &user{t: t}
	tweet := ada.post("a private confession")
	session := decode[session](t, stranger.do("POST", "/auth/login", object("email", ada.email, "password", password)), http.StatusOK)
	if a := ada.do("GET", "/auth/export", ""); a.status != http.StatusOK || !strings.Contains(a.body, "a private confession") || !strings.Contains(a.body, ada.email) {
		t.Errorf("export: %d %s", a.status, a.body)
	}
	if a := ada.do("DELETE", "/auth/account", object("password", password)); a.status != http.StatusAccepted {
		t.Fatalf("delete: %d %s, want 202", a.status, a.body)
	}
	for request, want := range map[string]int{
		"GET /2/users/" + ada.id:                   http.StatusNotFound,
		"GET /2/users/by/username/" + ada.name:     http.StatusNotFound,
		"GET /2/tweets/" + tweet:                   http.StatusNotFound,
		"GET /2/tweets/" + tweet + "/retweeted_by": http.StatusNotFound,
		"GET " + ada.path("/tweets"):               http.StatusNotFound,
	} {
		method, path, _ := strings.Cut(request, " ")
		if a := bob.do(method, path, ""); a.status != want {
			t.Errorf("%s: %d %s, want %d", request, a.status, a.body, want)
		}
	}
	if a := ada.do("POST", "/2/tweets", object("text", "once more")); a.status != http.StatusUnauthorized {
		t.Errorf("a tweet: %d %s, want 401", a.status, a.body)
	}
	if a := stranger.do("POST", "/auth/login", object("email", ada.email, "password", password)); a.status != http.StatusUnauthorized {
		t.Errorf("login: %d %s, want 401", a.status, a.body)
	}
	if a := stranger.do("POST", "/auth/refresh", object("refresh_token", session.RefreshToken)); a.status != http.StatusUnauthorized {
		t.Errorf("refresh: %d %s, want 401", a.status, a.body)
	}
}

// listLimit is the longest time until others see a new entry in a list. It is a tenth of a second if the machine is not busy.
const listLimit = time.Minute

func TestFromTweetToRetweetAndBack(t *testing.T) {
	t.Parallel()
	ada, bob := register(t, ""), register(t, "")
	id := ada.post("hello, <warble> & \U0001f426")
	retweet := func() string {
		t.Helper()
		return decode[struct {
			Data struct {
				Retweeted bool   `json:"retweeted"`
				RestID    string `json:"rest_id"`
			} `json:"data"`
		}](t, bob.do("POST", bob.path("/retweets"), object("tweet_id", id)), http.StatusOK).Data.RestID
	}
	count := func() int {
		t.Helper()
		return decode[single](t, bob.do("GET", "/2/tweets/"+id, ""), http.StatusOK).Data.PublicMetrics.RetweetCount
	}

	again := retweet()
	if same := retweet(); same != again || count() != 1 {
		t.Errorf("retweeted twice: %s and %s, counted %d times", again, same, count())
	}
	found := bob.get("/2/tweets?ids=" + again + ",1," + id + "&expansions=author_id,referenced_tweets.id,referenced_tweets.id.author_id")
	if diff := cmp.Diff([]string{again, id}, found.ids()); diff != "" || len(found.Errors) != 1 || found.Errors[0].Value != "1" {
		t.Errorf("looked up: %s %+v", diff, found.Errors)
	}
	if rt := found.Data[0]; rt.AuthorID != bob.id || len(rt.ReferencedTweets) != 1 || rt.ReferencedTweets[0].Type != "retweeted" || rt.ReferencedTweets[0].ID != id {
		t.Errorf("the retweet: %+v", rt)
	}
	if len(found.Includes.Users) != 2 || len(found.Includes.Tweets) != 1 || found.Includes.Tweets[0].Text != "hello, <warble> & \U0001f426" {
		t.Errorf("includes: %+v", found.Includes)
	}
	for path, want := range map[string]string{"/retweeted_by": bob.id, "/retweets": again} {
		eventually(t, want+" in "+path, listLimit, func() bool { return slices.Equal(ada.all("/2/tweets/"+id+path), []string{want}) })
	}

	for range 2 { // undoing something that does not exist succeeds
		if a := bob.do("DELETE", bob.path("/retweets/"+id), ""); a.status != http.StatusOK || strings.TrimSpace(a.body) != `{"data":{"retweeted":false}}` {
			t.Errorf("undo: %d %s", a.status, a.body)
		}
	}
	if left := bob.all(bob.path("/tweets")); len(left) > 0 || count() != 0 {
		t.Errorf("undone, and left are %v, counted %d times", left, count())
	}

	again = retweet()
	if a := ada.do("DELETE", "/2/tweets/"+id, ""); a.status != http.StatusOK {
		t.Fatalf("delete: %d %s", a.status, a.body)
	}
	for _, gone := range []string{id, again} {
		if a := bob.do("GET", "/2/tweets/"+gone, ""); a.status != http.StatusNotFound || problemOf(a) != "" {
			t.Errorf("%s is deleted, or of what is: %d %s %s", gone, a.status, a.body, problemOf(a))
		}
	}
	for who, left := range map[*user][]string{ada: ada.all(ada.path("/tweets")), bob: bob.all(bob.path("/tweets"))} {
		if len(left) > 0 {
			t.Errorf("%s's timeline still has %v", who.name, left)
		}
	}
}

func TestTimelinePagesAndFilters(t *testing.T) {
	t.Parallel()
	ada, bob := register(t, ""), register(t, "")
	theirs := bob.post("bob's")
	var ids []string // oldest first
	for n := range 12 {
		ids = append(ids, ada.post(fmt.Sprint("tweet ", n)))
	}
	newest := slices.Clone(ids)
	slices.Reverse(newest)
	if a := ada.do("POST", ada.path("/retweets"), object("tweet_id", theirs)); a.status != http.StatusOK {
		t.Fatalf("retweet: %d %s", a.status, a.body)
	}
	path := ada.path("/tweets?exclude=retweets")

	first := ada.get(path + "&max_results=5")
	second := ada.get(path + "&max_results=4&pagination_token=" + first.Meta.NextToken) // tokens are not bound to the size
	third := ada.get(path + "&max_results=5&pagination_token=" + second.Meta.NextToken)
	if diff := cmp.Diff([][]string{newest[:5], newest[5:9], newest[9:]}, [][]string{first.ids(), second.ids(), third.ids()}); diff != "" || third.Meta.NextToken != "" {
		t.Errorf("pages: %s, and then %q", diff, third.Meta.NextToken)
	}
	eventually(t, "the first page again", listLimit, func() bool { // the way back begins where others see it all
		second := ada.get(path + "&max_results=4&pagination_token=" + first.Meta.NextToken)
		return slices.Equal(first.ids(), ada.get(path+"&max_results=5&pagination_token="+second.Meta.PreviousToken).ids())
	})
	if ten := ada.get(ada.path("/tweets")); ten.Meta.ResultCount != 10 || len(ten.Data) != 10 || len(ten.Data[0].ReferencedTweets) != 1 {
		t.Errorf("without parameters: %+v", ten)
	}
	if between := ada.get(path + "&since_id=" + ids[2] + "&until_id=" + ids[6]); !slices.Equal(between.ids(), newest[6:9]) {
		t.Errorf("between two ids: %v, want %v", between.ids(), newest[6:9])
	}
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	if none := ada.get(path + "&start_time=" + soon); len(none.Data) != 0 || none.Data == nil || none.Meta.ResultCount != 0 {
		t.Errorf("in an hour: %+v", none)
	}
	if all := ada.get(path + "&max_results=100&end_time=" + soon); !slices.Equal(all.ids(), newest) {
		t.Errorf("until an hour from now: %v", all.ids())
	}
}

func TestHomeTimelineIsTheCommunitys(t *testing.T) {
	t.Parallel()
	community := anyCommunity(t)
	ada, bob, eve := register(t, community), register(t, community), register(t, "")
	before := bob.post("before")
	id := ada.post("to the community")
	elsewhere := eve.post("to nobody")
	home := func(u *user) []string {
		t.Helper()
		return u.get(u.path("/timelines/reverse_chronological?max_results=100&since_id=" + before)).ids()
	}
	if community != "" {
		eventually(t, "what ada posted to "+community+", on bob's timeline", listLimit, func() bool { return slices.Contains(home(bob), id) })
	}
	if slices.Contains(home(bob), elsewhere) {
		t.Error("bob sees what was posted outside of the community")
	}
	if got := home(eve); !slices.Equal(got, []string{elsewhere}) {
		t.Errorf("eve, who is in none, sees %v, want her own %s", got, elsewhere)
	}
}
