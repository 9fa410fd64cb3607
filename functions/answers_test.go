package functions_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"warble/shared/apitest"
	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/store/pgtest"
	"warble/shared/wire"
)

// TestEveryAnswer produces every answer that the contract describes, with real functions behind a real edge, on a real PostgreSQL.
// Each answer must be as described, and each description must have an answer.
func TestEveryAnswer(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	office := apitest.OpenPostOffice(t)
	local, err := apitest.StartLocal(t.Context(), "DATABASE_URL="+database.URL(pgtest.Owner), "FEATURES=likes", "SMTP_URL="+office.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := local.Stop(); err != nil {
			t.Errorf("local run: %v\n%s", err, local.Log())
		}
	})
	a := &api{contract: loadContract(t), t: t, url: local.URL}
	ada := a.accounts()
	a.mails(office, ada.bob)
	ada.tweets(a)
	ada.reads(a)
	ada.refusals(a)
	ada.waitsForKey(a, database)
	ada.limits(a.through(local.Edge(t, "RATE_LIMIT_READ=1/15m", "RATE_LIMIT_WRITE=1/15m", "RATE_LIMIT_AUTH=1/15m")))
	ada.outage(a.through(local.Edge(t, "ROUTES_FILE="+routesTo(t, nowhere))))
	a.unverified(func(name string) *api {
		return a.through(local.Edge(t, "ROUTES_FILE="+routesTo(t, local.Function(t, name, "DATABASE_URL="+database.URL(pgtest.API), "REQUIRE_VERIFIED_EMAIL=true", "FEATURES=likes"))))
	})
	without := local.Function(t, "like", "DATABASE_URL="+database.URL(pgtest.API), "FEATURES=")
	ada.closed(a.through(local.Edge(t, "ROUTES_FILE="+routesTo(t, without))))
	ada.assigned(a.through(local.Edge(t, "ROUTES_FILE="+routesTo(t, without, likes))))
	unready := a.through(local.Unready(t, "edge", "ROUTES_FILE=/nowhere"))
	unready.call(503, "", "GET /healthz", "")
	unready.call(503, "", "GET /readyz", "")
	ada.undoes(a)
	for _, private := range []string{"carol@example.org", "ada@example.org", "a-voice-in-the-reeds", "analytical-engine-1843", ada.ada, ada.bob} {
		if strings.Contains(local.Log(), private) {
			t.Errorf("%q is in the log: expected no address, password or token there", private)
		}
	}
	if missing := a.unseen(); len(missing) > 0 {
		t.Errorf("described in functions/openapi.yaml, and answered to no request:\n%s", strings.Join(missing, "\n"))
	}
}

// cast has the tokens of ada, whom the contract's examples create, and of bob. Parameters in paths are ids of ada's, ids that do
// not exist, or malformed ids.
type cast struct {
	ada, bob                 string
	real, missing, malformed map[string]string
}

func (a *api) accounts() *cast {
	ada := decode[wire.Session](a, a.call(201, "", "POST /auth/register", a.operation("POST /auth/register").example()))
	bob := decode[wire.Session](a, a.call(201, "", "POST /auth/register", `{"name":"Bob","email":"bob@example.org","password":"a-voice-in-the-reeds"}`))
	a.call(409, "", "POST /auth/register", a.operation("POST /auth/register").example())
	c := a.accountOf(ada)
	renewal := `{"refresh_token":"` + ada.RefreshToken + `"}`
	a.call(200, "", "POST /auth/login", a.operation("POST /auth/login").example())
	a.call(200, "", "POST /auth/refresh", renewal)
	a.call(200, "", "POST /auth/refresh", renewal) // as after a lost answer
	a.call(401, "", "POST /auth/refresh", `{"refresh_token":"none"}`)
	a.call(204, "", "POST /auth/logout", a.operation("POST /auth/logout").example())
	a.call(200, ada.Token, "POST /auth/validate", "")
	for range 5 {
		a.call(401, "", "POST /auth/login", `{"email":"nobody@example.org","password":"wrong"}`)
	}
	a.call(429, "", "POST /auth/login", `{"email":"nobody@example.org","password":"wrong"}`)
	return &cast{
		ada: ada.Token, bob: bob.Token,
		real:      map[string]string{"assetFile": "app.js", "sessionId": c, "userId": ada.Data.ID, "username": ada.Data.Username, "usernames": "ada,nobody"},
		missing:   map[string]string{"assetFile": "nothing.js", "sessionId": "1", "userId": "1", "username": "nobody", "tweetId": "1"},
		malformed: map[string]string{"sessionId": "~", "userId": "~", "username": "~", "tweetId": "~", "sourceTweetId": "~", "likedTweetId": "~"},
	}
}

