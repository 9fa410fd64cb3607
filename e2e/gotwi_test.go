//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/michimani/gotwi"
	"github.com/michimani/gotwi/fields"
	"github.com/michimani/gotwi/tweet/managetweet"
	managetypes "github.com/michimani/gotwi/tweet/managetweet/types"
	"github.com/michimani/gotwi/tweet/retweet"
	retweettypes "github.com/michimani/gotwi/tweet/retweet/types"
	"github.com/michimani/gotwi/tweet/timeline"
	timelinetypes "github.com/michimani/gotwi/tweet/timeline/types"
	"github.com/michimani/gotwi/tweet/tweetlookup"
	lookuptypes "github.com/michimani/gotwi/tweet/tweetlookup/types"
	"github.com/michimani/gotwi/user/userlookup"
	usertypes "github.com/michimani/gotwi/user/userlookup/types"
)

// toWarble sends requests for X to a base URL, because gotwi has no setting for it.
type toWarble struct{ base *url.URL }

func (w toWarble) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = w.base.Scheme, w.base.Host, ""
	return http.DefaultTransport.RoundTrip(r)
}

func TestClientGotwi(t *testing.T) {
	t.Parallel()
	sameDay(t, "403 Forbidden: the tweet %[1]s is another user's", func(args ...string) string {
		base, err := url.Parse(args[0])
		if err != nil {
			t.Fatal(err)
		}
		c, err := gotwi.NewClientWithAccessToken(&gotwi.NewClientWithAccessTokenInput{HTTPClient: &http.Client{Transport: toWarble{base}}, AccessToken: args[1]})
		if err != nil {
			t.Fatal(err)
		}
		said, err := gotwiDay(t.Context(), c, args[2])
		if err != nil {
			t.Error(err)
		}
		return said
	})
}

// gotwiDay makes the requests of sameDay with gotwi.
func gotwiDay(ctx context.Context, c *gotwi.Client, theirs string) (string, error) {
	var said strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) }
	me, err := userlookup.GetMe(ctx, c, &usertypes.GetMeInput{})
	if err != nil {
		return "", err
	}
	id := gotwi.StringValue(me.Data.ID)
	var mine []string
	for _, text := range []string{"one", "two", "three", "four", "five", "six", "seven"} {
		posted, err := managetweet.Create(ctx, c, &managetypes.CreateInput{Text: gotwi.String(text)})
		if err != nil {
			return "", err
		}
		mine = append(mine, gotwi.StringValue(posted.Data.ID))
	}
	say("posted %d", len(mine))
	first, err := tweetlookup.Get(ctx, c, &lookuptypes.GetInput{
		ID: mine[0], Expansions: fields.ExpansionList{fields.ExpansionAuthorID},
		TweetFields: fields.TweetFieldList{fields.TweetFieldCreatedAt, fields.TweetFieldPublicMetrics},
	})
	if err != nil {
		return "", err
	}
	isMine := gotwi.StringValue(first.Includes.Users[0].Username) == gotwi.StringValue(me.Data.Username)
	say("looked up %q, mine: %t, retweets: %d", gotwi.StringValue(first.Data.Text), isMine, gotwi.IntValue(first.Data.PublicMetrics.RetweetCount))

	var sizes, texts []string
	for token := ""; ; {
		page, err := timeline.ListTweets(ctx, c, &timelinetypes.ListTweetsInput{ID: id, MaxResults: 5, PaginationToken: token})
		if err != nil {
			return "", err
		}
		sizes = append(sizes, fmt.Sprint(len(page.Data)))
		for _, tweet := range page.Data {
			texts = append(texts, gotwi.StringValue(tweet.Text))
		}
		if token = gotwi.StringValue(page.Meta.NextToken); token == "" {
			break
		}
	}
	say("paged %s: %s", strings.Join(sizes, ","), strings.Join(texts, ","))

	repeated, err := retweet.Create(ctx, c, &retweettypes.CreateInput{ID: id, TweetID: theirs})
	if err != nil {
		return "", err
	}
	source, err := tweetlookup.Get(ctx, c, &lookuptypes.GetInput{ID: theirs, TweetFields: fields.TweetFieldList{fields.TweetFieldPublicMetrics}})
	if err != nil {
		return "", err
	}
	say("retweeted: %t, retweets: %d", repeated.Data.Retweeted, gotwi.IntValue(source.Data.PublicMetrics.RetweetCount))
	undone, err := retweet.Delete(ctx, c, &retweettypes.DeleteInput{ID: id, SourceTweetID: theirs})
	if err != nil {
		return "", err
	}
	say("retweeted: %t", undone.Data.Retweeted)
	gone, err := managetweet.Delete(ctx, c, &managetypes.DeleteInput{ID: mine[0]})
	if err != nil {
		return "", err
	}
	say("deleted: %t", gotwi.BoolValue(gone.Data.Deleted))

	_, err = managetweet.Delete(ctx, c, &managetypes.DeleteInput{ID: theirs})
	refused, ok := errors.AsType[*gotwi.GotwiError](err)
	if !ok || len(refused.APIErrors) != 1 {
		return "", fmt.Errorf("another's tweet: %w", err)
	}
	var body struct{ Detail string } // gotwi takes only application/json for an error of X's, and any other body for its message
	if err := json.Unmarshal([]byte(refused.APIErrors[0].Message), &body); err != nil {
		return "", fmt.Errorf("%s: %w", refused.APIErrors[0].Message, err)
	}
	say("%s: %s", refused.Status, body.Detail)
	return said.String(), nil
}
