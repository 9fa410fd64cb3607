//go:build e2e

package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"warble/shared/apitest"
	"warble/shared/process"
)

// eventually polls until ok returns true, and fails the test after limit.
func eventually(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > limit {
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

// only waits until a function has exactly one process, and returns it.
func only(t *testing.T, run *apitest.Local, function string) (pid int) {
	t.Helper()
	eventually(t, "one process of "+function, time.Minute, func() bool {
		pids := run.PIDs(function)
		if len(pids) != 1 {
			return false
		}
		pid = pids[0]
		return true
	})
	return pid
}

// environmentOf returns the environment with which a process was started.
func environmentOf(t *testing.T, pid int) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// addressOf returns the URL of a function's process.
func addressOf(t *testing.T, pid int) string {
	t.Helper()
	var host, port string
	for _, variable := range environmentOf(t, pid) {
		if value, ok := strings.CutPrefix(variable, "HOST="); ok {
			host = value
		}
		if value, ok := strings.CutPrefix(variable, "PORT="); ok {
			port = value
		}
	}
	return "http://" + net.JoinHostPort(host, port)
}

// twin starts a second process of a function like the first, and returns its URL.
func twin(t *testing.T, pid int) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().(*net.TCPAddr)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program) //nolint:noctx // ended below
	cmd.Env = append(environmentOf(t, pid), "PORT="+strconv.Itoa(address.Port), "METRICS_PORT=0")
	exited, err := process.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
		<-exited
	})
	url := "http://" + address.String()
	eventually(t, "the twin's probe", time.Minute, func() bool { return statusOf(url+"/healthz") == http.StatusOK })
	return url
}

// statusOf returns the status of a GET, or 0 if there is no answer.
func statusOf(url string) int {
	answer, err := client.Get(url) //nolint:noctx // the client has a timeout
	if err != nil {
		return 0
	}
	defer answer.Body.Close() //nolint:errcheck // only the status matters
	return answer.StatusCode
}

// descendants returns a process's children and their descendants.
func descendants(pid int) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		after := text[strings.LastIndexByte(string(text), ')')+1:] // the name before it may contain any character
		if fields := strings.Fields(string(after)); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			pids = append(append(pids, child), descendants(child)...)
		}
	}
	return pids
}
