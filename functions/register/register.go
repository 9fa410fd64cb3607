package main

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"net/http"

	"warble/shared/function"
	"warble/shared/password"
	"warble/shared/password/policy"
	"warble/shared/store"
	"warble/shared/telemetry"
	"warble/shared/token"
	"warble/shared/wire"
)

// New returns the routes of register.
func New(db *store.DB, issuer *token.Issuer, passwords *password.Hasher, policy *policy.Policy, metrics *telemetry.AuthMetrics) function.Routes {
	r := &registration{db, issuer, passwords, policy, metrics}
	return function.Routes{
		"POST /auth/register": function.JSON(r.register, function.Status(http.StatusCreated), function.Header("Cache-Control", "no-store")),
	}
}

type registration struct {
	db        *store.DB
	issuer    *token.Issuer
	passwords *password.Hasher
	policy    *policy.Policy
	metrics   *telemetry.AuthMetrics
}

type request struct {
	Name      string `json:"name"`
	Email     string `json:"email"`
	Password  string `json:"password"`
	Username  string `json:"username"`  // "" for one that is made from the name
	Community string `json:"community"` // "" for none
}

func (r *registration) register(ctx context.Context, q request) (wire.Session, error) {
	r.metrics.Registration()
	if err := r.validate(&q); err != nil {
		return wire.Session{}, err
	}
	hash, err := r.passwords.Hash(ctx, q.Password)
	if err != nil {
		return wire.Session{}, err
	}
	refresh, refreshHash := token.NewRefresh()
	opened, err := r.create(ctx, store.NewAccount{
		Email:        q.Email,
		Username:     q.Username,
		Name:         q.Name,
		Community:    q.Community,
		PasswordHash: hash,
		RefreshHash:  refreshHash,
		From:         wire.Client(ctx),
		Traceparent:  telemetry.Traceparent(ctx),
	})
	if err != nil {
		return wire.Session{}, err
	}
	r.metrics.Registered(function.Network(ctx))
	return wire.NewSession(r.issuer, opened, refresh)
}

// create stores the account. If the client gave no username, create makes one.
func (r *registration) create(ctx context.Context, a store.NewAccount) (store.Opened, error) {
	if a.Username != "" {
		return r.db.CreateAccount(ctx, a)
	}
	base := usernameFrom(a.Name)
	a.Username = base
	for attempt := 0; ; attempt++ {
		opened, err := r.db.CreateAccount(ctx, a)
		if attempt == 5 || !errors.Is(err, store.ErrUsernameTaken) {
			return opened, err
		}
		suffix, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
		if err != nil {
			return store.Opened{}, err
		}
		a.Username = base[:min(len(base), maxUsername-6)] + suffix.String()
	}
}
