// Package embedded runs a NATS server with JetStream in this process: the bus
// of `oncall up`, of the demo, of replays and of every test. It is the real
// server with its file store, and listens on nothing unless asked to.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

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
	lock *os.File
}

// ErrInUse is wrapped by the error of Start when another process has the
// directory.
var ErrInUse = errors.New("data directory is in use")

// Start starts a server and waits until it is ready.
func Start(cfg Config) (*Server, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 2 << 30
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	opts := &server.Options{
		ServerName: "oncall", DontListen: true, JetStream: true, StoreDir: cfg.Dir,
		JetStreamMaxStore: cfg.MaxBytes, JetStreamMaxMemory: 64 << 20, MaxPayload: 1 << 20,
		// One machine: a sync for every message would cost a hundredfold, and what
		// the last second held is read again from the sources.
		SyncInterval: time.Second, NoSigs: true, DisableJetStreamBanner: true,
	}
	if cfg.Listen != "" {
		if err := listen(opts, cfg.Listen); err != nil {
			return nil, err
		}
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("embedded NATS in %s: %w", cfg.Dir, err)
	}
	s.SetLoggerV2(logger{cfg.Log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		s.Shutdown()
		_ = lock.Close()
		return nil, fmt.Errorf("embedded NATS in %s: not ready in 20s", cfg.Dir)
	}
	return &Server{Server: s, lock: lock}, nil
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

// lockDir takes the directory for this process, for as long as it lives.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	name := filepath.Join(dir, "oncall.lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(name)
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s belongs to process %s; stop it, or choose another with --data", ErrInUse, dir, strings.TrimSpace(string(pid)))
		}
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

// Close stops the server, writes out what it holds, and gives the directory
// free. (The lame duck mode of the server does nothing without a listener.)
func (s *Server) Close() error {
	s.Shutdown()
	s.WaitForShutdown()
	return s.lock.Close()
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
