// Package process starts child processes that do not outlive this one.
package process

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Start starts cmd in a process group of its own, so that a terminal's Ctrl-C reaches this process alone, and on Linux
// has the kernel send it last when this process dies, however it dies. The channel yields what cmd.Wait returns.
func Start(cmd *exec.Cmd, last syscall.Signal) (exited <-chan error, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	dieWithParent(cmd.SysProcAttr, last)
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		// To the kernel the parent is the thread that forked, which must therefore live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return ended, <-started
}
