// Package env reads a process's configuration from its environment variables.
//
// Every accessor returns a usable value even when the variable is wrong, and remembers the mistake: a process reads
// all it needs, then asks Err once, so that whoever deploys it sees every mistake at once and by name.
package env

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Reader looks variables up and collects what is wrong with them. It is not safe for concurrent use.
type Reader struct {
	lookup   func(string) (string, bool)
	mistakes []error
}

// FromOS reads the environment of this process.
func FromOS() *Reader { return New(os.LookupEnv) }

// New reads from lookup, which reports whether a variable is set, as os.LookupEnv does.
func New(lookup func(string) (string, bool)) *Reader { return &Reader{lookup: lookup} }

// String returns the variable, or fallback where it is unset or empty.
func (r *Reader) String(name, fallback string) string {
	if value, _ := r.lookup(name); value != "" {
		return value
	}
	return fallback
}

// Required returns the variable. Unset or empty is a mistake; expected says what belongs there, as in "a PostgreSQL URL".
func (r *Reader) Required(name, expected string) string {
	value := r.String(name, "")
	if value == "" {
		r.mistakes = append(r.mistakes, fmt.Errorf("%s is not set: expected %s", name, expected))
	}
	return value
}

// List returns the comma-separated entries of the variable, trimmed, empty ones left out; nil where it is unset.
func (r *Reader) List(name string) []string {
	var entries []string
	for entry := range strings.SplitSeq(r.String(name, ""), ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// Int returns the variable as a decimal integer in [low, high], or fallback where it is unset.
func (r *Reader) Int(name string, fallback, low, high int) int {
	text := r.String(name, "")
	if text == "" {
		return fallback
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < low || value > high {
		r.Reject(name, text, fmt.Sprintf("a whole number from %d to %d", low, high))
		return fallback
	}
	return value
}

// Duration returns the variable as a Go duration ("15s") in [low, high], or fallback where it is unset.
func (r *Reader) Duration(name string, fallback, low, high time.Duration) time.Duration {
	text := r.String(name, "")
	if text == "" {
		return fallback
	}
	value, err := time.ParseDuration(text)
	if err != nil || value < low || value > high {
		r.Reject(name, text, fmt.Sprintf("a duration from %s to %s", low, high))
		return fallback
	}
	return value
}

// Reject records that a variable's value is not what was expected. Never pass a secret as got.
func (r *Reader) Reject(name, got, expected string) {
	r.mistakes = append(r.mistakes, fmt.Errorf("%s is %q: expected %s", name, got, expected))
}

// Err joins all mistakes so far, one a line; nil where there is none.
func (r *Reader) Err() error { return errors.Join(r.mistakes...) }
