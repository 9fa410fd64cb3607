package experiment

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Default fills in missing fields, like the resource's schema.
func (s *Spec) Default() {
	fill(&s.Assignment, "slots")
	fill(&s.Promote, "manual")
	fill(&s.PromoteBy, "steer")
	fill(&s.WarmingDeadline, new(Duration(10*time.Minute)))
	fill(&s.Ramp.Hold.Time, new(Duration(day)))
	fill(&s.Ramp.Approve, "automatic")
	fill(&s.Alpha, .05)
	fill(&s.Power, .8)
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// The environment variables that tell a revision its Service, experiment and arm. Knative sets K_SERVICE only in revisions of a
// Service, and arms belong to none.
const (
	EnvService    = "WARBLE_SERVICE"
	EnvExperiment = "WARBLE_EXPERIMENT"
	EnvArm        = "WARBLE_ARM"
)

// reserved reports whether Knative or steer sets a variable itself.
func reserved(name string) bool {
	return name == "PORT" || strings.HasPrefix(name, "K_") || strings.HasPrefix(name, "WARBLE_")
}

// Names of guardrails.
const (
	ErrorShare = "error_share"
	SlowShare  = "slow_share"
)

const (
	// maxName is the longest name of an experiment, in bytes.
	maxName = 30
	// maxNames is the longest length of an experiment's and a Service's names together: the host of an arm begins with
	// treatment-EXPERIMENT-SERVICE, and a label of a host name has at most 63 characters.
	maxNames = 52
)

// There are no regular expressions here, because every function links this package and would compile them before main: half a
// millisecond at each start.
const (
	digits  = "0123456789"
	small   = "abcdefghijklmnopqrstuvwxyz"
	letters = small + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// consists reports whether all characters of text are among those of allowed.
func consists(text, allowed string) bool { return strings.Trim(text, allowed) == "" }

// isLabel reports whether name is an RFC 1035 label in small letters, like names in a cluster, with at most limit bytes.
func isLabel(name string, limit int) bool {
	return name != "" && len(name) <= limit && consists(name, small+digits+"-") && consists(name[:1], small) && !strings.HasSuffix(name, "-")
}

func isEnvName(name string) bool {
	return name != "" && consists(name, letters+digits+"_") && !consists(name[:1], digits)
}

// CheckName returns what is wrong with the name of an experiment; nil if nothing is.
func CheckName(name string) error {
	var m mistakes
	m.expect(isLabel(name, maxName), "metadata.name", "%q: expected at most %d small letters, digits and -, because it is part of host names", name, maxName)
	return errors.Join(m...)
}

// CheckNames returns an error that lists the Services whose names are too long together with the experiment's name; nil if none is.
func (s *Spec) CheckNames(name string) error {
	var m mistakes
	for i, service := range s.Services {
		m.expect(len(name)+len(service) <= maxNames, fmt.Sprintf("services[%d]", i),
			"%s and %s have %d characters together: expected %d at most, because they are part of host names", name, service, len(name)+len(service), maxNames)
	}
	return errors.Join(m...)
}

// same compares two specs by their JSON, so that an empty field equals a missing one.
func same(a, b Spec) bool {
	one, err := json.Marshal(a)
	other, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(one) == string(other)
}

// Check returns all mistakes of a Spec whose defaults are filled in, each with its field path, what it has and what was expected; nil
// if there are none.
func (s *Spec) Check() error {
	var m mistakes
	s.checkArms(&m)
	s.checkAssignment(&m)
	s.checkRamp(&m)
	s.Metrics.check(&m)
	s.Plan.check(&m)
	m.expect(s.Plan == Known{} || s.Unit == User && s.Assignment != "list", "plan", "expected none, except with unit user and assignment slots, where units enter one by one")
	if s.Unit == Request {
		s.checkRequest(&m)
	} else {
		m.expect(s.Metrics.Primary != Primary{}, "metrics.primary", "missing: expected the metric that decides")
		m.expect(s.Metrics.Window > 0, "metrics.window", "%s: expected how long a unit is observed after its entry, for example 7d", s.Metrics.Window)
	}
	combined := len(s.Services) * len(s.Ramp.Steps)
	m.expect(s.Metrics.Baseline == nil || combined <= mostCounted, "metrics.baseline", "%d services times %d steps are %d: expected at most %d with a baseline",
		len(s.Services), len(s.Ramp.Steps), combined, mostCounted)
	m.expect(s.Alpha >= 1e-6 && s.Alpha <= .5, "alpha", "%v: expected 0.000001 to 0.5", s.Alpha)
	m.expect(s.Power >= .5 && s.Power <= .999, "power", "%v: expected 0.5 to 0.999", s.Power)
	m.lasts("warmingDeadline", s.WarmingDeadline)
	s.Wishes.check(&m, s.Services, len(s.Ramp.Steps))
	return errors.Join(m...)
}

func (k *Known) check(m *mistakes) {
	m.expect(k.UnitsPerDay >= 0 && k.UnitsPerDay <= 1e9, "plan.unitsPerDay", "%d: expected 1 to 1000000000", k.UnitsPerDay)
	m.expect(k.Mean == 0 || k.Mean >= 1e-6 && k.Mean <= 1e12, "plan.mean", "%v: expected 0.000001 to 1000000000000", k.Mean)
	m.expect(k.CV == 0 || k.CV >= .001 && k.CV <= 1000, "plan.cv", "%v: expected 0.001 to 1000", k.CV)
	m.expect(k.CV == 0 || k.Mean != 0, "plan.cv", "expected mean as well")
}

// mostCounted is the largest product of services and steps with a baseline, because an edge sends the counts of all of them in one
// request.
const mostCounted = 40

// mistakes collects errors, each with the path of its field.
type mistakes []error

func (m *mistakes) expect(ok bool, field, format string, args ...any) {
	if !ok {
		*m = append(*m, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
}

func (m *mistakes) oneOf(field, got string, expected ...string) {
	m.expect(slices.Contains(expected, got), field, "%q: expected %s", got, strings.Join(expected, " or "))
}

// lasts expects a duration above 0. The argument is a pointer to tell 0s, which is a mistake, from a missing field, which has a default.
func (m *mistakes) lasts(field string, d *Duration) {
	m.expect(d != nil && *d > 0, field, "%s: expected a duration above 0, for example 1m", d)
}

func (s *Spec) checkArms(m *mistakes) {
	m.expect(len(s.Services) >= 1 && len(s.Services) <= 20, "services", "%d: expected 1 to 20 Knative Services", len(s.Services))
	for i, name := range s.Services {
		m.expect(isLabel(name, 63), fmt.Sprintf("services[%d]", i), "%q: expected the name of a Knative Service", name)
		m.expect(!slices.Contains(s.Services[:i], name), fmt.Sprintf("services[%d]", i), "%q is there twice: expected each once", name)
	}
	m.expect(len(s.Treatment.Env)+len(s.Treatment.Image) > 0, "treatment", "empty: expected env or image, because otherwise the arms are the same")
	for _, name := range slices.Sorted(maps.Keys(s.Treatment.Env)) {
		m.expect(isEnvName(name), "treatment.env", "%q: expected the name of an environment variable", name)
		m.expect(!reserved(name), "treatment.env", "%s: expected a name other than PORT, K_* and WARBLE_*, which Knative and steer set", name)
		m.expect(len(s.Treatment.Env[name]) <= 1024, "treatment.env."+name, "%d bytes: expected at most 1024", len(s.Treatment.Env[name]))
	}
	checkImages(m, "treatment.image", s.Treatment.Image, s.Services)
}

func checkImages(m *mistakes, field string, images map[string]Image, services []string) {
	for _, name := range slices.Sorted(maps.Keys(images)) {
		m.expect(slices.Contains(services, name), field, "%q: expected one of services", name)
		m.expect(images[name] != "" && len(images[name]) <= 512, field+"."+name, "%d bytes: expected an image of 1 to 512", len(images[name]))
	}
}

func (s *Spec) checkAssignment(m *mistakes) {
	m.oneOf("unit", string(s.Unit), string(Community), string(User), string(Request))
	s.Identity.check(m, s.Unit)
	m.expect(s.Identity.Kind != ByVisitor || len(s.Audience.Communities) == 0, "audience.communities", "expected none with identity visitor, because visitors have no community")
	m.oneOf("assignment", s.Assignment, "slots", "list")
	m.oneOf("promote", s.Promote, "manual", "automatic")
	m.oneOf("promoteBy", s.PromoteBy, "steer", "git")
	for _, words := range []struct {
		field, text string
		most        int
	}{{"title", s.Title, 120}, {"hypothesis", s.Hypothesis, 1000}, {"owner", s.Owner, 120}} {
		n := utf8.RuneCountInString(words.text)
		m.expect(n <= words.most, words.field, "%d characters: expected %d at most", n, words.most)
	}
	m.expect(len(s.Salt) <= 64 && consists(s.Salt, letters+digits+"._/-"), "salt", "%q: expected at most 64 letters, digits and . _ / -", s.Salt)
	for i, name := range s.Exposure {
		m.expect(slices.Contains(s.Services, name), fmt.Sprintf("exposure[%d]", i), "%q: expected one of services", name)
	}
	if slots := s.Layer.Slots; len(slots) > 0 {
		m.expect(len(slots) == 2 && slots[0] >= 0 && slots[0] < slots[1] && slots[1] <= Slots, "layer.slots",
			"%v: expected two slots: the first, from 0, and the one after the last, at most %d", slots, Slots)
	}
	for i, name := range s.Audience.Communities {
		m.expect(name != "" && len(name) <= 64, fmt.Sprintf("audience.communities[%d]", i), "%q: expected a community", name)
	}
	m.expect((s.Assignment == "list") == (s.List != nil), "list", "expected both arms if assignment is list, and nothing otherwise")
	if s.List == nil {
		return
	}
	for arm, units := range map[string][]string{"list.control": s.List.Control, "list.treatment": s.List.Treatment} {
		m.expect(len(units) >= 1 && len(units) <= 100, arm, "%d: expected 1 to 100 units", len(units))
		m.expect(!slices.ContainsFunc(units, func(unit string) bool { return unit == "" || len(unit) > 64 }), arm, "expected names of 1 to 64 bytes")
	}
	for _, unit := range s.List.Control {
		m.expect(!slices.Contains(s.List.Treatment, unit), "list", "%q is in both arms: expected one", unit)
	}
}

func (s *Spec) checkRamp(m *mistakes) {
	steps := s.Ramp.Steps
	m.expect(len(steps) >= 1 && len(steps) <= 20, "ramp.steps", "%d steps: expected 1 to 20", len(steps))
	for i, step := range steps {
		field := fmt.Sprintf("ramp.steps[%d]", i)
		m.expect(step >= 1 && step <= 50, field, "%d: expected 1 to 50 percent, in each arm", step)
		m.expect(i == 0 || step > steps[i-1], field, "%d after %d: expected rising percents", step, steps[max(0, i-1)])
	}
	m.expect(s.Assignment != "list" || len(steps) <= 1, "ramp.steps", "%v: expected one step if assignment is list, because a list has no ramp", steps)
	m.lasts("ramp.hold.time", s.Ramp.Hold.Time)
	m.expect(s.Ramp.Hold.Units >= 0, "ramp.hold.units", "%d: expected 0 or more", s.Ramp.Hold.Units)
	m.oneOf("ramp.approve", s.Ramp.Approve, "automatic", "manual")
}

func (g *Metrics) check(m *mistakes) {
	if g.Primary != (Primary{}) {
		m.expect(g.Primary.Name != "", "metrics.primary.name", "missing: expected a metric")
		m.expect(g.Primary.MinimumEffect > 0, "metrics.primary.minimumEffect", "%s: expected more than 0%%", g.Primary.MinimumEffect)
	}
	for i, name := range g.Secondary {
		m.expect(name != "", fmt.Sprintf("metrics.secondary[%d]", i), "missing: expected a metric")
	}
	for i, n := range g.NoWorse {
		field := fmt.Sprintf("metrics.noWorse[%d]", i)
		m.expect(n.Name != "", field+".name", "missing: expected a metric")
		m.expect(n.Margin > 0, field+".margin", "%s: expected more than 0%%", n.Margin)
		m.expect(!slices.ContainsFunc(g.NoWorse[:i], func(o NoWorse) bool { return o.Name == n.Name }), field+".name", "%s: expected each once", n.Name)
	}
	m.expect(g.Primary.Cap >= 0, "metrics.primary.cap", "%v: expected 0 or more", g.Primary.Cap)
	if g.Baseline != nil {
		m.lasts("metrics.baseline", g.Baseline)
		m.expect(len(g.Guardrails) > 0, "metrics.baseline", "expected guardrails as well, because only they use a baseline")
	}
	seen := make(map[string]bool)
	for i, guardrail := range g.Guardrails {
		field := fmt.Sprintf("metrics.guardrails[%d]", i)
		m.oneOf(field+".name", guardrail.Name, ErrorShare, SlowShare)
		m.expect(!seen[guardrail.Name], field+".name", "%q is there twice: expected each once", guardrail.Name)
		seen[guardrail.Name] = true
		m.expect(guardrail.Margin > 0 && guardrail.Margin < 1, field+".margin", "%s: expected more than 0pp and less than 100pp", guardrail.Margin)
		if guardrail.Name != SlowShare {
			m.expect(guardrail.Over == 0, field+".over", "%s: expected it only with %s", guardrail.Over, SlowShare)
			continue
		}
		over := float64(guardrail.Over) / float64(time.Millisecond)
		m.expect(slices.Contains(LatencyBounds, over), field+".over", "%s: expected one of the bounds of latency histograms, in ms: %v", guardrail.Over, LatencyBounds)
	}
}

// checkRequest refuses fields that need assigned units. With unit request nobody is assigned: Knative's traffic percent splits requests.
func (s *Spec) checkRequest(m *mistakes) {
	none := func(empty bool, field string) {
		m.expect(empty, field, "expected none with unit request, because no request is assigned")
	}
	m.expect(s.Assignment != "list", "assignment", "list: expected slots with unit request, because no request is on a list")
	none(len(s.Layer.Slots) == 0, "layer.slots")
	none(len(s.Exposure) == 0, "exposure")
	none(len(s.Audience.Communities) == 0, "audience.communities")
	none(s.Ramp.Hold.Units == 0, "ramp.hold.units")
	none(s.Metrics.Primary == Primary{}, "metrics.primary")
	none(s.Metrics.Window == 0, "metrics.window")
	none(len(s.Metrics.Secondary) == 0, "metrics.secondary")
	none(len(s.Metrics.NoWorse) == 0, "metrics.noWorse")
	none(s.Metrics.Baseline == nil, "metrics.baseline")
	m.expect(len(s.Metrics.Guardrails) > 0, "metrics.guardrails", "expected at least one with unit request, which only guardrails judge")
}
