//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	twitter "github.com/g8rswimmer/go-twitter/v2"
	"github.com/google/go-cmp/cmp"
)

// Libraries for X work with Warble if only the base URL is changed.

// bearer is an Authorizer.
type bearer string

func (b bearer) Add(r *http.Request) { r.Header.Set("Authorization", "Bearer "+string(b)) }

func TestClientGo(t *testing.T) {
	t.Parallel()
	ada, bob := register(t, ""), register(t, "")
	theirs := bob.post("bob's")
	ctx := t.Context()
	client := &twitter.Client{Authorizer: bearer(ada.token), Client: http.DefaultClient, Host: plainURL(t)}

	me, err := client.AuthUserLookup(ctx, twitter.UserLookupOpts{UserFields: []twitter.UserField{twitter.UserFieldCreatedAt}})
	if err != nil || len(me.Raw.Users) != 1 || me.Raw.Users[0].ID != ada.id || me.Raw.Users[0].UserName != ada.name {
		t.Fatalf("me: %+v %v", me, err)
	}
	var mine []string // newest first
	for n := range 12 {
		posted, err := client.CreateTweet(ctx, twitter.CreateTweetRequest{Text: fmt.Sprint("tweet ", n)})
		if err != nil {
			t.Fatal(err)
		}
		mine = append([]string{posted.Tweet.ID}, mine...)
	}

	found, err := client.TweetLookup(ctx, []string{mine[0], "1"}, twitter.TweetLookupOpts{
		Expansions:  []twitter.Expansion{twitter.ExpansionAuthorID},
		TweetFields: []twitter.TweetField{twitter.TweetFieldPublicMetrics, twitter.TweetFieldCreatedAt},
	})
	if err != nil {
		t.Fatal(err)
	}
	if one := found.Raw.TweetDictionaries()[mine[0]]; len(found.Raw.Tweets) != 1 || one.Tweet.Text != "tweet 11" || one.Author.UserName != ada.name {
		t.Errorf("looked up: %+v", found.Raw)
	}
	if len(found.Raw.Errors) != 1 || found.Raw.Errors[0].Value != "1" {
		t.Errorf("what was not found: %+v", found.Raw.Errors)
	}

	var pages [][]string
	for token := ""; ; {
		page, err := client.UserTweetTimeline(ctx, ada.id, twitter.UserTweetTimelineOpts{MaxResults: 5, PaginationToken: token})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, tweet := range page.Raw.Tweets {
			ids = append(ids, tweet.ID)
		}
		pages = append(pages, ids)
		if token = page.Meta.NextToken; token == "" {
			break
		}
	}
	if diff := cmp.Diff([][]string{mine[:5], mine[5:10], mine[10:]}, pages); diff != "" {
		t.Error(diff)
	}

	if retweet, err := client.UserRetweet(ctx, ada.id, theirs); err != nil || !retweet.Data.Retweeted {
		t.Errorf("retweet: %+v %v", retweet, err)
	}
	if who, err := client.UserRetweetLookup(ctx, theirs, twitter.UserRetweetLookupOpts{}); err != nil || len(who.Raw.Users) != 1 || who.Raw.Users[0].ID != ada.id {
		t.Errorf("retweeted by: %+v %v", who, err)
	}
	if undone, err := client.DeleteUserRetweet(ctx, ada.id, theirs); err != nil || undone.Data.Retweeted {
		t.Errorf("undo: %+v %v", undone, err)
	}
	if gone, err := client.DeleteTweet(ctx, mine[0]); err != nil || !gone.Tweet.Deleted {
		t.Errorf("delete: %+v %v", gone, err)
	}

	_, err = client.DeleteTweet(ctx, theirs)
	refused, ok := errors.AsType[*twitter.ErrorResponse](err)
	if !ok || refused.StatusCode != http.StatusForbidden || len(refused.Errors) != 1 || refused.Errors[0].Message != refused.Detail || refused.RateLimit == nil {
		t.Fatalf("another's tweet: %#v", err)
	}
	if want := fmt.Sprintf("twitter callout status 403 Forbidden:the tweet %s is another user's", theirs); err.Error() != want {
		t.Errorf("the library prints %q, want %q", err, want)
	}
}

// The other libraries make the same requests, and print the same words, except for errors, for which each has its
// own text.
func TestClientNode(t *testing.T) {
	t.Parallel()
	sameDay(t, "Request failed with code 403 - Forbidden: the tweet %[1]s is another user's (see https://warble.dev/problems/forbidden); "+
		"403 Forbidden: the tweet %[1]s is another user's; limit true",
		func(args ...string) string { return node(t, "", append([]string{"journey.js"}, args...)...) })
}

func TestClientXDK(t *testing.T) {
	t.Parallel()
	sameDay(t, "403 Forbidden: the tweet %[1]s is another user's",
		func(args ...string) string { return node(t, "", append([]string{"xdk.js"}, args...)...) })
}

func TestClientTwitterAPISDK(t *testing.T) {
	t.Parallel()
	sameDay(t, "403 Forbidden: the tweet %[1]s is another user's",
		func(args ...string) string { return node(t, "", append([]string{"twitter-api-sdk.js"}, args...)...) })
}

func TestClientTweepy(t *testing.T) {
	t.Parallel()
	sameDay(t, "403 Forbidden: the tweet %[1]s is another user's",
		func(args ...string) string {
			return script(t, "", python(), "clients/python", append([]string{"journey.py"}, args...)...)
		})
}

// sameDay makes a library send the requests of a user's day. The library gets Warble's URL, the user's token and the id of somebody else's tweet.
func sameDay(t *testing.T, refusal string, run func(args ...string) string) {
	t.Helper()
	ada, bob := register(t, ""), register(t, "")
	theirs := bob.post("bob's")
	want := strings.Join([]string{
		`posted 7`,
		`looked up "one", mine: true, retweets: 0`,
		`paged 5,2: seven,six,five,four,three,two,one`,
		`retweeted: true, retweets: 1`,
		`retweeted: false`,
		`deleted: true`,
		fmt.Sprintf(refusal, theirs),
		``,
	}, "\n")
	if diff := cmp.Diff(want, run(plainURL(t), ada.token, theirs)); diff != "" {
		t.Error(diff)
	}
}

// python returns the Python with Debian's package of tweepy.
func python() string {
	if named := os.Getenv("PYTHON"); named != "" {
		return named
	}
	return "/usr/bin/python3"
}

// node runs node in the folder of its clients.
func node(t *testing.T, input string, args ...string) string {
	t.Helper()
	return script(t, input, "node", "clients/node", args...)
}

// script runs a program in a folder, and returns what it prints.
func script(t *testing.T, input, name, folder string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = folder
	cmd.Stdin = strings.NewReader(input)
	cmd.Stderr = t.Output()
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: `make e2e-clients` installs what it needs", name, args[:1], err)
	}
	return string(text)
}