// accountOf lets ada manage her account, and carol delete hers. It returns the id of ada's session.
func (a *api) accountOf(ada wire.Session) string {
	type sessions struct {
		Data []struct {
			ID      string
			Current bool
		}
	}
	login := a.operation("POST /auth/login").example()
	a.call(200, "", "POST /auth/login", login)
	own := ""
	for _, s := range decode[sessions](a, a.call(200, ada.Token, "GET /auth/sessions", "")).Data {
		if s.Current {
			own = s.ID
			continue
		}
		a.call(204, ada.Token, "DELETE /auth/sessions/"+s.ID, "")
	}
	a.call(204, ada.Token, "DELETE /auth/sessions", "")
	a.call(204, ada.Token, "PUT /auth/password", a.operation("PUT /auth/password").example())
	a.call(204, ada.Token, "PUT /auth/password", `{"current":"an-otter-that-sings","new":"analytical-engine-1843"}`)
	carol := decode[wire.Session](a, a.call(201, "", "POST /auth/register", `{"name":"Carol","email":"carol@example.org","password":"a-voice-in-the-reeds"}`))
	a.call(202, carol.Token, "DELETE /auth/account", `{"password":"a-voice-in-the-reeds"}`)
	return own
}

// mails lets bob verify his address and dave reset his password, with the tokens that they are sent.
func (a *api) mails(office *apitest.PostOffice, bob string) {
	a.call(202, bob, "POST /auth/verify-email/resend", "") // the answer is the same if the first mail is still on its way
	_, _, token := office.Await(a.t, "bob@example.org", "verify").Link()
	a.call(204, "", "POST /auth/verify-email", `{"token":"`+token+`"}`)
	a.call(409, bob, "POST /auth/verify-email/resend", "")
	a.call(201, "", "POST /auth/register", `{"name":"Dave","email":"dave@example.org","password":"a-voice-in-the-reeds"}`)
	a.call(202, "", "POST /auth/password-reset", `{"email":"dave@example.org"}`)
	_, _, token = office.Await(a.t, "dave@example.org", "reset").Link()
	a.call(204, "", "POST /auth/password-reset/confirm", `{"token":"`+token+`","new":"an-otter-that-sings"}`)
	a.call(401, "", "POST /auth/login", `{"email":"dave@example.org","password":"a-voice-in-the-reeds"}`)
	a.call(200, "", "POST /auth/login", `{"email":"dave@example.org","password":"an-otter-that-sings"}`)
}

// unverified lets somebody without a verified address try to post where that is forbidden. Bob, who is verified, may post.
func (a *api) unverified(with func(function string) *api) {
	erin := decode[wire.Session](a, a.call(201, "", "POST /auth/register", `{"name":"Erin","email":"erin@example.org","password":"a-voice-in-the-reeds"}`))
	bob := decode[wire.Session](a, a.call(200, "", "POST /auth/login", `{"email":"bob@example.org","password":"a-voice-in-the-reeds"}`))
	for name, request := range map[string][2]string{"tweet": {"POST /2/tweets", `{"text":"hello"}`}, "feedback": {"POST /feedback", `{"score":5}`}} {
		only := with(name)
		only.call(403, erin.Token, request[0], request[1])
		only.call(201, bob.Token, request[0], request[1])
	}
	for name, rest := range map[string]string{"like": "likes", "retweet": "retweets"} {
		with(name).call(403, erin.Token, "POST /2/users/"+erin.Data.ID+"/"+rest, `{"tweet_id":"1"}`)
	}
}

