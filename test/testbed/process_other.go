//go:build !linux

package testbed

import "syscall"

// attributes: only Linux can tie a server's life to that of its parent.
func attributes() *syscall.SysProcAttr { return nil }
