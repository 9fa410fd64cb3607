// Package feature says which features a request has. An experiment gives two revisions of a function the same code and
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
	Likes bool // tweets can be liked, and say how often they are
}

// Revision is the features that a revision of a function has. What one of its requests has is for Of to say.
type Revision struct{ set Set }

// FromEnv reads FEATURES, names between commas: likes. None where it is unset; a name that is not known is a mistake.
func FromEnv(e *env.Reader) Revision {
	names := e.List("FEATURES")
	for _, name := range names {
		if name != "likes" {
			e.Reject("FEATURES", name, "names between commas, of which there is one: likes")
		}
	}
	return With(Set{Likes: slices.Contains(names, "likes")})
}

// With is a revision that has the features of a set.
func With(set Set) Revision { return Revision{set} }

// Of returns the features of the request that ctx belongs to: the revision's, or none where the request is to be answered
// as in the control arm, see function.Exchange.
func (r Revision) Of(ctx context.Context) Set {
	if function.Current(ctx).AsControl {
		return Set{}
	}
	return r.set
}
