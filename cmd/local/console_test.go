package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rivo/uniseg"
)

func TestATerminalShowsRequestsIn80Columns(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newConsole(&out, requests, nil)
	_, _ = io.WriteString(c.writerFor("postgres"), "FATAL:  the database system is starting up\n")
	_, _ = io.WriteString(c.writerFor("tweet"), `{"level":"info","http.method":"POST","http.route":"/2/tweets","http.status_code":201}`+"\n")
	edge := c.writerFor("edge")
	for _, line := range []string{
		`{"level":"info","http.method":"POST","http.route":"/2/tweets","http.status_code":201,"duration":13000000,"usr.id":"120758000000000042","experiment":"likes-demo","variant":"treatment","answered_by":"likes-demo-tweet-treatment-00001","timestamp":"2026-11-30T05:22:16Z"}`,
		`{"level":"info","http.method":"DELETE","http.route":"/2/users/{id}/retweets/{source_tweet_id}/and/more","http.status_code":200,"duration":99999000000,"usr.id":"120758000000000042","variant":"treatment","answered_by":"retweet-00001","timestamp":"2026-11-30T05:22:16Z"}`,
		`{"level":"info","http.method":"GET","http.route":"/communities","http.status_code":200,"duration":2000000,"answered_by":"users-00001","timestamp":"2026-11-30T05:22:16Z"}`,
		`{"level":"info","message":"listening","timestamp":"2026-11-30T05:22:16Z"}`,
		`{"level":"warn","message":"routes or experiments refused","timestamp":"2026-11-30T05:22:16Z"}`,
		`no JSON`,
	} {
		_, _ = io.WriteString(edge, line+"\n")
	}
	c.say("likes-demo: holds, inconclusive: It ended with no answer: too few units with a value; 0 users in the control completed.")
	c.done("every function answers", time.Now())
	var seen []string
	for line := range strings.Lines(out.String()) {
		if line = strings.TrimSuffix(line, "\n"); uniseg.StringWidth(line) > 80 {
			t.Errorf("%d columns: %s", uniseg.StringWidth(line), line)
		}
		seen = append(seen, line[min(len(line), 9):])
	}
	want := []string{
		"201 POST   /2/tweets                  13 ms …000042 …et-treatment-00001",
		"200 DELETE …rce_tweet_id}/and/more 99999 ms …000042 …ent: retweet-00001",
		"200 GET    /communities                2 ms         users-00001",
		"edge: routes or experiments refused",
		"o: holds, inconclusive: It ended with no answer: too few units with a",
		"0 users in the control completed.",
		"ry function answers                      0.0 s",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

func TestTheWelcomeFits80Columns(t *testing.T) {
	t.Parallel()
	text := welcome("http://127.0.0.1:8080", boardAddress, "/var/tmp/warble/warble-0123abcd")
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); uniseg.StringWidth(line) > 80 {
			t.Errorf("%d columns: %s", uniseg.StringWidth(line), line)
		}
	}
	for _, want := range []string{"http://127.0.0.1:8080/ ", "http://127.0.0.1:8070/ ", "http://127.0.0.1:8080/docs ", "make try",
		"\n  export KUBECONFIG=/var/tmp/warble/warble-0123abcd/kubeconfig\n", "\n  export DATABASE_URL=$(cat /var/tmp/warble/warble-0123abcd/database-url)\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if text := welcome("http://127.0.0.1:8080", none, "/state"); strings.Contains(text, "board") {
		t.Errorf("a board that was not started:\n%s", text)
	}
}

func TestLinesAreWholeAndHaveTheProcessesName(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newConsole(&out, everything, nil)
	edge, tweet := c.writerFor("edge"), c.writerFor("tweet")
	write := func(w io.Writer, text string) {
		if n, err := io.WriteString(w, text); n != len(text) || err != nil {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
	write(edge, "one\ntw")
	write(tweet, "other\n")
	write(edge, "")
	write(edge, "o\n\nthree") // its end is never written
	c.print("printed by the run itself\n")
	want := "edge     | one\ntweet    | other\nedge     | two\nedge     | \nprinted by the run itself\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestATerminalShowsMailWithItsLink(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newConsole(&out, requests, nil)
	mail := c.writerFor("mail")
	for _, line := range []string{
		`{"level":"info","to":"ada@example.org","subject":"Choose a new password","link":"http://127.0.0.1:8080/confirm#reset=x","message":"mail"}`,
		`{"level":"info","to":"x` + synthetic + `","subject":"Verify","link":"http://127.0.0.1:8080/confirm#verify=y","message":"mail"}`,
		`{"level":"info","message":"started"}`,
		`no JSON`,
	} {
		if _, err := io.WriteString(mail, line+"\n"); err != nil {
			t.Error(err)
		}
	}
	if want := "mail to ada@example.org: Choose a new password\n  http://127.0.0.1:8080/confirm#reset=x\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestLinesOfManyProcessesAreNeverMixed(t *testing.T) {
	t.Parallel()
	const writers, lines = 8, 200
	var out bytes.Buffer
	c := newConsole(&out, everything, nil)
	var all sync.WaitGroup
	for n := range writers {
		name := fmt.Sprintf("f%d", n)
		w := c.writerFor(name)
		all.Go(func() {
			for i := range lines {
				text := fmt.Sprintf("%s says %d\n", name, i)
				_, _ = io.WriteString(w, text[:3]) // a process may write half a line, when its buffer is full
				_, _ = io.WriteString(w, text[3:])
			}
		})
	}
	all.Wait()
	next := map[string]int{}
	for line := range strings.Lines(out.String()) {
		prefix, _, _ := strings.Cut(line, " ")
		if want := fmt.Sprintf("%-8s | %s says %d\n", prefix, prefix, next[prefix]); line != want {
			t.Fatalf("%q, want %q", line, want)
		}
		next[prefix]++
	}
	if len(next) != writers {
		t.Errorf("%d writers, want %d", len(next), writers)
	}
}

// The broker logs from several goroutines.
func TestOneWriterMayBeUsedConcurrently(t *testing.T) {
	t.Parallel()
	const many, times = 8, 200
	var out bytes.Buffer
	writer := newConsole(&out, everything, nil).writerFor("broker")
	var all sync.WaitGroup
	for n := range many {
		all.Go(func() {
			for range times {
				fmt.Fprintf(writer, "%s\n", strings.Repeat(fmt.Sprint(n), 40))
			}
		})
	}
	all.Wait()
	lines := 0
	for line := range strings.Lines(out.String()) {
		_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "| ")
		if len(text) != 40 || strings.Trim(text, text[:1]) != "" {
			t.Fatalf("a line is %q", line)
		}
		lines++
	}
	if lines != many*times {
		t.Errorf("%d lines, want %d", lines, many*times)
	}
}
