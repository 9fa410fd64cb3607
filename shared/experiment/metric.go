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

// EventMetric is the spec of the resource Metric. It turns CloudEvents that people's own services send into an outcome.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.kind != 'mean' || has(self.event.value) && type(self.event.value) == string",message="event.value: expected the path of a number with kind mean, because otherwise the mean is always 1"
type EventMetric struct {
	// Label is the name of the metric for people, for example Orders per person.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=60
	// +kubebuilder:validation:Pattern=`^[\pL\pM\pN\pP\pS ]+$`
	Label string `json:"label"`
	// Unit is what a value counts, for example orders or EUR.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=30
	// +kubebuilder:validation:Pattern=`^[\pL\pM\pN\pP\pS ]+$`
	Unit string `json:"unit"`
	// Direction is up if more is better, and down if less is better.
	// +kubebuilder:validation:Enum=up;down
	Direction string `json:"direction"`
	// Kind says how the values of a unit's events are combined. sum adds them up; a unit without an event has 0. proportion
	// is 1 if at least one of them is not 0, and otherwise 0. mean is their mean; a unit without an event is left out.
	// +kubebuilder:validation:Enum=sum;proportion;mean
	Kind string `json:"kind"`
	// Event says which events the metric reads, and where an event has its unit and its value.
	Event EventSource `json:"event"`
}

