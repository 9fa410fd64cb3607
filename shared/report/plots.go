package report

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/readout"
)

// Plots are drawn at the width of a phone, so that their letters are as large there as the text around them. On wider
// screens they are only scaled up.
const plotWidth, plotHeight vg.Length = 360, 216

// The colours stand for variables of the page's style, so that they follow light and dark mode.
var (
	controlColour   = color.NRGBA{1, 0, 0, 255}
	treatmentColour = color.NRGBA{2, 0, 0, 255}
	bandColour      = color.NRGBA{3, 0, 0, 255}
	faintColour     = color.NRGBA{4, 0, 0, 255}
	limitColour     = color.NRGBA{5, 0, 0, 255}

	variables = strings.NewReplacer("#010000", "var(--control)", "#020000", "var(--treatment)", "#030000", "var(--band)", "#040000", "var(--faint)", "#050000", "var(--limit)",
		"stroke:#000000", "stroke:var(--faint)", "font-family:Liberation Sans;font-variant:Sans", "font-variant:normal", "font-family:Liberation Sans", "font-variant:normal")
)

// subject tells which figures have a place of their own on the page.
type subject int

const (
	aboutAnything subject = iota
	aboutEffect
	aboutGuardrails
)

// figure is a plot with its caption. says has its main figures in words, for people who cannot see the plot; empty if a table
// next to the plot has them.
type figure struct {
	about          subject
	Title, Caption string
	says           string
	SVG            template.HTML
}

func newPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	for _, style := range []*draw.TextStyle{&p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font = font.From(sans, 11)
	}
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.LineStyle.Color, axis.Tick.LineStyle.Color = faintColour, faintColour
	}
	p.Y.LineStyle.Width, p.Y.Tick.LineStyle.Width = 0, 0
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color, grid.Horizontal.Width = faintColour, .3
	p.Add(grid)
	return p
}

func addLine(p *plot.Plot, points plotter.XYs, c color.Color, dashed bool) error {
	l, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	l.Color, l.Width = c, 1.5
	if dashed {
		l.Width, l.Dashes = 1, []vg.Length{4, 3}
	}
	p.Add(l)
	return nil
}

// svg draws a plot as a part of a page.
func svg(p *plot.Plot, title, says string) (template.HTML, error) {
	canvas := vgsvg.NewWith(vgsvg.UseWH(plotWidth, plotHeight), vgsvg.EmbedFonts(false))
	area := draw.New(canvas)
	p.Draw(draw.Crop(area, 2, -12, 2, -6)) // half of an axis's last label is outside the plot
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", err
	}
	_, body, found := strings.Cut(out.String(), "viewBox=")
	if !found {
		return "", fmt.Errorf("plot %q: no viewBox in what was drawn", title)
	}
	open, shapes, _ := strings.Cut(variables.Replace(body), ">")
	open = `<svg role="img" aria-label="` + template.HTMLEscapeString(title) + `" viewBox=` + open + ">"
	if says != "" {
		open += "<desc>" + template.HTMLEscapeString(says) + "</desc>"
	}
	return template.HTML(open + shapes), nil //nolint:gosec // drawn here; its labels are escaped by the canvas
}

// estimate is the value of the deciding quantity at one time.
type estimate struct {
	at           float64
	value        float64
	lower, upper *float64
}

// estimates returns the estimates at the looks, and the one by which the effect is judged.
func estimates(r *readout.Report) (looks []estimate, judged *estimate) {
	e := r.Primary
	for _, s := range e.Series {
		switch {
		case e.By == readout.ByDifference:
			looks = append(looks, estimate{seconds(s.At), s.Difference, s.Interval.Lower, s.Interval.Upper})
		case s.Lift != nil && s.Lift.Value != nil:
			looks = append(looks, estimate{seconds(s.At), 100 * *s.Lift.Value, percent(s.Lift.Lower), percent(s.Lift.Upper)})
		}
	}
	at := seconds(r.Until)
	if n := len(looks); n > 0 {
		at = looks[n-1].at
	}
	switch l := e.Lift; {
	case e.By == readout.ByDifference && e.Difference != nil:
		judged = &estimate{at, *e.Difference, e.Interval.Lower, e.Interval.Upper}
	case e.By == readout.ByLift && l != nil && l.Value != nil:
		judged = &estimate{at, 100 * *l.Value, percent(l.Lower), percent(l.Upper)}
	}
	return looks, judged
}

