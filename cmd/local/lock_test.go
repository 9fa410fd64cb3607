package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// hold locks a folder like a run, until the test ends.
func hold(t *testing.T, o options) *os.File {
	t.Helper()
	lock, err := lockState(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	return lock
}

// TestARefusedSecondRunChangesNothing, whether the first run uses the folder or another program uses the port: -fresh
// deletes no database, and no keys are made.
func TestARefusedSecondRunChangesNothing(t *testing.T) {
	t.Chdir("../..") // where the manifests are
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	free, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	first := fmt.Sprintf("pid %d at http://%s", os.Getpid(), address)
	for name, tt := range map[string]struct {
		held          bool
		asked, expect string
	}{
		"the folder is used":               {true, free, first},
		"the folder and the port are used": {true, address, first},
		"another program has the port":     {false, address, "-listen " + address + ": listen tcp " + address},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // ends a run that is wrongly not refused
			defer cancel()
			o := options{listen: address, state: filepath.Join(t.TempDir(), "state"), fresh: true}
			database := filepath.Join(o.state, "postgres", "data")
			if err := os.MkdirAll(database, 0o700); err != nil {
				t.Fatal(err)
			}
			if tt.held {
				hold(t, o)
			}
			o.listen = tt.asked
			if err := run(ctx, o, io.Discard); err == nil || !strings.Contains(err.Error(), tt.expect) {
				t.Errorf("%v, want %q", err, tt.expect)
			}
			if _, err := os.Stat(database); err != nil {
				t.Error(err)
			}
			var names []string
			entries, err := os.ReadDir(o.state)
			for _, entry := range entries {
				names = append(names, entry.Name())
			}
			if diff := cmp.Diff([]string{lockFile, "postgres"}, names); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

// TestTheRefusalSaysHowToStartASecondRun: at the requested address if it is free, in a folder next to the first one,
// named after the port.
func TestTheRefusalSaysHowToStartASecondRun(t *testing.T) {
	free, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free)
	for name, tt := range map[string]struct {
		folder, database, asked, want string
	}{
		"a folder":               {"state", "", free, `make run ARGS="-listen ` + free + ` -state FOLDER/state-` + port + `"`},
		"one proposed before":    {"state-8080", "", free, `make run ARGS="-listen ` + free + ` -state FOLDER/state-` + port + `"`},
		"a database of people's": {"state", "postgres://ada@db/warble", free, `DATABASE_URL= make run ARGS="-listen ` + free},
		"a port by its name":     {"state", "", "127.0.0.1:http", `make run ARGS="-listen 127.0.0.1:8081 -state FOLDER/state-8081"`},
		"no address":             {"state", "", "", `make run ARGS="-listen 127.0.0.1:8081 -state FOLDER/state-8081"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DATABASE_URL", tt.database)
			folder := t.TempDir()
			o := options{listen: "127.0.0.1:8080", state: filepath.Join(folder, tt.folder)}
			hold(t, o)
			o.listen = tt.asked
			_, err := lockState(o)
			want := fmt.Sprintf("-state %s: Warble already runs on this folder: pid %d at http://127.0.0.1:8080\n", o.state, os.Getpid())
			if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "\n  "+strings.ReplaceAll(tt.want, "FOLDER", folder)) {
				t.Errorf("%v, want %q and %q", err, want, tt.want)
			}
		})
	}
	// The first run's port is not proposed, even if it does not listen yet.
	o := options{listen: free, state: t.TempDir()}
	hold(t, o)
	if _, err := lockState(o); err == nil || strings.Contains(err.Error(), "-listen "+free+" ") {
		t.Errorf("%v, want another port than %s", err, port)
	}
}

// TestAFolderIsFreeWhenItsRunHasEnded, whatever text the run has left in the file.
func TestAFolderIsFreeWhenItsRunHasEnded(t *testing.T) {
	t.Parallel()
	o := options{listen: "127.0.0.1:8080", state: t.TempDir()}
	file := filepath.Join(o.state, lockFile)
	for _, left := range []string{"", "4711 http://127.0.0.1:8080\nand more than there is to write the next time\n"} {
		if err := os.WriteFile(file, []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := hold(t, o).Close(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if want := fmt.Sprintf("%d http://127.0.0.1:8080\n", os.Getpid()); err != nil || string(text) != want {
			t.Errorf("%v %q, want %q", err, text, want)
		}
	}
}

// TestAStateFolderThatCannotBeWrittenIsNamed, with what was expected.
func TestAStateFolderThatCannotBeWrittenIsNamed(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(folder, "closed")
	if err := os.Mkdir(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	states := []string{file, filepath.Join(file, "state")}
	if os.Geteuid() != 0 { // who may write everywhere
		states = append(states, closed, filepath.Join(closed, "state"))
	}
	for _, state := range states {
		_, err := lockState(options{listen: "127.0.0.1:8080", state: state})
		if err == nil || !strings.HasPrefix(err.Error(), "-state "+state+": ") || !strings.HasSuffix(err.Error(), ": expected a folder to write to") {
			t.Errorf("%s: %v", state, err)
		}
	}
}
