package readout_test

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/readout/readouttest"
	"warble/shared/store/pgtest"
)

func planned(t *testing.T, w readouttest.Fixture) readout.Planned {
	t.Helper()
	p, err := readout.Plan(t.Context(), w.Open(t, pgtest.Ops), w.Spec, nil, begin)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// past lets every user be active on one of the 14 days that end one window before the start, and post 1 to 7 times in the
// week after.
func past(w readouttest.Fixture) {
	w.Exec(`insert into activity (user_id, day) select id, $1::date - 21 + ((id >> 22) % 14)::int from users`, begin)
	w.Exec(`
		insert into tweets (id, author_id, text)
		select id_at($1::timestamptz - interval '21 days' + interval '1 day' * ((id >> 22) % 14) + interval '1 minute' * n) + row_number() over () % 4194304, id, 'x'
		from users, generate_series(1, 7) n
		where n <= 1 + (id >> 22) % 7`, begin)
}

func TestAPlanOfUsersMatchesTheFormulas(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, func(s *experiment.Spec) { s.Metrics.Primary.MinimumEffect = .2 })
	w.People(2800)
	past(w)
	p := planned(t, w)
	// 1 to 7 posts, as many of each: mean 4, variance 4 but for n - 1.
	if p.Users != 2800 || math.Abs(p.Mean-4) > .01 || math.Abs(p.CV-.5) > .01 {
		t.Errorf("mean %v, CV %v of %d users", p.Mean, p.CV, p.Users)
	}
	// A week brings 1400 of them, half of whom are in each arm.
	if p.Completed < 690 || p.Completed > 710 || p.Method != readout.Sequence || len(p.Steps) != 1 || p.Steps[0].Units != p.Completed {
		t.Errorf("%+v", p)
	}
	// 2 (1.96 + 0.84)^2 .5^2/.2^2 = 98.1, times the price of a sequence, ((3.04 + 0.84)/(1.96 + 0.84))^2 = 1.92, and as the
	// treatment varies by 1.2 times as much, (1 + 1.2^2)/2 = 1.22.
	if p.Needed < 226 || p.Needed > 234 || p.Units != 2*p.Needed || p.Err() != nil {
		t.Errorf("needs %d, N* %d, %v", p.Needed, p.Units, p.Err())
	}
	if p.Days < 9 || p.Days > 10 { // 230 at 100 a day, and the window
		t.Errorf("%v days", p.Days)
	}

	w.Spec.Metrics.Primary.MinimumEffect = .02
	p = planned(t, w)
	if err := p.Err(); p.Units != 0 || err == nil || !strings.Contains(err.Error(), `primary metric: to find +2.0% on "Tweets per person" takes 19,`) || !strings.Contains(err.Error(), "these find +10.") {
		t.Errorf("a hopeless design: %v", err)
	}
	w.Spec.Ramp.Steps = []int{0, 1, 50}
	w.Spec.Ramp.Hold.Time = new(experiment.Duration(time.Hour))
	if p = planned(t, w); !strings.Contains(p.Err().Error(), "ramp: the step of 1% brings 0 users per arm by its end: expected 5 or more") {
		t.Errorf("a step that brings nobody: %v", p.Err())
	}
}

// There are 40 communities of 70 members. Their posts differ by community.
func TestAPlanOfCommunitiesKnowsHowTheyDiffer(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, func(s *experiment.Spec) {
		s.Unit = experiment.Community
		s.Metrics.Primary.MinimumEffect = .5
	})
	var slugs []string
	for i := range 40 {
		slugs = append(slugs, "c"+strconv.Itoa(i))
	}
	w.People(2800, slugs...)
	w.Exec(`
		insert into tweets (id, author_id, text)
		select id_at($1::timestamptz - interval '1 day' + interval '1 minute' * n) + row_number() over () % 4194304, id, 'x'
		from users, generate_series(1, 20) n
		where n <= 1 + (id >> 22) % 7 + (id >> 22) % 40 / 4`, begin)
	p := planned(t, w)
	// Variance within: 4, of 1 to 7; between: 8.25, of 0 to 9.
	if p.Design.ClusterSize != 70 || p.Design.ClusterSizeCV != 0 || math.Abs(p.Design.ICC-8.25/12.25) > .02 || math.Abs(p.Mean-8.5) > .02 {
		t.Errorf("%+v", p)
	}
	if p.Completed != 20 || p.Method != readout.Permutation || p.Needed < 8 || p.Needed > 12 || p.Err() != nil {
		t.Errorf("%d completed, %d needed, %v", p.Completed, p.Needed, p.Err())
	}
}

func TestAPlanWithoutHistoryHasNoSampleSize(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, nil)
	for _, people := range []int{0, 600} { // users who have only registered tell nothing
		w.People(people)
		p := planned(t, w)
		if err := p.Err(); p.Units != 0 || err == nil || !strings.Contains(err.Error(), "nobody has a value of \"Tweets per person\" from the last 7d") {
			t.Errorf("N* %d with %d people, %v", p.Units, people, err)
		}
	}
	w.Spec.Unit = experiment.Request
	if p := planned(t, w); p.Units != 100 || p.Err() != nil || p.Method != readout.Guards {
		t.Errorf("%+v", p)
	}
	if units, err := (readout.Driver{DB: w.Open(t, pgtest.Ops)}).Plan(t.Context(), w.Spec, nil); units != 100 || err != nil {
		t.Errorf("%d, %v", units, err)
	}
}
