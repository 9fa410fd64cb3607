package process_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestAChildDiesWithItsParent checks this even for a parent that is killed and cannot end its child.
func TestAChildDiesWithItsParent(t *testing.T) {
	t.Parallel()
	parent, output := startParent(t)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed, as it was meant to be
	if _, err := output.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the child holds its end open: %v", err)
	}
}

// startParent starts a process that has a child, and returns it and what is at the child's other end.
func startParent(t *testing.T) (parent *exec.Cmd, output *bufio.Reader) {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	parent = exec.CommandContext(t.Context(), executable)
	parent.Env = append(os.Environ(), asParent+"=1")
	parent.Stdout = write
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	if err := read.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	output = bufio.NewReader(read)
	if line, err := output.ReadString('\n'); err != nil || strings.TrimSpace(line) != "started" {
		t.Fatalf("%q: %v", line, err)
	}
	return parent, output
}
