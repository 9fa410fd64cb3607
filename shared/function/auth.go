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

// Authenticated passes on requests with a valid bearer token, and answers 401 to others. The handler gets the claims from Caller.
// Before the handler, Authenticated calls two functions, each of which may be nil: seen for every such request, with the user's id,
// and expose if the edge says that the request exposes its user to an experiment. If one of them fails, its error is the
// answer. But if only the exposure cannot be recorded, the request is passed on, to be answered AsControl.
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

// Allowed passes on an Authenticated request if the function may, called with its user, returns nil. Otherwise the error that
// may returns is the answer.
func Allowed(may func(ctx context.Context, userID int64) error, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := may(r.Context(), Caller(r.Context()).UserID); err != nil {
			Fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// FromEdge passes on requests that the edge has signed, and answers 403 to others. It is for requests that neither clients nor
// other pods may make.
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

// RequireCaller returns nil if the caller is userID, and otherwise problem.Forbidden.
func RequireCaller(ctx context.Context, userID int64) error {
	if Caller(ctx).UserID != userID {
		return problem.Forbidden.Detail("you can do this only for yourself: the path names another user than your token")
	}
	return nil
}

// PathID returns the id in the path's wildcard name, read by ParseID. The error is a 400 if it does not match ^[0-9]{1,19}$.
func PathID(r *http.Request, name string) (int64, error) {
	id, err := ParseID(r.PathValue(name))
	if err != nil {
		return 0, problem.Malformed.Field(name, "%s in the path must be a decimal id of 1 to 19 digits", name)
	}
	return id, nil
}

// ParseID reads a decimal id of 1 to 19 digits. If it is too large for an int64, ParseID returns math.MaxInt64, which is nobody's id.
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
