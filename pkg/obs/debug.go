package obs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// CheckDebug says what is wrong with an address for [ServeDebug]. Only loopback
// will do: a profile holds names from the cluster, and taking one costs time.
func CheckDebug(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("debug-listen %q is not host:port: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("debug-listen %q is not a loopback address; write 127.0.0.1:6060", addr)
	}
	return nil
}

// ServeDebug serves the profiles of the Go runtime under /debug/pprof/ on a
// loopback address until ctx is done. bound is told the address, once it is
// there.
func ServeDebug(ctx context.Context, addr string, bound func(net.Addr)) error {
	if err := CheckDebug(addr); err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("debug-listen: %w", err)
	}
	bound(l.Addr())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // and every profile by its name
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("debug-listen: %w", err)
	}
	return nil
}
