package experiment

import (
	"fmt"
	"net/url"
	"strings"
)

// IdentityKind says how the edge recognises people.
//
// +kubebuilder:validation:Enum=token;issuer;visitor
type IdentityKind string

// The kinds of identities; the empty one is ByToken.
const (
	ByToken   IdentityKind = "token"
	ByIssuer  IdentityKind = "issuer"
	ByVisitor IdentityKind = "visitor"
)

// DefaultCookie is the name of a visitor's cookie if the Identity names none.
const DefaultCookie = "warble_visitor"

// Identity is how the edge recognises people. A person whom it does not recognise is in no experiment.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="(self.kind == 'issuer') == has(self.issuer)",message="issuer: expected url and audience with kind issuer, and nothing with other kinds"
// +kubebuilder:validation:XValidation:rule="self.kind == 'visitor' || !has(self.cookie)",message="cookie: expected it only with kind visitor"
type Identity struct {
	// Kind is token (Warble's access token), issuer (a bearer token of another issuer), or visitor (a cookie that the edge sets, for
	// people who are not signed in). With issuer and visitor, all services must be guests. A visitor's arm stays with the cookie, even
	// after signing in.
	Kind IdentityKind `json:"kind"`
	// Cookie is the name of a visitor's cookie; warble_visitor by default. Experiments with the same cookie have the same visitors.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[-_A-Za-z0-9]+$`
	Cookie string `json:"cookie,omitempty"`
	// +optional
	Issuer *Issuer `json:"issuer,omitempty"`
}

// Issuer is who issues the bearer tokens that identify users. The tokens are JWTs, signed with a key of the issuer's key set.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.url.matches('^https?://[^/?#@ ]+(/[^?# ]*)?$')",message="url: expected http:// or https://, a host, and a path or none"
type Issuer struct {
	// URL is the issuer's URL, exactly as in the claim iss. The key set is found by OpenID Connect Discovery.
	// +kubebuilder:validation:MaxLength=512
	URL string `json:"url"`
	// Audience is a name that the claim aud must contain.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Audience string `json:"audience"`
	// UserClaim is the claim with the user's id, which is the unit; sub by default.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	UserClaim string `json:"userClaim,omitempty"`
	// CommunityClaim is the claim with the user's community, for audience.communities; none by default.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	CommunityClaim string `json:"communityClaim,omitempty"`
}

// Foreign reports whether the units do not belong to Warble. Then only their exposures and events are known.
func (i *Identity) Foreign() bool { return i.Kind == ByIssuer || i.Kind == ByVisitor }

// Person returns the noun for those whom the edge identifies: visitor or user.
func (i *Identity) Person() string {
	if i.Kind == ByVisitor {
		return "visitor"
	}
	return "user"
}

// Noun returns the noun for the unit: community, user or visitor; request if each request is judged by itself.
func (s *Spec) Noun() string {
	if s.Unit == User {
		return s.Identity.Person()
	}
	return string(s.Unit)
}

// Visitors returns the name of the visitors' cookie; empty if visitors are not the units.
func (i *Identity) Visitors() string {
	switch {
	case i.Kind != ByVisitor:
		return ""
	case i.Cookie == "":
		return DefaultCookie
	}
	return i.Cookie
}

// describeUnits describes the units of an identity, for messages.
func (i *Identity) describeUnits() string {
	switch i.Kind {
	case ByIssuer:
		return "users of " + i.Issuer.URL
	case ByVisitor:
		return "visitors by the cookie " + i.Visitors()
	}
	return "users of Warble"
}

func (i *Identity) check(m *mistakes, unit Unit) {
	if *i == (Identity{}) {
		return
	}
	m.oneOf("identity.kind", string(i.Kind), string(ByToken), string(ByIssuer), string(ByVisitor))
	m.expect((i.Kind == ByIssuer) == (i.Issuer != nil), "identity.issuer", "expected url and audience with kind issuer, and nothing with other kinds")
	m.expect(i.Cookie == "" || i.Kind == ByVisitor, "identity.cookie", "%q: expected it only with kind visitor", i.Cookie)
	m.expect(len(i.Cookie) <= 64 && consists(i.Cookie, letters+digits+"_-"), "identity.cookie", "%q: expected at most 64 letters, digits, _ and -", i.Cookie)
	m.expect(!i.Foreign() || unit == User, "unit", "%s: expected user with identity %s, because Warble knows only the communities of its own users", unit, i.Kind)
	if by := i.Issuer; by != nil {
		m.expect(isIssuer(by.URL), "identity.issuer.url", "%q: expected http:// or https://, a host, and a path or none", by.URL)
		m.expect(len(by.Audience) >= 1 && len(by.Audience) <= 256, "identity.issuer.audience", "%d characters: expected 1 to 256", len(by.Audience))
		m.expect(len(by.UserClaim) <= 64, "identity.issuer.userClaim", "%d characters: expected 64 at most", len(by.UserClaim))
		m.expect(len(by.CommunityClaim) <= 64, "identity.issuer.communityClaim", "%d characters: expected 64 at most", len(by.CommunityClaim))
	}
}

func isIssuer(text string) bool {
	u, err := url.Parse(text)
	return err == nil && len(text) <= 512 && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil &&
		!strings.ContainsAny(text, "?# ")
}

// maxUnit is the longest id of a foreign unit, in bytes.
const maxUnit = 128

// CheckUnit returns what is wrong with the id of a foreign unit (see Identity.Foreign); nil if nothing is. The id becomes part of
// headers and rows, so it must be 1 to 128 bytes of printable ASCII without spaces and semicolons.
func CheckUnit(unit string) error {
	if unit == "" || len(unit) > maxUnit {
		return fmt.Errorf("a unit of %d bytes: expected 1 to %d", len(unit), maxUnit)
	}
	for i := range len(unit) {
		if c := unit[i]; c <= ' ' || c > '~' || c == ';' {
			return fmt.Errorf("unit %q: expected printable ASCII without spaces and semicolons", unit)
		}
	}
	return nil
}
