package testbed

import "syscall"

// attributes ask the kernel to end a server when the process that started it
// is gone, however it went.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
