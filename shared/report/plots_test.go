package report_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/readout/readouttest"
	"warble/shared/report"
	"warble/shared/store"
)

// The words in a plot say what each line is. They are in the plot and do not overlap, whatever the figures are.
func TestEveryLineOfAPlotIsLabelled(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		r := anyPlots(rand.New(rand.NewPCG(seed, 3)))
		drawings := drawingsOf(t, r)
		effect := []string{"treatment minus control", "no effect", "worth having"}
		if r.Primary.By == readout.ByLift {
			effect[0] = "lift of the treatment"
		}
		if n := len(r.Primary.Series); n > 1 && r.Primary.Series[n-2].Interval != (readout.Interval{}) {
			effect = append(effect, "95% interval")
		}
		for name, want := range map[string][]string{"Effect on Tweets per person": effect, "Ramp": {"control and treatment, each"}, "Exposures": {"control", "treatment"}} {
			d := drawings[name]
			if d.says == "" {
				t.Errorf("seed %d: the plot %s has no figures in words", seed, name)
			}
			for _, words := range want {
				if !slices.ContainsFunc(d.texts, func(text text) bool { return text.words == words }) {
					t.Errorf("seed %d: the plot %s does not say %q: %v", seed, name, words, d.texts)
				}
			}
			for _, wrong := range d.faults() {
				t.Errorf("seed %d: the plot %s: %s", seed, name, wrong)
			}
		}
	}
}

// anyPlots returns a report with an effect over time, a ramp and exposures.
func anyPlots(random *rand.Rand) readout.Report {
	begin, day := readouttest.Begin, readouttest.Day
	length := time.Duration(1+random.IntN(40)) * day
	figure := func(v float64) *float64 { return &v }
	mean := []float64{.02, 1.5, 40}[random.IntN(3)]
	e := readout.Effect{
		Metric: "tweets_per_user", Label: "Tweets per person", Unit: "tweets", Kind: store.Mean, By: readout.ByDifference, Speaks: true,
		Control: readout.Level{Mean: &mean}, Treatment: readout.Level{Mean: &mean}, Down: random.IntN(2) == 0,
	}
	if random.IntN(3) == 0 {
		e.By = readout.ByLift
	}
	looks, value, noise := random.IntN(50), (random.Float64()-.5)*mean, []float64{.01, .3, 2}[random.IntN(3)]*mean
	bounded := random.IntN(4) > 0
	for i := range looks {
		value += noise * random.NormFloat64() / float64(4*(i+2))
		from, half := begin.Add(length/time.Duration(2+random.IntN(20))), 3*noise/float64(i+1)
		p := readout.Point{At: from.Add(begin.Add(length).Sub(from) * time.Duration(i+1) / time.Duration(looks)), Difference: value, Lift: &readout.Lift{Value: figure(value / mean)}}
		if bounded {
			p.Interval = readout.Interval{Lower: figure(value - half), Upper: figure(value + half)}
			p.Lift.Lower, p.Lift.Upper = figure((value-half)/mean), figure((value+half)/mean)
		}
		e.Series = append(e.Series, p)
	}
	slices.SortFunc(e.Series, func(a, b readout.Point) int { return a.At.Compare(b.At) })
	e.Difference, e.Interval = figure(value), readout.Interval{Lower: figure(value - noise/10), Upper: figure(value + noise/10)}
	e.Lift = &readout.Lift{Value: figure(value / mean), Lower: figure((value - noise/10) / mean), Upper: figure((value + noise/10) / mean)}
	r := readout.Report{Experiment: "likes", Verdict: readout.Waiting, StartedAt: begin, At: begin.Add(length), Until: begin.Add(length), Primary: &e}
	r.Spec = experiment.Spec{Services: []string{"like"}, Unit: experiment.User}
	r.Spec.Metrics.Primary.MinimumEffect = experiment.Percent([]float64{.001, .05, .5}[random.IntN(3)])
	r.Steps = []readout.Step{{At: begin, Percent: 1 + random.IntN(10)}}
	for _, percent := range []int{25, 50} {
		if last := r.Steps[len(r.Steps)-1].At; random.IntN(2) == 0 {
			r.Steps = append(r.Steps, readout.Step{At: last.Add(time.Duration(random.Float64() * float64(r.Until.Sub(last)))), Percent: percent})
		}
	}
	for i, people := 0, int64(0); i < 20; i++ {
		people += random.Int64N(100)
		r.Exposures = append(r.Exposures, readout.Exposure{At: begin.Add(length * time.Duration(i+1) / 20), Control: people, Treatment: people + random.Int64N(20) - 10})
	}
	return r
}

