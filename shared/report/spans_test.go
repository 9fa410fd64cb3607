package report_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"warble/shared/readout"
	"warble/shared/readout/readouttest"
	"warble/shared/report"
	"warble/shared/store"
)

// Every metric with an interval has the interval drawn, in its unit.
func TestEveryIntervalIsDrawn(t *testing.T) {
	t.Parallel()
	figure := func(v float64) *float64 { return &v }
	effect := func(name string, difference, lower, upper *float64, lift *readout.Lift) readout.Effect {
		return readout.Effect{Metric: name, Label: name, Unit: "tweets", Kind: store.Mean, By: readout.ByDifference, Speaks: true, Difference: difference, Interval: readout.Interval{Lower: lower, Upper: upper}, Lift: lift}
	}
	share := effect("share", figure(.0123), figure(-.004), figure(.03), nil)
	share.Kind = store.Share
	early := effect("early", figure(3), nil, nil, nil)
	early.Speaks = false
	primary := effect("primary", figure(.2), figure(.1), figure(.3), &readout.Lift{Value: figure(.1), Lower: figure(.05), Upper: figure(.15)})
	r := readout.Report{Experiment: "likes", Verdict: readout.Waiting, StartedAt: readouttest.Begin, Until: readouttest.Begin.Add(readouttest.Day), Primary: &primary, Secondary: []readout.Effect{
		effect("lift", figure(-2), figure(-3), figure(-1), &readout.Lift{Value: figure(-.237), Lower: figure(-.4), Upper: figure(-.05)}),
		effect("no-lift", figure(2.3), figure(-1), figure(5.2), nil),
		effect("small", figure(-.00023), figure(-.0004), figure(.0001), nil),
		effect("large", figure(1e6), figure(-1e3), figure(2e6), nil),
		effect("zero", figure(0), figure(0), figure(0), nil),
		effect("open", figure(2), figure(1), nil, nil),
		effect("open-lift", figure(2), figure(1), figure(3), &readout.Lift{Value: figure(.2), Upper: figure(.3)}),
		effect("far", figure(2), figure(1), figure(3), &readout.Lift{Value: figure(5), Lower: figure(4), Upper: figure(6)}),
		share, early,
	}}
	shows := map[string]string{
		"primary": "lift, in percent", "lift": "lift, in percent", "open-lift": "lift, in percent", "far": "lift, in percent",
		"no-lift": "difference, in tweets", "small": "difference, in tweets", "large": "difference, in tweets", "zero": "difference, in tweets", "open": "difference, in tweets",
		"share": "difference, in percentage points",
	}
	arrows := map[string]int{"open": 1, "open-lift": 1, "far": 1}
	page, err := html.Parse(bytes.NewReader(write(t, report.HTML, r)))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for row := range page.Descendants() {
		if row.Data != "tr" || row.Parent.Parent.Data != "table" || attribute(row.Parent.Parent, "class") != "metrics" || row.FirstChild.FirstChild == nil {
			continue
		}
		name := strings.Fields(words(row.FirstChild))[0]
		if shows[name] == "" && name != "early" {
			continue
		}
		seen++
		var drawn []*html.Node
		for n := range row.Descendants() {
			if attribute(n, "class") == "span" {
				drawn = append(drawn, n)
			}
		}
		if name == "early" {
			if len(drawn) != 0 {
				t.Error("early has a drawing, and no interval")
			}
			continue
		}
		if len(drawn) != 1 {
			t.Errorf("%s has %d drawings", name, len(drawn))
			continue
		}
		if got := words(drawn[0].NextSibling); got != shows[name] {
			t.Errorf("%s: the drawing shows %q, want %q", name, got, shows[name])
		}
		d := parse(t, drawn[0])
		for _, wrong := range d.faults() {
			t.Errorf("%s: %s", name, wrong)
		}
		if !slices.ContainsFunc(d.texts, func(text text) bool { return text.words == "0" }) || !strings.Contains(d.paths[0], "V20") {
			t.Errorf("%s: no line at 0: %+v", name, d)
		}
		if n := strings.Count(d.paths[1], "M") - 1; n != arrows[name] {
			t.Errorf("%s: %d arrows, want %d: %s", name, n, arrows[name], d.paths[1])
		}
	}
	if seen != len(shows)+1 {
		t.Errorf("%d rows, want %d", seen, len(shows)+1)
	}
}
