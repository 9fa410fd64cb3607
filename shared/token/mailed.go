package token

// NewMailed makes a token for the link in a mail, 256 random bits, and its hash. The database stores only the hash.
func NewMailed() (token string, hash []byte) { return NewRefresh() }

// HashMailed returns the hash of a token that NewMailed made, and false for a text that cannot be one.
func HashMailed(token string) (hash []byte, ok bool) {
	hash, err := HashRefresh(token)
	return hash, err == nil
}
