package wire

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/store"
)

// Query is the query string of a GET under /2. Unknown parameters are ignored.
type Query struct {
	Expansions store.References // the objects that the answer is to include
	values     url.Values
}

// FromRequest reads the query string and checks the names in tweet.fields, post.fields, user.fields, media.fields,
// poll.fields, place.fields and expansions. A name that X does not know is a 400, and so is a malformed query string.
//
// The fields do not change the answer, because it always has everything that Warble stores.
func (q *Query) FromRequest(r *http.Request) (err error) {
	if q.values, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return problem.Malformed.Detail("the query string cannot be read").Because(err)
	}
	for _, parameter := range []string{"tweet.fields", "post.fields", "user.fields", "media.fields", "poll.fields", "place.fields"} {
		if _, err := q.named(parameter); err != nil {
			return err
		}
	}
	expansions, err := q.named("expansions")
	q.Expansions = store.References{
		Authors:       slices.Contains(expansions, "author_id"),
		Sources:       slices.Contains(expansions, "referenced_tweets.id"),
		SourceAuthors: slices.Contains(expansions, "referenced_tweets.id.author_id"),
	}
	return err
}

// QueryByID is a Query about the user or the tweet whose id is in the path.
type QueryByID struct {
	Query
	ID int64
}

// FromRequest reads the path's {id} and the query string.
func (q *QueryByID) FromRequest(r *http.Request) (err error) {
	if q.ID, err = function.PathID(r, "id"); err != nil {
		return err
	}
	return q.Query.FromRequest(r)
}

// maxLookup is how many objects one request may look up.
const maxLookup = 100

// IDs returns the values of the parameter ids as texts and as numbers: 1 to 100, each once.
func (q *Query) IDs() (texts []string, ids []int64, err error) {
	texts, err = q.several("ids")
	for _, text := range texts {
		id, err := function.ParseID(text)
		if err != nil {
			return nil, nil, malformed("ids", text, "a decimal id of 1 to 19 digits")
		}
		ids = append(ids, id)
	}
	return texts, ids, err
}

// Usernames returns the values of the parameter usernames: 1 to 100, each once.
func (q *Query) Usernames() ([]string, error) {
	usernames, err := q.several("usernames")
	if err != nil {
		return nil, err
	}
	for _, username := range usernames {
		if !IsUsername(username) {
			return nil, malformed("usernames", username, "1 to 15 letters, digits or underscores")
		}
	}
	return usernames, nil
}

// IsUsername reports whether text matches ^[A-Za-z0-9_]{1,15}$.
func IsUsername(text string) bool {
	outside := func(r rune) bool {
		return (r < 'a' || 'z' < r) && (r < 'A' || 'Z' < r) && (r < '0' || '9' < r) && r != '_'
	}
	return 1 <= len(text) && len(text) <= 15 && !strings.ContainsFunc(text, outside)
}

// several returns the comma-separated values of a parameter that must have 1 to 100, each once, in their order.
func (q *Query) several(parameter string) ([]string, error) {
	all := q.list(parameter)
	unique := make([]string, 0, len(all))
	seen := make(map[string]bool, len(all))
	for _, value := range all {
		if !seen[value] {
			seen[value] = true
			unique = append(unique, value)
		}
	}
	if len(unique) < 1 || len(unique) > maxLookup {
		return nil, problem.Malformed.Field(parameter, "%s must name 1 to %d, separated by commas, and names %d", parameter, maxLookup, len(unique))
	}
	return unique, nil
}

// named returns the names that a parameter lists. A name that X does not know is an error.
func (q *Query) named(parameter string) ([]string, error) {
	list := q.list(parameter)
	for _, name := range list {
		if !slices.Contains(names[parameter], name) {
			return nil, malformed(parameter, name, "one of "+strings.Join(names[parameter], ", "))
		}
	}
	return list, nil
}

// list returns the comma-separated values of a parameter, which may occur more than once; nil if it is absent or empty.
func (q *Query) list(parameter string) []string {
	joined := strings.Join(q.values[parameter], ",")
	if joined == "" {
		return nil
	}
	return strings.Split(joined, ",")
}

// id returns an id; fallback if the parameter is absent.
func (q *Query) id(parameter string, fallback int64) (int64, error) {
	text := q.values.Get(parameter)
	if text == "" {
		return fallback, nil
	}
	id, err := function.ParseID(text)
	if err != nil {
		return 0, malformed(parameter, text, "a decimal id of 1 to 19 digits")
	}
	return id, nil
}

// time returns the lowest id that a row of the given time can have; fallback if the parameter is absent.
func (q *Query) time(parameter string, fallback int64) (int64, error) {
	text := q.values.Get(parameter)
	if text == "" {
		return fallback, nil
	}
	// A plus sign that the client did not escape arrives as a space.
	written := strings.ToUpper(strings.ReplaceAll(text, " ", "+"))
	at, err := time.Parse(time.RFC3339, written)
	if err != nil || !rfc3339().MatchString(written) {
		return 0, malformed(parameter, text, "an RFC 3339 time, as in 2026-01-31T12:00:00Z")
	}
	return store.FirstID(at), nil
}

// rfc3339 refuses texts that time.Parse wrongly accepts: T1:00:00Z, fractions after a comma, offsets of 24 hours
// (go.dev/issue/54580). It is compiled at its first use, because most processes never use it.
var rfc3339 = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`)
})

func (q *Query) size(fallback int) (int, error) {
	text := q.values.Get("max_results")
	if text == "" {
		return fallback, nil
	}
	size, err := strconv.Atoi(text)
	if err != nil || size < 1 || size > maxResults {
		return 0, malformed("max_results", text, "a whole number from 1 to "+strconv.Itoa(maxResults))
	}
	return size, nil
}

// malformed is the 400 for a parameter's value. Its errors have the value under the parameter's name, like X's errors.
func malformed(parameter, value, expected string) error {
	p := problem.Malformed.Field(parameter, "the query parameter %s has the value %q, and expects %s", parameter, value, expected)
	p.Errors[0].Parameters = map[string][]string{parameter: {value}}
	return p
}
