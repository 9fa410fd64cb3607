package experiment

import (
	"fmt"
	"strconv"
	"strings"
)

// Header carries an Assignment from the edge to a function. The edge signs it, like all its headers.
const Header = "Warble-Assignment"

// Assignment says which unit a request belongs to, and which arm of which experiment the unit is in. The zero Assignment means that
// the request is in no experiment.
type Assignment struct {
	Experiment string
	Arm        Arm
	Kind       Unit   // of the unit: Community or User
	Unit       string // the community, or the user's id
	Generation int64  // of the rules by which the unit was assigned
	Exposes    bool   // whether this request exposes its user, because the function is in the experiment's Exposure
}

// String returns the value of Header, for example likes=treatment;community=gophers;generation=3;exposes. Names of experiments, slugs
// of communities and ids cannot contain the separators.
func (a Assignment) String() string { return string(a.append(make([]byte, 0, usual))) }

// usual is longer than most assignments as text, so that writing one needs no allocation.
const usual = 128

func (a Assignment) append(text []byte) []byte {
	text = append(text, a.Experiment...)
	text = append(text, '=')
	text = append(text, a.Arm...)
	text = append(text, ';')
	text = append(text, a.Kind...)
	text = append(text, '=')
	text = append(text, a.Unit...)
	text = append(text, ";generation="...)
	text = strconv.AppendInt(text, a.Generation, 10)
	if a.Exposes {
		text = append(text, ";exposes"...)
	}
	return text
}

// ParseAssignment reads a text that String wrote; any other text is an error.
func ParseAssignment(text string) (Assignment, error) {
	rest, exposes := strings.CutSuffix(text, ";exposes")
	first, rest, _ := strings.Cut(rest, ";")
	second, third, _ := strings.Cut(rest, ";")
	name, arm, _ := strings.Cut(first, "=")
	kind, unit, _ := strings.Cut(second, "=")
	generation, err := strconv.ParseInt(strings.TrimPrefix(third, "generation="), 10, 64)
	a := Assignment{name, Arm(arm), Unit(kind), unit, generation, exposes}
	if err != nil || name == "" || unit == "" || a.Arm != Control && a.Arm != Treatment || a.Kind != Community && a.Kind != User || string(a.append(make([]byte, 0, usual))) != text {
		return Assignment{}, fmt.Errorf("%s %q: expected experiment=control|treatment;community|user=name;generation=n, and ;exposes or nothing", Header, text)
	}
	return a, nil
}
