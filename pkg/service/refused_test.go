package service_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/oncall-copilot/oncall/pkg/service"
)

// TestAServiceThatTheBusRefusesStaysUpAndSaysWhy starts a service with a key
// that the server does not know, and gives it one that it does.
func TestAServiceThatTheBusRefusesStaysUpAndSaysWhy(t *testing.T) {
	known, stranger := pair(t), pair(t)
	public, err := known.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 2 << 30, JetStreamMaxMemory: 64 << 20,
		Nkeys: []*server.NkeyUser{{Nkey: public}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("server not ready in 30s")
	}
	file := filepath.Join(t.TempDir(), "bus.nkey")
	write := func(k nkeys.KeyPair) {
		t.Helper()
		seed, err := k.Seed()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, seed, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(stranger)
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free now
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	cfg := service.DefaultConfig()
	cfg.Bus.URL, cfg.Bus.NKey, cfg.Bus.MaxBytes, cfg.Obs.Listen = s.ClientURL(), file, 1<<30, l.Addr().String()
	o := service.Options{Name: "test", Log: slog.New(slog.DiscardHandler)}
	if _, err := service.Open(t.Context(), cfg, o); err == nil || !strings.Contains(err.Error(), file) {
		t.Fatalf("open: %v, want an error that names %s", err, file)
	}

	o.Patient = true
	opened := make(chan *service.Process, 1)
	go func() {
		p, err := service.Open(t.Context(), cfg, o)
		if err != nil {
			t.Error(err)
		}
		opened <- p
	}()
	await(t, cfg.Obs.Listen, http.StatusServiceUnavailable, file, `"since":"20`)
	write(known)
	p := <-opened
	if p == nil {
		return
	}
	await(t, cfg.Obs.Listen, http.StatusOK, `"name":"bus","ready":true`)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestAnAddressThatIsTakenEndsAServiceThatWaits has nothing to serve its health
// on.
func TestAnAddressThatIsTakenEndsAServiceThatWaits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cfg := service.DefaultConfig()
	cfg.Bus.URL, cfg.Obs.Listen = "nats://127.0.0.1:1", l.Addr().String()
	_, err = service.Open(t.Context(), cfg, service.Options{Name: "test", Patient: true, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "obs: listen: ") {
		t.Errorf("open: %v, want the address that is taken", err)
	}
}

func pair(t *testing.T) nkeys.KeyPair {
	t.Helper()
	k, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// await asks /readyz until it answers with a status and holds the parts.
func await(t *testing.T, addr string, status int, parts ...string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for last := ""; ; {
		select {
		case <-deadline:
			t.Fatalf("/readyz: not %d with %q within 30s: %s", status, parts, last)
		case <-tick.C:
		}
		resp, err := http.Get("http://" + addr + "/readyz")
		if err != nil {
			last = err.Error()
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		last = resp.Status + " " + string(b)
		all := resp.StatusCode == status
		for _, part := range parts {
			all = all && strings.Contains(string(b), part)
		}
		if all {
			return
		}
	}
}