// text is a text in a drawing, with the box that its letters take up approximately.
type text struct {
	words                    string
	left, top, right, bottom float64
}

// drawing is an SVG of a page, without texts that stand upright.
type drawing struct {
	says         string
	wide, height float64
	texts        []text
	paths        []string
}

// drawingsOf returns the plots of a report's page by their titles.
func drawingsOf(t *testing.T, r readout.Report) map[string]drawing {
	t.Helper()
	page, err := html.Parse(bytes.NewReader(write(t, report.HTML, r)))
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]drawing)
	for n := range page.Descendants() {
		if n.Data == "svg" && attribute(n, "role") == "img" {
			found[attribute(n, "aria-label")] = parse(t, n)
		}
	}
	return found
}

// parse reads an SVG that gonum/plot drew, whose y axis points up, or one that was drawn here.
func parse(t *testing.T, svg *html.Node) (d drawing) {
	t.Helper()
	if _, err := fmt.Sscanf(attribute(svg, "viewBox"), "0 0 %g %g", &d.wide, &d.height); err != nil {
		t.Fatal(err)
	}
	for n := range svg.Descendants() {
		switch n.Data {
		case "desc":
			d.says = words(n)
		case "path":
			d.paths = append(d.paths, attribute(n, "d"))
		case "text":
			if strings.HasPrefix(attribute(n.Parent, "transform"), "rotate") {
				continue
			}
			text := text{words: strings.TrimSpace(words(n)), left: number(t, n, "x"), bottom: number(t, n, "y")}
			if attribute(n, "transform") != "" {
				text.bottom += d.height
			}
			const letter, size = 5, 8
			wide := float64(letter * len(text.words))
			text.left -= map[string]float64{"middle": wide / 2, "end": wide}[attribute(n, "text-anchor")]
			text.right, text.top = text.left+wide, text.bottom-size
			d.texts = append(d.texts, text)
		}
	}
	return d
}

// faults finds texts and lines that reach out of the drawing, and texts that overlap.
func (d *drawing) faults() (all []string) {
	const edge = 8 // half of an axis's last label may be outside
	for i, a := range d.texts {
		if a.left < -edge || a.right > d.wide+edge || a.top < 0 || a.bottom > d.height {
			all = append(all, fmt.Sprintf("%q reaches out", a.words))
		}
		for _, b := range d.texts[:i] {
			if a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom {
				all = append(all, fmt.Sprintf("%q and %q overlap", a.words, b.words))
			}
		}
	}
	for _, path := range d.paths {
		for _, pair := range regexp.MustCompile(`(-?[0-9.]+),(-?[0-9.]+)`).FindAllStringSubmatch(path, -1) {
			x, _ := strconv.ParseFloat(pair[1], 64)
			y, _ := strconv.ParseFloat(pair[2], 64)
			if x < -edge || x > d.wide+edge || y < 0 || y > d.height {
				all = append(all, "a line reaches out: "+path)
			}
		}
	}
	return all
}

func attribute(n *html.Node, name string) string {
	if n != nil {
		for _, a := range n.Attr {
			if a.Key == name {
				return a.Val
			}
		}
	}
	return ""
}

func number(t *testing.T, n *html.Node, name string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(attribute(n, name), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// words returns the text of an element.
func words(n *html.Node) string {
	var all strings.Builder
	for child := range n.Descendants() {
		if child.Type == html.TextNode {
			all.WriteString(child.Data)
		}
	}
	return all.String()
}