func percent(share *float64) *float64 {
	if share == nil {
		return nil
	}
	p := 100 * *share
	return &p
}

// effectPlot shows the deciding quantity at each look, with its interval.
func effectPlot(r *readout.Report) (*plot.Plot, error) {
	e := r.Primary
	p := newPlot()
	p.X.Tick.Marker = dates{}
	p.Y.Label.Text = "difference, " + e.Unit
	least := float64(r.Spec.Metrics.Primary.MinimumEffect)
	worth := 100 * least
	if e.By == readout.ByLift {
		p.Y.Label.Text = "lift, percent"
	} else if worth = 0; e.Control.Mean != nil {
		worth = least * *e.Control.Mean
	}
	if e.Down {
		worth = -worth
	}
	looks, judged := estimates(r)
	var middle, upper, lower plotter.XYs
	for _, l := range looks {
		middle = append(middle, plotter.XY{X: l.at, Y: l.value})
		if l.lower != nil && l.upper != nil {
			upper, lower = append(upper, plotter.XY{X: l.at, Y: *l.upper}), append(lower, plotter.XY{X: l.at, Y: *l.lower})
		}
	}
	if len(upper) > 1 {
		polygon, err := plotter.NewPolygon(slices.Concat(upper, reversed(lower)))
		if err != nil {
			return nil, err
		}
		polygon.Color, polygon.LineStyle.Width = bandColour, 0
		p.Add(polygon)
	}
	p.X.Min, p.X.Max = seconds(r.StartedAt), seconds(r.Until)
	level := func(y float64) plotter.XYs { return plotter.XYs{{X: p.X.Min, Y: y}, {X: p.X.Max, Y: y}} }
	if err := addLine(p, level(0), faintColour, true); err != nil {
		return nil, err
	}
	if worth != 0 {
		if err := addLine(p, level(worth), limitColour, true); err != nil {
			return nil, err
		}
	}
	if len(middle) > 1 {
		if err := addLine(p, middle, treatmentColour, false); err != nil {
			return nil, err
		}
	}
	named := &labels{style: p.X.Tick.Label, lines: []plotter.XYs{middle, upper, lower, level(0)}}
	if judged != nil {
		if err := addLast(p, *judged); err != nil {
			return nil, err
		}
		named.lines = append(named.lines, judged.bar())
		middle = append(middle, plotter.XY{X: judged.at, Y: judged.value})
	}
	named.all = append(named.all, label{comparison(e), reversed(middle)})
	if worth != 0 {
		named.lines = append(named.lines, level(worth))
		named.all = append(named.all, label{"worth having", level(worth)})
	}
	named.all = append(named.all, label{"no effect", level(0)})
	if len(upper) > 1 {
		named.all = append(named.all, label{confidence(r) + " interval", reversed(upper)})
	}
	p.Add(named)
	return p, nil
}

// comparison names the quantity that decides.
func comparison(e *readout.Effect) string {
	if e.By == readout.ByLift {
		return "lift of the treatment"
	}
	return "treatment minus control"
}

// reversed returns the points in the opposite order.
func reversed(line plotter.XYs) plotter.XYs {
	line = slices.Clone(line)
	slices.Reverse(line)
	return line
}

// bar returns the ends of the estimate's interval. A side without a bound ends at the estimate.
func (e *estimate) bar() plotter.XYs {
	return plotter.XYs{{X: e.at, Y: *cmp.Or(e.lower, &e.value)}, {X: e.at, Y: *cmp.Or(e.upper, &e.value)}}
}

