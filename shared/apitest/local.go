package apitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"warble/shared/process"
)

const (
	localStartLimit = 5 * time.Minute // it builds every function, perhaps for the first time on this machine
	localStopLimit  = 2 * time.Minute
)

// Local is a complete Warble as `make run` starts it: a process for each function, PostgreSQL, and the edge in front.
type Local struct {
	URL string

	cmd      *exec.Cmd
	exited   <-chan error
	folder   string
	args     []string
	settings []string
	log      output
}

// StartLocal starts Warble on a free port of loopback, with a new database unless the settings name one. Settings are
// environment variables, for example "RATE_LIMIT_AUTH=3/1m". If the test has the race detector, the functions have it too.
//
// It is for TestMain, so that the tests of a package can share one. The caller stops it.
func StartLocal(ctx context.Context, settings ...string) (*Local, error) {
	return StartExperiment(ctx, "none", settings...)
}

// StartExperiment is StartLocal with the experiment of a file. The experiment starts soon after it returns.
func StartExperiment(ctx context.Context, file string, settings ...string) (*Local, error) {
	return start(ctx, &Local{settings: settings, args: []string{"-experiment", file, "-board", "none"}})
}

func start(ctx context.Context, l *Local) (_ *Local, err error) {
	// Not t.TempDir, because PostgreSQL's own account must be able to enter it.
	if l.folder, err = os.MkdirTemp("", "warble-local-"); err != nil {
		return nil, err
	}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, l.Log()), l.Stop())
	}
	return l, nil
}

func (l *Local) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, localStartLimit)
	defer cancel()
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	started := strings.Count(l.Log(), saysStarted)
	if err := os.Chmod(l.folder, 0o711); err != nil { //nolint:gosec // for PostgreSQL's own account
		return err
	}
	program, err := l.build(ctx, root)
	if err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	l.URL = "http://" + address
	l.cmd = exec.Command(program, append([]string{"-listen", address, "-state", l.folder}, l.args...)...) //nolint:noctx // Stop ends it cleanly
	l.cmd.Dir = root
	l.cmd.Env = append(Environment(), l.settings...)
	l.cmd.Stdout, l.cmd.Stderr = &l.log, &l.log
	if l.exited, err = process.Start(l.cmd, syscall.SIGTERM); err != nil {
		return err
	}
	return l.wait(ctx, saysStarted, started+1)
}

