package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"warble/shared/process"
)

// none is the value of a flag that starts nothing.
const none = "none"

// startBoard starts `kn experiment dashboard` with the files that welcome tells people to use. at is its address. If the address is
// taken, at is none, and the rest of Warble starts without a board.
func startBoard(s state, c *console, listen string) (at string, stop func(), err error) {
	nothing := func() {}
	if listen == none {
		return none, nothing, nil
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		c.say(fmt.Sprintf("the board is not started: -board %s: %v: choose another address, or none", listen, err))
		return none, nothing, nil
	}
	at = listener.Addr().String()
	if err := listener.Close(); err != nil {
		return none, nothing, err
	}
	url, err := os.ReadFile(s.path(databaseURL))
	if err != nil {
		return none, nothing, err
	}
	board := exec.Command(s.path("bin", "kn-experiment"), "dashboard", "--listen", at) //nolint:noctx // stop ends it
	board.Env = append(os.Environ(), "KUBECONFIG="+s.path(kubeconfig), "DATABASE_URL="+strings.TrimSpace(string(url)))
	log := c.writerFor("board")
	board.Stdout, board.Stderr = log, log
	exited, err := process.Start(board, syscall.SIGTERM)
	if err != nil {
		return none, nothing, fmt.Errorf("-board %s: %w", listen, err)
	}
	return at, func() {
		_ = board.Process.Signal(syscall.SIGINT) // it may have ended
		<-exited                                 // its error does not matter
	}, nil
}
