package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// peerFolder has a typical Twitter clone: two Express services on Node. At each request, the service with the tweets asks the other one to
// verify the token.
const peerFolder = "e2e/bench/peer"

const peerSecret = "peer"

// warmRequests is the number of requests before a measurement, because Node compiles code that has run often.
const warmRequests = 3000

// peer compares Warble, through its edge and with relay, with the peer, through its own front door. Each has its own database on the same
// durable PostgreSQL. Only one of the two has work at a time.
func (b *bench) peer(ctx context.Context) (figures []figure, err error) {
	theirs, err := b.startPeer(ctx)
	for _, s := range theirs {
		defer func() { err = errors.Join(err, s.stop()) }()
	}
	if err != nil {
		return nil, err
	}
	relay, err := b.rig.start(ctx, "relay", "K_SINK=") // which takes the events from the outbox and logs them
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, relay.stop()) }()
	err = b.withEdge(ctx, func(running map[string]*server) error {
		for _, kind := range []struct{ ours, theirs request }{
			{post, request{Method: "POST", Path: "/tweets", Body: post.Body}},
			{request{Method: "GET", Path: "/2/tweets/" + tweetID}, request{Method: "GET", Path: "/tweets/1"}},
		} {
			load := b.saturate(theirs[1], kind.theirs)
			load.Tokens = b.path("peer.tokens")
			warm := load
			warm.Requests = warmRequests
			if _, err := warm.run(ctx); err != nil {
				return err
			}
			ours := &side{servers: []*server{running["edge"], running["tweet"], relay}, load: b.saturate(running["edge"], kind.ours)}
			their := &side{servers: theirs, load: load}
			rows, err := interleave(ctx, b.rounds, b.fromEmpty(ours.measure), b.fromEmptyPeer(their.measure))
			if err != nil {
				return err
			}
			name := kind.ours.Method + " through the edge"
			figures = append(figures, ratioAtLeast(5).figure(name+" / the peer", "1/s", rows[0], rows[1]),
				ratioAtMost(0.2).figure(name+" / the peer, CPU of the services", "ms", ours.cpu, their.cpu))
		}
		return nil
	}, "tweet")
	return figures, err
}

// side is one of the two systems that are compared.
type side struct {
	servers []*server
	load    load
	cpu     []float64 // ms of all servers for a request, of each round
}

// measure returns the throughput of the load.
func (s *side) measure(ctx context.Context) (float64, error) {
	before, err := s.used()
	if err != nil {
		return 0, err
	}
	o, err := s.load.run(ctx)
	if err != nil {
		return 0, err
	}
	after, err := s.used()
	s.cpu = append(s.cpu, (after-before)/float64(o.Sent))
	return float64(o.Counted) / s.load.Time.Seconds(), err
}

func (s *side) used() (all float64, err error) {
	for _, one := range s.servers {
		milliseconds, err := one.cpu()
		if err != nil {
			return 0, err
		}
		all += milliseconds
	}
	return all, nil
}

// startPeer starts both services: the auth service, then the one with the tweets.
func (b *bench) startPeer(ctx context.Context) (running []*server, err error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, errors.New("no node in PATH, which the peer runs on: install Node 20 or later, or leave the peer out with -only")
	}
	if _, err := os.Stat(filepath.Join(peerFolder, "node_modules")); err != nil {
		return nil, errors.New("the peer's packages are not installed: run npm ci --prefix " + peerFolder)
	}
	schema, err := os.ReadFile(filepath.Join(peerFolder, "schema.sql"))
	if err != nil {
		return nil, err
	}
	if err := b.exec(ctx, "postgres", `create database peer`); err != nil {
		return nil, err
	}
	if err := b.exec(ctx, "peer", string(schema)); err != nil {
		return nil, err
	}
	if err := os.WriteFile(b.path("peer.tokens"), []byte(strings.Join(peerTokens(), "\n")), 0o600); err != nil {
		return nil, err
	}
	database, err := pgx.ParseConfig(b.postgres.Superuser("peer"))
	if err != nil {
		return nil, err
	}
	settings := []string{
		"NODE_ENV=production",
		"JWT_SECRET=" + peerSecret,
		"PGHOST=" + database.Host,
		"PGPORT=" + strconv.Itoa(int(database.Port)),
		"PGUSER=" + database.User,
		"PGDATABASE=" + database.Database,
	}
	start := func(name string, more ...string) (*server, error) {
		cmd := exec.Command(node, filepath.Join(peerFolder, name+".js")) //nolint:noctx // stop ends it
		s, err := b.run("peer-"+name, cmd, append(settings, more...))
		return s.ready(ctx, err)
	}
	auth, err := start("auth")
	if err != nil {
		return nil, err
	}
	tweets, err := start("tweets", "AUTH_URL=http://"+auth.address)
	if err != nil {
		return []*server{auth}, err
	}
	return []*server{auth, tweets}, nil
}

// fromEmptyPeer is fromEmpty for the peer: its database has one tweet.
func (b *bench) fromEmptyPeer(measure contestant) contestant {
	return func(ctx context.Context) (float64, error) {
		if err := b.exec(ctx, "peer",
			`truncate tweets, likes, retweets restart identity`,
			`insert into tweets (user_id, text) values (1, 'hello')`,
			`checkpoint`); err != nil {
			return 0, err
		}
		return measure(ctx)
	}
}

// peerTokens returns JSON Web Tokens for the peer's users, signed with HMAC SHA-256.
func peerTokens() (tokens []string) {
	encode := base64.RawURLEncoding.EncodeToString
	for id := range few {
		signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
			encode(fmt.Appendf(nil, `{"sub":%d,"exp":%d}`, id+1, time.Now().Add(24*time.Hour).Unix()))
		mac := hmac.New(sha256.New, []byte(peerSecret))
		mac.Write([]byte(signed))
		tokens = append(tokens, signed+"."+encode(mac.Sum(nil)))
	}
	return tokens
}
