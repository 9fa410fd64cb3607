package main

import (
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"warble/shared/password"
	"warble/shared/problem"
	"warble/shared/wire"
)

const (
	maxName     = 50  // characters
	maxEmail    = 254 // bytes: RFC 5321, section 4.5.3.1.3, less the angle brackets
	maxUsername = 15
	maxPassword = 128 // characters
	minOwn      = 3   // characters: a name of two letters is in every other password
)

// email is what browsers take for an address (HTML, section 4.10.5.1.5), with a dot in the domain. It is compiled at the
// first use, for that takes a millisecond of a start.
var email = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9.!#$%&'*+/=?^_` + "`" + `{|}~-]{1,64}@` + label + `(\.` + label + `)+$`)
})

const label = `[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?`

// validate brings q to the form that is stored, and returns a problem that names every member that is not valid.
func (r *registration) validate(q *request) error {
	var wrong *problem.Problem
	refuse := func(field, format string, args ...any) {
		if wrong == nil {
			wrong = problem.Invalid.Detail(format, args...)
		}
		wrong.WithField(field, format, args...)
	}
	q.Name = norm.NFC.String(strings.TrimSpace(q.Name))
	if length := utf8.RuneCountInString(q.Name); length < 1 || length > maxName {
		refuse("name", "name must have 1 to %d characters", maxName)
	}
	if strings.ContainsFunc(q.Name, invisible) {
		refuse("name", "name must not contain control or direction characters")
	}
	if len(q.Email) > maxEmail || !email().MatchString(q.Email) {
		refuse("email", "email must be an email address")
	}
	if q.Username != "" && !wire.IsUsername(q.Username) {
		refuse("username", "username must have 1 to %d letters, digits or underscores", maxUsername)
	}
	if strings.ContainsRune(q.Community, 0) { // which PostgreSQL's text cannot hold, unlike any other name of none
		refuse("community", "there is no such community")
	}
	q.Password = password.Normalize(q.Password)
	if length := utf8.RuneCountInString(q.Password); length < r.passwords.MinLength || length > maxPassword {
		refuse("password", "password must have %d to %d characters", r.passwords.MinLength, maxPassword)
	}
	if wrong != nil {
		return wrong
	}
	own := ownWords(*q)
	if contains(q.Password, own) {
		return problem.Invalid.Field("password", "password must not contain your name, username or email address")
	}
	common, err := r.strength.common(q.Password, own...)
	if err != nil {
		return err
	}
	if common {
		return problem.Invalid.Field("password", "password is too easy to guess")
	}
	return nil
}

// invisible are the characters that would make one name look like another.
func invisible(r rune) bool {
	return unicode.IsControl(r) ||
		r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069 ||
		r == 0xFEFF || r == 0xFFFE || r == 0xFFFF
}

// ownWords are what q says of its user, in lower case: whoever guesses that password starts there.
func ownWords(q request) []string {
	local, _, _ := strings.Cut(q.Email, "@")
	words := append([]string{q.Email, local, q.Username, q.Name}, strings.Fields(q.Name)...)
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

// usernameFrom makes a username of a name: its letters without marks and its digits. It does not look at the email
// address, which is nobody else's business.
func usernameFrom(name string) string {
	var made strings.Builder
	for _, r := range norm.NFKD.String(name) {
		if wire.IsUsername(string(r)) && made.Len() < maxUsername {
			made.WriteRune(r)
		}
	}
	if made.Len() == 0 {
		return "user"
	}
	return made.String()
}
