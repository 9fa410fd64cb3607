package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"warble/shared/apitest"
	"warble/shared/clocktest"
	"warble/shared/experiment"
	"warble/shared/feature"
	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/telemetry"
	"warble/shared/token"
)

// newAPIOfArm returns the function as an arm of the experiment likes.
func newAPIOfArm(t *testing.T, arm experiment.Arm) *apitest.API {
	t.Helper()
	return apitest.New(t, func(db *store.DB, tokens *token.Verifier, _ *telemetry.Telemetry) function.Routes {
		return New(db, tokens, feature.With(feature.Set{Likes: arm == experiment.Treatment}))
	}, "WARBLE_EXPERIMENT=likes", "WARBLE_ARM="+string(arm), "K_REVISION=like-"+string(arm))
}

func assignment(arm experiment.Arm, exposes bool) experiment.Assignment {
	return experiment.Assignment{Experiment: "likes", Arm: arm, Kind: experiment.Community, Unit: "gophers", Generation: 3, Exposes: exposes}
}

const exposures = `select concat_ws(' ', experiment, user_id, unit, assigned, served, revision, generation) from exposures order by user_id`

// Both arms record an exposure, with or without the feature, once, and only if the edge asks for it.
func TestBothArmsRecordExposures(t *testing.T) {
	t.Parallel()
	for _, arm := range []experiment.Arm{experiment.Control, experiment.Treatment} {
		api := newAPIOfArm(t, arm)
		ada, bob, cyd, eve := api.User("ada", "gophers"), api.User("bob", "gophers"), api.User("cyd", "gophers"), api.User("eve", "gophers")
		ask := func(u apitest.User, headers ...string) { u.Do("GET", u.Path("/liked_tweets"), "", headers...) }
		for range 3 {
			ask(ada.Assigned(assignment(arm, true)))
		}
		ask(bob.Assigned(assignment(arm, false))) // this Service does not show likes
		ask(cyd)
		ask(eve, experiment.Header, assignment(arm, true).String(), function.HeaderClient, "192.0.2.1") // not signed by the edge
		ask(eve.Assigned(experiment.Assignment{Experiment: "colours", Arm: arm, Kind: experiment.User, Unit: "9", Exposes: true}))
		want := []string{
			fmt.Sprintf("likes %d gophers %s %s like-%s 3", ada.ID, arm, arm, arm),
			fmt.Sprintf("colours %d 9 %s none like-%s 0", eve.ID, arm, arm),
		}
		if diff := cmp.Diff(want, api.Column(exposures)); diff != "" {
			t.Errorf("%s: %s", arm, diff)
		}
		if !slices.Contains(api.Metrics(), "warble_exposure_failures_total 0") {
			t.Error("the metric of failures is missing, or not 0")
		}
	}
}

// A user whose exposure cannot be recorded must not see the treatment, and waits only briefly.
func TestTheControlIsServedIfTheExposureCannotBeRecorded(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(*apitest.API){
		"refused": func(a *apitest.API) { a.SQL(`revoke insert on exposures from warble_api`) },
		"hanging": func(a *apitest.API) { a.Hold(`lock table exposures in access exclusive mode`) },
	} {
		api := newAPIOfArm(t, experiment.Treatment)
		ada := api.User("ada", "gophers")
		tweet := post(t, api, ada)
		unassigned := ada
		ada = ada.Assigned(assignment(experiment.Treatment, true))
		breaks(api)
		like(t, unassigned, tweet) // a user who is not exposed needs no exposure
		api.DB.Limit(store.CallTimeout)
		var answer apitest.Answer
		took := clocktest.Took(func() { answer = ada.Do("DELETE", ada.Path(fmt.Sprint("/likes/", tweet)), "") })
		if answer.Status != http.StatusNotFound || !strings.Contains(answer.Body, problem.NotOpen.Type()) || took > 1500*time.Millisecond {
			t.Errorf("%s: %d %s after %s", name, answer.Status, answer.Body, took)
		}
		api.DB.Limit(time.Minute)
		if got := count(t, api, tweet); got != 1 {
			t.Errorf("%s: %d likes", name, got)
		}
		if got := api.Column(`select 'x' from likes where deleted_at is null`); len(got) != 1 {
			t.Errorf("%s: the like was taken back", name)
		}
		if !slices.Contains(api.Metrics(), "warble_exposure_failures_total 1") {
			t.Errorf("%s: the failure is not counted", name)
		}
	}
}

