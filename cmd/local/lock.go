package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockFile is the file of the state folder that a run locks. Its text names the present or last run: its process id and its URL, such as
// "4711 http://127.0.0.1:8080".
const lockFile = "lock"

// lockState creates the state folder if it is missing, and locks it for this run. The lock ends when the file is closed or the process
// ends in any way, because the kernel then drops it. So no stale lock can stay. Child processes do not inherit the lock, because the file
// is closed on exec.
func lockState(o options) (*os.File, error) {
	// Mode 711, because the account of the PostgreSQL server must pass through the folder to postgres/, and only there.
	if err := os.MkdirAll(o.state, 0o711); err != nil {
		return nil, fmt.Errorf("-state %s: %w: expected a folder to write to", o.state, err)
	}
	lock, err := os.OpenFile(filepath.Join(o.state, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("-state %s: %w: expected a folder to write to", o.state, err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = lockedError(o, lock)
	case err != nil:
		err = fmt.Errorf("-state %s: lock %s: %w", o.state, lockFile, err)
	default:
		// Truncated after the write, so that a second run always reads one whole line.
		text := fmt.Appendf(nil, "%d http://%s\n", os.Getpid(), o.listen)
		if _, err = lock.WriteAt(text, 0); err == nil {
			err = lock.Truncate(int64(len(text)))
		}
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// lockedError returns an error that names the run that uses the folder, and the command that starts a second run.
func lockedError(o options, lock *os.File) error {
	text := make([]byte, 1024)
	n, _ := lock.ReadAt(text, 0) // the file is shorter, and empty if the other run has only just created it
	line, _, _ := strings.Cut(string(text[:n]), "\n")
	pid, url, known := strings.Cut(line, " ")
	holder, end := "another run", "end it"
	if known {
		holder, end = "pid "+pid+" at "+url, "end it (kill -INT "+pid+")"
	}
	listen, folder := propose(o, url)
	command := fmt.Sprintf(`make run ARGS="-listen %s -state %s"`, listen, folder)
	if os.Getenv("DATABASE_URL") != "" {
		command = "DATABASE_URL= " + command // two runs on one database would replace each other's logins
	}
	return fmt.Errorf("-state %s: Warble already runs on this folder: %s\nIt was not changed. Either %s first, or start a second Warble with its own database:\n\n  %s",
		o.state, holder, end, command)
}

// propose returns a free address and a state folder for a second run. The address is o.listen or, if that is not free, the next
// free one. It is never the address in taken, which belongs to the first run even if that run does not listen yet. The folder is
// named after the port.
func propose(o options, taken string) (listen, folder string) {
	takenPort := taken[strings.LastIndexByte(taken, ':')+1:]
	folder = strings.TrimSuffix(filepath.Clean(o.state), "-"+takenPort)
	host, text, err := net.SplitHostPort(o.listen)
	for n, _ := strconv.Atoi(text); err == nil && n > 0; n++ {
		port := strconv.Itoa(n)
		if port == takenPort {
			continue
		}
		listen = net.JoinHostPort(host, port)
		var listener net.Listener
		if listener, err = net.Listen("tcp", listen); err == nil {
			listener.Close()
			return listen, folder + "-" + port
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			err = nil
		}
	}
	return "127.0.0.1:8081", folder + "-8081" // no address of that host is usable
}