// addLast marks the judged estimate, with its interval.
func addLast(p *plot.Plot, e estimate) error {
	point := plotter.XYs{{X: e.at, Y: e.value}}
	dot, err := plotter.NewScatter(point)
	if err != nil {
		return err
	}
	dot.GlyphStyle = draw.GlyphStyle{Color: treatmentColour, Radius: 3, Shape: draw.CircleGlyph{}}
	p.Add(dot)
	if e.lower == nil || e.upper == nil {
		return nil
	}
	bars, err := plotter.NewYErrorBars(struct {
		plotter.XYs
		plotter.YErrors
	}{point, plotter.YErrors{{Low: e.value - *e.lower, High: *e.upper - e.value}}})
	if err != nil {
		return err
	}
	bars.Color, bars.Width = treatmentColour, 1.5
	p.Add(bars)
	return nil
}

// addText writes words next to a point of a plot.
func addText(p *plot.Plot, x, y float64, words string, align draw.XAlignment, above bool) error {
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{words}})
	if err != nil {
		return err
	}
	style := p.X.Tick.Label
	style.XAlign, style.YAlign = align, draw.YTop
	labels.Offset.Y = -2
	if above {
		style.YAlign, labels.Offset.Y = draw.YBottom, 2
	}
	labels.TextStyle = []draw.TextStyle{style}
	p.Add(labels)
	return nil
}

// guardrailPlot has a row per guardrail: the harm with its bounds, in multiples of the margin.
func guardrailPlot(r *readout.Report) (*plot.Plot, error) {
	p := newPlot()
	p.X.Label.Text = "harm, as a multiple of the margin"
	var names []string
	var points plotter.XYs
	var errs plotter.XErrors
	for i := range r.Guardrails { // in reverse: the highest row is the first guardrail
		g := r.Guardrails[len(r.Guardrails)-1-i]
		name := g.Label
		if g.Over != "" {
			name += "\n> " + g.Over
		}
		names = append(names, name)
		if g.Bounds.Lower == nil || g.Bounds.Upper == nil {
			continue
		}
		points = append(points, plotter.XY{X: g.Harm / g.Margin, Y: float64(i)})
		errs = append(errs, struct{ Low, High float64 }{(g.Harm - *g.Bounds.Lower) / g.Margin, (*g.Bounds.Upper - g.Harm) / g.Margin})
	}
	for x, c := range []color.Color{faintColour, limitColour} { // lines at no harm and at the margin
		if err := addLine(p, plotter.XYs{{X: float64(x), Y: -.6}, {X: float64(x), Y: float64(len(names)) - .4}}, c, true); err != nil {
			return nil, err
		}
	}
	if len(points) > 0 {
		bars, err := plotter.NewXErrorBars(struct {
			plotter.XYs
			plotter.XErrors
		}{points, errs})
		if err != nil {
			return nil, err
		}
		bars.Color, bars.Width = treatmentColour, 1.5
		dots, err := plotter.NewScatter(points)
		if err != nil {
			return nil, err
		}
		dots.GlyphStyle = draw.GlyphStyle{Color: treatmentColour, Radius: 3, Shape: draw.CircleGlyph{}}
		p.Add(bars, dots)
	}
	if err := addText(p, 1, float64(len(names))-.75, " margin", draw.XLeft, true); err != nil {
		return nil, err
	}
	p.NominalY(names...)
	p.Y.LineStyle.Width, p.Y.Tick.Label.XAlign = 0, draw.XRight
	p.X.Min, p.X.Max = min(p.X.Min, -.5), max(p.X.Max, 1.5)
	return p, nil
}

