package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/readout"
)

//go:embed page.html
var pageText string

//go:embed body.html
var bodyText string

// Head is a template of the first lines in the head of every page. Its argument is the page's title.
//
//go:embed head.html
var Head string

// Style is the style sheet for Body.
//
//go:embed style.css
var Style string

var page = template.Must(template.Must(template.Must(template.New("page").Funcs(template.FuncMap{
	"plain": plain,
	"style": func() template.CSS { return template.CSS(Style) }, //nolint:gosec // a file of this package
}).Parse(pageText)).New("body").Parse(bodyText)).New("head").Parse(Head))

// Button is an action on an experiment, for a page that can carry it out.
type Button struct {
	Verb  string // verb of kn experiment
	Label string
	Says  string // what will happen
	Class string // "go" for the next step, "bad" for what ends the experiment, otherwise empty
	Final bool   // whether it cannot be undone
}

// HTML writes a readout as one file that loads nothing else. It can be read on a phone, on paper and in dark mode.
func HTML(w io.Writer, r readout.Report) error {
	v, err := newView(&r, nil)
	if err != nil {
		return err
	}
	return page.ExecuteTemplate(w, "page", v)
}

// Body writes the body of HTML's page, with buttons, for a page that has Style.
func Body(w io.Writer, r readout.Report, buttons []Button) error {
	v, err := newView(&r, buttons)
	if err != nil {
		return err
	}
	return page.ExecuteTemplate(w, "body", v)
}

// view has what the page shows of a readout.
type view struct {
	*readout.Report

	Title, When, Services string
	Pills                 []pill
	Word, Class, Do       string // of the verdict
	Buttons               []Button
	Tiles                 []tile
	Effect, GuardFigure   *figure
	Figures               []figure // figures other than Effect and GuardFigure
	Interval              string
	Metrics               []metricRow
	Spans                 bool // whether any metric has a drawing
	Adjusted              string
	Guards                []row
	Breached              bool
	Facts                 []row
	Red                   bool
	Checks                string
	CheckRows             []row
	Days                  []row
	DaysNote              string
	People                string // Users or Visitors
	Latencies             []row
	Members               []row
	Parts                 []row
	PartsNote             string
	Feedback              []feedbackRow
	Events                []row
	Summary               []row
	Shell                 []string
}

type pill struct{ Words, Class string }

type tile struct {
	Name, Value, Note, Class string
	Ramp                     []bar
}

// bar is a step of the ramp. Height is 1 to 5. On is set if the step was reached.
type bar struct {
	Percent, Height int
	On              bool
}

// feedbackRow is a score with a bar for each arm.
type feedbackRow struct {
	Score, Control, Treatment string
	ControlBar, TreatmentBar  template.HTML
}

// metricRow is a metric with a drawing of its interval. Name is the metric's name in an experiment's file.
type metricRow struct {
	Label, Name, Role, P                     string
	Control, Treatment, Difference, Interval string
	Span                                     span
	Notes                                    []string
}

