package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	password = "chorus-at-dawn-over-the-marsh" // contains no part of a name, because register refuses such passwords
	// entering is how many people sign in at the same time. A password's hash takes 20 ms of a core, and Warble refuses requests if its queue is
	// longer.
	entering = 8
	// patience is how long one person tries to sign in. Rate limits count calls in a minute, and all people have the same address.
	patience = 3 * time.Minute
)

// account is a person's id and tokens.
type account struct {
	ID           string    `json:"id"`
	Token        string    `json:"token"`
	Expires      time.Time `json:"expires_at"`
	RefreshToken string    `json:"refresh_token"`
}

// username returns a person's name, which is the same in every run with the same seed.
func username(seed uint64, person int) string { return fmt.Sprintf("s%d_%d", seed, person) }

// communities returns the slugs of Warble's first n communities, or of all if n is 0.
func (c *client) communities(ctx context.Context, n int) ([]string, error) {
	var list struct{ Data []struct{ Slug string } }
	r, err := c.call(ctx, http.MethodGet, "/communities", "", nil, &list)
	if err != nil {
		return nil, fmt.Errorf("%w: start Warble first, with make run", err)
	}
	if !r.ok() {
		return nil, fmt.Errorf("GET %s/communities: %d %s: expected the edge of a Warble; if it is behind an ingress, set -host too", c.base, r.status, r.detail)
	}
	var slugs []string
	for _, community := range list.Data {
		slugs = append(slugs, community.Slug)
	}
	slices.Sort(slugs)
	if len(slugs) == 0 || n > len(slugs) {
		return nil, usage("-communities %d: this Warble has %d: choose fewer, or add one with go run ./cmd/migrate communities add SLUG NAME, or several with make deploy ARGS=\"-community SLUG=NAME ...\"", n, len(slugs))
	}
	if n > 0 {
		slugs = slugs[:n]
	}
	return slugs, nil
}

// entrance signs people in: with their session, with its refresh token, by registration, or with the password.
type entrance struct {
	*client
	until   time.Time // a token that is valid until then is not renewed
	entered atomic.Int64
}

// all signs everybody in. saved are accounts by username. all updates the accounts of the people who are signed in, even if it fails for
// somebody else.
func (e *entrance) all(ctx context.Context, people []*person, saved map[string]account) error {
	if err := e.dropUnknown(ctx, saved); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		workers sync.WaitGroup
		mu      sync.Mutex // guards saved
		next    atomic.Int64
	)
	for range entering {
		workers.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(people) {
					return
				}
				p := people[n]
				mu.Lock()
				p.account = saved[p.username]
				mu.Unlock()
				err := e.enter(ctx, p)
				if p.account.ID != "" {
					mu.Lock()
					saved[p.username] = p.account
					mu.Unlock()
				}
				if err != nil {
					cancel(fmt.Errorf("%s: %w", p.username, err))
					return
				}
				e.entered.Add(1)
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// dropUnknown drops the accounts that this Warble does not have. Its database may be a new one since the last run, and old tokens are still valid
// then.
func (e *entrance) dropUnknown(ctx context.Context, saved map[string]account) error {
	const most = 100 // ids in one lookup
	var valid []string
	for name, a := range saved {
		if time.Until(a.Expires) > time.Minute {
			valid = append(valid, name)
		}
	}
	for chunk := range slices.Chunk(valid, most) {
		var ids []string
		for _, name := range chunk {
			ids = append(ids, saved[name].ID)
		}
		var found struct {
			Data []struct{ ID, Username string }
		}
		r, err := e.call(ctx, http.MethodGet, "/2/users?ids="+strings.Join(ids, ","), saved[chunk[0]].Token, nil, &found)
		if err == nil && !r.ok() && r.status != http.StatusUnauthorized {
			err = r.err()
		}
		if err != nil {
			return err
		}
		names := make(map[string]string)
		for _, user := range found.Data {
			names[user.ID] = user.Username
		}
		for _, name := range chunk {
			if names[saved[name].ID] != name {
				delete(saved, name)
			}
		}
	}
	return nil
}

// enter gives p an account with a valid token, in p's community.
func (e *entrance) enter(ctx context.Context, p *person) error {
	if e.until.After(p.account.Expires) {
		if err := e.session(ctx, p); err != nil {
			return err
		}
	}
	var claims struct {
		jwt.RegisteredClaims
		Community string `json:"community"`
	}
	if _, _, err := jwt.NewParser().ParseUnverified(p.account.Token, &claims); err != nil {
		return fmt.Errorf("access token: %w", err)
	}
	if claims.Community != p.community {
		return usage("an earlier run put this person into community %q, and a person cannot change to %q: choose another -seed, or the -communities of that run", claims.Community, p.community)
	}
	return nil
}

// session gets a new session for p: with the refresh token, by registration, or with the password.
func (e *entrance) session(ctx context.Context, p *person) error {
	if p.account.RefreshToken != "" {
		r, err := e.patiently(ctx, p, "/auth/refresh", map[string]string{"refresh_token": p.account.RefreshToken})
		if r.status != http.StatusUnauthorized {
			return err
		}
	}
	registration := p.credentials()
	registration["name"], registration["username"], registration["community"] = "Person "+p.username, p.username, p.community
	r, err := e.patiently(ctx, p, "/auth/register", registration)
	if r.status == http.StatusConflict {
		_, err = e.patiently(ctx, p, "/auth/login", p.credentials())
	}
	return err
}

// patiently calls open again if Warble is too busy or does not answer. It waits as long as Warble asks.
func (e *entrance) patiently(ctx context.Context, p *person, path string, body any) (reply, error) {
	for deadline := time.Now().Add(patience); ; {
		r, err := p.open(ctx, e.client, path, body)
		if err == nil || r.status != 0 && r.status != http.StatusTooManyRequests && r.status != http.StatusServiceUnavailable {
			return r, err
		}
		wait := max(time.Second, min(r.retryAfter, time.Minute))
		if time.Now().Add(wait).After(deadline) {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// open gets a session for p from a path that answers with a session. A status other than 2xx is an error.
func (p *person) open(ctx context.Context, c *client, path string, body any) (reply, error) {
	var session struct {
		Data struct{ ID string }
		account
	}
	r, err := c.call(ctx, http.MethodPost, path, "", body, &session)
	if err != nil {
		return r, err
	}
	if !r.ok() {
		return r, r.err()
	}
	session.account.ID = session.Data.ID
	p.mu.Lock()
	defer p.mu.Unlock()
	p.account = session.account
	return r, nil
}

func (p *person) credentials() map[string]string {
	return map[string]string{"email": p.username + "@people.example.org", "password": password}
}