// exposurePlot shows how many users or visitors each arm had over time.
func exposurePlot(r *readout.Report) (*plot.Plot, error) {
	p := newPlot()
	p.X.Tick.Marker = dates{}
	p.Y.Label.Text = "exposed " + people(r)
	var control, treatment plotter.XYs
	control, treatment = append(control, plotter.XY{X: seconds(r.Steps[0].At)}), append(treatment, plotter.XY{X: seconds(r.Steps[0].At)})
	for _, e := range r.Exposures {
		control = append(control, plotter.XY{X: seconds(e.At), Y: float64(e.Control)})
		treatment = append(treatment, plotter.XY{X: seconds(e.At), Y: float64(e.Treatment)})
	}
	if err := addArms(p, control, treatment); err != nil {
		return nil, err
	}
	return p, labelArms(p, control, treatment, 0)
}

func addArms(p *plot.Plot, control, treatment plotter.XYs) error {
	if err := addLine(p, control, controlColour, false); err != nil {
		return err
	}
	if err := addLine(p, treatment, treatmentColour, false); err != nil {
		return err
	}
	p.Y.Min = 0
	p.Y.Max = max(p.Y.Max, 1)
	return nil
}

// labelArms writes each arm's name next to its line: the name of the higher line above the line, and the other below. If
// height is 0, the names are at the end of the lines. Otherwise each name is where its line first reaches height: to the left
// of the line that reaches height first, and to the right of the other.
func labelArms(p *plot.Plot, control, treatment plotter.XYs, height float64) error {
	at := func(points plotter.XYs) plotter.XY {
		for _, point := range points {
			if height > 0 && point.Y >= height {
				return point
			}
		}
		return points[len(points)-1]
	}
	a, b := at(control), at(treatment)
	upper, lower := draw.XRight, draw.XRight
	above := a.Y > b.Y
	if height > 0 {
		lower, above = draw.XLeft, a.X < b.X
	}
	words := func(point plotter.XY, name string, above bool) error {
		align := lower
		if above {
			align = upper
		}
		return addText(p, point.X, point.Y, " "+name+" ", align, above)
	}
	if err := words(a, "control", above); err != nil {
		return err
	}
	return words(b, "treatment", !above)
}

// slotPlot shows how the ramp was opened.
func slotPlot(r *readout.Report) (*plot.Plot, error) {
	p := newPlot()
	p.X.Tick.Marker = dates{}
	p.Y.Label.Text = "% of all slots, per arm"
	steps := plotter.XYs{{X: seconds(r.Steps[0].At)}}
	percent := 0
	for _, s := range r.Steps {
		steps = append(steps, plotter.XY{X: seconds(s.At), Y: float64(percent)}, plotter.XY{X: seconds(s.At), Y: float64(s.Percent)})
		percent = s.Percent
	}
	steps = append(steps, plotter.XY{X: seconds(r.Until), Y: float64(percent)})
	if err := addLine(p, steps, treatmentColour, false); err != nil {
		return nil, err
	}
	p.Add(&labels{style: p.X.Tick.Label, lines: []plotter.XYs{steps}, all: []label{{"control and treatment, each", reversed(steps)}}})
	p.Y.Min, p.Y.Max = 0, 50
	p.Y.Tick.Marker = plot.ConstantTicks{{Value: 0, Label: "0"}, {Value: 10, Label: "10"}, {Value: 25, Label: "25"}, {Value: 50, Label: "50"}}
	return p, nil
}

