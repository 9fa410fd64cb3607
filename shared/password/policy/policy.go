// Package policy says what a new password must be. It is apart from package password, because its dictionaries are for those
// who set a password, and whoever compares one should not link them.
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
	minOwn    = 3   // characters: a name of two letters is in every other password
)

// Policy is what a new password must be. It is safe for concurrent use.
type Policy struct {
	minLength int
	strength  *estimator
}

// FromEnv reads PASSWORD_MIN_LENGTH, in characters (8).
func FromEnv(e *env.Reader) *Policy {
	return &Policy{e.Int("PASSWORD_MIN_LENGTH", 8, 8, maxLength), newEstimator()}
}

// Length says what is wrong with the length of a normalized password, and "" where nothing is. member is the request's.
func (p *Policy) Length(member, password string) string {
	if length := utf8.RuneCountInString(password); length < p.minLength || length > maxLength {
		return fmt.Sprintf("%s must have %d to %d characters", member, p.minLength, maxLength)
	}
	return ""
}

// Person is whom a password is for: whoever guesses it starts there.
type Person struct{ Name, Username, Email string }

// Check returns a problem.Invalid of member unless a normalized password has a length that is accepted, contains nothing of
// the person's, and is not one that an attacker would guess early.
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

// words are what is said of the person, in lower case.
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
