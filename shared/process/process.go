// Package process starts child processes that end with this process.
package process

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Start starts cmd in its own process group, so that a terminal's Ctrl-C reaches only this process. On Linux, the kernel sends the
// signal last to cmd when this process dies for any reason. The channel gets the result of cmd.Wait.
func Start(cmd *exec.Cmd, last syscall.Signal) (exited <-chan error, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	dieWithParent(cmd.SysProcAttr, last)
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		// The kernel takes the thread that forked for the parent, so this thread must live as long as the child.
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