func (c *cast) tweets(a *api) {
	tweet := decode[wire.Single[wire.Tweet]](a, a.call(201, c.ada, "POST /2/tweets", a.operation("POST /2/tweets").example())).Data.ID
	a.replayed(201, c.ada, "POST /2/tweets", `{"text":"once"}`)
	a.replayed(200, c.ada, "POST /2/users/"+c.real["userId"]+"/retweets", `{"tweet_id":"`+tweet+`"}`)
	a.replayed(200, c.ada, "POST /2/users/"+c.real["userId"]+"/likes", `{"tweet_id":"`+tweet+`"}`)
	a.replayed(201, c.ada, "POST /feedback", a.operation("POST /feedback").example())
	for _, name := range []string{"tweetId", "sourceTweetId", "likedTweetId"} {
		c.real[name] = tweet
	}
	c.real["ids"] = tweet + "," + c.real["userId"] + ",1"
}

func (c *cast) undoes(a *api) {
	for _, name := range []string{"DELETE /2/users/{id}/likes/{tweet_id}", "DELETE /2/users/{id}/retweets/{source_tweet_id}", "DELETE /2/tweets/{id}"} {
		a.call(200, c.ada, a.operation(name).request(c.real), "")
	}
}

// reads sends every GET, sends it again if the answer has an ETag, and gets the next page if there are pages.
func (c *cast) reads(a *api) {
	for _, o := range a.operations {
		if o.method != http.MethodGet {
			continue
		}
		request := o.request(c.real)
		first := a.call(200, c.ada, request, "")
		if o.documents(304) {
			a.call(304, c.ada, request, "", "If-None-Match", first.Get("ETag"))
		}
		if o.name == "GET /{$}" {
			page := a.call(200, "", request, "", "Accept", "text/html")
			if !strings.HasPrefix(string(page.body), "<!DOCTYPE html>") {
				a.t.Errorf("a browser gets %.80s", page.body)
			}
		}
		if o.hasParameter("expansions") {
			a.call(200, c.ada, withParameter(request, "expansions=author_id,referenced_tweets.id&tweet.fields=created_at"), "")
		}
		if o.hasParameter("exclude") {
			page := decode[wire.List[wire.Tweet]](a, a.call(200, c.ada, request+"?max_results=1", ""))
			next := decode[wire.List[wire.Tweet]](a, a.call(200, c.ada, request+"?max_results=1&exclude=replies&start_time=2026-01-01T00:00:00Z&pagination_token="+page.Meta.NextToken, ""))
			if next.Meta.ResultCount != 1 || next.Meta.PreviousToken == "" {
				a.t.Errorf("%s: the second page is %+v", request, next)
			}
		}
	}
}

// refusals produces every error that a client can cause.
func (c *cast) refusals(a *api) {
	for _, o := range a.operations {
		request := o.request(c.real)
		if o.protected() {
			a.call(401, "", request, o.example())
		}
		if o.documents(403) && !o.onlyUnverified() {
			a.call(403, c.bob, request, o.example())
		}
		switch {
		case o.documents(404) && o.RequestBody != nil:
			a.call(404, c.ada, request, o.example())
		case o.documents(404) && !o.onlyClosed():
			a.call(404, c.ada, o.request(c.missing), "")
		}
		if o.RequestBody != nil {
			a.call(400, c.ada, request, `{`)
			a.call(413, c.ada, request, `{"text":"`+strings.Repeat("a", 64<<10)+`"}`)
			a.call(415, c.ada, request, o.example(), "Content-Type", "text/plain")
			a.call(422, c.ada, request, `{"colour":"red"}`)
		}
		if strings.Contains(o.path, "{") && o.documents(400) {
			a.call(400, c.ada, o.request(c.malformed), o.example())
		}
		if o.hasParameter("user.fields") {
			a.call(400, c.ada, withParameter(request, "user.fields=colour"), "")
		}
	}
	for path, item := range a.doc.Paths.Map() {
		_, answer, body := a.send(c.ada, "PATCH "+path, "")
		if allow := a.allowed(item); answer.StatusCode != 405 || answer.Header.Get("Allow") != allow {
			a.t.Errorf("PATCH %s: %d %s with Allow %q, want 405 with %q", path, answer.StatusCode, body, answer.Header.Get("Allow"), allow)
		}
		for _, o := range a.operations {
			if o.item != item {
				continue
			}
			if response := o.Responses.Status(405); response == nil {
				a.t.Errorf("%s describes no 405", o.name)
			} else if err := a.conforms(response.Value, answer, body); err != nil {
				a.t.Errorf("PATCH %s: %v", path, err)
			}
			a.produced[o.name+" 405"] = true
		}
	}
	_, answer, body := a.send(c.ada, "GET /2/nothing", "")
	if err := a.conforms(a.doc.Components.Responses["NotFound"].Value, answer, body); err != nil || answer.StatusCode != 404 {
		a.t.Errorf("a path of nothing: %d %v", answer.StatusCode, err)
	}
}

