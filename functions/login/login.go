package main

import (
	"context"
	"net/http"
	"strings"

	"warble/shared/function"
	"warble/shared/password"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/telemetry"
	"warble/shared/token"
	"warble/shared/wire"
)

// New returns the routes of login.
func New(db *store.DB, issuer *token.Issuer, passwords *password.Hasher, metrics *telemetry.AuthMetrics) function.Routes {
	s := &sessions{db, issuer, passwords, metrics}
	private := function.Header("Cache-Control", "no-store")
	return function.Routes{
		"POST /auth/login":   function.JSON(s.login, private),
		"POST /auth/refresh": function.JSON(s.refresh, private),
		"POST /auth/logout":  function.JSON(s.logout, private),
	}
}

type sessions struct {
	db        *store.DB
	issuer    *token.Issuer
	passwords *password.Hasher
	metrics   *telemetry.AuthMetrics
}

type credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// FromRequest refuses requests that cannot log in to any account.
func (q *credentials) FromRequest(*http.Request) error {
	if q.Email == "" || strings.ContainsRune(q.Email, 0) { // PostgreSQL's text cannot contain NUL
		return problem.Invalid.Field("email", "email must be an email address")
	}
	if q.Password == "" {
		return problem.Invalid.Field("password", "password must not be empty")
	}
	return nil
}

// login does the same work, in the same time, for a wrong password and for an unknown email address: one query of the account and
// its failures, one hash, one write.
func (s *sessions) login(ctx context.Context, q credentials) (wire.Session, error) {
	s.metrics.Login()
	attempt, err := s.db.BeginLogin(ctx, q.Email, wire.Client(ctx))
	if err != nil {
		return wire.Session{}, err
	}
	match, outdated, err := s.passwords.Compare(ctx, q.Password, attempt.PasswordHash)
	if err != nil {
		return wire.Session{}, err
	}
	if !match {
		if err := s.db.FailLogin(ctx, attempt); err != nil {
			return wire.Session{}, err
		}
		return wire.Session{}, problem.Unauthenticated.Detail("the email address or the password is wrong")
	}
	rehashed := ""
	if outdated {
		if rehashed, err = s.passwords.Hash(ctx, q.Password); err != nil {
			return wire.Session{}, err
		}
	}
	refresh, refreshHash := token.NewRefresh()
	session, err := s.db.FinishLogin(ctx, attempt, refreshHash, rehashed)
	if err != nil {
		return wire.Session{}, err
	}
	s.metrics.LoggedIn(function.Network(ctx))
	return wire.NewSession(s.issuer, store.Opened{Session: session, User: attempt.User}, refresh)
}

type renewal struct {
	RefreshToken string `json:"refresh_token"`
}

// FromRequest refuses a request without a token. A wrong token is refused later, with another status.
func (q *renewal) FromRequest(*http.Request) error {
	if q.RefreshToken == "" {
		return problem.Invalid.Field("refresh_token", "refresh_token must not be empty")
	}
	return nil
}

func (s *sessions) refresh(ctx context.Context, q renewal) (wire.Session, error) {
	used, err := token.HashRefresh(q.RefreshToken)
	if err != nil {
		return wire.Session{}, err
	}
	successors, err := s.issuer.Successors(q.RefreshToken)
	if err != nil {
		return wire.Session{}, err
	}
	hashes := make([][]byte, len(successors))
	for n, successor := range successors {
		hashes[n] = successor.Hash
	}
	renewed, err := s.db.RotateRefresh(ctx, wire.Client(ctx), used, hashes...)
	if err != nil {
		return wire.Session{}, err
	}
	return wire.NewSession(s.issuer, renewed.Opened, successors[renewed.Successor].Token)
}

// logout ends the session of a refresh token. If the token is not valid, logout succeeds as well, because the client has what it
// wants.
func (s *sessions) logout(ctx context.Context, q renewal) (function.None, error) {
	hash, err := token.HashRefresh(q.RefreshToken)
	if err != nil {
		return function.None{}, nil //nolint:nilerr // RFC 7009, section 2.2: an invalid token is no error
	}
	return function.None{}, s.db.EndSession(ctx, hash)
}
