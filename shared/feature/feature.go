// Package feature says which features a request has. In an experiment, two revisions of a function may have the same code and
// different features.
package feature

import (
	"context"
	"slices"

	"warble/shared/env"
	"warble/shared/function"
)

// Set is the features that a request has; the zero Set has none.
type Set struct {
	Likes bool // tweets can be liked, and show their number of likes
}

// Revision has the features of a function's revision. ForRequest says which features a single request has.
type Revision struct{ set Set }

// FromEnv reads FEATURES, a comma-separated list of names: likes. Without the variable there are no features. An unknown name is a
// mistake.
func FromEnv(e *env.Reader) Revision {
	names := e.List("FEATURES")
	for _, name := range names {
		if name != "likes" {
			e.Reject("FEATURES", name, "names separated by commas; the only name is likes")
		}
	}
	return With(Set{Likes: slices.Contains(names, "likes")})
}

// With returns a revision with the features of a set.
func With(set Set) Revision { return Revision{set} }

// ForRequest returns the features of the request to which ctx belongs: the revision's features, or none if the request must be answered as
// in the control (see function.Exchange).
func (r Revision) ForRequest(ctx context.Context) Set {
	if function.Current(ctx).AsControl {
		return Set{}
	}
	return r.set
}
