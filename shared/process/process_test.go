package process_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"warble/shared/process"
)

// asParent is a variable that makes this binary a process that starts another one and is then killed.
const asParent = "WARBLE_TEST_BINARY_IS_THE_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(asParent) == "" {
		os.Exit(m.Run())
	}
	child := exec.Command("sleep", "60")
	child.Stdout = os.Stdout // held open by the child, so that its end can be seen from the other end
	if _, err := process.Start(child, syscall.SIGKILL); err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString("started\n")
	select {}
}

func TestStartReportsHowTheProcessEnded(t *testing.T) {
	t.Parallel()
	exited, err := process.Start(exec.CommandContext(t.Context(), "sh", "-c", "exit 3"), syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	ended, ok := errors.AsType[*exec.ExitError](<-exited)
	if !ok || ended.ExitCode() != 3 {
		t.Errorf("%v, want exit status 3", ended)
	}
	if exited, err = process.Start(exec.CommandContext(t.Context(), "true"), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-exited; err != nil {
		t.Error(err)
	}
	if _, err := process.Start(exec.CommandContext(t.Context(), "/nothing/here"), syscall.SIGTERM); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want a file that does not exist", err)
	}
}

// A terminal sends Ctrl-C to the whole process group of the program that it started, so a child needs its own group.
func TestAChildHasItsOwnProcessGroup(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	exited, err := process.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	if group, err := syscall.Getpgid(cmd.Process.Pid); err != nil || group != cmd.Process.Pid {
		t.Errorf("process %d is in group %d: %v", cmd.Process.Pid, group, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-exited
}
