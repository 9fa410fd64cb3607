//go:build !linux

package process

import "syscall"

// dieWithParent does nothing: only Linux can send a signal when a parent dies.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
