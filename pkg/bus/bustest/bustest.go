// Package bustest gives tests a real bus: an embedded server in a temporary
// directory, and a connection to it.
package bustest

import (
	"log/slog"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
)

// Start starts a server and connects to it. Both end with the test.
func Start(t testing.TB) *bus.Bus {
	t.Helper()
	return Connect(t, Server(t), nil)
}

// Server starts a server that ends with the test.
func Server(t testing.TB) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Connect makes another connection to a server, as another process would. log
// may be nil.
func Connect(t testing.TB, s *embedded.Server, log *slog.Logger) *bus.Bus {
	t.Helper()
	cfg := bus.DefaultConfig()
	cfg.MaxBytes = 1 << 30
	b, err := bus.Connect(t.Context(), cfg, bus.Settings{InProcess: s, Name: t.Name(), Source: "//test/oncall", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}
