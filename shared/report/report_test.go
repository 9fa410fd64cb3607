package report_test

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rivo/uniseg"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/net/html"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/readout/readouttest"
	"warble/shared/report"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// hostile is a text that a malicious user may write to the readers of the report.
const hostile = "I <b>like</b> it \x1b[31m<script>alert(1)</script> | `a` \u202e日本語\n\n# and " + "a_very_long_word_that_no_line_of_eighty_columns_can_hold_for_it_goes_on_and_on_and_on"

// fixtures returns readouts of all kinds.
func fixtures(t *testing.T) map[string]readout.Report {
	t.Helper()
	full := func(s *experiment.Spec) {
		s.Title, s.Hypothesis, s.Owner = "Do people post more when they can like? <b>", "Who gets answers comes back.", "the timeline team"
		s.Ramp.Steps = []int{10, 50}
		s.Metrics.Secondary = []string{"retweets_per_user", "active_days", "returning_share", "feedback_score"}
		s.Metrics.Guardrails = []experiment.Guardrail{{Name: "error_share", Margin: .005}, {Name: "slow_share", Over: experiment.Duration(250 * time.Millisecond), Margin: .01}}
	}
	begin, day := readouttest.Begin, readouttest.Day
	users := readouttest.New(t, full)
	users.People(1200, "gophers", "sres")
	users.Exposed()
	users.Tweets(5, 2)
	users.Traffic(300, 1, 1)
	users.Feedback(hostile)
	communities := readouttest.New(t, func(s *experiment.Spec) {
		full(s)
		s.Unit = experiment.Community
	})
	communities.People(400, "gophers", "pythonistas", "rustaceans", "sres", "a-community-whose-name-has-forty-letters", "c", "d", "e", "f", "g", "h", "i")
	communities.Exposed()
	communities.Tweets(5, 2)
	communities.Traffic(300, 1, 20)
	requests := readouttest.New(t, func(s *experiment.Spec) {
		s.Unit = experiment.Request
		s.Metrics.Guardrails = []experiment.Guardrail{{Name: "error_share", Margin: .02}}
	})
	requests.Traffic(300, 1, 1)
	own := users.Read(begin.Add(20 * day)) // as if people had defined its metrics
	revenue := *own.Primary
	revenue.Metric, revenue.Label, revenue.About, revenue.Unit = "revenue", "Revenue <b>", "the sum of | of a user's shop.order.v1 events", "EUR"
	revenue.Late = &readout.Late{Counts: experiment.Counts{Control: 3, Treatment: 1}, Lag: experiment.Duration(15 * time.Minute), Days: []store.LateDay{{Day: "2026-10-08", Control: 1}, {Day: "2026-10-09", Control: 2, Treatment: 1}}}
	own.Primary = &revenue
	return map[string]readout.Report{
		"own metrics":     own,
		"users":           users.Read(begin.Add(20 * day)),
		"users, early":    users.Read(begin.Add(day)),
		"users, before":   users.Read(begin.Add(-day)),
		"users, at start": users.Read(begin),
		"communities":     communities.Read(begin.Add(21 * day)),
		"requests":        requests.Read(begin.Add(time.Hour)),
	}
}

func write(t *testing.T, format func(io.Writer, readout.Report) error, r readout.Report) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := format(&out, r); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func plainText(w io.Writer, r readout.Report) error { return report.Text(w, r, false) }