func newView(r *readout.Report, buttons []Button) (*view, error) {
	v := &view{
		Report: r, Title: title(r), When: minute(r.At), Services: strings.Join(r.Spec.Services, ", "), Buttons: buttons,
		Do: nextText(r), Interval: confidence(r), Members: groupRows(r), Summary: summary(r), Facts: facts(r),
	}
	v.Word = capitalised(string(r.Verdict))
	v.Class = verdictClass(r.Verdict)
	v.Pills, v.Red, v.Checks = pills(r)
	drawn, err := plots(r)
	if err != nil {
		return nil, err
	}
	for i := range drawn {
		switch f := &drawn[i]; f.about {
		case aboutEffect:
			v.Effect = f
		case aboutGuardrails:
			v.GuardFigure = f
		default:
			v.Figures = append(v.Figures, *f)
		}
	}
	v.Tiles = tiles(r)
	v.addMetrics(r)
	v.Adjusted = adjustedNote(r)
	for _, g := range r.Guardrails {
		v.Breached = v.Breached || g.State == experiment.GuardBreach
	}
	for _, g := range guardRows(r) {
		v.Guards = append(v.Guards, row{g.name(), g.Name, stateClass(string(g.state)), string(g.state), g.note})
	}
	for _, c := range r.Health {
		v.CheckRows = append(v.CheckRows, row{c.Name, stateClass(string(c.State)), string(c.State), c.Detail})
	}
	if r.Latency != nil {
		v.Latencies = latencyRows(r.Latency)
	}
	if len(r.Days) > 0 {
		v.Days, v.DaysNote, v.People = dayRows(r), dayNote(r), capitalised(people(r))
	}
	if len(r.Splits) > 0 {
		v.Parts, v.PartsNote = splitRows(r), splitNote(r)
	}
	scores := scoreRows(r)
	most := .01
	for _, s := range scores {
		most = max(most, s.Shares[0], s.Shares[1])
	}
	for _, s := range scores {
		cells := s.cells()
		v.Feedback = append(v.Feedback, feedbackRow{cells[0], cells[1], cells[2], drawShare(s.Shares[0]/most, "control"), drawShare(s.Shares[1]/most, "treatment")})
	}
	for _, h := range r.History {
		v.Events = append(v.Events, row{minute(h.At), string(h.Phase), h.Actor, h.Reason})
	}
	v.Shell = []string{"kn experiment report " + r.Experiment}
	if r.Next.Command != "" {
		v.Shell = append(v.Shell, r.Next.Command)
	}
	return v, nil
}

func capitalised(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// title is the experiment's title, or its name if it has none.
func title(r *readout.Report) string {
	if r.Spec.Title != "" {
		return r.Spec.Title
	}
	return r.Experiment
}

func verdictClass(v readout.Outcome) string {
	switch string(v) {
	case string(experiment.Win), string(readout.Safe):
		return "good"
	case string(experiment.Harm), string(readout.Breach), string(readout.Withheld):
		return "bad"
	}
	return "open"
}

// stateClass is the colour for the state of a guardrail or a health check. The state is also written as a word.
func stateClass(state string) string {
	switch state {
	case string(experiment.GuardPass), string(readout.OK):
		return "good"
	case string(experiment.GuardBreach), string(readout.Red):
		return "bad"
	}
	return "open"
}

// pills returns short labels for the phase, the health and the guardrails. checks sums up the health checks.
func pills(r *readout.Report) (all []pill, red bool, checks string) {
	phase := string(r.Phase)
	if phase == "" {
		phase = string(experiment.Draft)
	}
	if n := len(r.Steps); n > 0 && r.Phase.Live() {
		phase += fmt.Sprintf(" · step %d of %d, %d%% in each arm", n, len(r.Spec.Ramp.Steps), r.Steps[n-1].Percent)
	}
	all = append(all, pill{phase, ""})
	states := make(map[readout.State]int)
	for _, c := range r.Health {
		states[c.State]++
	}
	red = states[readout.Red] > 0
	checks = fmt.Sprintf("%d of %d are good", states[readout.OK], len(r.Health))
	if n := states[readout.Unknown]; n > 0 {
		checks += fmt.Sprintf(", %d not known yet", n)
	}
	switch {
	case len(r.Health) == 0:
	case red:
		all = append(all, pill{"Health red", "bad"})
	case states[readout.Warning] > 0:
		all = append(all, pill{"Health: a warning", "open"})
	default:
		all = append(all, pill{"Health good", "good"})
	}
	guards := make(map[experiment.Guard]int)
	for _, g := range r.Guardrails {
		guards[g.State]++
	}
	switch {
	case len(r.Guardrails) == 0:
	case guards[experiment.GuardBreach] > 0:
		all = append(all, pill{"Guardrail breached", "bad"})
	case guards[experiment.GuardPass] == len(r.Guardrails):
		all = append(all, pill{"Guardrails pass", "good"})
	default:
		all = append(all, pill{"Guardrails not decided yet", "open"})
	}
	return all, red, checks
}

// facts tells what the experiment is about.
func facts(r *readout.Report) (rows []row) {
	if r.Spec.Hypothesis != "" {
		rows = append(rows, row{"Hypothesis", r.Spec.Hypothesis})
	}
	if r.Spec.Owner != "" {
		rows = append(rows, row{"Owner", r.Spec.Owner})
	}
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(r.Spec.Treatment.Env)) {
		changed = append(changed, fmt.Sprintf("%s=%s", name, r.Spec.Treatment.Env[name]))
	}
	for _, service := range slices.Sorted(maps.Keys(r.Spec.Treatment.Image)) {
		changed = append(changed, fmt.Sprintf("%s has the image %s", service, r.Spec.Treatment.Image[service]))
	}
	if len(changed) > 0 {
		rows = append(rows, row{"What changes", "the treatment has " + strings.Join(changed, ", ")})
	}
	return rows
}

