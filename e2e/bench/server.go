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

// server is a running function, or a bare equivalent.
type server struct {
	name    string
	address string
	started time.Time // just before exec
	cmd     *exec.Cmd
	log     *os.File
	exited  <-chan error
}

// launch starts a binary, with its log in a file and its metrics on. The environment is only the manifest's, followed by settings.
func (r *rig) launch(name string, settings ...string) (*server, error) {
	return r.run(name, exec.Command(r.path("bin/"+name)), append(r.environment(name), settings...)) //nolint:noctx // stop ends it
}

// run starts a command as a server, which listens at HOST and PORT.
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

// ready waits for the first answer of a launched server. If err is not nil, it returns err.
func (s *server) ready(ctx context.Context, err error) (*server, error) {
	if err != nil {
		return nil, err
	}
	if err := s.answer(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// startLimit is the longest time until the first answer.
const startLimit = 20 * time.Second

// answer waits until the server's probe answers 200.
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
		// No time.Sleep, because it takes at least a millisecond, which is a tenth of the measured time.
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

// lastWords returns the end of the server's log.
func (s *server) lastWords() string {
	text, _ := os.ReadFile(s.log.Name()) // without it the error says less
	return string(text[max(0, len(text)-2000):])
}

// stop kills the process, because nobody waits for its answers.
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

// memory is the memory that a process uses, in MiB.
type memory struct {
	// held are its own pages and its share of the pages that it shares with other processes (PSS). The PSS of all processes adds up to the
	// memory that they use together. RSS would count a shared page twice.
	held float64
	// own is the part of held without a file: heap, stacks and variables. The other pages belong to the binary. If memory is short, the
	// kernel drops them and reads them again.
	own float64
}

// memory reads the process's memory from /proc.
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

// cpu returns the CPU time that the process has used, in ms. Other work on the machine changes it little.
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

// freeAddress returns a free loopback address, which it finds by listening and closing.
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

// withServers runs do while servers of these names run.
func (r *rig) withServers(ctx context.Context, do func(running map[string]*server) error, names ...string) (err error) {
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
