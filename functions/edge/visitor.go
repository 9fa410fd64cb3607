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
	// visitorLife is how long a visitor's cookie is valid. It is not renewed.
	visitorLife = 365 * 24 * time.Hour
	// clockSkew is how much the clocks of two edges may differ.
	clockSkew = 5 * time.Minute
)

// visitors identifies people who are not signed in by a random id in a cookie. The cookie is signed, so that nobody can choose
// their arm. Its value is id.issued.signature; issued is in Unix seconds.
type visitors struct{ key []byte }

// newVisitors derives its key from the edge's key. So all edges accept each other's cookies, and with a new edge key everybody is a
// new visitor.
func newVisitors(key []byte) visitors {
	derived, err := hkdf.Key(sha256.New, key, nil, "warble visitor cookie", sha256.Size)
	if err != nil {
		panic(err) // HKDF takes a key of any length
	}
	return visitors{derived}
}

// identify returns the visitor's id from the first valid cookie of that name. Without one, it returns a new id, and fresh is the
// value of the new cookie.
func (v visitors) identify(r *http.Request, cookie string, now time.Time) (id, fresh string) {
	for _, c := range r.CookiesNamed(cookie) {
		if id, ok := v.verify(cookie, c.Value, now); ok {
			return id, ""
		}
	}
	id = rand.Text()
	signed := id + "." + strconv.FormatInt(now.Unix(), 10)
	return id, signed + "." + v.sign(cookie, signed)
}

func (v visitors) verify(cookie, value string, now time.Time) (id string, ok bool) {
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

// sign includes the cookie's name, so that a cookie is not valid for another experiment.
func (v visitors) sign(cookie, signed string) string {
	mac := hmac.New(sha256.New, v.key)
	mac.Write([]byte(cookie))
	mac.Write([]byte{'='})
	mac.Write([]byte(signed))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// setCookieHeader returns the value of a Set-Cookie header.
func setCookieHeader(name, value string) string {
	c := http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(visitorLife / time.Second), HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
	}
	return c.String()
}

// replaceCookie sets one cookie of a request and keeps the others. So a guest sees a visitor's identity even in the visitor's first
// request, and never sees a forged identity.
func replaceCookie(header http.Header, name, value string) {
	var kept []string
	for _, line := range header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			pair = strings.TrimSpace(pair)
			if pairName, _, _ := strings.Cut(pair, "="); pair != "" && strings.TrimSpace(pairName) != name {
				kept = append(kept, pair)
			}
		}
	}
	header.Set("Cookie", strings.Join(append(kept, name+"="+value), "; "))
}