// waitsForKey sends requests while another one with the same Idempotency-Key is running.
func (c *cast) waitsForKey(a *api, database pgtest.Database) {
	for _, o := range a.operations {
		if !o.hasParameter("Idempotency-Key") {
			continue
		}
		database.Hold(a.t, `insert into idempotency_keys (user_id, route, key, fingerprint, status, body) values ($1::text::bigint, $2, 'held', '', 200, '')`, c.real["userId"], o.name)
		body := o.example()
		if o.documents(404) {
			body = `{"tweet_id":"` + c.real["tweetId"] + `"}`
		}
		a.call(409, c.ada, o.request(c.real), body, "Idempotency-Key", "held")
	}
}

// closed calls an edge whose functions have no features, as users without the features see it.
func (c *cast) closed(a *api) {
	for _, o := range a.operations {
		if !o.closable() {
			continue
		}
		answer := a.call(404, c.ada, o.request(c.real), o.example())
		if kind := decode[struct{ Type string }](a, answer).Type; kind != problem.NotOpen.Type() {
			a.t.Errorf("%s: %s, want %s", o.name, kind, problem.NotOpen.Type())
		}
	}
}

// likes is an experiment that includes everyone.
var likes = experiment.Rules{
	Name: "likes", Services: []string{"like"}, Exposure: []string{"like"}, Unit: experiment.User, Salt: "likes",
	Layer: experiment.Layer{To: experiment.Slots}, Open: experiment.Open{Control: experiment.Slots / 2, Treatment: experiment.Slots / 2},
}

// assigned calls an edge with an experiment in force, as a user in that experiment.
func (c *cast) assigned(a *api) {
	answer := a.call(404, c.ada, a.operation("POST /2/users/{id}/likes").request(c.real), `{"tweet_id":"1"}`)
	if name := answer.Get("X-Experiment"); name != likes.Name {
		a.t.Errorf("X-Experiment %q", name)
	}
	answer = a.call(401, "", a.operation("POST /2/users/{id}/likes").request(c.real), `{"tweet_id":"1"}`)
	if name := answer.Get("X-Experiment"); name != "" {
		a.t.Errorf("X-Experiment %q for a stranger", name)
	}
}

// limits calls an edge that allows one call of each class.
func (c *cast) limits(a *api) {
	a.call(200, c.ada, "GET /communities", "")
	a.call(204, c.ada, "POST /auth/logout", a.operation("POST /auth/logout").example())
	a.call(201, c.ada, "POST /2/tweets", a.operation("POST /2/tweets").example())
	for _, o := range a.operations {
		if !o.documents(429) {
			continue
		}
		answer := a.call(429, c.ada, o.request(c.real), o.example())
		number := func(name string) int64 {
			n, _ := strconv.ParseInt(answer.Get(name), 10, 64) // the contract says that all are integers
			return n
		}
		now, err := http.ParseTime(answer.Get("Date"))
		left := number("x-rate-limit-reset") - now.Unix()
		// Date is rounded down and the other two are rounded up, each to whole seconds.
		if late := number("Retry-After") - left; err != nil || late < -1 || late > 5 || left > 15*60+1 ||
			number("x-rate-limit-limit") != 1 || number("x-rate-limit-remaining") != 0 {
			a.t.Errorf("%s: %v", o.name, answer.Header)
		}
	}
}

// outage calls an edge whose functions do not run.
func (c *cast) outage(a *api) {
	for _, o := range a.operations {
		if o.documents(503) && o.Tags[0] != "edge" {
			a.call(503, c.ada, o.request(c.real), o.example())
		}
	}
}
