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
	localStartLimit = 5 * time.Minute // it builds every function, on a machine that may never have
	localStopLimit  = 2 * time.Minute
)

// Local is all of Warble as `make run` starts it: a process per function, PostgreSQL, and the edge in front.
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
// environment variables, as in "RATE_LIMIT_AUTH=3/1m". Under the race detector, the functions have it too.
//
// It is for TestMain, which can share one among a package's tests; the caller stops it.
func StartLocal(ctx context.Context, settings ...string) (*Local, error) {
	return StartExperiment(ctx, "none", settings...)
}

// StartExperiment is StartLocal with the experiment of a file, which is about to start when it returns.
func StartExperiment(ctx context.Context, file string, settings ...string) (*Local, error) {
	return start(ctx, &Local{settings: settings, args: []string{"-experiment", file, "-board", "none"}})
}

func start(ctx context.Context, l *Local) (_ *Local, err error) {
	// Not t.TempDir: PostgreSQL's own account must be able to pass through.
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
	l.cmd = exec.Command(program, append([]string{"-listen", address, "-state", l.folder}, l.args...)...) //nolint:noctx // Stop ends it, and cleanly
	l.cmd.Dir = root
	l.cmd.Env = append(Environment(), l.settings...)
	l.cmd.Stdout, l.cmd.Stderr = &l.log, &l.log
	if l.exited, err = process.Start(l.cmd, syscall.SIGTERM); err != nil {
		return err
	}
	return l.wait(ctx, saysStarted, started+1)
}

// build links what a local run is made of once for all the packages that start one, and gives this one's folder the
// functions: its own build then finds nothing to do. It returns the local run's program.
func (l *Local) build(ctx context.Context, root string) (program string, err error) {
	shared := filepath.Join(root, ".warble", "tests")
	if raceDetector() {
		shared += "-race"
	}
	bin := filepath.Join(l.folder, "bin")
	if err := errors.Join(os.MkdirAll(shared, 0o755), os.MkdirAll(bin, 0o700)); err != nil { //nolint:gosec // as a checkout is
		return "", err
	}
	lock, err := os.Create(filepath.Join(shared, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { // until it is closed
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
		// Across file systems there are no links: then the local run builds its own.
		if err := os.Link(filepath.Join(shared, name), filepath.Join(bin, name)); err != nil && !errors.Is(err, syscall.EXDEV) && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	return filepath.Join(shared, "local"), err
}

// Stop ends everything and removes what it left on disk; a second time it does nothing. A local run that does not end by itself is an error.
func (l *Local) Stop() error {
	defer os.RemoveAll(l.folder) //nolint:errcheck // the system clears its temporary folder as well
	return l.end()
}

// Restart stops it and starts it again, on what it has on disk and at another address.
func (l *Local) Restart(ctx context.Context) error {
	return errors.Join(l.end(), l.start(ctx))
}

// Kill ends the run's own process as SIGKILL does, which then can end nothing of what it started, and returns once it has
// ended. Restart starts it again.
func (l *Local) Kill() error {
	if err := l.cmd.Process.Kill(); err != nil {
		return err
	}
	<-l.exited // killed, as it was meant to be
	l.exited = nil
	return nil
}

// Again starts another run on the same state while this one is there, with further flags, and returns what it has said and
// how it ended. One that is not refused is ended with ctx.
func (l *Local) Again(ctx context.Context, flags ...string) (said string, err error) {
	again := exec.CommandContext(ctx, l.cmd.Path, append(slices.Clone(l.cmd.Args[1:]), flags...)...) //nolint:gosec // the first one's
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

// Replace replaces the process of every function but the edge, and returns when the last old one has ended.
func (l *Local) Replace(ctx context.Context) error {
	before := strings.Count(l.Log(), saysReplaced)
	if err := l.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return l.wait(ctx, saysReplaced, before+1)
}

// wait returns when the log has a text so many times.
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

// Log is what the local run has printed.
func (l *Local) Log() string { return l.log.String() }

// State is the folder that it keeps its state in.
func (l *Local) State() string { return l.folder }

// Targets is the file that lists where each function is scraped, for Prometheus's file_sd_configs.
func (l *Local) Targets() string { return filepath.Join(l.folder, "metrics.json") }

// DatabaseURL is that by which a run with an experiment lets the experiment be read.
func (l *Local) DatabaseURL() (string, error) {
	text, err := os.ReadFile(filepath.Join(l.folder, "database-url"))
	return strings.TrimSpace(string(text)), err
}

// SteerURL is where steer listens.
func (l *Local) SteerURL() (string, error) {
	text, err := os.ReadFile(filepath.Join(l.folder, "steer-url"))
	return strings.TrimSpace(string(text)), err
}

// Kubeconfig is the file by which kn experiment reaches the run's experiments.
func (l *Local) Kubeconfig() (string, error) {
	file := filepath.Join(l.folder, "kubeconfig")
	_, err := os.Stat(file)
	return file, err
}

// PID is the run's own process.
func (l *Local) PID() int { return l.cmd.Process.Pid }

// PIDs are the processes of one function: one, or two while it is being replaced, and
// one of each arm. Linux only.
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

// Expired is a user's token as it would be an hour after its end, signed with the local run's own key.
func (l *Local) Expired(token string) (string, error) {
	return expired(token, filepath.Join(l.folder, "warble-token-private", "private.pem"))
}

// output keeps what a process prints.
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

// Environment is this process's, in which go builds what it builds with the race detector where this test has it.
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
