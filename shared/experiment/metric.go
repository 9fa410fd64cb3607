package experiment

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// EventMetric is what people write in a resource Metric: an outcome that is a CloudEvent of their own.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.kind != 'mean' || has(self.event.value) && type(self.event.value) == string",message="event.value: expected the path of a number with kind mean, for the mean of ones is 1"
type EventMetric struct {
	// Label names the metric for people, as Orders per person.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=60
	// +kubebuilder:validation:Pattern=`^[\pL\pM\pN\pP\pS ]+$`
	Label string `json:"label"`
	// Unit is what a value counts, as orders or EUR.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=30
	// +kubebuilder:validation:Pattern=`^[\pL\pM\pN\pP\pS ]+$`
	Unit string `json:"unit"`
	// Direction is up where more is better, and down where less is.
	// +kubebuilder:validation:Enum=up;down
	Direction string `json:"direction"`
	// Kind says what becomes of the values of a unit's events. sum adds them up: 0 without an event. proportion is 1 if one of them
	// is not 0, and else 0. mean is their mean: a unit without an event is left out.
	// +kubebuilder:validation:Enum=sum;proportion;mean
	Kind string `json:"kind"`
	// Event says which events these are, and where they say who did it, and how much.
	Event EventSource `json:"event"`
}

// EventSource says which events a metric reads, and how.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="(has(self.subjectIsUnit) && self.subjectIsUnit) != has(self.unit)",message="unit: expected subjectIsUnit: true or unit, and not both"
// +kubebuilder:validation:XValidation:rule="!has(self.value) || (type(self.value) == int ? self.value == 1 : self.value.size() <= 200 && self.value.matches('^[A-Za-z_][A-Za-z0-9_-]*([.]([A-Za-z_][A-Za-z0-9_-]*|[0-9]{1,4})){0,9}$'))",message="value: expected 1, or names of members and places in lists, from 0, with dots between them, as order.total"
// +kubebuilder:validation:XValidation:rule="!has(self.lag) || (self.lag.endsWith('d') ? self.lag.matches('^0*1d$') : duration(self.lag) <= duration('24h'))",message="lag: expected 24h at most, as 15m"
type EventSource struct {
	// Type is the CloudEvents type, as shop.order.v1.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:Pattern=`^[!-~]+$`
	Type string `json:"type"`
	// SubjectIsUnit tells that the event's subject is the unit: the id of a user.
	// +optional
	SubjectIsUnit bool `json:"subjectIsUnit,omitempty"`
	// Unit is the path of the unit in the event's data, if its subject is something else: names of members and places in lists,
	// from 0, with dots between them, as customer.id.
	// +optional
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_-]*(\.([A-Za-z_][A-Za-z0-9_-]*|[0-9]{1,4})){0,9}$`
	Unit string `json:"unit,omitempty"`
	// Value is how much an event counts: the path of a number, true or false in its data, written as unit is, or 1, which is the
	// default.
	// +optional
	Value EventValue `json:"value,omitzero"`
	// Lag is how long after the end of a unit's window its last events may arrive, as 15m, which is the default. The window is
	// frozen then: what arrives later is counted in the report, and not used.
	// +optional
	// +kubebuilder:default="15m"
	Lag *Duration `json:"lag,omitempty"`
}

// EventValue is the path of a number, or "" for 1.
//
// +kubebuilder:validation:Type=""
// +kubebuilder:validation:XIntOrString
type EventValue string

// MarshalJSON writes 1 for no path.
func (v EventValue) MarshalJSON() ([]byte, error) {
	if v == "" {
		return []byte("1"), nil
	}
	return json.Marshal(string(v))
}

// UnmarshalJSON takes 1 or a path.
func (v *EventValue) UnmarshalJSON(text []byte) error {
	if string(text) == "1" {
		*v = ""
		return nil
	}
	var path string
	if err := json.Unmarshal(text, &path); err != nil || path == "" {
		return fmt.Errorf("value: %s: expected 1, or the path of a number, as order.total", text)
	}
	*v = EventValue(path)
	return nil
}

// Metric is an EventMetric by its name. What a started experiment uses is kept with its start as it was then.
type Metric struct {
	Name string `json:"name"`

	EventMetric
}

// The kinds of an EventMetric.
const (
	KindSum        = "sum"
	KindProportion = "proportion"
	KindMean       = "mean"
)

const (
	// defaultLag is longer than a Broker with ten retries, from half a second on and each twice the last, tries to deliver.
	defaultLag = 15 * time.Minute
	mostLag    = day

	maxMetric = 60 // of a metric's name
	mostPath  = 200
	mostSteps = 10 // of a path
)

// reservedMetrics are the names that a Metric could have, and one of Warble's own metrics has. All the others have an underscore, which
// no name in the cluster has.
var reservedMetrics = []string{"latency"}

// Default fills in what was left out, as the resource's schema does.
func (m *EventMetric) Default() { fill(&m.Event.Lag, new(Duration(defaultLag))) }

// CheckMetricName says what is wrong with the name of a Metric.
func CheckMetricName(name string) error {
	var m mistakes
	m.expect(isLabel(name, maxMetric), "metadata.name", "%q: expected at most %d small letters, digits and -", name, maxMetric)
	m.expect(!slices.Contains(reservedMetrics, name), "metadata.name", "%q is a metric of Warble's own: expected another name", name)
	return errors.Join(m...)
}

// Check says all that is wrong with a metric that has its defaults, by field path.
func (m *EventMetric) Check() error {
	var wrong mistakes
	for _, words := range []struct {
		field, text string
		most        int
	}{{"label", m.Label, 60}, {"unit", m.Unit, 30}} {
		n := utf8.RuneCountInString(words.text)
		wrong.expect(n >= 1 && n <= words.most, words.field, "%d characters: expected 1 to %d", n, words.most)
		visible := !strings.ContainsFunc(words.text, func(r rune) bool { return !unicode.IsPrint(r) }) // a terminal would obey others
		wrong.expect(visible, words.field, "%q: expected visible characters and spaces", words.text)
	}
	wrong.oneOf("direction", m.Direction, "up", "down")
	wrong.oneOf("kind", m.Kind, KindSum, KindProportion, KindMean)
	e := &m.Event
	printable := !strings.ContainsFunc(e.Type, func(r rune) bool { return r < '!' || r > '~' })
	wrong.expect(e.Type != "" && len(e.Type) <= 200 && printable, "event.type", "%q: expected a type of CloudEvents, as shop.order.v1", e.Type)
	wrong.expect(e.SubjectIsUnit != (e.Unit != ""), "event.unit", "expected subjectIsUnit: true or unit, and not both")
	const path = "%q: expected names of members and places in lists, from 0, with dots between them, as order.total"
	wrong.expect(e.Unit == "" || isPath(e.Unit), "event.unit", path, e.Unit)
	wrong.expect(e.Value == "" || isPath(string(e.Value)), "event.value", path, e.Value)
	wrong.expect(m.Kind != KindMean || e.Value != "", "event.value", "expected the path of a number with kind mean, for the mean of ones is 1")
	wrong.expect(e.Lag != nil && *e.Lag > 0 && *e.Lag <= Duration(mostLag), "event.lag", "%s: expected more than no time, and 24h at most, as 15m", e.Lag)
	return errors.Join(wrong...)
}

// isPath tells whether every step of a path is the name of a member, or, but for the first, a place in a list.
func isPath(path string) bool {
	steps := strings.Split(path, ".")
	if len(path) > mostPath || len(steps) > mostSteps {
		return false
	}
	for i, step := range steps {
		switch {
		case step == "":
			return false
		case i > 0 && len(step) <= 4 && consists(step, digits):
		case !consists(step, letters+digits+"_-") || !consists(step[:1], letters+"_"):
			return false
		}
	}
	return true
}

// Lag is how late the last events of a window may arrive.
func (m *EventMetric) Lag() time.Duration {
	if m.Event.Lag == nil {
		return defaultLag
	}
	return time.Duration(*m.Event.Lag)
}

// Reads tells two metrics apart that do not take the same unit and value from the same events. The rows of those that do are the
// same ones: a new label, kind or lag keeps what was stored.
func (m *EventMetric) Reads() string {
	return strings.Join([]string{m.Event.Type, m.Event.Unit, string(m.Event.Value)}, "\n")
}

// Occurrence is what a metric takes from an event.
type Occurrence struct {
	Unit  string
	Value float64
}

// MostAhead is by how much the clock of who sends an event may be ahead.
const MostAhead = 5 * time.Minute

const (
	mostUnit  = 256  // bytes of a unit
	mostValue = 1e12 // whose square, summed over millions, a float64 holds
)

// PayloadError says that an event does not have what a metric reads of it.
type PayloadError struct {
	Metric string
	Field  string // of the event: subject, data, or a path in its data as data.order.total
	Reason string
}

func (e *PayloadError) Error() string {
	return fmt.Sprintf("metric %s: %s: %s", e.Metric, e.Field, e.Reason)
}

// Read takes the unit and the value from an event. data is its JSON, nil where it has none. The error is a *PayloadError.
func (m *Metric) Read(subject string, data []byte) (o Occurrence, err error) {
	fail := func(field, format string, args ...any) (Occurrence, error) {
		return Occurrence{}, &PayloadError{Metric: m.Name, Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	var document any
	if m.Event.Unit != "" || m.Event.Value != "" {
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber() // an id of 64 bits is no float64
		if err := decoder.Decode(&document); err != nil {
			return fail("data", "expected JSON: %v", err)
		}
	}
	o.Unit = subject
	field := "subject"
	if m.Event.Unit != "" {
		field = "data." + m.Event.Unit
		switch found := at(document, m.Event.Unit).(type) {
		case string:
			o.Unit = found
		case json.Number:
			if o.Unit = found.String(); !consists(strings.TrimPrefix(o.Unit, "-"), digits) {
				return fail(field, "%s: expected text or a whole number, which is the unit", found)
			}
		default:
			return fail(field, "%s: expected text or a whole number, which is the unit", kindOf(found))
		}
	}
	if o.Unit == "" || len(o.Unit) > mostUnit || !utf8.ValidString(o.Unit) || strings.ContainsRune(o.Unit, 0) {
		return fail(field, "%d bytes: expected the unit, 1 to %d bytes of text", len(o.Unit), mostUnit)
	}
	o.Value = 1
	if m.Event.Value == "" {
		return o, nil
	}
	field = "data." + string(m.Event.Value)
	switch found := at(document, string(m.Event.Value)).(type) {
	case bool:
		if !found {
			o.Value = 0
		}
	case json.Number:
		o.Value, err = strconv.ParseFloat(found.String(), 64)
		if err != nil || math.Abs(o.Value) > mostValue {
			return fail(field, "%.40s: expected a number from -%g to %g", found, mostValue, mostValue)
		}
	default:
		return fail(field, "%s: expected a number, true or false", kindOf(found))
	}
	return o, nil
}

// at follows a path; nil where it leads nowhere.
func at(document any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		switch here := document.(type) {
		case map[string]any:
			document = here[step]
		case []any:
			place, err := strconv.Atoi(step)
			if err != nil || place >= len(here) {
				return nil
			}
			document = here[place]
		default:
			return nil
		}
	}
	return document
}

// kindOf says what is in the place of something else, without quoting a stranger's data.
func kindOf(found any) string {
	switch found.(type) {
	case nil:
		return "missing or null"
	case string:
		return "text"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	}
	return "an object"
}

// Names are those of the metrics of units that a spec judges by, each once, the primary one first.
func (g *Metrics) Names() (names []string) {
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	add(g.Primary.Name)
	for _, name := range g.Secondary {
		add(name)
	}
	for _, n := range g.NoWorse {
		add(n.Name)
	}
	return names
}

// Named are those of people's own metrics that a spec names, in their order.
func (g *Metrics) Named(own []Metric) (found []Metric) {
	names := g.Names()
	for _, m := range own {
		if slices.Contains(names, m.Name) {
			found = append(found, m)
		}
	}
	return found
}
