package main

import (
	"context"
	"net/http"
	"slices"

	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/token"
	"warble/shared/wire"
)

// New returns the routes of the function.
func New(db *store.DB, tokens *token.Verifier) function.Routes {
	u := &users{db}
	user := function.Authenticated(tokens, db.Seen, db.Expose)
	return function.Routes{
		"GET /2/users":                        user(function.JSON(u.lookUp)),
		"GET /2/users/me":                     user(function.JSON(u.me, function.Tagged())),
		"GET /2/users/by":                     user(function.JSON(u.lookUpBy)),
		"GET /2/users/by/username/{username}": user(function.JSON(u.getBy, function.Tagged())),
		"GET /2/users/{id}":                   user(function.JSON(u.get, function.Tagged())),
		"GET /communities":                    function.JSON(u.communities),
	}
}

type users struct{ db *store.DB }

func (u *users) me(ctx context.Context, _ wire.Query) (wire.Single[wire.User], error) {
	return single(u.db.Users(ctx, []int64{function.Caller(ctx).UserID}))
}

func (u *users) get(ctx context.Context, q wire.QueryByID) (wire.Single[wire.User], error) {
	return single(u.db.Users(ctx, []int64{q.ID}))
}

func (u *users) getBy(ctx context.Context, q byUsername) (wire.Single[wire.User], error) {
	return single(u.db.UsersByUsername(ctx, []string{q.username}))
}

func single(found []store.User, err error) (wire.Single[wire.User], error) {
	if err != nil {
		return wire.Single[wire.User]{}, err
	}
	if len(found) == 0 {
		return wire.Single[wire.User]{}, problem.NotFound.Detail("there is no such user")
	}
	return wire.Single[wire.User]{Data: wire.NewUser(found[0])}, nil
}

func (u *users) lookUp(ctx context.Context, q wire.Query) (wire.Lookup[wire.User], error) {
	texts, ids, err := q.IDs()
	if err != nil {
		return wire.Lookup[wire.User]{}, err
	}
	found, err := u.db.Users(ctx, ids)
	return wire.NewLookup("user", "ids", texts, func(i int) (wire.User, bool) {
		return findUser(found, func(u store.User) bool { return u.ID == ids[i] })
	}), err
}

func (u *users) lookUpBy(ctx context.Context, q wire.Query) (wire.Lookup[wire.User], error) {
	usernames, err := q.Usernames()
	if err != nil {
		return wire.Lookup[wire.User]{}, err
	}
	found, err := u.db.UsersByUsername(ctx, usernames)
	return wire.NewLookup("user", "usernames", usernames, func(i int) (wire.User, bool) {
		return findUser(found, func(u store.User) bool { return store.Fold(u.Username) == store.Fold(usernames[i]) })
	}), err
}

func findUser(found []store.User, matches func(store.User) bool) (wire.User, bool) {
	at := slices.IndexFunc(found, matches)
	if at < 0 {
		return wire.User{}, false
	}
	return wire.NewUser(found[at]), true
}

// community is a group that a user may join at registration.
type community struct {
	Slug string `json:"slug"`
	Name string `json:"name"`
}

func (u *users) communities(ctx context.Context, _ struct{}) (wire.List[community], error) {
	found, err := u.db.Communities(ctx)
	list := wire.List[community]{Data: make([]community, len(found)), Meta: wire.Meta{ResultCount: len(found)}}
	for i, c := range found {
		list.Data[i] = community{c.Slug, c.Name}
	}
	return list, err
}

// byUsername is a request for the user whose name is in the path.
type byUsername struct {
	wire.Query
	username string
}

func (q *byUsername) FromRequest(r *http.Request) error {
	if q.username = r.PathValue("username"); !wire.IsUsername(q.username) {
		return problem.Malformed.Field("username", "username in the path must be 1 to 15 letters, digits or underscores")
	}
	return q.Query.FromRequest(r)
}
