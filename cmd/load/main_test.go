package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
)

// warble is a local run with the feature open to everybody.
func warble(t *testing.T) *apitest.Local {
	t.Helper()
	local, err := apitest.StartLocal(t.Context(), "FEATURES=likes")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := local.Stop(); err != nil {
			t.Error(err)
		}
	})
	return local
}

// Twenty people use a real Warble: first as new people, and again with the accounts of the state file, or of Warble.
func TestPeopleUseWarble(t *testing.T) {
	t.Parallel()
	local := warble(t)
	file := filepath.Join(t.TempDir(), "made", "load.json")
	flags := []string{"-url", local.URL, "-users", "20", "-rate", "60", "-for", "3s", "-retweet", "0.3", "-feedback", "0.5", "-state", file, "-o", "json", "-timeout", "1m", "-max-errors", "0.1"}
	use := func(more ...string) summary {
		t.Helper()
		var out, progress bytes.Buffer
		if status := command(t.Context(), append(flags, more...), &out, &progress); status != allWell {
			t.Fatalf("%v: exit status %d\n%s\n%s", more, status, progress.String(), out.String())
		}
		var s summary
		if err := json.Unmarshal(out.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	accounts := func() map[string]account {
		t.Helper()
		s, err := readState(file)
		if err != nil {
			t.Fatal(err)
		}
		return s[local.URL+" "]
	}

	first := use()
	if first.Requests < 60 {
		t.Errorf("%d requests", first.Requests)
	}
	done := make(map[string]bool)
	for _, of := range first.Actions {
		done[of.Action] = true
		for what, n := range of.Outcomes {
			if isError(what) && what != "503" { // a busy machine's database may be too slow, and then a 503 is right
				t.Errorf("%s: %d of %s", of.Action, n, what)
			}
		}
		if of.Requests == 0 || of.P50 <= 0 || of.Max < of.P99 || of.P99 < of.P50 {
			t.Errorf("%+v", of)
		}
	}
	if diff := cmp.Diff(map[string]bool{"home": true, "timeline": true, "post": true, "like": true, "retweet": true, "feedback": true, "all": true}, done); diff != "" {
		t.Error(diff)
	}
	strangers := accounts()
	posted := 0
	for _, a := range strangers {
		posted += tweetsOf(t, local.URL, a)
	}
	// A post that was answered with 503 may have been stored or not.
	if len(strangers) != 20 || posted < first.People[0].Posts || posted > first.People[0].Posts+first.Errors || posted == 0 {
		t.Errorf("%d accounts with %d tweets, want 20 with %d", len(strangers), posted, first.People[0].Posts)
	}

	use()
	if diff := cmp.Diff(strangers, accounts()); diff != "" {
		t.Error("the second time, with tokens that are good for longer:", diff)
	}

	// One saved account has an unknown id, as if the database were a new one, and one has a refresh token that is refused. Both
	// people get their account again, by their email address.
	changed := accounts()
	gone, stale := changed["s1_3"], changed["s1_4"]
	gone.ID = "1"
	stale.Expires, stale.RefreshToken = time.Now(), stale.RefreshToken[1:]+"x"
	changed["s1_3"], changed["s1_4"] = gone, stale
	if err := (state{local.URL + " ": changed}).write(file); err != nil {
		t.Fatal(err)
	}
	use()
	for name, a := range accounts() {
		if renewed := a.Token != strangers[name].Token; renewed != (name == "s1_3" || name == "s1_4") || a.ID != strangers[name].ID {
			t.Errorf("%s: %+v, and before %+v", name, a, strangers[name])
		}
	}

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	use("-users", "3")
	for name, a := range accounts() {
		if a.ID != strangers[name].ID {
			t.Errorf("%s: %s, and %s before the state was lost", name, a.ID, strangers[name].ID)
		}
	}

	for want, more := range map[string][]string{
		// With two people, one is in the wrong community. With more people, any of them could be named first.
		`s1_1: an earlier run put this person into community "pythonistas"`: {"-communities", "1", "-users", "2"},
		"-communities 5: this Warble has 4: choose fewer":                   {"-communities", "5"},
	} {
		var progress bytes.Buffer
		if status := command(t.Context(), append(flags, more...), &bytes.Buffer{}, &progress); status != misused || !strings.Contains(progress.String(), want) {
			t.Errorf("%v: exit status %d, %s, want %d and %s", more, status, progress.String(), misused, want)
		}
	}
}

func tweetsOf(t *testing.T, url string, a account) int {
	t.Helper()
	var page struct {
		Meta struct {
			ResultCount int `json:"result_count"`
		}
	}
	if r, err := newTestClient(t, url).call(t.Context(), http.MethodGet, "/2/users/"+a.ID+"/tweets?max_results=100&exclude=retweets", a.Token, nil, &page); err != nil || !r.ok() {
		t.Fatal(r, err)
	}
	return page.Meta.ResultCount
}

func TestPeopleTryAgainIfWarbleIsTooBusy(t *testing.T) {
	t.Parallel()
	asked := 0
	c := standIn(t, func(w http.ResponseWriter, _ *http.Request) bool {
		if asked++; asked <= 2 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader([]int{429, 503}[asked-1])
		}
		return asked <= 2
	})
	people := newPeople(model{people: 1}, []string{"gophers"})
	saved := make(map[string]account)
	began := time.Now()
	err := (&entrance{client: c, until: began.Add(time.Hour)}).all(t.Context(), people, saved)
	if err != nil || asked != 3 || time.Since(began) < 2*time.Second || saved["s0_0"].ID != "7" {
		t.Errorf("%v after %s and %d attempts: %+v", err, time.Since(began), asked, saved)
	}
}

func TestMistakesInTheCommandLineAreNamed(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-url http://192.0.2.1":           "-url http://192.0.2.1: 192.0.2.1 is not on this machine",
		"-url http://[2001:db8::1]:8080":  "2001:db8::1 is not on this machine",
		"-url https://127.0.0.1:8080":     "expected the address of a Warble on this machine",
		"-url http://127.0.0.1:8080/2":    "expected the address of a Warble on this machine",
		"-url http://me:secret@127.0.0.1": "expected the address of a Warble on this machine",
		"-url 127.0.0.1:8080":             "expected the address of a Warble on this machine",
		"-url http://warble.invalid":      "expected an address of this machine",
		"-for 61m":                        "-for 1h1m0s: expected 1s to 1h",
		"-for 1":                          `invalid value "1" for flag -for: parse error; load -h lists the flags`,
		"-rate 5001":                      "-rate 5001: expected more than 0, at most 5000",
		"-rate NaN":                       "-rate NaN: expected more than 0, at most 5000",
		"-users 0":                        "-users 0: expected 1 to 100000",
		"-mix 60:30":                      "-mix 60:30: expected three weights, such as 60:30:10",
		"-mix 60:30:x":                    "-mix 60:30:x: expected three weights, such as 60:30:10",
		"-mix 60:30:10:5":                 "-mix 60:30:10:5: expected three weights, such as 60:30:10",
		"-mix 0:0:0":                      "-mix 0:0:0: expected three weights, such as 60:30:10",
		"-mix 90:8:2 -effect 51":          "-effect 51: expected -1 to +50, because posts are 0.02 of all actions",
		"-effect -1.5":                    "-effect -1.5: expected -1",
		"-o yaml":                         "-o yaml: expected text or json",
		"-planted 1":                      "flag provided but not defined: -planted",
		"http://127.0.0.1:8080":           `["http://127.0.0.1:8080"]: expected flags only`,
	} {
		var out, told bytes.Buffer
		status := command(t.Context(), strings.Fields(args), &out, &told)
		if status != misused || !strings.Contains(told.String(), want) || out.Len() > 0 {
			t.Errorf("%s: exit status %d, %q, want %d and %q", args, status, told.String(), misused, want)
		}
	}
}

// Posts fail, which are a tenth of all actions.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	c := standIn(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/2/tweets" {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	for _, tt := range []struct {
		url, args string
		status    int
		want      string
	}{
		{c.base, "", failed, "expected at most 1.00 %, as -max-errors says"},
		{c.base, "-max-errors 0.5", allWell, "post, none: 503: "},
		{c.base, "-rate 0.0001 -users 1", failed, "nobody sent a request within 1s"},
		{"http://127.0.0.1:1", "", failed, "start Warble first, with make run"},
	} {
		var told bytes.Buffer
		args := append([]string{"-url", tt.url, "-for", "1s", "-rate", "200", "-state", filepath.Join(t.TempDir(), "load.json")}, strings.Fields(tt.args)...)
		if status := command(t.Context(), args, &told, &told); status != tt.status || !strings.Contains(told.String(), tt.want) {
			t.Errorf("%v: exit status %d, want %d and %q:\n%s", args, status, tt.status, tt.want, told.String())
		}
	}
}
