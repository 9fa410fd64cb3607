package env_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/env"
)

func reader(set map[string]string) *env.Reader {
	return env.New(func(name string) (string, bool) {
		value, ok := set[name]
		return value, ok
	})
}

func TestAllMistakesAreReportedAtOnceByName(t *testing.T) {
	t.Parallel()
	e := reader(map[string]string{"MANY": "5000", "WORD": "ten", "WAIT": "3 seconds", "EMPTY": ""})
	e.Required("URL", "a PostgreSQL URL")
	e.Required("EMPTY", "a path")
	got := []any{e.Int("MANY", 4, 1, 100), e.Int("WORD", 4, 1, 100), e.Duration("WAIT", time.Second, 0, time.Minute)}
	if diff := cmp.Diff([]any{4, 4, time.Second}, got); diff != "" {
		t.Error("a mistaken variable must still give its fallback:", diff)
	}
	want := `URL is not set: expected a PostgreSQL URL
EMPTY is not set: expected a path
MANY is "5000": expected a whole number from 1 to 100
WORD is "ten": expected a whole number from 1 to 100
WAIT is "3 seconds": expected a duration from 0s to 1m0s`
	if diff := cmp.Diff(want, e.Err().Error()); diff != "" {
		t.Error(diff)
	}
}

func TestAnUnsetVariableHasItsFallback(t *testing.T) {
	t.Parallel()
	e := reader(map[string]string{"PORT": "9000", "WAIT": "1500ms", "LIST": " a, ,b ", "NAME": "x"})
	got := []any{e.Int("PORT", 1, 0, 65535), e.Duration("WAIT", 0, 0, time.Hour), e.List("LIST"), e.String("NAME", "y"), e.String("UNSET", "y"), e.List("UNSET"), e.Int("UNSET", 7, 0, 9)}
	want := []any{9000, 1500 * time.Millisecond, []string{"a", "b"}, "x", "y", []string(nil), 7}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := e.Err(); err != nil {
		t.Error(err)
	}
}
