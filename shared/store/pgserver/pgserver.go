// Package pgserver runs a private PostgreSQL server with its own data folder, one Unix socket and no network.
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

// ErrNotInstalled means that no PostgreSQL server was found.
var ErrNotInstalled = errors.New("no PostgreSQL server found in $PGBIN, PATH, /usr/lib/postgresql or Homebrew: install postgresql (15 to 18)")

// Server is a running server.
type Server struct {
	socket string // folder of the socket
	data   string
	bin    string
	cmd    *exec.Cmd
	exited <-chan error
}

// Options configures a server.
type Options struct {
	Durable bool      // whether committed data survives a crash of the machine (fsync on)
	Log     io.Writer // where the server's log goes; nil discards it
	Set     []string  // further settings, for example "max_connections=200"
	Cache   string    // a folder with a copy of initdb's result, from which empty data folders are filled; "" for none
}

// superuser is the name of the server's only superuser.
const superuser = "postgres"

// Start starts a server on folder. If folder is empty, Start initializes it first. If this process is root, the server runs as an
// unprivileged user, who then owns folder. The caller ends the server with Stop. On Linux it also ends when this process dies.
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
	if err := makeOwned(folder, credential); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(s.data, "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		if err := s.fill(ctx, credential, options.Cache); err != nil {
			return nil, err
		}
	}
	s.socket = socketFolder(folder)
	if err := makeOwned(s.socket, credential); err != nil {
		return nil, err
	}
	if err := s.start(ctx, credential, options); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// fill makes the data folder. It copies an earlier result of initdb if there is a cache: initdb takes 1.5 s of a core, and a copy a
// tenth of that.
func (s *Server) fill(ctx context.Context, credential *syscall.Credential, cache string) error {
	if cache == "" {
		return s.initialize(ctx, credential)
	}
	// The name depends on the build of PostgreSQL, because another build may not be able to read the folder.
	version, err := exec.CommandContext(ctx, filepath.Join(s.bin, "postgres"), "--version").Output()
	if err != nil {
		return fmt.Errorf("postgres --version: %w", err)
	}
	sum := sha256.Sum256(append(version, s.bin...))
	cached := filepath.Join(cache, "initdb-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(cached); errors.Is(err, os.ErrNotExist) {
		if err := s.initialize(ctx, credential); err != nil {
			return err
		}
		return copyToCache(s.data, cached)
	}
	partial := s.data + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.CopyFS(partial, os.DirFS(cached))); err != nil {
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

// copyToCache copies a data folder to cached. If two processes do so at the same time, the first copy stays.
func copyToCache(data, cached string) error {
	if err := os.MkdirAll(filepath.Dir(cached), 0o700); err != nil {
		return err
	}
	partial, err := os.MkdirTemp(filepath.Dir(cached), "partial-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(partial) //nolint:errcheck // nothing is left of it after the rename
	if err := os.CopyFS(partial, os.DirFS(data)); err != nil {
		return err
	}
	if err := os.Rename(partial, cached); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (s *Server) initialize(ctx context.Context, credential *syscall.Credential) error {
	partial := s.data + ".partial" // an interrupted initdb must not look like a complete data folder
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
	s.cmd = exec.Command(filepath.Join(s.bin, "postgres"), arguments...) //nolint:noctx // Stop ends it cleanly
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

// Stop ends the server in PostgreSQL's mode "fast": open transactions are rolled back, and connections cut. Committed data stays.
func (s *Server) Stop() error { return s.end(syscall.SIGINT) }

// Crash ends the server in PostgreSQL's mode "immediate": it writes nothing more. The next start on the folder recovers committed data.
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

// maxSocketFolder is the longest folder for the socket, in bytes: the socket's whole path may have 104.
const maxSocketFolder = 80

// socketFolder returns folder or, if its path is too long, a short one that is derived from it. The result is the same at each
// start, so that clients find a restarted server.
func socketFolder(folder string) string {
	if len(folder) <= maxSocketFolder {
		return folder
	}
	sum := sha256.Sum256([]byte(folder))
	return filepath.Join(os.TempDir(), "warble-pg-"+hex.EncodeToString(sum[:6]))
}

// URL returns the URL by which user connects to database. The server trusts connections: anybody who can reach the socket's folder
// may connect as any user.
func (s *Server) URL(user, database string) string {
	return "postgres://" + url.PathEscape(user) + "@/" + url.PathEscape(database) + "?host=" + url.QueryEscape(s.socket)
}

// Superuser returns the URL by which the superuser connects to database.
func (s *Server) Superuser(database string) string { return s.URL(superuser, database) }

// Bin returns the folder with the server's programs.
func (s *Server) Bin() string { return s.bin }

// find returns a folder with initdb and postgres: the first of $PGBIN, PATH and the usual folders, in which newer versions come first.
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

// unprivileged returns the user as whom the server runs if this process is root, because PostgreSQL refuses to run as root; nil otherwise.
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

// makeOwned makes a folder, if it does not exist, and gives it to the server's user.
func makeOwned(folder string, credential *syscall.Credential) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if credential == nil {
		return nil
	}
	return os.Chown(folder, int(credential.Uid), int(credential.Gid))
}
