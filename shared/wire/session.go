package wire

import (
	"time"

	"warble/shared/store"
)

// Session is what register, login and refresh answer: who is logged in, and what proves it.
type Session struct {
	Data         User   `json:"data"`
	Token        string `json:"token"`      // the access token
	ExpiresAt    string `json:"expires_at"` // when the access token does
	RefreshToken string `json:"refresh_token"`
}

// NewSession is a session in the API's shape.
func NewSession(u store.User, access string, expires time.Time, refresh string) Session {
	return Session{Data: NewUser(u), Token: access, ExpiresAt: Time(expires), RefreshToken: refresh}
}
