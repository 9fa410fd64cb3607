package function

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"

	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/token"
)

// Authenticated lets a request through whose bearer token verifies, and answers 401 otherwise. The handler finds the
// claims with Caller. Two functions, either of which may be nil, are called before it: seen for each such request, with
// the user's id, and expose where the edge says that the request exposes its user to an experiment. Their errors are the
// answer, but for an exposure that cannot be written: that leaves the request to be answered AsControl.
func Authenticated(
	tokens *token.Verifier,
	seen func(ctx context.Context, userID int64) error,
	expose func(context.Context, experiment.Exposure) error,
) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			bearer, ok := Bearer(r)
			if !ok {
				Fail(w, r, problem.Unauthenticated)
				return
			}
			x := Current(r.Context())
			x.presented = true
			claims, err := tokens.Verify(bearer)
			if err != nil {
				Fail(w, r, err)
				return
			}
			x.Caller = claims
			if seen != nil {
				if err := seen(r.Context(), claims.UserID); err != nil {
					Fail(w, r, err)
					return
				}
			}
			if err := x.expose(r.Context(), expose); err != nil {
				Fail(w, r, err)
				return
			}
			if err := x.function.faults.strike(r.Context()); err != nil {
				Fail(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Allowed lets an Authenticated request through whose user may do what next does. The error of may is the answer.
func Allowed(may func(ctx context.Context, userID int64) error, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := may(r.Context(), Caller(r.Context()).UserID); err != nil {
			Fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// FromEdge lets a request through that the edge has signed, and answers 403 otherwise: for what no client and no other pod
// may ask.
func FromEdge(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Current(r.Context()).signed {
			Fail(w, r, problem.Forbidden.Detail("only the edge may ask this, by its signature"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Bearer returns the token of the Authorization header; the scheme is compared without case (RFC 9110, section 11.1).
func Bearer(r *http.Request) (string, bool) {
	const scheme = "bearer "
	value := r.Header.Get("Authorization")
	if len(value) <= len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimLeft(value[len(scheme):], " "), true
}

// Own returns problem.Forbidden unless the caller is userID.
func Own(ctx context.Context, userID int64) error {
	if Caller(ctx).UserID != userID {
		return problem.Forbidden.Detail("you can do this only for yourself: the path names another user than your token")
	}
	return nil
}

// PathID returns the id in the path's wildcard name, as ParseID does; 400 where it is not ^[0-9]{1,19}$.
func PathID(r *http.Request, name string) (int64, error) {
	id, err := ParseID(r.PathValue(name))
	if err != nil {
		return 0, problem.Malformed.Field(name, "%s in the path must be a decimal id of 1 to 19 digits", name)
	}
	return id, nil
}

// ParseID reads a decimal id of 1 to 19 digits. One too large for an int64 is math.MaxInt64, which is nobody's id.
func ParseID(text string) (int64, error) {
	if len(text) == 0 || len(text) > 19 {
		return 0, strconv.ErrSyntax
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, strconv.ErrSyntax
		}
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return math.MaxInt64, nil
	}
	return id, nil
}
