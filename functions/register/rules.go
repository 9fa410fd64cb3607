package main

import (
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"warble/shared/password"
	"warble/shared/password/policy"
	"warble/shared/problem"
	"warble/shared/wire"
)

const (
	maxName     = 50  // characters
	maxEmail    = 254 // bytes: RFC 5321, section 4.5.3.1.3, without the angle brackets
	maxUsername = 15
)

// email matches what browsers accept as an address (HTML, section 4.10.5.1.5), if the domain has a dot. It is compiled at the first
// use, because compiling would add a millisecond to the start.
var email = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9.!#$%&'*+/=?^_` + "`" + `{|}~-]{1,64}@` + label + `(\.` + label + `)+$`)
})

const label = `[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?`

// validate converts q to the form that is stored. It returns a problem that names every invalid member.
func (r *registration) validate(q *request) error {
	var wrong *problem.Problem
	refuse := func(field, format string, args ...any) {
		if wrong == nil {
			wrong = problem.Invalid.Detail(format, args...)
		}
		wrong.WithField(field, format, args...)
	}
	if name, err := wire.Name("name", q.Name); err != nil {
		refuse("name", "%s", problem.From(err).Detail)
	} else if q.Name = name; utf8.RuneCountInString(name) > maxName {
		refuse("name", "name must have at most %d characters", maxName)
	}
	if len(q.Email) > maxEmail || !email().MatchString(q.Email) {
		refuse("email", "email must be an email address")
	}
	if q.Username != "" && !wire.IsUsername(q.Username) {
		refuse("username", "username must have 1 to %d letters, digits or underscores", maxUsername)
	}
	if strings.ContainsRune(q.Community, 0) { // PostgreSQL's text cannot contain NUL; the database refuses all other unknown names
		refuse("community", "there is no such community")
	}
	q.Password = password.Normalize(q.Password)
	if short := r.policy.Length("password", q.Password); short != "" {
		refuse("password", "%s", short)
	}
	if wrong != nil {
		return wrong
	}
	return r.policy.Check("password", q.Password, policy.Person{Name: q.Name, Username: q.Username, Email: q.Email})
}

// usernameFrom makes a username from the letters, without marks, and the digits of a name. It does not use the email address, which
// must stay private.
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
