package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// login measures login with one request at a time, and compares it with the part that it cannot save: one comparison of the password.
func (b *bench) login(ctx context.Context) (figures []figure, err error) {
	err = b.withServers(ctx, func(running map[string]*server) error {
		l := b.saturate(running["login"], request{Method: "POST", Path: "/auth/login", Body: `{"email":"` + email + `","password":"` + pass + `"}`})
		l.Connections = 1
		rows, err := interleave(ctx, b.rounds, l.median, b.argon2id)
		if err != nil {
			return err
		}
		figures = append(figures, ratioAtMost(1.1).figure("login / bare argon2id", "ms", rows[0], rows[1]))
		return nil
	}, "login")
	return figures, err
}

func (b *bench) argon2id(ctx context.Context) (milliseconds float64, err error) {
	output, err := exec.CommandContext(ctx, b.path("bin/argon2id"), pass, b.hash, b.time.String()).Output()
	if err != nil {
		return 0, fmt.Errorf("argon2id: %w", err)
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(string(output)), 64)
	return seconds * 1000, err
}
