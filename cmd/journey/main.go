// Command journey makes the requests of a user's day, once, at a Warble in a cluster. They must succeed before a release gets traffic.
// cmd/deploy runs it as the Job of knative/candidate/job.yaml.
//
//	journey -url http://candidate-edge.warble.svc.cluster.local -revisions tweet-00004,users-00002,...
//
// Each answer must be right, and must come from one of the revisions, because otherwise another revision was tried out. It prints each step.
// At the first failure it prints the reason and exits with 1. It deletes what it makes, except two users without a community, who are in no
// experiment.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// patience is how long an answer may take. It is longer than the edge's own limit, which includes a cold start.
	patience = time.Minute
	// settling is how long it may take until requests reach the revisions, after Knative has reported them as ready.
	settling = 2 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	url := flag.String("url", "", "URL of the edge, without a slash at the end")
	revisions := flag.String("revisions", "", "revisions that may answer, separated by commas")
	flag.Parse()
	j := &journey{url: *url, revisions: strings.Split(*revisions, ","), client: &http.Client{Timeout: patience}, out: os.Stdout}
	if err := j.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "journey:", err)
		os.Exit(1)
	}
}

type journey struct {
	url       string
	revisions []string
	client    *http.Client
	out       io.Writer
}

// user is a caller. Without a token it is not signed in.
type user struct {
	*journey

	name, id, token string
}

const password = "analytical-engine-1843"

func (j *journey) run(ctx context.Context) error {
	if err := j.waitForRevisions(ctx); err != nil {
		return err
	}
	ada, err := j.register(ctx)
	if err != nil {
		return err
	}
	bob, err := j.register(ctx)
	if err != nil {
		return err
	}
	if err := ada.login(ctx); err != nil {
		return err
	}
	var claims struct{ Sub string }
	if err := ada.call(ctx, "GET", "/auth/validate", nil, http.StatusOK, &claims); err != nil {
		return err
	}
	if claims.Sub != ada.id {
		return fmt.Errorf("GET /auth/validate: the token belongs to user %s: expected %s", claims.Sub, ada.id)
	}
	const text = "hello, <warble> & \U0001f426"
	var posted struct{ Data struct{ ID string } }
	if err := ada.call(ctx, "POST", "/2/tweets", fields{"text": text}, http.StatusCreated, &posted); err != nil {
		return err
	}
	tweet := posted.Data.ID
	defer func() { // deletes the tweet after a failure; without one, a step below has deleted it already
		_ = ada.call(context.WithoutCancel(ctx), "DELETE", "/2/tweets/"+tweet, nil, http.StatusOK, nil)
	}()
	if err := bob.retweetAndRead(ctx, tweet, text); err != nil {
		return err
	}
	if err := bob.like(ctx, tweet); err != nil {
		return err
	}
	if err := bob.call(ctx, "POST", "/feedback", fields{"score": 5}, http.StatusCreated, nil); err != nil {
		return err
	}
	if err := ada.call(ctx, "DELETE", "/2/tweets/"+tweet, nil, http.StatusOK, nil); err != nil {
		return err
	}
	var left timeline
	if err := bob.call(ctx, "GET", "/2/users/"+bob.id+"/tweets", nil, http.StatusOK, &left); err != nil {
		return err
	}
	if len(left.Data) > 0 {
		return fmt.Errorf("GET /2/users/%s/tweets: expected no tweets, because the retweeted tweet was deleted: %+v", bob.id, left.Data)
	}
	return nil
}