// latencyPlot shows the share of requests that took at most a given time.
func latencyPlot(l *readout.Latency) (*plot.Plot, error) {
	p := newPlot()
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, decades{}
	p.X.Label.Text, p.Y.Label.Text = "at most, ms", "% of requests"
	cumulate := func(counts []int64) (points plotter.XYs) {
		var total, sum float64
		for _, c := range counts {
			total += float64(c)
		}
		if total == 0 {
			return plotter.XYs{{X: l.Bounds[0], Y: 0}}
		}
		for i, bound := range l.Bounds {
			sum += float64(counts[i])
			points = append(points, plotter.XY{X: bound, Y: 100 * sum / total})
		}
		return points
	}
	control, treatment := cumulate(l.Control), cumulate(l.Treatment)
	if err := addArms(p, control, treatment); err != nil {
		return nil, err
	}
	p.Y.Max = 100
	const half = 50
	return p, labelArms(p, control, treatment, half)
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// dates puts ticks on an axis of Unix seconds at round times and dates.
type dates struct{}

func (dates) Ticks(low, high float64) (ticks []plot.Tick) {
	const most = 6
	step := 10 * time.Second
	for _, longer := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour, 96 * time.Hour, 7 * 24 * time.Hour, 14 * 24 * time.Hour, 28 * 24 * time.Hour, 91 * 24 * time.Hour} {
		if (high-low)/step.Seconds() <= most {
			break
		}
		step = longer
	}
	layout := "Jan 2"
	switch {
	case step < time.Minute:
		layout = "15:04:05"
	case step < 24*time.Hour:
		layout = "15:04"
	}
	for x := math.Ceil(low/step.Seconds()) * step.Seconds(); x <= high; x += step.Seconds() {
		ticks = append(ticks, plot.Tick{Value: x, Label: time.Unix(int64(x), 0).UTC().Format(layout)})
	}
	return ticks
}

// decades puts ticks on a logarithmic axis of milliseconds at powers of 10.
type decades struct{}

func (decades) Ticks(low, high float64) (ticks []plot.Tick) {
	for x := 1.0; x <= high; x *= 10 {
		if x >= low {
			ticks = append(ticks, plot.Tick{Value: x, Label: fmt.Sprint(int64(x))})
		}
	}
	return ticks
}

// effectWords says what effectPlot shows.
func effectWords(r *readout.Report) string {
	looks, judged := estimates(r)
	words := "Nothing is known yet"
	if judged != nil {
		words = capitalised(comparison(r.Primary)) + ": " + differenceText(r.Primary)
		if judged.lower != nil || judged.upper != nil {
			words += ", " + confidence(r) + " interval " + intervalText(r.Primary)
		}
	}
	return words + ", after " + figures.Count(int64(len(looks)), "look") + "."
}

// plots returns the figures that have something to show.
func plots(r *readout.Report) (drawn []figure, err error) {
	add := func(f figure, draw func() (*plot.Plot, error)) {
		if err != nil {
			return
		}
		var p *plot.Plot
		if p, err = draw(); err != nil {
			return
		}
		f.SVG, err = svg(p, f.Title, f.says)
		drawn = append(drawn, f)
	}
	if e := r.Primary; e != nil && (len(e.Series) > 0 || e.Difference != nil) {
		what := "Treatment minus control"
		if e.By == readout.ByLift {
			what = "Treatment compared with control, in percent"
		}
		add(figure{about: aboutEffect, Title: "Effect on " + e.Label, Caption: what + ". The band is the " + confidence(r) + " interval.", says: effectWords(r)}, func() (*plot.Plot, error) { return effectPlot(r) })
	}
	if len(r.Guardrails) > 0 {
		add(figure{about: aboutGuardrails, Title: "Guardrails", Caption: "Each harm with its bounds. An interval entirely to the left of the margin passes; an interval entirely to the right is a breach."}, func() (*plot.Plot, error) { return guardrailPlot(r) })
	}
	if len(r.Steps) > 0 && r.Spec.Unit != experiment.Request {
		users := r.Units.Users
		add(figure{Title: "Exposures", Caption: capitalised(people(r)) + " who were exposed, by arm.", says: figures.Whole(users.Control) + " in control and " + figures.Whole(users.Treatment) + " in treatment."}, func() (*plot.Plot, error) { return exposurePlot(r) })
	}
	if len(r.Steps) > 0 {
		add(figure{Title: "Ramp", Caption: "The percentage of all slots in each arm.", says: stepsText(r) + "."}, func() (*plot.Plot, error) { return slotPlot(r) })
	}
	if r.Latency != nil {
		add(figure{Title: "Latency", Caption: "The percentage of requests that took at most this long."}, func() (*plot.Plot, error) { return latencyPlot(r.Latency) })
	}
	return drawn, err
}
