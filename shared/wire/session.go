package wire

import (
	"context"

	"warble/shared/function"
	"warble/shared/store"
	tokens "warble/shared/token"
)

// Session is the answer of register, login and refresh: the user, and the tokens.
type Session struct {
	Data         User   `json:"data"`
	Token        string `json:"token"`      // the access token
	ExpiresAt    string `json:"expires_at"` // when the access token expires
	RefreshToken string `json:"refresh_token"`
}

// Client returns the network and the user agent of the request.
func Client(ctx context.Context) store.Client {
	return store.Client{Network: function.Network(ctx), UserAgent: function.Current(ctx).UserAgent}
}

// NewSession signs an access token for a session, and returns both tokens in the API's format.
func NewSession(issuer *tokens.Issuer, o store.Opened, refresh string) (Session, error) {
	access, expires, err := issuer.Issue(tokens.Subject{UserID: o.User.ID, Session: o.Session, Username: o.User.Username, Community: o.User.Community})
	if err != nil {
		return Session{}, err
	}
	return Session{Data: NewUser(o.User), Token: access, ExpiresAt: Time(expires), RefreshToken: refresh}, nil
}