// waitForRevisions waits until the revisions answer, because the edge and the ingress may lag behind Knative's status.
func (j *journey) waitForRevisions(ctx context.Context) error {
	for deadline := time.Now().Add(settling); ; {
		err := (&user{journey: j}).call(ctx, "GET", "/.well-known/jwks.json", nil, http.StatusOK, nil)
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (j *journey) register(ctx context.Context) (*user, error) {
	u := &user{journey: j, name: "c" + strings.ToLower(rand.Text()[:13])}
	var made session
	err := u.call(ctx, "POST", "/auth/register", fields{"name": "Candidate", "username": u.name, "email": u.email(), "password": password}, http.StatusCreated, &made)
	u.id, u.token = made.Data.ID, made.Token
	return u, err
}

type (
	fields  map[string]any
	session struct {
		Data  struct{ ID, Username string }
		Token string
	}
	timeline struct {
		Data []struct {
			ID               string
			ReferencedTweets []struct{ Type, ID string } `json:"referenced_tweets"`
		}
		Includes struct{ Tweets []struct{ ID, Text string } }
	}
)

// email returns an address in a domain that cannot exist.
func (u *user) email() string { return u.name + "@candidate.invalid" }

func (u *user) login(ctx context.Context) error {
	var made session
	if err := u.call(ctx, "POST", "/auth/login", fields{"email": u.email(), "password": password}, http.StatusOK, &made); err != nil {
		return err
	}
	u.token = made.Token
	var me session
	if err := u.call(ctx, "GET", "/2/users/me", nil, http.StatusOK, &me); err != nil {
		return err
	}
	if made.Data.ID != u.id || me.Data.ID != u.id || me.Data.Username != u.name {
		return fmt.Errorf("user %s registered, user %s logged in, and GET /2/users/me answered user %s, %s: expected the same user", u.id, made.Data.ID, me.Data.ID, me.Data.Username)
	}
	return nil
}

// retweetAndRead retweets another user's tweet, and checks that it is in both timelines.
func (u *user) retweetAndRead(ctx context.Context, tweet, text string) error {
	var done struct {
		Data struct {
			RestID string `json:"rest_id"`
		}
	}
	if err := u.call(ctx, "POST", "/2/users/"+u.id+"/retweets", fields{"tweet_id": tweet}, http.StatusOK, &done); err != nil {
		return err
	}
	for _, path := range []string{"/tweets", "/timelines/reverse_chronological"} {
		path = "/2/users/" + u.id + path
		var read timeline
		if err := u.call(ctx, "GET", path+"?expansions=referenced_tweets.id", nil, http.StatusOK, &read); err != nil {
			return err
		}
		if len(read.Data) != 1 || read.Data[0].ID != done.Data.RestID || len(read.Data[0].ReferencedTweets) != 1 ||
			read.Data[0].ReferencedTweets[0].ID != tweet || len(read.Includes.Tweets) != 1 || read.Includes.Tweets[0].Text != text {
			return fmt.Errorf("GET %s: %+v: expected one tweet, the retweet %s of %s, with its text", path, read, done.Data.RestID, tweet)
		}
	}
	return nil
}

// like likes a tweet, unless the feature is not open.
func (u *user) like(ctx context.Context, tweet string) error {
	err := u.call(ctx, "POST", "/2/users/"+u.id+"/likes", fields{"tweet_id": tweet}, http.StatusOK, nil)
	if problem, ok := errors.AsType[*refusal](err); ok && problem.status == http.StatusNotFound && strings.HasSuffix(problem.Type, "/feature-not-open") {
		return nil
	}
	return err
}

// refusal is an answer with an unexpected status.
type refusal struct {
	step   string
	status int
	Type   string
	Detail string
	text   string
}

func (r *refusal) Error() string {
	if r.Detail != "" {
		return fmt.Sprintf("%s: %d %s", r.step, r.status, r.Detail)
	}
	return fmt.Sprintf("%s: %d %.200s", r.step, r.status, r.text)
}

// call sends a request, with body as JSON if it is not nil, and decodes the answer into answer if that is not nil. An answer from a revision that
// may not answer is an error, even if the answer is right.
func (u *user) call(ctx context.Context, method, path string, body any, status int, answer any) error {
	step := method + " " + path
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, u.url+path, payload)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "warble-candidate")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if u.token != "" {
		request.Header.Set("Authorization", "Bearer "+u.token)
	}
	start := time.Now()
	response, err := u.client.Do(request)
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	defer response.Body.Close() //nolint:errcheck // it was read to its end
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	revision := response.Header.Get("X-Revision")
	fmt.Fprintf(u.out, "%s: %d from %q in %s\n", step, response.StatusCode, revision, time.Since(start).Round(time.Millisecond))
	if response.StatusCode != status {
		r := &refusal{step: step, status: response.StatusCode, text: string(text)}
		_ = json.Unmarshal(text, r) // if it is not a problem in JSON, the text is shown
		return r
	}
	if !slices.Contains(u.revisions, revision) {
		return fmt.Errorf("%s: the revision %q answered: expected one of %s", step, revision, strings.Join(u.revisions, ", "))
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s: %w: %.200s", step, err, text)
	}
	return nil
}
