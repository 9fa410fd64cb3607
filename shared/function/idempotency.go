package function

import (
	"context"
	"crypto/sha256"
	"net/http"

	"warble/shared/idempotency"
	"warble/shared/problem"
)

// Key returns the Idempotency-Key of a request that writes, with its caller and route. The fingerprint is the SHA-256 of the request's path
// and body.
func Key(ctx context.Context) idempotency.Key {
	x, caller := Current(ctx), Caller(ctx)
	return idempotency.Key{UserID: caller.UserID, Session: caller.Session, Route: "POST " + x.Route, Key: x.key, Fingerprint: x.fingerprint}
}

func readIdempotency(r *http.Request, body []byte) error {
	values := r.Header["Idempotency-Key"]
	if len(values) == 0 {
		return nil
	}
	if len(values) > 1 || !saneKey(values[0]) {
		return problem.Malformed.Field("Idempotency-Key", "Idempotency-Key must be sent once, as 1 to 255 visible ASCII characters")
	}
	hash := sha256.New()
	hash.Write([]byte(r.URL.EscapedPath()))
	hash.Write([]byte{0})
	hash.Write(body)
	x := Current(r.Context())
	x.key, x.fingerprint = values[0], hash.Sum(nil)
	return nil
}

func saneKey(key string) bool {
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return 1 <= len(key) && len(key) <= 255
}
