// Package pgserver runs a private PostgreSQL server: a data folder of its own, one unix socket, no network.
package pgserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/process"
)

// ErrNotInstalled is returned where no PostgreSQL server is found.
var ErrNotInstalled = errors.New("no PostgreSQL server found in $PGBIN, PATH, /usr/lib/postgresql or Homebrew: install postgresql (15 to 18)")

// Server is a running server.
type Server struct {
	socket string // folder of the socket
	data   string
	bin    string
	cmd    *exec.Cmd
	exited <-chan error
}

// Options say how a server runs.
type Options struct {
	Durable bool      // keep what is committed through a crash of the machine: fsync on
	Log     io.Writer // where the server's log goes; nil discards it
	Set     []string  // further settings, as "max_connections=200"
	Cache   string    // a folder that keeps what initdb makes, for the next empty folder to be filled with; "" for none
}

// superuser is the name of the server's one superuser.
const superuser = "postgres"

// Start starts a server on folder, which it fills first where it is empty. As root it runs as an unprivileged user, to
// whom folder then belongs. The caller ends it with Stop; it also ends when this process dies (on Linux).
func Start(ctx context.Context, folder string, options Options) (*Server, error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	credential, err := unprivileged()
	if err != nil {
		return nil, err
	}
	folder, err = filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, data: filepath.Join(folder, "data")}
	if err := own(folder, credential); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(s.data, "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		if err := s.fill(ctx, credential, options.Cache); err != nil {
			return nil, err
		}
	}
	s.socket = socketFolder(folder)
	if err := own(s.socket, credential); err != nil {
		return nil, err
	}
	if err := s.start(ctx, credential, options); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// fill makes the data folder. initdb takes 1.5 s of a core, and a copy of what it made a tenth of that.
func (s *Server) fill(ctx context.Context, credential *syscall.Credential, cache string) error {
	if cache == "" {
		return s.initialize(ctx, credential)
	}
	// Of this very build of PostgreSQL: another one may not read it.
	version, err := exec.CommandContext(ctx, filepath.Join(s.bin, "postgres"), "--version").Output()
	if err != nil {
		return fmt.Errorf("postgres --version: %w", err)
	}
	sum := sha256.Sum256(append(version, s.bin...))
	kept := filepath.Join(cache, "initdb-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(kept); errors.Is(err, os.ErrNotExist) {
		if err := s.initialize(ctx, credential); err != nil {
			return err
		}
		return keep(s.data, kept)
	}
	partial := s.data + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.CopyFS(partial, os.DirFS(kept))); err != nil {
		return err
	}
	if err := filepath.WalkDir(partial, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
		if entry.IsDir() {
			mode = 0o700 // PostgreSQL refuses a folder that others may read
		}
		if err := os.Chmod(path, mode); err != nil || credential == nil {
			return err
		}
		return os.Chown(path, int(credential.Uid), int(credential.Gid))
	}); err != nil {
		return err
	}
	return os.Rename(partial, s.data)
}

// keep copies a data folder. Where two do it at a time, the first one's is kept.
func keep(data, kept string) error {
	if err := os.MkdirAll(filepath.Dir(kept), 0o700); err != nil {
		return err
	}
	partial, err := os.MkdirTemp(filepath.Dir(kept), "partial-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(partial) //nolint:errcheck // there is nothing after it was renamed
	if err := os.CopyFS(partial, os.DirFS(data)); err != nil {
		return err
	}
	if err := os.Rename(partial, kept); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (s *Server) initialize(ctx context.Context, credential *syscall.Credential) error {
	partial := s.data + ".partial" // an interrupted initdb must not pass for a data folder
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"),
		"--pgdata="+partial, "--username="+superuser, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	command.Dir = filepath.Dir(s.data)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, output)
	}
	return os.Rename(partial, s.data)
}

func (s *Server) start(ctx context.Context, credential *syscall.Credential, options Options) error {
	arguments := []string{"-D", s.data, "-k", s.socket, "-c", "listen_addresses="}
	if !options.Durable {
		arguments = append(arguments, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	}
	for _, setting := range options.Set {
		arguments = append(arguments, "-c", setting)
	}
	s.cmd = exec.Command(filepath.Join(s.bin, "postgres"), arguments...) //nolint:noctx // Stop ends it, and cleanly
	s.cmd.Dir = filepath.Dir(s.data)
	s.cmd.Stderr = options.Log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	exited, err := process.Start(s.cmd, syscall.SIGINT)
	if err != nil {
		s.cmd = nil
		return fmt.Errorf("start postgres: %w", err)
	}
	s.exited = exited
	return s.wait(ctx)
}

// wait returns when the server answers.
func (s *Server) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL(superuser, "postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case exit := <-s.exited:
			s.cmd = nil
			return fmt.Errorf("postgres ended while starting: %w", exit)
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server as "fast" does: open transactions are rolled back, connections cut. What is committed stays.
func (s *Server) Stop() error { return s.end(syscall.SIGINT) }

// Crash ends the server as "immediate" does: it writes nothing more, and the next start on the folder recovers what is
// committed.
func (s *Server) Crash() error { return s.end(syscall.SIGQUIT) }

func (s *Server) end(signal syscall.Signal) error {
	var err error
	if s.cmd != nil {
		if err = s.cmd.Process.Signal(signal); err == nil {
			<-s.exited
		}
		s.cmd = nil
	}
	return err
}

// maxSocketFolder leaves room for the socket's own name in the 104 bytes that its path may have.
const maxSocketFolder = 80

// socketFolder is folder, or a short one made from its name where folder is deep. It is the same at each start, so that
// clients find a server that was restarted.
func socketFolder(folder string) string {
	if len(folder) <= maxSocketFolder {
		return folder
	}
	sum := sha256.Sum256([]byte(folder))
	return filepath.Join(os.TempDir(), "warble-pg-"+hex.EncodeToString(sum[:6]))
}

// URL connects user to database. Connections are trusted: whoever can reach the socket's folder may be anyone.
func (s *Server) URL(user, database string) string {
	return "postgres://" + url.PathEscape(user) + "@/" + url.PathEscape(database) + "?host=" + url.QueryEscape(s.socket)
}

// Superuser connects the superuser to database.
func (s *Server) Superuser(database string) string { return s.URL(superuser, database) }

// Bin is the folder of the server's programs.
func (s *Server) Bin() string { return s.bin }

// find returns the folder that holds initdb and postgres, the newest version first.
func find() (string, error) {
	var folders []string
	if bin := os.Getenv("PGBIN"); bin != "" {
		folders = append(folders, bin)
	}
	if file, err := exec.LookPath("initdb"); err == nil {
		folders = append(folders, filepath.Dir(file))
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin"} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
		folders = append(folders, found...)
	}
	for _, folder := range folders {
		if executable(filepath.Join(folder, "initdb")) && executable(filepath.Join(folder, "postgres")) {
			return folder, nil
		}
	}
	return "", ErrNotInstalled
}

func version(folder string) int {
	name := filepath.Base(filepath.Dir(folder))
	number, _ := strconv.Atoi(strings.TrimPrefix(name, "postgresql@")) // 0, the oldest, for a name without one
	return number
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode()&0o111 != 0
}

// unprivileged is whom the server runs as where this process is root, which PostgreSQL refuses; nil otherwise.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(account.Uid, 10, 32) // decimal on every Unix
		gid, _ := strconv.ParseUint(account.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")
}

func own(folder string, credential *syscall.Credential) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if credential == nil {
		return nil
	}
	return os.Chown(folder, int(credential.Uid), int(credential.Gid))
}
