package report_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/report"
	"warble/shared/stats"
)

func TestAPlanIsWrittenAsAList(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := report.Plan(&out, readout.Planned{
		Metric: "tweets_per_user", Label: "Tweets per person", ValueUnit: "tweets", Unit: experiment.Community, Effect: .05, Design: stats.Design{Alpha: .05, Power: .8, ClusterSize: 70, ClusterSizeCV: .2, ICC: .05}, Method: readout.Permutation,
		Mean: 4, CV: .5, Users: 2800, Needed: 40, Steps: []readout.Growth{{Percent: 10, Units: 4}, {Percent: 50, From: 7, Units: 20}}, Completed: 20, Detectable: .081, Units: 40,
		Hopeless: []string{"primary: it cannot be found"},
	}); err != nil {
		t.Fatal(err)
	}
	want := `Metric       tweets_per_user: Tweets per person, in tweets
Past         Tweets per person: 4.00 on average over 2,800 users, with a
             coefficient of variation of 0.500
             communities of 70.0 members on average (coefficient of variation
             0.200), intraclass correlation 0.0500
Needed       40 communities per arm, for +5.0% with power 0.8 at alpha 0.05
Step         10% from day 0 on: 4 communities per arm by its end
Step         50% from day 7.00 on: 20 communities per arm by its end
Method       permutation test, once, at the planned end
Detectable   +8.1% or more, with the 20 communities per arm that will have
             completed by the planned end
N*           40 communities in both arms together
Hopeless     primary: it cannot be found
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAPromiseIsWrittenWithItsResult(t *testing.T) {
	t.Parallel()
	promise := readout.Promise{World: readout.World{Name: "A/A"}, Bounds: []readout.Bound{
		{What: "false positives", Measure: func(s readout.Simulated) readout.Rate { return s.Wrong }, Share: .05},
		{What: "found", Measure: func(s readout.Simulated) readout.Rate { return s.Won }, Share: .9, Least: true},
	}}
	s := readout.Simulated{Runs: 100, Ends: map[readout.Outcome]int{"win": 1, "inconclusive": 99}, Wrong: readout.Rate{Happened: 1, Runs: 100}, Won: readout.Rate{Happened: 1, Runs: 100}, Days: 14}
	var out bytes.Buffer
	kept, err := report.Promise(&out, promise, s)
	want := `A/A: 100 experiments
  ended: inconclusive 99%, win 1%
  after 14.0 days (median)
  ok     false positives in 1.00% (standard error 0.99), expected at most 5%
  MISSED found in 1.00% (standard error 0.99), expected at least 90%
`
	if diff := cmp.Diff(want, out.String()); diff != "" || kept || err != nil {
		t.Error(diff, kept, err)
	}
	out.Reset()
	bar := report.Bar(&out, "A/A")
	bar(1, 2)
	bar(2, 2)
	if drawn := out.String(); strings.Count(drawn, "\r") != 3 || !strings.Contains(drawn, "1/2") || !strings.Contains(drawn, "2/2") {
		t.Errorf("%q", drawn)
	}
}

func TestASimulationIsWrittenAsATable(t *testing.T) {
	t.Parallel()
	w := readout.Plain(3000)
	w.Unit, w.Units, w.Members, w.Steps = experiment.Community, 60, 50, []int{10, 50}
	without := readout.Simulated{World: w, Runs: 100, Ends: map[readout.Outcome]int{"inconclusive": 99, "win": 1}, Wrong: readout.Rate{Happened: 3, Runs: 100}, Naive: readout.Rate{Happened: 40, Runs: 100}, Covered: readout.Rate{Happened: 98, Runs: 100}, Days: 21}
	w.Effect = -.2
	with := readout.Simulated{World: w, Runs: 100, Ends: map[readout.Outcome]int{"harm": 85, "inconclusive": 15}, Won: readout.Rate{Runs: 100}, Lost: readout.Rate{Happened: 85, Runs: 100}, Days: 14}
	var out bytes.Buffer
	err := report.Simulation(&out, without, with)
	want := `60 communities of 50 users, 10%, 50% in each arm held for 7d; 5.00 per user and
7d, coefficient of variation 1.00; 20 looks, 100 experiments each

                                 no effect        -20.0%
  false positives                       3%
    of a naive test                    40%
  found (power)                                      85%
  interval contains truth              98%             –
  days until it ended                 21.0          14.0
  ended: harm                           0%           85%
  ended: inconclusive                  99%           15%
  ended: win                            1%            0%

A false positive is an interval that excludes the truth at any look. The naive
test is a t test of users at every look. The days are the median time to the
verdict that ends an experiment, or to its planned end.
`
	if diff := cmp.Diff(want, out.String()); diff != "" || err != nil {
		t.Error(diff, err)
	}
}
