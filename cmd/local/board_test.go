package main

import (
	"bytes"
	"net"
	"strings"
	"testing"
)

// TestWarbleStartsWithoutABoardIfItsAddressIsTaken: two runs on one machine have the same default.
func TestWarbleStartsWithoutABoardIfItsAddressIsTaken(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // the test does not need the result
	var out bytes.Buffer
	at, stop, err := startBoard(stateOf(t), newConsole(&out, everything, nil), listener.Addr().String())
	if err != nil || at != none || !strings.Contains(out.String(), "the board is not started: -board "+listener.Addr().String()) {
		t.Errorf("%s %v, says %q", at, err, out.String())
	}
	stop()
}
