package process

import "syscall"

func dieWithParent(attributes *syscall.SysProcAttr, last syscall.Signal) { attributes.Pdeathsig = last }
