// Package env reads a process's configuration from its environment variables.
//
// Every accessor returns a usable value even if the variable is wrong, and records the mistake. A process reads all its
// variables, then calls Err once. So an operator sees all mistakes together, each with its variable's name.
package env

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Reader reads variables and collects their mistakes. It is not safe for concurrent use.
type Reader struct {
	lookup   func(string) (string, bool)
	mistakes []error
}

// FromOS reads the environment of this process.
func FromOS() *Reader { return New(os.LookupEnv) }

// New returns a Reader that calls lookup, which reports whether a variable is set, like os.LookupEnv.
func New(lookup func(string) (string, bool)) *Reader { return &Reader{lookup: lookup} }

// String returns the variable, or fallback if it is unset or empty.
func (r *Reader) String(name, fallback string) string {
	if value, _ := r.lookup(name); value != "" {
		return value
	}
	return fallback
}

// Required returns the variable. It is a mistake if the variable is unset or empty. expected describes the value, for example
// "a PostgreSQL URL".
func (r *Reader) Required(name, expected string) string {
	value := r.String(name, "")
	if value == "" {
		r.mistakes = append(r.mistakes, fmt.Errorf("%s is not set: expected %s", name, expected))
	}
	return value
}

// List returns the comma-separated entries of the variable, trimmed and without empty ones; nil if it is unset.
func (r *Reader) List(name string) []string {
	var entries []string
	for entry := range strings.SplitSeq(r.String(name, ""), ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// Int returns the variable as a decimal integer in [low, high], or fallback if it is unset.
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

// Duration returns the variable as a Go duration ("15s") in [low, high], or fallback if it is unset.
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

// Err returns all mistakes so far, joined, one per line; nil if there are none.
func (r *Reader) Err() error { return errors.Join(r.mistakes...) }
