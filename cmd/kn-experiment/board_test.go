package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/apitest"
	"warble/shared/experiment"
	"warble/shared/readout"
)

// serveBoard serves a board for an API server, and returns its URL and its token.
func serveBoard(t *testing.T, a *api) (url, token string) {
	t.Helper()
	s := a.settings(t)
	s.by = "ada"
	cluster, err := s.cluster("")
	if err != nil {
		t.Fatal(err)
	}
	b := &board{settings: s, cluster: cluster, token: "it"}
	server := httptest.NewServer(b.handler())
	t.Cleanup(server.Close)
	return server.URL, b.token
}

func TestTheBoardShowsTheResource(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	e := likes(experiment.Running)
	e.Spec.Title, e.Status.Lift = "Do people <post> more?", "+4.1% (1.0% to 7.3%)"
	meta.SetStatusCondition(&e.Status.Conditions, metav1.Condition{Type: "Healthy", Status: metav1.ConditionFalse, Reason: "Red", Message: "sample ratio"})
	a.keep(e)
	url, _ := serveBoard(t, a)
	for path, wants := range map[string][]string{
		"/":                  {"Do people &lt;post&gt; more?", "Running, step 1/3 10%", "1.0% to 7.3%", `<svg class="span"`, "Health red", `href="/experiments/likes"`, `<th scope="col">Exposed</th>`, `<td data-of="Exposed">–</td>`},
		"/experiments/likes": {"Do people &lt;post&gt; more?", "DATABASE_URL is not set", `data-verb="pause"`, `data-verb="step"`, `data-verb="promote"`, `data-verb="rollback"`, `data-verb="stop"`},
	} {
		answer, page := apitest.Send(t, http.MethodGet, url+path, "")
		if answer.StatusCode != http.StatusOK || !strings.Contains(answer.Header.Get("Content-Security-Policy"), "default-src 'self'") {
			t.Errorf("%s: %s %v", path, answer.Status, answer.Header)
		}
		for _, want := range wants {
			if !strings.Contains(page, want) {
				t.Errorf("%s: no %q in\n%s", path, want, page)
			}
		}
	}
	if answer, page := apitest.Send(t, http.MethodGet, url+"/experiments/hearts", ""); answer.StatusCode != http.StatusNotFound || !strings.Contains(page, "there is no experiment hearts in the namespace warble") {
		t.Errorf("an unknown experiment: %s\n%s", answer.Status, page)
	}
	for _, asset := range []string{"report.css", "board.css", "board.js"} {
		if answer, text := apitest.Send(t, http.MethodGet, url+"/assets/"+asset, ""); answer.StatusCode != http.StatusOK || len(text) < 100 {
			t.Errorf("%s: %s %q", asset, answer.Status, text)
		}
	}
}

func TestTheStartButtonNamesTheUnitsThatEnter(t *testing.T) {
	t.Parallel()
	e := likes(experiment.Draft)
	for want, change := range map[string]func(){
		"the first communities enter": func() { e.Spec.Unit = experiment.Community },
		"the first users enter":       func() { e.Spec.Unit = experiment.User },
		"the first visitors enter":    func() { e.Spec.Unit, e.Spec.Identity.Kind = experiment.User, experiment.ByVisitor },
	} {
		e.Spec.Identity = experiment.Identity{}
		change()
		if start := buttons(e, readout.Wait)[0]; start.Verb != "start" || !strings.Contains(start.Says, want) {
			t.Errorf("%+v: want %q", start, want)
		}
	}
}

// TestWhatIsAdvisedHasAButton, which comes first where the experiment would end with it.
func TestWhatIsAdvisedHasAButton(t *testing.T) {
	t.Parallel()
	running := likes(experiment.Running)
	for advice, verb := range map[readout.Action]string{readout.Promote: "promote", readout.Fix: "stop", readout.Decide: "stop"} {
		if first := buttons(running, advice)[0]; first.Verb != verb || !first.Final {
			t.Errorf("%s: the first button is %+v, want %s", advice, first, verb)
		}
	}
	for _, phase := range []experiment.Phase{experiment.Running, experiment.Paused} {
		for _, advice := range []readout.Action{readout.Wait, readout.RollBack, readout.Fix} {
			var verbs []string
			for _, b := range buttons(likes(phase), advice) {
				verbs = append(verbs, b.Verb)
			}
			for _, verb := range []string{"rollback", "stop"} {
				if n := len(slices.DeleteFunc(slices.Clone(verbs), func(v string) bool { return v != verb })); n != 1 {
					t.Errorf("%s, %s: %d buttons for %s in %v", phase, advice, n, verb, verbs)
				}
			}
		}
	}
}

