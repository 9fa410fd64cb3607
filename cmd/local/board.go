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

// none switches off what a flag would start.
const none = "none"

// startBoard starts `kn experiment dashboard` beside the API, with the same files that a shell is told to use. at is where it is: none
// where its address is taken, which keeps nothing else from starting.
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
	log := c.named("board")
	board.Stdout, board.Stderr = log, log
	exited, err := process.Start(board, syscall.SIGTERM)
	if err != nil {
		return none, nothing, fmt.Errorf("-board %s: %w", listen, err)
	}
	return at, func() {
		_ = board.Process.Signal(syscall.SIGINT) // it may have ended
		<-exited                                 // how does not matter
	}, nil
}
