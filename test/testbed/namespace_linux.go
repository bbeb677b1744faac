package testbed

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network of its own on this machine: what listens in it is
// reached from it alone. It lasts for as long as this process, or one in it.
type namespace struct{ file *os.File }

func newNamespace() (*namespace, error) {
	var n namespace
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("a network of its own: %w", err)
		}
		var err error
		n.file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		return err
	})
	return &n, err
}

// onThread runs f on a thread that ends with it, and takes with it what f made
// of it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

func (n *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network: %w", err)
		}
		return f()
	})
}

// path is the namespace as nsenter takes it.
func (n *namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

func (n *namespace) listen(network, addr string) (l net.Listener, err error) {
	err = n.do(func() error {
		l, err = new(net.ListenConfig).Listen(context.Background(), network, addr)
		return err
	})
	return l, err
}

func (n *namespace) listenPacket(network, addr string) (c net.PacketConn, err error) {
	err = n.do(func() error {
		c, err = new(net.ListenConfig).ListenPacket(context.Background(), network, addr)
		return err
	})
	return c, err
}

// dial connects to an address, which is a number: names would be resolved on
// another thread.
func (n *namespace) dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	err = n.do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

func (n *namespace) close() { _ = n.file.Close() }
