package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"warble/shared/experiment"
	"warble/shared/readout"
)

// Plots are drawn for the width of a phone, so that their letters are as large there as those around them; wider ones
// only scale them up.
const plotWidth, plotHeight vg.Length = 360, 216

// Colours stand for variables of the page's style, by which they follow light and dark.
var (
	controlColour   = color.NRGBA{1, 0, 0, 255}
	treatmentColour = color.NRGBA{2, 0, 0, 255}
	bandColour      = color.NRGBA{3, 0, 0, 255}
	faintColour     = color.NRGBA{4, 0, 0, 255}
	limitColour     = color.NRGBA{5, 0, 0, 255}

	variables = strings.NewReplacer("#010000", "var(--control)", "#020000", "var(--treatment)", "#030000", "var(--band)", "#040000", "var(--faint)", "#050000", "var(--limit)",
		"stroke:#000000", "stroke:var(--faint)", "font-family:Liberation Sans;font-variant:Sans", "font-variant:normal", "font-family:Liberation Sans", "font-variant:normal")
)

// figure is a plot with its caption.
type figure struct {
	Title, Caption string
	Control        bool // it has a line per arm
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

func line(points plotter.XYs, c color.Color, dashed bool) (plot.Plotter, error) {
	l, err := plotter.NewLine(points)
	if err != nil {
		return nil, err
	}
	l.Color, l.Width = c, 1.5
	if dashed {
		l.Width, l.Dashes = 1, []vg.Length{4, 3}
	}
	return l, nil
}

// svg draws a plot to be part of a page.
func svg(p *plot.Plot, title string) (template.HTML, error) {
	canvas := vgsvg.NewWith(vgsvg.UseWH(plotWidth, plotHeight), vgsvg.EmbedFonts(false))
	area := draw.New(canvas)
	p.Draw(draw.Crop(area, 2, -12, 2, -6)) // the last label of an axis stands half outside of it
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", err
	}
	_, body, found := strings.Cut(out.String(), "viewBox=")
	if !found {
		return "", fmt.Errorf("plot %q: no viewBox in what was drawn", title)
	}
	return template.HTML(`<svg role="img" aria-label="` + template.HTMLEscapeString(title) + `" viewBox=` + variables.Replace(body)), nil //nolint:gosec // drawn here; its labels are escaped by the canvas
}