func TestTheFeatureReturnsWhenTheExposureIsRecorded(t *testing.T) {
	t.Parallel()
	api := newAPIOfArm(t, experiment.Treatment)
	ada := api.User("ada", "gophers").Assigned(assignment(experiment.Treatment, true))
	ask := func() int { return ada.Do("GET", ada.Path("/liked_tweets"), "").Status }
	api.SQL(`revoke insert on exposures from warble_api`)
	refused := ask()
	api.SQL(`grant insert on exposures to warble_api`)
	if again := ask(); refused != http.StatusNotFound || again != http.StatusOK {
		t.Errorf("%d, and then %d", refused, again)
	}
}

// The edge signed the assignment, but this version cannot read it. So it is unknown whose it is and what an exposure would record.
func TestAnUnreadableAssignmentIsServedTheControl(t *testing.T) {
	t.Parallel()
	api := newAPIOfArm(t, experiment.Treatment)
	ada := api.User("ada", "gophers").Assigned(experiment.Assignment{Experiment: "likes", Arm: "third", Kind: experiment.User, Unit: "1"})
	if got := ada.Do("GET", ada.Path("/liked_tweets"), ""); got.Status != http.StatusNotFound {
		t.Errorf("%d %s", got.Status, got.Body)
	}
	if !slices.Contains(api.Metrics(), "warble_exposure_failures_total 1") {
		t.Error("the failure is not counted")
	}
}

// A process that is killed right after its answer has recorded the exposure. A process that is asked to end has recorded the
// latencies as well.
func TestAProcessThatEndsHasRecordedItsExposures(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	for i, tt := range []struct {
		signal   syscall.Signal
		requests int
	}{
		{syscall.SIGKILL, 1},
		{syscall.SIGTERM, 7},
	} {
		ada := api.User(fmt.Sprint("ada", i), "gophers").Assigned(assignment(experiment.Treatment, true))
		p := api.Process("WARBLE_EXPERIMENT=likes", "WARBLE_ARM=treatment", "FEATURES=likes", "K_SERVICE=like", "K_REVISION=like-00002", "FAULTS=slow=1ms@50%")
		asked := 0
		for answered, deadline := 0, time.Now().Add(time.Minute); answered < tt.requests; asked++ {
			got := ada.At(p).Do("GET", ada.Path("/liked_tweets"), "")
			if got.Status == http.StatusOK {
				answered++
			} else if time.Now().After(deadline) { // on a busy machine the first exposure may miss its time limit
				t.Fatalf("%d %s", got.Status, got.Body)
			}
		}
		var want []string
		if tt.signal == syscall.SIGTERM {
			want = []string{fmt.Sprint("likes treatment like ", asked+1)} // includes a stranger's request
			other := assignment(experiment.Treatment, true)
			other.Experiment = "colours"
			ada.Assigned(other).At(p).Do("GET", ada.Path("/liked_tweets"), "") // another experiment does not concern this arm
			api.Stranger().Assigned(assignment(experiment.Treatment, true)).At(p).Do("GET", "/2/users/1/liked_tweets", "")
			api.Stranger().At(p).Do("GET", "/2/users/1/liked_tweets", "") // without the edge
		}
		if err := p.End(tt.signal); (err == nil) != (tt.signal == syscall.SIGTERM) {
			t.Errorf("%s: %v\n%s", tt.signal, err, p.Log())
		}
		if !strings.Contains(p.Log(), `"level":"warn","service":"like","revision":"like-00002","faults":"slow=1ms@50%"`) {
			t.Errorf("no warning that trouble is planted:\n%s", p.Log())
		}
		row := fmt.Sprintf("likes %d gophers treatment treatment like-00002 3", ada.ID)
		if got := api.Column(exposures); !slices.Contains(got, row) {
			t.Errorf("%s: exposures %q, want %q", tt.signal, got, row)
		}
		counts := api.Column(`
			select concat_ws(' ', experiment, arm, service, sum(n))
			from latencies, unnest(buckets) n
			where start = date_bin('10 s', start, 'epoch')
				and cardinality(buckets) = $1
			group by experiment, arm, service`, len(experiment.LatencyBounds)+1)
		if diff := cmp.Diff(want, counts, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", tt.signal, diff)
		}
	}
}
