package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"strings"
	"unicode/utf8"

	"warble/shared/figures"
	"warble/shared/readout"
	"warble/shared/store"
)

// Spans draws lifts with their intervals, all on one scale. A drawing is empty if there is no lift or nothing bounds it.
func Spans(lifts []*readout.Lift) (drawn []template.HTML) {
	on := scaleOfLifts(lifts)
	for _, l := range lifts {
		svg := template.HTML("")
		if bounded(l) {
			svg = on.draw(*l.Value, readout.Interval{Lower: l.Lower, Upper: l.Upper})
		}
		drawn = append(drawn, svg)
	}
	return drawn
}

// bounded reports whether a lift has a value, and a bound on at least one side.
func bounded(l *readout.Lift) bool {
	return l != nil && l.Value != nil && (l.Lower != nil || l.Upper != nil)
}

// span is a metric's effect as a drawing, with the quantity and the unit that it shows.
type span struct {
	SVG   template.HTML
	Shows string
}

// effectSpans draws metrics, each with its interval. Lifts are all on one scale. A metric without a lift has its difference drawn,
// on a scale of its own, because other metrics have other units. A drawing is empty if nothing is known yet.
func effectSpans(effects []*readout.Effect) (all []span) {
	var lifts []*readout.Lift
	for _, e := range effects {
		lifts = append(lifts, e.Lift)
	}
	for i, svg := range Spans(lifts) {
		one := span{svg, "lift, in percent"}
		if svg == "" {
			one = differenceSpan(effects[i])
		}
		all = append(all, one)
	}
	return all
}

func differenceSpan(e *readout.Effect) span {
	if e.Difference == nil || e.Interval == (readout.Interval{}) {
		return span{}
	}
	most := 0.
	for _, v := range []*float64{e.Difference, e.Interval.Lower, e.Interval.Upper} {
		if v != nil {
			most = max(most, math.Abs(*v))
		}
	}
	most = roundUp(most)
	unit := e.Unit
	if e.Kind == store.Share {
		unit = "percentage points"
	}
	return span{scale{-most, most, e.Signed}.draw(*e.Difference, e.Interval), "difference, in " + unit}
}

// roundUp returns 1, 2 or 5 times a power of 10, so that the end of a scale has few digits.
func roundUp(v float64) float64 {
	if v == 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, digit := range []float64{1, 2, 5} {
		if v <= digit*power {
			return digit * power
		}
	}
	return 10 * power
}

// scale is the range of a drawing, which contains 0. figure writes its ends.
type scale struct {
	low, high float64
	figure    func(float64) string
}

// scaleOfLifts holds all lifts, but nothing beyond -100% and +300%, because widths could not be compared there.
func scaleOfLifts(lifts []*readout.Lift) scale {
	low, high := -.1, .1
	for _, l := range lifts {
		if bounded(l) {
			low, high = min(low, *cmp.Or(l.Lower, l.Value)), max(high, *cmp.Or(l.Upper, l.Value))
		}
	}
	whole := func(v float64) string { return strings.Replace(figures.Change(v), ".0%", "%", 1) }
	return scale{max(math.Floor(10*low)/10, -1), min(math.Ceil(10*high)/10, 3), whole}
}

// draw draws a value with its interval. A side that is not bounded, or not within the scale, ends in an arrow. The figures are
// written next to the drawing.
func (s scale) draw(value float64, i readout.Interval) template.HTML {
	const wide, edge, letter = 140, 6, 7
	x := func(v float64) float64 { return edge + (min(max(v, s.low), s.high)-s.low)/(s.high-s.low)*(wide-2*edge) }
	lower, upper, arrows := s.low, s.high, ""
	if i.Lower != nil && *i.Lower >= s.low {
		lower = *i.Lower
	} else {
		arrows += fmt.Sprintf("M%d,6L%d,10L%d,14", edge+4, edge, edge+4)
	}
	if i.Upper != nil && *i.Upper <= s.high {
		upper = *i.Upper
	} else {
		arrows += fmt.Sprintf("M%d,6L%d,10L%d,14", wide-edge-4, wide-edge, wide-edge-4)
	}
	var out strings.Builder
	fmt.Fprintf(&out, `<svg class="span" viewBox="0 0 %d 34" aria-hidden="true"><path d="M%.1f,0V20" style="stroke:var(--soft);stroke-dasharray:3,3" />`, wide, x(0))
	fmt.Fprintf(&out, `<path d="M%.1f,10H%.1f%s" style="fill:none;stroke:var(--treatment);stroke-width:2" />`, x(lower), x(upper), arrows)
	if value >= s.low && value <= s.high {
		fmt.Fprintf(&out, `<circle cx="%.1f" cy="10" r="4" style="fill:var(--treatment)" />`, x(value))
	}
	fmt.Fprintf(&out, `<text x="%.1f" y="31" text-anchor="middle">0</text>`, x(0))
	for _, end := range []struct {
		at, room float64
		figure   string
		anchor   string
	}{{0, x(0), s.figure(s.low), "start"}, {wide, wide - x(0), s.figure(s.high), "end"}} {
		if float64(letter*(utf8.RuneCountInString(end.figure)+1)) <= end.room { // otherwise the figure would overlap the 0
			fmt.Fprintf(&out, `<text x="%g" y="31" text-anchor="%s">%s</text>`, end.at, end.anchor, template.HTMLEscapeString(end.figure))
		}
	}
	out.WriteString("</svg>")
	return template.HTML(out.String()) //nolint:gosec // of numbers alone
}