// EventSource says which events a metric reads, and how it reads them.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="(has(self.subjectIsUnit) && self.subjectIsUnit) != has(self.unit)",message="unit: expected either subjectIsUnit: true or unit"
// +kubebuilder:validation:XValidation:rule="!has(self.value) || (type(self.value) == int ? self.value == 1 : self.value.size() <= 200 && self.value.matches('^[A-Za-z_][A-Za-z0-9_-]*([.]([A-Za-z_][A-Za-z0-9_-]*|[0-9]{1,4})){0,9}$'))",message="value: expected 1, or names of members and positions in lists (from 0), separated by dots, for example order.total"
// +kubebuilder:validation:XValidation:rule="!has(self.lag) || (self.lag.endsWith('d') ? self.lag.matches('^0*1d$') : duration(self.lag) <= duration('24h'))",message="lag: expected at most 24h, for example 15m"
type EventSource struct {
	// Type is the type of the CloudEvents, for example shop.order.v1.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:Pattern=`^[!-~]+$`
	Type string `json:"type"`
	// SubjectIsUnit says that the event's subject is the unit: the id of a user.
	// +optional
	SubjectIsUnit bool `json:"subjectIsUnit,omitempty"`
	// Unit is the path of the unit in the event's data, if its subject is something else. A path consists of names of members and
	// positions in lists, counted from 0, with dots between them, for example customer.id.
	// +optional
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_-]*(\.([A-Za-z_][A-Za-z0-9_-]*|[0-9]{1,4})){0,9}$`
	Unit string `json:"unit,omitempty"`
	// Value is how much an event counts: 1, the default, or the path of a number, true or false in its data, written like unit.
	// +optional
	Value EventValue `json:"value,omitzero"`
	// Lag is how long after the end of a unit's window its last events may arrive; 15m by default. After the lag, the unit's
	// value is frozen. The report counts events that arrive later, but does not use them.
	// +optional
	// +kubebuilder:default="15m"
	Lag *Duration `json:"lag,omitempty"`
}

// EventValue is the path of a value in an event's data; "" stands for the value 1.
//
// +kubebuilder:validation:Type=""
// +kubebuilder:validation:XIntOrString
type EventValue string

// MarshalJSON writes the path, or 1 if there is none.
func (v EventValue) MarshalJSON() ([]byte, error) {
	if v == "" {
		return []byte("1"), nil
	}
	return json.Marshal(string(v))
}

// UnmarshalJSON reads 1 or a path; anything else is an error.
func (v *EventValue) UnmarshalJSON(text []byte) error {
	if string(text) == "1" {
		*v = ""
		return nil
	}
	var path string
	if err := json.Unmarshal(text, &path); err != nil || path == "" {
		return fmt.Errorf("value: %s: expected 1, or the path of a number, for example order.total", text)
	}
	*v = EventValue(path)
	return nil
}

// Metric is an EventMetric with its name. The start of an experiment stores a copy of each metric that the experiment uses, so later
// changes do not affect it.
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
	// defaultLag is longer than a Broker's ten retries take, if the first waits half a second and each waits twice as long as the last.
	defaultLag = 15 * time.Minute
	mostLag    = day

	maxMetric = 60 // of a metric's name
	mostPath  = 200
	mostSteps = 10 // of a path
)

// reservedMetrics are the names of Warble's own metrics that a Metric could also have. All other names of Warble's metrics have an
// underscore, which the names of objects in a cluster cannot have.
var reservedMetrics = []string{"latency"}

// Default fills in missing fields, like the resource's schema.
func (m *EventMetric) Default() { fill(&m.Event.Lag, new(Duration(defaultLag))) }

// CheckMetricName returns what is wrong with the name of a Metric; nil if nothing is.
func CheckMetricName(name string) error {
	var m mistakes
	m.expect(isLabel(name, maxMetric), "metadata.name", "%q: expected at most %d small letters, digits and -", name, maxMetric)
	m.expect(!slices.Contains(reservedMetrics, name), "metadata.name", "%q is a metric of Warble's own: expected another name", name)
	return errors.Join(m...)
}

// Check returns all mistakes of a metric whose defaults are filled in, each with its field path; nil if there are none.
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
	wrong.expect(e.Type != "" && len(e.Type) <= 200 && printable, "event.type", "%q: expected a CloudEvents type, for example shop.order.v1", e.Type)
	wrong.expect(e.SubjectIsUnit != (e.Unit != ""), "event.unit", "expected either subjectIsUnit: true or unit")
	const path = "%q: expected names of members and positions in lists (from 0), separated by dots, for example order.total"
	wrong.expect(e.Unit == "" || isPath(e.Unit), "event.unit", path, e.Unit)
	wrong.expect(e.Value == "" || isPath(string(e.Value)), "event.value", path, e.Value)
	wrong.expect(m.Kind != KindMean || e.Value != "", "event.value", "expected the path of a number with kind mean, because otherwise the mean is always 1")
	wrong.expect(e.Lag != nil && *e.Lag > 0 && *e.Lag <= Duration(mostLag), "event.lag", "%s: expected a duration above 0 and at most 24h, for example 15m", e.Lag)
	return errors.Join(wrong...)
}

// isPath reports whether every part of a path is the name of a member or, except for the first part, a position in a list.
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

// Lag returns how long after the end of a window its last events may arrive.
func (m *EventMetric) Lag() time.Duration {
	if m.Event.Lag == nil {
		return defaultLag
	}
	return time.Duration(*m.Event.Lag)
}

// Reads returns a text that is equal for two metrics if they take the same unit and value from the same events. Such metrics share
// their rows, so a new label, kind or lag keeps the stored rows.
func (m *EventMetric) Reads() string {
	return strings.Join([]string{m.Event.Type, m.Event.Unit, string(m.Event.Value)}, "\n")
}

// Occurrence is the unit and the value that a metric takes from an event.
type Occurrence struct {
	Unit  string
	Value float64
}

// MostAhead is how far the clock of an event's sender may be ahead.
const MostAhead = 5 * time.Minute

const (
	mostUnit  = 256  // bytes of a unit
	mostValue = 1e12 // a float64 can hold its square, summed over millions of units
)

// PayloadError says that an event lacks the unit or the value that a metric reads.
type PayloadError struct {
	Metric string
	Field  string // of the event: subject, data, or a path in its data such as data.order.total
	Reason string
}

func (e *PayloadError) Error() string {
	return fmt.Sprintf("metric %s: %s: %s", e.Metric, e.Field, e.Reason)
}

// Read takes the unit and the value from an event. data is the event's JSON, nil if it has none. An error is a *PayloadError.
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
		switch found := valueAt(document, m.Event.Unit).(type) {
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
	switch found := valueAt(document, string(m.Event.Value)).(type) {
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

// valueAt returns the value at a path in a document; nil if there is none.
func valueAt(document any, path string) any {
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

// kindOf names the kind of an unexpected value, without quoting a stranger's data.
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

// Names returns the names of the spec's metrics of units, each once, the primary metric first.
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

// Named returns the metrics out of own that the spec names, in the order of own.
func (g *Metrics) Named(own []Metric) (found []Metric) {
	names := g.Names()
	for _, m := range own {
		if slices.Contains(names, m.Name) {
			found = append(found, m)
		}
	}
	return found
}
