//go:build !linux

package testbed

import (
	"context"
	"errors"
	"net"
)

// namespace is a network of its own, which only Linux has.
type namespace struct{}

var errNoNamespace = errors.New("a network of its own needs Linux")

func newNamespace() (*namespace, error) { return nil, errNoNamespace }

func (*namespace) path() string { return "" }

func (*namespace) listen(string, string) (net.Listener, error) { return nil, errNoNamespace }

func (*namespace) listenPacket(string, string) (net.PacketConn, error) { return nil, errNoNamespace }

func (*namespace) dial(context.Context, string, string) (net.Conn, error) {
	return nil, errNoNamespace
}

func (*namespace) close() {}
