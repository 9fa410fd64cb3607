package apitest

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"warble/shared/function"
	"warble/shared/process"
	"warble/shared/store/pgtest"
)

// asFunction is a variable that makes the test's binary run the function that it tests.
const asFunction = "WARBLE_TEST_BINARY_IS_THE_FUNCTION"

// Main is pgtest.Main for a package that uses API.Process. main is the function's main.
func Main(m *testing.M, main func()) {
	if os.Getenv(asFunction) != "" {
		main()
		return
	}
	pgtest.Main(m)
}

// Process is the function, running in its own process.
type Process struct {
	URL string

	t      testing.TB
	cmd    *exec.Cmd
	exited <-chan error
	log    output
}

// Process starts the function with the database and the keys of the API, and with settings such as "WARBLE_ARM=control". It
// returns when the function answers. It is killed when the test ends.
func (a *API) Process(settings ...string) *Process {
	a.t.Helper()
	if err := os.WriteFile(a.file("edge"), function.TestKey, 0o600); err != nil {
		a.t.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		a.t.Fatal(err)
	}
	address, err := freeAddress()
	if err != nil {
		a.t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(address)
	p := &Process{URL: "http://" + address, t: a.t, cmd: exec.Command(executable)} //nolint:noctx // the cleanup ends it
	p.cmd.Env = append([]string{asFunction + "=1", "HOST=" + host, "PORT=" + port, "METRICS_PORT=0",
		"DATABASE_URL=" + a.database.URL(pgtest.API), "TOKEN_PUBLIC_KEYS_FILE=" + a.file("jwks.json"), "EDGE_KEY_FILE=" + a.file("edge")}, settings...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if p.exited, err = process.Start(p.cmd, syscall.SIGKILL); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // it may have ended
	if err := answers(a.t.Context(), p.URL+"/healthz", isAny); err != nil {
		a.t.Fatalf("%v\n%s", err, p.log.String())
	}
	return p
}

// End sends a signal and returns how the process ended: nil if it exited with status 0, otherwise an *exec.ExitError.
func (p *Process) End(signal syscall.Signal) error {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.exited:
		return err
	case <-time.After(localStopLimit):
		p.t.Fatalf("it did not end within %s\n%s", localStopLimit, p.log.String())
		return nil
	}
}

// Log returns what the process has printed.
func (p *Process) Log() string { return p.log.String() }
