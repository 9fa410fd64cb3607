//go:build !linux

package process

import "syscall"

// dieWithParent does nothing: only Linux can.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
