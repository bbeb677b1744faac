package bus

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
)

// deaf is a server in this process that takes nothing more once it is stuck.
type deaf struct {
	*embedded.Server
	stuck   chan struct{}
	blocked chan struct{}
	once    sync.Once
}

func (d *deaf) InProcessConn() (net.Conn, error) {
	c, err := d.Server.InProcessConn()
	return &deafConn{Conn: c, server: d}, err
}

type deafConn struct {
	net.Conn
	server *deaf
}

func (c *deafConn) Write(p []byte) (int, error) {
	select {
	case <-c.server.stuck:
		c.server.once.Do(func() { close(c.server.blocked) })
		select {} // as a pipe that nobody reads
	default:
		return c.Conn.Write(p)
	}
}

func TestClosingDoesNotWaitForAServerThatTakesNothing(t *testing.T) {
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	d := &deaf{Server: s, stuck: make(chan struct{}), blocked: make(chan struct{})}
	cfg := DefaultConfig()
	cfg.MaxBytes = 1 << 30
	b, err := Connect(t.Context(), cfg, Settings{InProcess: d, Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	close(d.stuck)
	_ = b.nc.Publish("x", nil)
	<-d.blocked // with the lock of the client held
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := b.close(ctx); err == nil {
		t.Error("closing says that all was drained, want an error")
	}
}
