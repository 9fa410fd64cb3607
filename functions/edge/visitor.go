package main

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// visitorLife is how long a visitor's cookie holds. It is not renewed.
	visitorLife = 365 * 24 * time.Hour
	// clockSkew is by how much the clocks of two edges may differ.
	clockSkew = 5 * time.Minute
)

// visitors gives people who are not signed in an identity: a random id in a cookie, signed so that nobody chooses their arm. The
// cookie's value is id.issued.signature; issued is in Unix seconds.
type visitors struct{ key []byte }

// newVisitors derives its key from the edge's: all edges accept each other's cookies, and a new key of the edge makes everybody a
// new visitor.
func newVisitors(key []byte) visitors {
	derived, err := hkdf.Key(sha256.New, key, nil, "warble visitor cookie", sha256.Size)
	if err != nil {
		panic(err) // no key is too short for it
	}
	return visitors{derived}
}

// of returns the id of the visitor whom a request is from, by the first cookie of that name that holds. Where none does, it is a new
// visitor, and fresh is the value of their cookie.
func (v visitors) of(r *http.Request, cookie string, now time.Time) (id, fresh string) {
	for _, c := range r.CookiesNamed(cookie) {
		if id, ok := v.read(cookie, c.Value, now); ok {
			return id, ""
		}
	}
	id = rand.Text()
	signed := id + "." + strconv.FormatInt(now.Unix(), 10)
	return id, signed + "." + v.sign(cookie, signed)
}

func (v visitors) read(cookie, value string, now time.Time) (id string, ok bool) {
	at := strings.LastIndexByte(value, '.')
	if at < 0 {
		return "", false
	}
	signed := value[:at]
	if !hmac.Equal([]byte(value[at+1:]), []byte(v.sign(cookie, signed))) {
		return "", false
	}
	id, issued, _ := strings.Cut(signed, ".")
	seconds, err := strconv.ParseInt(issued, 10, 64)
	age := now.Sub(time.Unix(seconds, 0))
	return id, err == nil && age >= -clockSkew && age < visitorLife
}

// sign covers the cookie's name, so that no cookie is taken for another experiment's.
func (v visitors) sign(cookie, signed string) string {
	mac := hmac.New(sha256.New, v.key)
	mac.Write([]byte(cookie))
	mac.Write([]byte{'='})
	mac.Write([]byte(signed))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// cookieOf is the value of Set-Cookie.
func cookieOf(name, value string) string {
	c := http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(visitorLife / time.Second), HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
	}
	return c.String()
}

// setCookie makes a request's cookie of that name be value, and leaves the others as they are: a guest meets a visitor's identity in
// their first request, and no forged one.
func setCookie(header http.Header, name, value string) {
	var kept []string
	for _, line := range header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			pair = strings.TrimSpace(pair)
			if of, _, _ := strings.Cut(pair, "="); pair != "" && strings.TrimSpace(of) != name {
				kept = append(kept, pair)
			}
		}
	}
	header.Set("Cookie", strings.Join(append(kept, name+"="+value), "; "))
}
