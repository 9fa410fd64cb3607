package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"warble/shared/store"
)

const text = "An exaltation of larks, a murder of crows, a parliament of owls; and of warblers, a bouquet, a confusion, or a fall."

var post = request{Method: "POST", Path: "/2/tweets", Body: `{"text":"` + text + `"}`}

// tweet compares POST /2/tweets with a bare server that inserts the same rows, and with pgbench and the same statement. Each has as many
// connections to the same durable PostgreSQL.
func (b *bench) tweet(ctx context.Context) (figures []figure, err error) {
	err = b.withServers(ctx, func(running map[string]*server) error {
		rows, err := interleave(ctx, b.rounds,
			b.fromEmpty(b.saturate(running["tweet"], post).throughput),
			b.fromEmpty(b.saturate(running["insert"], post).throughput),
			b.fromEmpty(b.pgbench))
		if err != nil {
			return err
		}
		figures = append(figures,
			ratioAtLeast(0.8).figure("POST /2/tweets / bare net/http + pgx", "1/s", rows[0], rows[1]),
			ratioAtLeast(1.5).figure("POST /2/tweets / pgbench -M prepared", "1/s", rows[0], rows[2]))
		return nil
	}, "tweet", "insert")
	return figures, err
}

// fromEmpty returns a contestant that empties the tables before each round.
func (b *bench) fromEmpty(measure contestant) contestant {
	return func(ctx context.Context) (float64, error) {
		if err := b.empty(ctx); err != nil {
			return 0, err
		}
		return measure(ctx)
	}
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

// pgbench runs the statement of store.CreateTweet as fast as possible. Without an Idempotency-Key, the key's arguments are empty. They are
// literals in the statement, because pgbench has no empty variables.
func (b *bench) pgbench(ctx context.Context) (float64, error) {
	program := filepath.Join(b.postgres.Bin(), "pgbench")
	if _, err := os.Stat(program); err != nil { // Debian has it among the client's programs as well
		if program, err = exec.LookPath("pgbench"); err != nil {
			return 0, errors.New("no pgbench beside the server's programs or in PATH: install postgresql-contrib")
		}
	}
	statement := strings.NewReplacer(
		"$10", ":text", "$11", "''", "$1", ":author", "$3", "''", "$4", "''", "$5", ":status", "$2", ":route",
		"$6", ":before", "$7", ":after", "$8", "0", "$9", ":community",
	).Replace(store.CreateTweetSQL)
	script := fmt.Sprintf("\\set author random(1, %d) * %d\n%s;\n", few, userID(1), strings.TrimSpace(statement))
	if err := os.WriteFile(b.path("tweet.pgbench"), []byte(script), 0o600); err != nil {
		return 0, err
	}
	seconds := int(math.Ceil((b.warmup + b.time).Seconds()))
	cmd := exec.CommandContext(ctx, program, "-n", "-M", "prepared", "-c", strconv.Itoa(conns), "-j", "2", "-T", strconv.Itoa(seconds),
		"-D", "status=201", "-D", "route=POST /2/tweets", "-D", "community=gophers", "-D", "text="+text,
		"-D", `before={"data":{"id":"`, "-D", `after=","text":"`+text+`"}}`,
		"-f", b.path("tweet.pgbench"), b.databaseURL("api"))
	cmd.WaitDelay = time.Second
	output, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w\n%s", err, output)
	}
	found := tps.FindSubmatch(output)
	if found == nil {
		return 0, fmt.Errorf("pgbench printed no tps\n%s", output)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
