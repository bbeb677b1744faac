// Package embedded runs a NATS server with JetStream in this process: the bus
// of `oncall up`, of the demo, of replays and of every test. It is the real
// server with its file store, and listens on nothing unless asked to.
package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// syncEvery is how often the streams are synced to the disk: what a power cut, or
// the crash of the machine, takes with it at most; the end of this process takes
// nothing. On one machine a sync for every message would cost a hundredfold, and
// one a second is a sixth of what an idle run takes of the processor.
const syncEvery = 3 * time.Second

// Config says where the server keeps its data and whether it listens.
type Config struct {
	// Dir holds the streams. It is made when it is not there, and locked: two
	// servers on one directory would destroy it.
	Dir string
	// Listen is a loopback host:port for other programs, or "" for none. Port 0
	// takes a free one.
	Listen string
	// MaxBytes bounds all that is stored. 0 means 2 GiB.
	MaxBytes int64
	Log      *slog.Logger
}

// Server is a running server.
type Server struct {
	*server.Server
	dir *directory
}

// Start starts a server and waits until it is ready.
func Start(cfg Config) (*Server, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 2 << 30
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	opts := &server.Options{
		ServerName: "oncall", DontListen: true, JetStream: true,
		JetStreamMaxStore: cfg.MaxBytes, JetStreamMaxMemory: 64 << 20, MaxPayload: 1 << 20,
		SyncInterval: syncEvery, NoSigs: true, DisableJetStreamBanner: true,
	}
	if cfg.Listen != "" {
		if err := listen(opts, cfg.Listen); err != nil {
			return nil, err
		}
	}
	dir, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	opts.StoreDir = dir.path()
	s, err := server.NewServer(opts)
	if err != nil {
		_ = dir.Close()
		return nil, fmt.Errorf("embedded NATS in %s: %w", cfg.Dir, err)
	}
	s.SetLoggerV2(logger{cfg.Log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		s.Shutdown()
		_ = dir.Close()
		return nil, fmt.Errorf("embedded NATS in %s: not ready in 20s", cfg.Dir)
	}
	return &Server{Server: s, dir: dir}, nil
}

func listen(opts *server.Options, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("embedded NATS: listen %q is not host:port: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("embedded NATS: listen %q is not a loopback address; anybody who reaches it may read and write", addr)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("embedded NATS: listen %q: port is not a number", addr)
	}
	if n == 0 {
		n = server.RANDOM_PORT
	}
	opts.DontListen, opts.Host, opts.Port = false, host, n
	return nil
}

// watchEvery is how often Watch looks at the directory.
const watchEvery = time.Second

// Watch waits until ctx is done, and returns nil, or until the server cannot go on:
// with ErrGone, wrapped, when the directory is removed, moved or made anew by
// somebody, since nothing is kept any more then, and what is read may be wrong; with
// ErrFull when there is room again after a write has failed, since a server that has
// seen that takes nothing more for the stream until it is started again.
func (s *Server) Watch(ctx context.Context) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		if err := s.dir.check(); err != nil {
			return err
		}
		if why := s.refused(); why != "" && s.dir.room() {
			return fmt.Errorf("%w, and has room again: start again, which goes on from what is stored; %s: %s", ErrFull, s.dir.name, why)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// refused is the failed write after which a stream takes nothing more; "" when there
// is none.
func (s *Server) refused() string {
	h := s.Healthz(&server.HealthzOptions{Details: true})
	for _, e := range h.Errors {
		if e.Type == server.HealthzErrorStream && strings.Contains(e.Error, "write error") {
			return e.Error
		}
	}
	return ""
}

// stopTime is what a server has to write out what it holds.
const stopTime = 10 * time.Second

// Close stops the server, writes out what it holds, and gives the directory
// free. (The lame duck mode of the server does nothing without a listener.) A
// server that does not stop in 10 s keeps the directory until the process ends.
func (s *Server) Close() error {
	stopped := make(chan struct{})
	go func() {
		s.Shutdown()
		s.WaitForShutdown()
		close(stopped)
	}()
	select {
	case <-stopped:
		return s.dir.Close()
	case <-time.After(stopTime):
		return fmt.Errorf("embedded NATS in %s: not stopped in %s", s.dir.name, stopTime)
	}
}

// logger gives the server's log to slog.
type logger struct{ log *slog.Logger }

var _ server.Logger = logger{}

func (l logger) Noticef(format string, v ...any) {
	l.log.Debug("nats", "message", fmt.Sprintf(format, v...))
}

func (l logger) Warnf(format string, v ...any) {
	l.log.Warn("nats", "message", fmt.Sprintf(format, v...))
}

func (l logger) Errorf(format string, v ...any) {
	l.log.Error("nats", "message", fmt.Sprintf(format, v...))
}

func (l logger) Fatalf(format string, v ...any) {
	l.log.Error("nats", "message", fmt.Sprintf(format, v...))
}
func (l logger) Debugf(format string, v ...any) {}
func (l logger) Tracef(format string, v ...any) {}
