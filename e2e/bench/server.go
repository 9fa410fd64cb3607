package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"warble/shared/process"
)

// server is a running function, or something bare.
type server struct {
	name    string
	address string
	started time.Time // just before exec
	cmd     *exec.Cmd
	log     *os.File
	exited  <-chan error
}

// launch starts a binary, its log going to a file, its metrics on. The environment is the manifest's and nothing else.
// What settings say comes after it.
func (r *rig) launch(name string, settings ...string) (*server, error) {
	return r.run(name, exec.Command(r.path("bin/"+name)), append(r.environment(name), settings...)) //nolint:noctx // stop ends it
}

// run starts a command as a server: HOST and PORT say where it is to answer.
func (r *rig) run(name string, cmd *exec.Cmd, settings []string) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	metrics, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &server{name: name, address: address, cmd: cmd}
	if s.log, err = os.OpenFile(r.path(name+port(address)+".log"), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	s.cmd.Env = append([]string{"HOST=127.0.0.1", "PORT=" + port(address), "METRICS_PORT=" + port(metrics)}, settings...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.started = time.Now()
	if s.exited, err = process.Start(s.cmd, syscall.SIGKILL); err != nil {
		return nil, errors.Join(err, s.log.Close())
	}
	return s, nil
}

// start launches a binary and waits for its first answer.
func (r *rig) start(ctx context.Context, name string, settings ...string) (*server, error) {
	s, err := r.launch(name, settings...)
	return s.ready(ctx, err)
}

// ready waits for the first answer of a server that was launched, unless err says that it was not.
func (s *server) ready(ctx context.Context, err error) (*server, error) {
	if err != nil {
		return nil, err
	}
	if err := s.answer(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// startLimit is how long the first answer may take.
const startLimit = 20 * time.Second

// answer returns when the server's probe answers 200.
func (s *server) answer(ctx context.Context) error {
	for end := time.Now().Add(startLimit); time.Now().Before(end); {
		if healthy(s.address) {
			return nil
		}
		select {
		case err := <-s.exited:
			s.exited = nil
			return fmt.Errorf("%s ended before it answered: %w\n%s", s.name, err, s.lastWords())
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		// time.Sleep takes a millisecond at least, a tenth of what is measured.
		_, _ = unix.Select(0, nil, nil, nil, &unix.Timeval{Usec: 200}) // an interrupted wait is as good
	}
	return fmt.Errorf("%s did not answer within %s\n%s", s.name, startLimit, s.lastWords())
}

func healthy(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: warble\r\n\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "HTTP/1.1 200 ")
}

// lastWords is the end of the server's log.
func (s *server) lastWords() string {
	text, _ := os.ReadFile(s.log.Name()) // without it the error says less
	return string(text[max(0, len(text)-2000):])
}

// stop ends the process at once: nobody is waiting for its answers.
func (s *server) stop() error {
	if s.exited != nil {
		if err := s.cmd.Process.Kill(); err != nil {
			return err
		}
		<-s.exited
		s.exited = nil
	}
	return errors.Join(s.log.Close(), os.Remove(s.log.Name()))
}

// memory is what a process takes of a machine's, in MiB.
type memory struct {
	// held are its pages and its share of those that it has with other processes: PSS, which adds up to what all of them take. RSS
	// counts a page that two processes share twice.
	held float64
	// own is the part of held that no file has: heap, stacks and variables. The rest are pages of the binary, which the kernel drops
	// where memory is short, and reads again.
	own float64
}

// memory reads the process's memory, from Linux's own account.
func (s *server) memory() (m memory, err error) {
	file := fmt.Sprintf("/proc/%d/smaps_rollup", s.cmd.Process.Pid)
	text, err := os.ReadFile(file)
	if err != nil {
		return memory{}, err
	}
	for name, value := range map[string]*float64{"Pss": &m.held, "Pss_Anon": &m.own} {
		_, after, found := strings.Cut(string(text), "\n"+name+":")
		line, _, _ := strings.Cut(after, " kB\n")
		kilobytes, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		if !found || err != nil {
			return memory{}, fmt.Errorf("%s has no %s: expected Linux 5.10 or later", file, name)
		}
		*value = kilobytes / 1024
	}
	return m, nil
}

// cpu is the CPU time that the process has used, in ms; a machine that is busy with something else does not change it much.
func (s *server) cpu() (milliseconds float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), ") ") // the name of the program may have spaces
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is %q: expected times of user and system", s.cmd.Process.Pid, text)
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(fields[12], 64)
	return (user + system) * 10, err // Linux counts in hundredths of a second, whatever its own clock does
}

// freeAddress finds a port on loopback by taking and leaving it.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// with runs do while servers of these names run.
func (r *rig) with(ctx context.Context, do func(running map[string]*server) error, names ...string) (err error) {
	running := make(map[string]*server)
	for _, name := range names {
		s, err := r.start(ctx, name)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.stop()) }()
		running[name] = s
	}
	return do(running)
}
