package obs

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestProfilesAreServedOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{":6060", "0.0.0.0:0", "10.0.0.1:6060", "[::]:0", "example.com:6060", "6060"} {
		err := ServeDebug(t.Context(), addr, func(a net.Addr) { t.Errorf("%s is listened on as %s", addr, a) })
		if err == nil || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v, want an error that names it", addr, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	bound, done := make(chan net.Addr, 1), make(chan error, 1)
	go func() { done <- ServeDebug(ctx, "127.0.0.1:0", func(a net.Addr) { bound <- a }) }()
	resp, err := http.Get("http://" + (<-bound).String() + "/debug/pprof/heap?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if !strings.HasPrefix(string(b), "heap profile:") {
		t.Errorf("%s: %.80s", resp.Status, b)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