func TestAButtonDoesWhatTheVerbDoes(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	a.keep(likes(experiment.Running))
	url, token := serveBoard(t, a)
	answer, said := apitest.Send(t, http.MethodPost, url+"/experiments/likes/pause", `{"why": "lunch"}`, "X-Board-Token", token)
	if is := a.experiment("likes"); answer.StatusCode != http.StatusOK || !strings.HasSuffix(said, "likes is Paused, step 1/3 10%\nDone.\n") || is.Spec.Why != "lunch" || is.Spec.By != "ada" {
		t.Errorf("pause: %s\n%s\n%+v", answer.Status, said, is.Spec.Wishes)
	}
	for _, c := range []struct {
		verb, body string
		status     int
		want       string
	}{
		{"promote", `{"why": "it helps", "confirm": "likes"}`, http.StatusConflict, "likes is Paused, step 1/3 10%: promote is not possible now"},
		{"delete", `{"why": "it helps"}`, http.StatusConflict, "delete is not possible now"},
		{"resume", `{"why": " "}`, http.StatusUnprocessableEntity, "why: expected a reason"},
		{"resume", `why`, http.StatusBadRequest, "expected {why, confirm}"},
		{"rollback", `{"why": "it hurts"}`, http.StatusUnprocessableEntity, "expected likes, because this cannot be undone"},
	} {
		if answer, said := apitest.Send(t, http.MethodPost, url+"/experiments/likes/"+c.verb, c.body, "X-Board-Token", token); answer.StatusCode != c.status || !strings.Contains(said, c.want) {
			t.Errorf("%s %s: %s %s: expected %d, %s", c.verb, c.body, answer.Status, said, c.status, c.want)
		}
	}
	if _, said := apitest.Send(t, http.MethodPost, url+"/experiments/likes/rollback", `{"why": "it hurts", "confirm": "likes"}`, "X-Board-Token", token); a.experiment("likes").Status.Conclusion != experiment.WasRolledBack {
		t.Errorf("rollback: %s", said)
	}
}

// TestTheBoardAnswersOnlyItsOwnPages: everyone who can reach the board has the user's rights.
func TestTheBoardAnswersOnlyItsOwnPages(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	a.keep(likes(experiment.Running))
	url, token := serveBoard(t, a)
	const why = `{"why": "evil"}`
	for name, headers := range map[string][]string{
		"a name that resolves to loopback": {"X-Board-Token", token, "Host", "board.example"},
		"such a name with a port":          {"X-Board-Token", token, "Host", "127.0.0.1.nip.example:8070"},
		"another origin":                   {"X-Board-Token", token, "Origin", "http://evil.example"},
		"another site":                     {"X-Board-Token", token, "Sec-Fetch-Site", "cross-site"},
		"no token":                         {},
		"another token":                    {"X-Board-Token", "other"},
	} {
		if answer, said := apitest.Send(t, http.MethodPost, url+"/experiments/likes/pause", why, headers...); answer.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s %s: expected 403", name, answer.Status, said)
		}
	}
	if writes := a.writes(""); len(writes) > 0 {
		t.Errorf("written in spite of the refusals: %q", writes)
	}
	if answer, _ := apitest.Send(t, http.MethodGet, url+"/", "", "Host", "board.example"); answer.StatusCode != http.StatusForbidden {
		t.Errorf("the list by another name: %s: expected 403", answer.Status)
	}
	for _, address := range []string{"0.0.0.0:8070", ":8070", "192.0.2.1:8070", "board.example:8070"} {
		if _, said, code := a.run(t, "dashboard", "--listen", address); code != misused || !strings.Contains(said, "expected a loopback address") {
			t.Errorf("--listen %s: %d %s", address, code, said)
		}
	}
	for _, host := range []string{"localhost:1", "127.0.0.1:8070", "[::1]:8070", "127.0.0.1", "localhost"} {
		if !loopback(host) {
			t.Errorf("%s is not loopback", host)
		}
	}
}