func TestEveryFormatWritesEveryReport(t *testing.T) {
	t.Parallel()
	schema := compile(t)
	for name, r := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			text := string(write(t, plainText, r))
			if late := "they arrived, in control and treatment: 1 and 0 on 2026-10-08, 2 and 1 on 2026-10-09"; strings.Contains(strings.Join(strings.Fields(text), " "), late) != (name == "own metrics") {
				t.Errorf("%q: %s", late, text)
			}
			for line := range strings.Lines(text) {
				// A word that is longer than a line gets a line of its own.
				if line = strings.TrimSuffix(line, "\n"); uniseg.StringWidth(line) > 80 && len(strings.Fields(line)) > 1 {
					t.Errorf("%d columns: %s", uniseg.StringWidth(line), line)
				}
			}
			if strings.ContainsAny(text, "\x1b\u202e\r") || !utf8.ValidString(text) {
				t.Errorf("the text has control characters: %q", text)
			}
			if coloured := string(write(t, func(w io.Writer, r readout.Report) error { return report.Text(w, r, true) }, r)); !strings.Contains(coloured, "\x1b[") {
				t.Error("no colour for a terminal that shows colours")
			}
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(write(t, report.JSON, r)))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(document); err != nil {
				t.Error(err)
			}
			for _, words := range []string{r.Spec.Title, r.Spec.Hypothesis, r.Spec.Owner} {
				if page := write(t, report.HTML, r); !bytes.Contains(page, []byte(html.EscapeString(words))) {
					t.Errorf("the page does not have %q", words)
				}
			}
			if p := r.Primary; p != nil && p.Late != nil {
				said := strings.Join(strings.Fields(text), " ")
				for _, words := range []string{"Revenue <b>, in EUR: the sum of", "4 events not used, because they arrived more than 15m after the end of their window: 3 in control, 1 in treatment"} {
					if !strings.Contains(said, words) {
						t.Errorf("the text does not have %q: %s", words, said)
					}
				}
			}
			if !strings.Contains(text, r.Spec.Title) {
				t.Errorf("the text does not have %q", r.Spec.Title)
			}
			markdown := string(write(t, report.Markdown, r))
			if strings.Contains(markdown, "<script>") || !strings.HasPrefix(markdown, "# likes: ") {
				t.Errorf("%.300s", markdown)
			}
			page := string(write(t, report.HTML, r))
			if _, err := html.Parse(strings.NewReader(page)); err != nil {
				t.Error(err)
			}
			for _, foreign := range []string{"<script", "src=", "href=\"http", "url(", "@import", "#010000", "ZgotmplZ", "\u202e"} {
				if strings.Contains(page, foreign) {
					t.Errorf("the page has %q", foreign)
				}
			}
			for _, format := range []func(io.Writer, readout.Report) error{plainText, report.JSON, report.Markdown, report.HTML} {
				if !bytes.Equal(write(t, format, r), write(t, format, r)) {
					t.Error("the same readout is not always written the same")
				}
			}
		})
	}
}

// A side that the data does not bound is written in words.
func TestAnUnboundedIntervalIsWrittenInWords(t *testing.T) {
	t.Parallel()
	figure := func(v float64) *float64 { return &v }
	r := readout.Report{Latency: &readout.Latency{Quantiles: []readout.Quantile{
		{Q: .5, Control: figure(10), Treatment: figure(12), Difference: figure(2), Interval: readout.Interval{Lower: figure(1), Upper: figure(3)}},
		{Q: .95, Control: figure(10), Treatment: figure(12), Difference: figure(2), Interval: readout.Interval{Lower: figure(-1)}},
		{Q: .99, Control: figure(10), Treatment: figure(12), Difference: figure(2)},
		{Q: .999},
	}}}
	text := strings.Join(strings.Fields(string(write(t, plainText, r))), " ")
	for _, want := range []string{"+2.00 +1.00 to +3.00 p95", "+2.00 -1.00 or more p99", "+2.00 too few requests p99.9", "– not known"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// Otherwise nobody would notice a schema that accepts everything.
func TestTheSchemaRefusesIncompleteReports(t *testing.T) {
	t.Parallel()
	schema := compile(t)
	for _, wrong := range []string{`{}`, `{"experiment": "likes"}`} {
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(wrong))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(document) == nil {
			t.Errorf("%s passes", wrong)
		}
	}
}

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(report.Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// Two readouts of the same rows at the same time are the same to the byte, however PostgreSQL stores the rows.
func TestTheSameRowsGiveTheSameReport(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, func(s *experiment.Spec) { s.Metrics.Secondary = []string{"feedback_score"} })
	w.People(40)
	w.Exposed()
	w.Tweets(5, 2)
	w.Traffic(50, 1, 1)
	w.Feedback("fine")
	at := readouttest.Begin.Add(20 * readouttest.Day)
	first := w.Read(at)
	for _, sql := range []string{`update exposures set generation = generation`, `update feedback set score = score`, `cluster exposures using exposures_pkey`, `analyze`} {
		w.Exec(sql)
	}
	second := w.Read(at)
	for _, format := range []func(io.Writer, readout.Report) error{plainText, report.JSON, report.Markdown, report.HTML} {
		if a, b := write(t, format, first), write(t, format, second); !bytes.Equal(a, b) {
			t.Errorf("%s\n\n%s", a, b)
		}
	}
	var read readout.Report
	if err := json.Unmarshal(write(t, report.JSON, first), &read); err != nil {
		t.Fatal(err)
	}
	if a, b := write(t, report.JSON, first), write(t, report.JSON, read); !bytes.Equal(a, b) {
		t.Error("JSON that is read and written again is another")
	}
}
