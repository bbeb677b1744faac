// Package pipeline runs the services in one process: for `oncall up`, the
// demo, replays and tests, on an embedded bus or an outside one.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	_ "github.com/oncall-copilot/oncall/services/collector/sources" // every source that we ship
	"github.com/oncall-copilot/oncall/services/correlator"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors" // every detector that we ship
	"github.com/oncall-copilot/oncall/services/notifier"
	_ "github.com/oncall-copilot/oncall/services/notifier/channels" // every channel that we ship
	"github.com/oncall-copilot/oncall/services/reasoner"
)

// Services are the five, in the order the data flows.
var Services = []service.Spec{collector.Spec, detector.Spec, correlator.Spec, reasoner.Spec, notifier.Spec}

// Options say where the bus of a process is.
type Options struct {
	Data     string // directory of the embedded bus; "" makes a temporary one
	Listen   string // loopback address of the embedded bus, for other programs; "" for none
	MaxBytes int64  // of the embedded bus; 0 means 2 GiB
	Log      *slog.Logger
	Audit    func(event.Audit) // told of every call to a source too; nil for nobody
	Follow   bool              // policies that change, see [service.Options]
}

// Host is a process that can run services.
type Host struct {
	*service.Process
	server *embedded.Server
	remove string // temporary directory
	log    *slog.Logger
}

// Open starts the embedded bus, unless the configuration names servers, and
// opens the process on it.
func Open(ctx context.Context, cfg *service.Config, o Options) (*Host, error) {
	h := &Host{log: o.Log}
	so := service.Options{Name: "oncall", Log: o.Log, Audit: o.Audit, Follow: o.Follow}
	if cfg.Bus.URL == "" {
		if o.Data == "" {
			dir, err := os.MkdirTemp("", "oncall-")
			if err != nil {
				return nil, fmt.Errorf("temporary data directory: %w", err)
			}
			o.Data, h.remove = dir, dir
		}
		if o.MaxBytes == 0 {
			o.MaxBytes = 2 << 30
		}
		s, err := embedded.Start(embedded.Config{Dir: o.Data, Listen: o.Listen, MaxBytes: o.MaxBytes, Log: o.Log})
		if err != nil {
			return nil, errors.Join(err, h.clean())
		}
		h.server, so.InProcess = s, s
		cfg.Bus.MaxBytes = o.MaxBytes * 9 / 10 // headroom for the server's own
	}
	p, err := service.Open(ctx, cfg, so)
	if err != nil {
		return nil, errors.Join(err, h.stop())
	}
	h.Process = p
	return h, nil
}

// Run is Process.Run, which also ends, with embedded.ErrGone or embedded.ErrFull,
// when the embedded bus cannot go on.
func (h *Host) Run(ctx context.Context, specs ...service.Spec) error {
	if h.server == nil {
		return h.Process.Run(ctx, specs...)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	watch.Go(func() {
		if err := h.server.Watch(ctx); err != nil {
			h.Log.Error("the bus cannot go on, stopping", "err", err)
			if errors.Is(err, embedded.ErrGone) {
				err = &service.UsageError{Err: err}
			}
			cancel(err)
		}
	})
	return h.Process.Run(ctx, specs...)
}

// Worker opens another process on the same bus, which shares the work of
// services that run in both. Close it before the host.
func (h *Host) Worker(ctx context.Context) (*Host, error) {
	cfg := *h.Config
	cfg.Obs.Listen = ""
	so := service.Options{Name: "oncall-worker", Log: h.log}
	if h.server != nil {
		so.InProcess = h.server
	}
	p, err := service.Open(ctx, &cfg, so)
	if err != nil {
		return nil, err
	}
	return &Host{Process: p, log: h.log}, nil
}

// Address is where the embedded bus listens; "" when it does not.
func (h *Host) Address() string {
	if h.server == nil || h.server.Addr() == nil {
		return ""
	}
	return h.server.ClientURL()
}

// Close ends the process and its bus.
func (h *Host) Close() error { return errors.Join(h.Process.Close(), h.stop()) }

func (h *Host) stop() error {
	var err error
	if h.server != nil {
		err = h.server.Close()
	}
	return errors.Join(err, h.clean())
}

func (h *Host) clean() error {
	if h.remove == "" {
		return nil
	}
	return os.RemoveAll(h.remove)
}