// effectPlot is the difference of the arms at each look, with its interval.
func effectPlot(r *readout.Report) (*plot.Plot, error) {
	e := r.Primary
	p := newPlot()
	p.X.Tick.Marker = dates{}
	p.Y.Label.Text = "difference, " + e.Unit
	var middle, upper, lower plotter.XYs
	for _, s := range e.Series {
		x := seconds(s.At)
		middle = append(middle, plotter.XY{X: x, Y: s.Difference})
		if s.Interval.Lower != nil && s.Interval.Upper != nil {
			upper, lower = append(upper, plotter.XY{X: x, Y: *s.Interval.Upper}), append(lower, plotter.XY{X: x, Y: *s.Interval.Lower})
		}
	}
	if len(upper) > 1 {
		band := upper
		for i := len(lower) - 1; i >= 0; i-- {
			band = append(band, lower[i])
		}
		polygon, err := plotter.NewPolygon(band)
		if err != nil {
			return nil, err
		}
		polygon.Color, polygon.LineStyle.Width = bandColour, 0
		p.Add(polygon)
	}
	p.X.Min, p.X.Max = seconds(r.StartedAt), seconds(r.Until)
	if err := across(p, 0, faintColour); err != nil {
		return nil, err
	}
	if e.Control.Mean != nil {
		worth := float64(r.Spec.Metrics.Primary.MinimumEffect) * *e.Control.Mean
		if e.Down {
			worth = -worth
		}
		if err := across(p, worth, limitColour); err != nil {
			return nil, err
		}
	}
	if len(middle) > 1 {
		l, err := line(middle, treatmentColour, false)
		if err != nil {
			return nil, err
		}
		p.Add(l)
	}
	if e.Difference != nil {
		if err := addLast(p, r); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// addLast marks the effect as it is judged, with its interval.
func addLast(p *plot.Plot, r *readout.Report) error {
	e := r.Primary
	at := seconds(r.Until)
	if n := len(e.Series); n > 0 {
		at = seconds(e.Series[n-1].At)
	}
	point := plotter.XYs{{X: at, Y: *e.Difference}}
	dot, err := plotter.NewScatter(point)
	if err != nil {
		return err
	}
	dot.GlyphStyle = draw.GlyphStyle{Color: treatmentColour, Radius: 3, Shape: draw.CircleGlyph{}}
	p.Add(dot)
	if e.Interval.Lower == nil || e.Interval.Upper == nil {
		return nil
	}
	bars, err := plotter.NewYErrorBars(struct {
		plotter.XYs
		plotter.YErrors
	}{point, plotter.YErrors{{Low: *e.Difference - *e.Interval.Lower, High: *e.Interval.Upper - *e.Difference}}})
	if err != nil {
		return err
	}
	bars.Color, bars.Width = treatmentColour, 1.5
	p.Add(bars)
	return nil
}

// across draws a dashed line at a height; the axis must reach from its start to its end already.
func across(p *plot.Plot, y float64, c color.Color) error {
	l, err := line(plotter.XYs{{X: p.X.Min, Y: y}, {X: p.X.Max, Y: y}}, c, true)
	if err == nil {
		p.Add(l)
	}
	return err
}

// guardrailPlot has a line per guardrail: the harm, in multiples of the margin that is borne, with its bounds.
func guardrailPlot(r *readout.Report) (*plot.Plot, error) {
	p := newPlot()
	p.X.Label.Text = "harm, as a multiple of the margin"
	var names []string
	var points plotter.XYs
	var errs plotter.XErrors
	for i := range r.Guardrails { // the first on top
		g := r.Guardrails[len(r.Guardrails)-1-i]
		name := g.Name
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
	for x, c := range []color.Color{faintColour, limitColour} { // at nothing, and at the margin
		l, err := line(plotter.XYs{{X: float64(x), Y: -.6}, {X: float64(x), Y: float64(len(names)) - .4}}, c, true)
		if err != nil {
			return nil, err
		}
		p.Add(l)
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
	p.NominalY(names...)
	p.Y.LineStyle.Width, p.Y.Tick.Label.XAlign = 0, draw.XRight
	p.X.Min, p.X.Max = min(p.X.Min, -.5), max(p.X.Max, 1.5)
	return p, nil
}

// exposurePlot is how many users each arm had.
func exposurePlot(r *readout.Report) (*plot.Plot, error) {
	p := newPlot()
	p.X.Tick.Marker = dates{}
	p.Y.Label.Text = "exposed users"
	var control, treatment plotter.XYs
	control, treatment = append(control, plotter.XY{X: seconds(r.Steps[0].At)}), append(treatment, plotter.XY{X: seconds(r.Steps[0].At)})
	for _, e := range r.Exposures {
		control = append(control, plotter.XY{X: seconds(e.At), Y: float64(e.Control)})
		treatment = append(treatment, plotter.XY{X: seconds(e.At), Y: float64(e.Treatment)})
	}
	return p, arms(p, control, treatment)
}

func arms(p *plot.Plot, control, treatment plotter.XYs) error {
	a, err := line(control, controlColour, false)
	if err != nil {
		return err
	}
	b, err := line(treatment, treatmentColour, false)
	if err != nil {
		return err
	}
	p.Add(a, b)
	p.Y.Min = 0
	p.Y.Max = max(p.Y.Max, 1)
	return nil
}

// slotPlot is how far the ramp was opened.
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
	l, err := line(steps, treatmentColour, false)
	if err != nil {
		return nil, err
	}
	p.Add(l)
	p.Y.Min, p.Y.Max = 0, 50
	p.Y.Tick.Marker = plot.ConstantTicks{{Value: 0, Label: "0"}, {Value: 10, Label: "10"}, {Value: 25, Label: "25"}, {Value: 50, Label: "50"}}
	return p, nil
}

// latencyPlot is the share of requests that took at most so long.
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
	err := arms(p, cumulate(l.Control), cumulate(l.Treatment))
	p.Y.Max = 100
	return p, err
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// dates marks an axis of Unix seconds where a clock or a calendar does.
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

// decades marks a logarithmic axis of milliseconds.
type decades struct{}

func (decades) Ticks(low, high float64) (ticks []plot.Tick) {
	for x := 1.0; x <= high; x *= 10 {
		if x >= low {
			ticks = append(ticks, plot.Tick{Value: x, Label: fmt.Sprint(int64(x))})
		}
	}
	return ticks
}

// plots are those that have something to show.
func plots(r *readout.Report) (drawn []figure, err error) {
	add := func(title, caption string, control bool, draw func() (*plot.Plot, error)) {
		if err != nil {
			return
		}
		var p *plot.Plot
		if p, err = draw(); err != nil {
			return
		}
		f := figure{Title: title, Caption: caption, Control: control}
		f.SVG, err = svg(p, title)
		drawn = append(drawn, f)
	}
	if e := r.Primary; e != nil && (len(e.Series) > 0 || e.Difference != nil) {
		add("Effect on "+e.Metric, "Treatment minus control, with its "+confidence(r)+" interval; dashed: nothing, and what would be worth it.", false, func() (*plot.Plot, error) { return effectPlot(r) })
	}
	if len(r.Guardrails) > 0 {
		add("Guardrails", "Each harm with its bounds: left of the dashed margin it passes, right of it it is rolled back.", false, func() (*plot.Plot, error) { return guardrailPlot(r) })
	}
	if len(r.Steps) > 0 && r.Spec.Unit != experiment.Request {
		add("Exposures", "Users who have been exposed.", true, func() (*plot.Plot, error) { return exposurePlot(r) })
	}
	if len(r.Steps) > 0 {
		add("Slots", "How far the ramp was opened.", false, func() (*plot.Plot, error) { return slotPlot(r) })
	}
	if r.Latency != nil {
		add("Latency", "The share of requests that took a function at most so long.", true, func() (*plot.Plot, error) { return latencyPlot(r.Latency) })
	}
	return drawn, err
}
