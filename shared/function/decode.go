package function

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"warble/shared/problem"
)

// Refuser is implemented by request types that explain why they refuse an unknown member. If Refuse returns nil, the usual message is used.
type Refuser interface {
	Refuse(member string) error
}

// Decode reads one JSON object strictly into q, a pointer to a struct. Its errors are problems: 400 if the body is not JSON in UTF-8 or has
// a member twice, and 422 with the member's name if a member is unknown, differs from q's in upper or lower case, or has the wrong type. A
// member that is null counts as missing. A whole number may be written 5, 5.0 or 5e0.
func Decode(body []byte, q any) error {
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return problem.Malformed.Detail("the body must be one JSON object")
	}
	if err := json.Unmarshal(body, q, strict); err != nil {
		return decodeProblem(q, err)
	}
	return nil
}

var strict = json.JoinOptions(
	json.RejectUnknownMembers(true),
	json.WithUnmarshalers(json.JoinUnmarshalers(
		json.UnmarshalFromFunc(func(d *jsontext.Decoder, n *int) error { return wholeNumber(d, n, strconv.IntSize) }),
		json.UnmarshalFromFunc(func(d *jsontext.Decoder, n *int64) error { return wholeNumber(d, n, 64) }),
	)),
)

var errNotWhole = errors.New("not a whole number")

// wholeNumber reads a number by its value, because JSON has only one kind of number, and some clients write 5 as 5.0.
func wholeNumber[T int | int64](d *jsontext.Decoder, n *T, bits int) error {
	if d.PeekKind() != '0' {
		return errors.ErrUnsupported // the library then makes its own error for the wrong type
	}
	text, err := d.ReadValue()
	if err != nil {
		return err
	}
	digits, err := integerDigits(string(text))
	if err == nil {
		var whole int64
		whole, err = strconv.ParseInt(digits, 10, bits)
		*n = T(whole)
	}
	if err != nil {
		return &json.SemanticError{JSONKind: '0', JSONValue: text.Clone(), Err: err}
	}
	return nil
}

// maxExponent is larger than any exponent of an int64. It limits the work that a few bytes can cause.
const maxExponent = 400

// integerDigits returns a JSON number without fraction and exponent. It is exact, because it does not use a float64.
func integerDigits(number string) (string, error) {
	mantissa, power, _ := strings.Cut(strings.ToLower(number), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	digits := strings.TrimRight(whole+fraction, "0")
	if digits == "" {
		return "0", nil
	}
	exponent := 0
	if power != "" {
		var err error
		if exponent, err = strconv.Atoi(power); err != nil || exponent > maxExponent || exponent < -maxBody {
			return "", strconv.ErrRange
		}
	}
	exponent += len(whole) - len(digits)
	if exponent < 0 {
		return "", errNotWhole
	}
	if exponent > maxExponent {
		return "", strconv.ErrRange
	}
	return sign + digits + strings.Repeat("0", exponent), nil
}

// decodeProblem turns an error of the decoder into a problem.
func decodeProblem(q any, err error) error {
	wrong, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok && errors.Is(err, jsontext.ErrDuplicateName) {
			name := member(syntax.JSONPointer)
			return problem.Malformed.Field(name, "the body has the member %s twice", name)
		}
		return problem.Malformed.Detail("the body is not valid JSON in UTF-8").Because(err)
	}
	name := member(wrong.JSONPointer)
	switch {
	case errors.Is(err, json.ErrUnknownName):
		if q, ok := q.(Refuser); ok {
			if err := q.Refuse(name); err != nil {
				return err
			}
		}
		return problem.Invalid.Field(name, "%s is not a member of this request", name)
	case errors.Is(err, errNotWhole):
		return problem.Invalid.Field(name, "%s must be a whole number, not %s", name, wrong.JSONValue)
	case errors.Is(err, strconv.ErrRange):
		return problem.Invalid.Field(name, "%s must be a number of at most 64 bits", name)
	case wrong.GoType == reflect.TypeFor[time.Time]():
		return problem.Invalid.Field(name, "%s must be an RFC 3339 time, as in \"2026-01-31T12:00:00Z\"", name)
	case wrong.Err != nil || wrong.JSONKind == 0 || wrong.GoType == nil: // of a type that decodes itself, such as experiment.Duration
		return problem.Invalid.Field(name, "%s is not valid", name).Because(err)
	}
	return problem.Invalid.Field(name, "%s must be %s, not %s", name, wording(wrong.GoType), kindWording(wrong.JSONKind))
}

// member returns the path of a member for messages, for example windows.0.start.
func member(p jsontext.Pointer) string { return strings.Join(slices.Collect(p.Tokens()), ".") }

// wording describes a Go type in JSON's terms.
func wording(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	default:
		return "a number"
	}
}

func kindWording(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	default:
		return k.String()
	}
}
