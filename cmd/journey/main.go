// Command journey is a user's day, once, against a Warble in a cluster: what a release must be able to do before it has
// traffic. cmd/deploy runs it as a Job; knative/candidate/job.yaml says with what.
//
//	journey -url http://candidate-edge.warble.svc.cluster.local -revisions tweet-00004,users-00002,...
//
// Each answer must be right, and of one of the revisions, or what has been tried out is not what was to be. It prints each
// step, and ends with 1 and the reason at the first that fails. What it makes, it takes away again, but for two users that
// are in no community and no experiment.
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
	// patience is how long an answer may take: past the edge's own limit, a cold start included.
	patience = time.Minute
	// settling is how long the way to the revisions may take to be in force after Knative has said that it is.
	settling = 2 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	url := flag.String("url", "", "the edge, without a slash at its end")
	revisions := flag.String("revisions", "", "those that may answer, between commas")
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

// user is someone who calls; one without a token is a stranger.
type user struct {
	*journey

	name, id, token string
}

const password = "analytical-engine-1843"

func (j *journey) run(ctx context.Context) error {
	if err := j.settled(ctx); err != nil {
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
		return fmt.Errorf("GET /auth/validate: the token is of %s, want %s", claims.Sub, ada.id)
	}
	const text = "hello, <warble> & \U0001f426"
	var posted struct{ Data struct{ ID string } }
	if err := ada.call(ctx, "POST", "/2/tweets", fields{"text": text}, http.StatusCreated, &posted); err != nil {
		return err
	}
	tweet := posted.Data.ID
	defer func() { // a tweet that a failure leaves behind; the journey's own deletion is a step of it
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
		return fmt.Errorf("the retweet of a deleted tweet is still in the timeline: %+v", left.Data)
	}
	return nil
}

// settled waits until the revisions answer: the edge and the ingress may be behind what Knative says.
func (j *journey) settled(ctx context.Context) error {
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

// email is in a domain that nobody can have.
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
		return fmt.Errorf("registered as %s, logged in as %s, and is %s %s", u.id, made.Data.ID, me.Data.ID, me.Data.Username)
	}
	return nil
}

// retweetAndRead retweets what another has posted, and finds it in both timelines.
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
			return fmt.Errorf("GET %s: %+v, want the retweet %s of %s", path, read, done.Data.RestID, tweet)
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

// refusal is an answer of another status than was expected.
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

// call sends body as JSON where it is not nil, and reads into answer where that is not. Whatever comes of another revision
// than was to answer is an error, the right answer included.
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
	fmt.Fprintf(u.out, "%s: %d of %q in %s\n", step, response.StatusCode, revision, time.Since(start).Round(time.Millisecond))
	if response.StatusCode != status {
		r := &refusal{step: step, status: response.StatusCode, text: string(text)}
		_ = json.Unmarshal(text, r) // what is no problem of ours is shown as it is
		return r
	}
	if !slices.Contains(u.revisions, revision) {
		return fmt.Errorf("%s: answered by %q: expected one of %s", step, revision, strings.Join(u.revisions, ", "))
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s: %w: %.200s", step, err, text)
	}
	return nil
}