// tiles has the four figures that people ask for first.
func tiles(r *readout.Report) (all []tile) {
	if e := r.Primary; e != nil {
		lift := tile{Name: "Difference, " + e.Label, Value: differenceText(e), Note: intervalText(e)}
		if e.Lift != nil && e.Lift.Value != nil {
			lift.Name, lift.Value, lift.Note = "Lift, "+e.Label, figures.Change(*e.Lift.Value), figures.Range(e.Lift.Lower, e.Lift.Upper, figures.Change)
		}
		switch lift.Class = verdictClass(r.Verdict); {
		case !e.Speaks:
			lift.Value, lift.Note, lift.Class = "–", "not known yet", ""
		case lift.Class == "open":
			lift.Class = ""
		}
		all = append(all, lift, tile{Name: "Control → treatment", Value: e.Figure(e.Control.Mean) + " → " + e.Figure(e.Treatment.Mean), Note: e.Label})
	}
	if r.Units.Kind != experiment.Request && read(r) {
		done := r.Units.Completed
		all = append(all, tile{Name: capitalised(figures.Plural(r.Spec.Noun())) + " with a full window", Value: figures.Whole(done.Control + done.Treatment), Note: figures.Whole(done.Control) + " control · " + figures.Whole(done.Treatment) + " treatment"})
	}
	ramp := tile{Name: "Ramp", Note: "% in each arm"}
	for i, percent := range r.Spec.Ramp.Steps {
		ramp.Ramp = append(ramp.Ramp, bar{percent, max(1, int(math.Ceil(float64(percent)/10))), i < len(r.Steps)})
	}
	ramp.Value = fmt.Sprintf("Step %d of %d", len(r.Steps), len(r.Spec.Ramp.Steps))
	if n := len(r.Steps); n > 0 {
		ramp.Note += ", since " + r.Steps[n-1].At.UTC().Format("2 Jan 15:04 MST")
	}
	return append(all, ramp)
}

// addMetrics adds the rows of the metrics.
func (v *view) addMetrics(r *readout.Report) {
	var all []*readout.Effect
	if r.Primary != nil {
		all = append(all, r.Primary)
	}
	for i := range r.Secondary {
		all = append(all, &r.Secondary[i])
	}
	drawn := effectSpans(all)
	for i, e := range all {
		cells := effectRow(e)
		m := metricRow{Label: e.Label, Name: e.Metric, Role: "secondary", Control: cells[1], Treatment: cells[2], Difference: cells[3], Interval: cells[4], Notes: effectNotes(r, e)}
		if i == 0 && r.Primary != nil {
			m.Role = "goal"
		}
		if e.P != nil {
			m.P = "p " + cells[5]
		}
		m.Span = drawn[i]
		v.Spans = v.Spans || m.Span.SVG != ""
		v.Metrics = append(v.Metrics, m)
	}
}

// drawShare draws a share as a bar in an arm's colour. The figure is written next to it.
func drawShare(part float64, arm string) template.HTML {
	const wide = 140
	return template.HTML(fmt.Sprintf(`<svg class="share" viewBox="0 0 %d 14" aria-hidden="true"><path d="M0,7H%d" style="stroke:var(--edge);stroke-width:1" /><path d="M0,7H%.1f" style="stroke:var(--%s);stroke-width:12" /></svg>`, wide, wide, wide*part, arm)) //nolint:gosec // of numbers, and of an arm
}
