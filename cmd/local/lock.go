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

// lockFile is the file of the state folder that a run holds a lock on. Its text is who that is, as "4711 http://127.0.0.1:8080":
// without a lock on it, who that was.
const lockFile = "lock"

// lockState makes the folder where it is missing, and this run's alone until the file is closed or the process ends,
// however it does: the kernel drops the lock then, so that there is none to clear away. No child process has it, for files
// are closed on exec.
func lockState(o options) (*os.File, error) {
	// Others may pass through to postgres/, which its server's own account must reach, and into nothing else.
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
		err = refusal(o, lock)
	case err != nil:
		err = fmt.Errorf("-state %s: lock %s: %w", o.state, lockFile, err)
	default:
		// Cut off after it is written: whoever is refused meanwhile reads one whole line.
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

// refusal says who has the folder, and what to type for another run beside that one.
func refusal(o options, lock *os.File) error {
	text := make([]byte, 1024)
	n, _ := lock.ReadAt(text, 0) // it has less, and nothing where the other has only now made it
	line, _, _ := strings.Cut(string(text[:n]), "\n")
	pid, url, known := strings.Cut(line, " ")
	holder, end := "another run", "end it"
	if known {
		holder, end = "pid "+pid+" at "+url, "end it (kill -INT "+pid+")"
	}
	listen, folder := beside(o, url)
	command := fmt.Sprintf(`make run ARGS="-listen %s -state %s"`, listen, folder)
	if os.Getenv("DATABASE_URL") != "" {
		command = "DATABASE_URL= " + command // two runs on one database take its logins from each other
	}
	return fmt.Errorf("-state %s: Warble runs on this folder already: %s\nIt was left as it is. Either %s first, or start a second one beside it, with a database of its own:\n\n  %s",
		o.state, holder, end, command)
}

// beside is the address that was asked for, or the next that is free, and a folder called by its port. The run at taken may
// not listen yet.
func beside(o options, taken string) (listen, folder string) {
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
	return "127.0.0.1:8081", folder + "-8081" // none can be had where it was asked for
}
