// Package policy has the rules for new passwords. It is separate from package password because of its dictionaries: only
// functions that set passwords need them, and functions that compare passwords should not link them.
package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"warble/shared/env"
	"warble/shared/problem"
)

const (
	maxLength = 128 // characters
	minOwn    = 3   // characters: many passwords contain a given name of two letters
)

// Policy has the rules for new passwords. It is safe for concurrent use.
type Policy struct {
	minLength int
	strength  *estimator
}

// FromEnv reads PASSWORD_MIN_LENGTH, in characters (8).
func FromEnv(e *env.Reader) *Policy {
	return &Policy{e.Int("PASSWORD_MIN_LENGTH", 8, 8, maxLength), newEstimator()}
}

// Length returns what is wrong with the length of a normalized password; "" if nothing is. member is the name of the request's
// member.
func (p *Policy) Length(member, password string) string {
	if length := utf8.RuneCountInString(password); length < p.minLength || length > maxLength {
		return fmt.Sprintf("%s must have %d to %d characters", member, p.minLength, maxLength)
	}
	return ""
}

// Person is the owner of a password. Attackers try these words first.
type Person struct{ Name, Username, Email string }

// Check returns a problem.Invalid of member if a normalized password has a wrong length, contains a word of the person, or is
// likely to be guessed early.
func (p *Policy) Check(member, password string, of Person) error {
	if wrong := p.Length(member, password); wrong != "" {
		return problem.Invalid.Field(member, "%s", wrong)
	}
	own := of.words()
	if contains(password, own) {
		return problem.Invalid.Field(member, "%s must not contain your name, username or email address", member)
	}
	common, err := p.strength.common(password, own...)
	if err != nil {
		return err
	}
	if common {
		return problem.Invalid.Field(member, "%s is too easy to guess", member)
	}
	return nil
}

// words returns the person's words, in lower case.
func (of Person) words() []string {
	local, _, _ := strings.Cut(of.Email, "@")
	words := append([]string{of.Email, local, of.Username, of.Name}, strings.Fields(of.Name)...)
	for n, word := range words {
		words[n] = strings.ToLower(norm.NFKC.String(word))
	}
	return words
}

func contains(password string, own []string) bool {
	password = strings.ToLower(password)
	for _, word := range own {
		if utf8.RuneCountInString(word) >= minOwn && strings.Contains(password, word) {
			return true
		}
	}
	return false
}
