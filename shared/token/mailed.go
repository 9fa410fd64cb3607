package token

// NewMailed makes the token of a mail's link, 256 random bits, and the hash under which the database knows it.
func NewMailed() (token string, hash []byte) { return NewRefresh() }

// HashMailed returns the hash of a token that NewMailed made, and false for a text that cannot be one.
func HashMailed(token string) (hash []byte, ok bool) {
	hash, err := HashRefresh(token)
	return hash, err == nil
}
