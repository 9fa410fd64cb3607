package problem_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"warble/shared/problem"
)

func TestEveryErrorBecomesAProblem(t *testing.T) {
	t.Parallel()
	taken := problem.Conflict.Field("email", "this email is taken")
	tests := map[string]struct {
		err  error
		want *problem.Kind
	}{
		"itself":     {taken, problem.Conflict},
		"wrapped":    {fmt.Errorf("register: %w", taken), problem.Conflict},
		"bare kind":  {fmt.Errorf("tweet 7: %w", problem.NotFound), problem.NotFound},
		"deadline":   {fmt.Errorf("query: %w", context.DeadlineExceeded), problem.Unavailable},
		"large body": {&http.MaxBytesError{Limit: 1}, problem.TooLarge},
		"other":      {errors.New("disk on fire"), problem.Internal},
	}
	for name, tt := range tests {
		if got := problem.From(tt.err); got.Kind != tt.want || !errors.Is(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestTheCauseIsLoggedAndNeverSent(t *testing.T) {
	t.Parallel()
	cause := errors.New("password authentication failed")
	p := problem.From(fmt.Errorf("query: %w", cause))
	if !errors.Is(p, cause) {
		t.Error("the cause is lost")
	}
	w := httptest.NewRecorder()
	problem.Write(w, p, "id-1")
	want := `{"type":"https://warble.dev/problems/internal","title":"Internal error","status":500,` +
		`"detail":"Something went wrong on our side.","instance":"id-1","errors":[{"message":"Something went wrong on our side."}]}`
	if diff := cmp.Diff(want, w.Body.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAProblemSetsTheHeadersOfItsStatus(t *testing.T) {
	t.Parallel()
	method := problem.WrongMethod.Detail("x")
	method.Allow = "GET, POST"
	tests := []struct {
		p            *problem.Problem
		header, want string
	}{
		{problem.TooMany.Detail("x").After(1500 * time.Millisecond), "Retry-After", "2"},
		{problem.Unavailable.Detail("x"), "Retry-After", "1"},
		{problem.Unauthenticated.Detail("x"), "WWW-Authenticate", `Bearer realm="warble"`},
		{method, "Allow", "GET, POST"},
		{problem.Invalid.Detail("x"), "Retry-After", ""},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		problem.Write(w, tt.p, "")
		if got := w.Header().Get(tt.header); got != tt.want || w.Code != tt.p.Status {
			t.Errorf("%s: %d, %s: %q, want %q", tt.p.Slug, w.Code, tt.header, got, tt.want)
		}
	}
}

// A problem quotes what the client sent, but limits its length.
func TestTheLengthOfAMessageIsLimited(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 5000)
	p := problem.Invalid.Field("x", "x is %s", long)
	for _, text := range []string{p.Detail, p.Errors[0].Message} {
		if len(text) > 510 || !utf8.ValidString(text) || !strings.HasPrefix(text, "x is üü") || !strings.HasSuffix(text, "ü…") {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	}
}
