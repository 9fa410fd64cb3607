package experiment

import (
	"fmt"
	"strconv"
	"strings"
)

// Header carries an Assignment from the edge to a function. The edge signs it, as everything that it asserts.
const Header = "Warble-Assignment"

// Assignment is what the edge says of one request: whom it belongs to in which experiment. The zero Assignment is none.
type Assignment struct {
	Experiment string
	Arm        Arm
	Kind       Unit   // of the unit: Community or User
	Unit       string // the community, or the user's id
	Generation int64  // of the rules by which it was assigned
	Exposes    bool   // whether this request exposes its user: the function is among the experiment's Exposure
}

// String is the value of Header: likes=treatment;community=gophers;generation=3;exposes. Names of experiments, slugs of
// communities and ids hold none of its separators.
func (a Assignment) String() string { return string(a.append(make([]byte, 0, usual))) }

// usual is more than most assignments take as text, so that writing one into an array needs no allocation.
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

// ParseAssignment reads what String wrote; anything else is an error.
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