// build builds the local run and the functions, once for all packages that start a local run. It links them into the folder
// of this run, so that the run's own build finds nothing to do. It returns the local run's program.
func (l *Local) build(ctx context.Context, root string) (program string, err error) {
	shared := filepath.Join(root, ".warble", "tests")
	if raceDetector() {
		shared += "-race"
	}
	bin := filepath.Join(l.folder, "bin")
	if err := errors.Join(os.MkdirAll(shared, 0o755), os.MkdirAll(bin, 0o700)); err != nil { //nolint:gosec // readable like a checkout
		return "", err
	}
	lock, err := os.Create(filepath.Join(shared, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { // held until the file is closed
		return "", err
	}
	command := exec.CommandContext(ctx, "go", "build", "-o", shared+"/", "./functions/...", "./cmd/kn-experiment", "./cmd/local")
	command.Dir, command.Env = root, Environment()
	if text, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./functions/... ./cmd/kn-experiment ./cmd/local: %w\n%s", err, text)
	}
	programs, err := filepath.Glob(filepath.Join(root, "functions", "*", "main.go"))
	for _, program := range append(programs, filepath.Join(root, "cmd", "kn-experiment", "main.go")) {
		name := filepath.Base(filepath.Dir(program))
		// Hard links do not work across file systems. Then the local run builds its own programs.
		if err := os.Link(filepath.Join(shared, name), filepath.Join(bin, name)); err != nil && !errors.Is(err, syscall.EXDEV) && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	return filepath.Join(shared, "local"), err
}

// Stop ends everything and removes the files. A second call does nothing. A local run that does not end by itself is an error.
func (l *Local) Stop() error {
	defer os.RemoveAll(l.folder) //nolint:errcheck // the system clears its temporary folder as well
	return l.end()
}

// Restart stops the run and starts it again, with the same files and at another address.
func (l *Local) Restart(ctx context.Context) error {
	return errors.Join(l.end(), l.start(ctx))
}

// Kill kills the run's own process with SIGKILL, so that it cannot end the processes that it started, and returns when it has
// ended. Restart starts it again.
func (l *Local) Kill() error {
	if err := l.cmd.Process.Kill(); err != nil {
		return err
	}
	<-l.exited // the error is that it was killed
	l.exited = nil
	return nil
}

// Again starts another run on the same state, with further flags, while this one runs. It returns what the other run printed and
// how it ended. If the other run is not refused, it ends with ctx.
func (l *Local) Again(ctx context.Context, flags ...string) (said string, err error) {
	again := exec.CommandContext(ctx, l.cmd.Path, append(slices.Clone(l.cmd.Args[1:]), flags...)...) //nolint:gosec // the arguments of the first one
	again.Dir, again.Env = l.cmd.Dir, l.cmd.Env
	again.Cancel = func() error { return again.Process.Signal(syscall.SIGINT) }
	text, err := again.CombinedOutput()
	return string(text), err
}

func (l *Local) end() error {
	if l.exited == nil {
		return nil
	}
	_ = l.cmd.Process.Signal(syscall.SIGINT) // it may have ended
	select {
	case err := <-l.exited:
		l.exited = nil
		return err
	case <-time.After(localStopLimit):
		return fmt.Errorf("the local run did not stop within %s: %w", localStopLimit, l.cmd.Process.Kill())
	}
}

const (
	saysStarted  = "Warble is at"
	saysReplaced = "replaced every function"
)

// Replace replaces the processes of all functions except the edge, and returns when the last old one has ended.
func (l *Local) Replace(ctx context.Context) error {
	before := strings.Count(l.Log(), saysReplaced)
	if err := l.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return l.wait(ctx, saysReplaced, before+1)
}

// wait returns when the log contains a text so many times.
func (l *Local) wait(ctx context.Context, text string, times int) error {
	for strings.Count(l.Log(), text) < times {
		select {
		case err := <-l.exited:
			l.exited = nil
			return fmt.Errorf("the local run ended before it said %q: %w", text, err)
		case <-ctx.Done():
			return fmt.Errorf("waiting for the local run to say %q: %w", text, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// Log returns what the local run has printed.
func (l *Local) Log() string { return l.log.String() }

// State returns the folder with the state of the run.
func (l *Local) State() string { return l.folder }

// Targets returns the name of the file, for Prometheus's file_sd_configs, that lists where each function is scraped.
func (l *Local) Targets() string { return filepath.Join(l.folder, "metrics.json") }

// DatabaseURL returns the URL of the database that a run with an experiment prints, for reading the experiment.
func (l *Local) DatabaseURL() (string, error) {
	text, err := os.ReadFile(filepath.Join(l.folder, "database-url"))
	return strings.TrimSpace(string(text)), err
}

// SteerURL returns steer's URL.
func (l *Local) SteerURL() (string, error) {
	text, err := os.ReadFile(filepath.Join(l.folder, "steer-url"))
	return strings.TrimSpace(string(text)), err
}

// Kubeconfig returns the name of the kubeconfig file by which kn experiment reaches the run's experiments.
func (l *Local) Kubeconfig() (string, error) {
	file := filepath.Join(l.folder, "kubeconfig")
	_, err := os.Stat(file)
	return file, err
}

// PID returns the id of the run's own process.
func (l *Local) PID() int { return l.cmd.Process.Pid }

// PIDs returns the ids of the processes of one function: one process, or two while it is being replaced, and one for each arm. Linux only.
func (l *Local) PIDs(function string) (pids []int) {
	programs, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, program := range programs {
		if target, err := os.Readlink(program); err != nil || target != filepath.Join(l.folder, "bin", function) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(program, "/")[2]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Expired returns a user's token that expired an hour ago, signed with the local run's own key.
func (l *Local) Expired(token string) (string, error) {
	return expired(token, filepath.Join(l.folder, "warble-token-private", "private.pem"))
}

// output stores what a process prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func moduleRoot(ctx context.Context) (string, error) {
	text, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	return filepath.Dir(strings.TrimSpace(string(text))), err
}

// Environment returns the environment of this process, changed so that go builds with the race detector if this test has it.
func Environment() []string {
	if raceDetector() {
		return append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -race"))
	}
	return os.Environ()
}

// raceDetector reports whether this test binary was built with -race.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
