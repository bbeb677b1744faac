package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
)

// Exit codes, the same for every program of the project.
const (
	ExitOK          = 0
	ExitGate        = 1   // a gate failed
	ExitUsage       = 2   // wrong flags, configuration or input
	ExitUnreachable = 3   // a source or the bus cannot be reached
	ExitUndecided   = 4   // a canary is on hold
	ExitInternal    = 5   // our own fault
	ExitInterrupted = 130 // by SIGINT
)

// drainTime is how long services have to stop in; Kubernetes grants 30 s.
const drainTime = 25 * time.Second

// Names are the services, in the order the data flows.
var Names = []string{"collector", "detector", "correlator", "reasoner", "notifier"}

// Process is what the services of one process share.
type Process struct {
	Log      *slog.Logger
	Metrics  *obs.Registry
	Tracing  *obs.Tracing
	Health   *obs.Health
	Bus      *bus.Bus
	Policies *policy.Store
	Config   *Config

	audit       func(event.Audit)
	now         func() time.Time
	follows     bool
	reloadEvery time.Duration

	// serving is the end of the health endpoints, when Open has begun them.
	serving     chan error
	stopServing context.CancelFunc
}

// Options are what a program decides before its services start.
type Options struct {
	Name      string                     // of the process, in logs and connections
	InProcess nats.InProcessConnProvider // the server in this process, or nil
	Log       *slog.Logger               // nil: JSON to standard error
	Layers    []fs.FS                    // further policy folders; later ones win
	Audit     func(event.Audit)          // what [Env] hands to the services; nil for nothing
	Now       func() time.Time           // this machine's clock; nil: time.Now
	// Patient makes Open wait, with its health endpoints served, for a bus that
	// refuses the credentials, which may be replaced; else it is an error.
	Patient bool
	// Follow starts the services again when policies have changed that they read at
	// their start, and are right. Else it is said that a restart is due.
	Follow bool
}

// Open connects to the bus and reads the policies. Close ends what it began.
func Open(ctx context.Context, cfg *Config, o Options) (*Process, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Process{Config: cfg, Log: o.Log, Metrics: obs.NewRegistry(), Health: obs.NewHealth(o.Now), now: o.Now, audit: o.Audit, follows: o.Follow, reloadEvery: reloadEvery}
	if p.Log == nil {
		p.Log = obs.NewLogger(os.Stderr, cfg.Obs)
	}
	layers := append([]fs.FS{policies.FS}, o.Layers...)
	if cfg.Policies != "" {
		if st, err := os.Stat(cfg.Policies); err != nil || !st.IsDir() {
			return nil, &policy.Error{File: "policies", Problems: []policy.Problem{{Text: fmt.Sprintf("%s is not a folder", cfg.Policies)}}}
		}
		layers = append(layers, os.DirFS(cfg.Policies))
	}
	var err error
	if p.Policies, err = policy.NewStore(layers...); err != nil {
		return nil, err
	}
	if p.Tracing, err = obs.NewTracing(ctx, cfg.Obs, o.Name); err != nil {
		return nil, err
	}
	p.Health.NotReady("bus", "not connected yet")
	connecting := ctx
	if o.Patient {
		var cancel context.CancelCauseFunc
		connecting, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		p.serve(ctx, cancel)
	}
	p.Bus, err = bus.Connect(connecting, cfg.Bus, bus.Settings{
		Log: p.Log, Metrics: p.Metrics, Tracer: p.Tracing.Tracer(), Name: o.Name, InProcess: o.InProcess,
		Source: "//" + cfg.Cluster + "/" + o.Name, Patient: o.Patient, Now: o.Now,
		OnState: func(ready bool, why string) {
			if ready {
				p.Health.Ready("bus")
			} else {
				p.Health.NotReady("bus", why)
			}
		},
	})
	if err != nil {
		if cause := context.Cause(connecting); cause != nil && ctx.Err() == nil {
			err = cause // the endpoints cannot be served
		}
		if p.stopServing != nil {
			p.stopServing()
			_ = <-p.serving // the cause, which is told already
		}
		return nil, errors.Join(err, p.Tracing.Close())
	}
	return p, nil
}

// serve begins the health endpoints; failed is told when they cannot be served.
func (p *Process) serve(ctx context.Context, failed context.CancelCauseFunc) {
	ctx, p.stopServing = context.WithCancel(ctx)
	p.serving = make(chan error, 1) // Run may never ask
	go func() {
		err := obs.Serve(ctx, p.Config.Obs, p.Metrics, p.Health)
		if err != nil {
			failed(err)
		}
		p.serving <- err
		close(p.serving)
	}()
}

// served serves the health endpoints until ctx is done.
func (p *Process) served(ctx context.Context) error {
	if p.serving == nil {
		return obs.Serve(ctx, p.Config.Obs, p.Metrics, p.Health)
	}
	select {
	case err := <-p.serving:
		return err
	case <-ctx.Done():
		p.stopServing()
		return <-p.serving
	}
}

// Close ends connections, in the reverse order of Open.
func (p *Process) Close() error {
	if p.stopServing != nil {
		p.stopServing()
	}
	return errors.Join(p.Bus.Close(), p.Tracing.Close())
}

// Run makes the services, all before any runs so that configuration errors
// come first, and runs them until ctx is done or one fails, which stops the
// others.
func (p *Process) Run(ctx context.Context, specs ...Spec) error {
	g, err := p.make(specs)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel(nil)
	beside.Go(func() {
		if err := p.served(ctx); err != nil {
			cancel(err)
		}
	})
	var next chan *generation
	if p.follows {
		next = make(chan *generation)
	}
	f := p.follower(specs, next)
	for _, c := range []prometheus.Collector{f.loaded, f.starts} {
		if err := p.Metrics.Register(c); err == nil {
			defer p.Metrics.Unregister(c)
		}
	}
	beside.Go(func() { f.run(ctx) })
	for g != nil && err == nil {
		g, err = p.run(ctx, g, next)
	}
	return err
}

// Main is the whole of a service's main function: it runs the services as a
// process of their own and returns the exit code.
func Main(args []string, specs ...Spec) int { return MainWith(Options{}, args, specs...) }

// MainWith is [Main] for a program that decides more than its flags do. The
// name in o is that of the first service.
func MainWith(o Options, args []string, specs ...Spec) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, o, args, os.Stdout, specs...)
	if err == nil {
		return ExitOK
	}
	if errors.Is(err, flag.ErrHelp) {
		return ExitOK
	}
	fmt.Fprintln(os.Stderr, "oncall:", err)
	return ExitCode(err)
}

func run(ctx context.Context, o Options, args []string, out io.Writer, specs ...Spec) error {
	name := specs[0].Name
	o.Name = name
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	file := flags.String("config", os.Getenv("ONCALL_CONFIG"), "configuration `file`; also ONCALL_CONFIG")
	version := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return &UsageError{err}
	}
	if *version {
		fmt.Fprintln(out, name, Version())
		return nil
	}
	cfg, err := Load(*file, Names, specs...)
	if err != nil {
		return err
	}
	if cfg.Bus.URL == "" {
		return &UsageError{fmt.Errorf("%s: bus.url: is missing; a service alone needs a NATS server, for example bus: {url: nats://nats:4222}", *file)}
	}
	o.Patient, o.Follow = true, true
	p, err := Open(ctx, cfg, o)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	p.Log.Info("started", "service", name, "version", Version(), "policies", p.Policies.Hash())
	return p.Run(ctx, specs...)
}

// UsageError marks an error of the person who typed the command.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// ExitCode is the exit code for an error.
func ExitCode(err error) int {
	var usage *UsageError
	var bad *policy.Error
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage), errors.As(err, &bad), errors.Is(err, fs.ErrNotExist):
		return ExitUsage
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrAuthorization):
		return ExitUnreachable
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	return ExitInternal
}

// version is set by the linker in releases.
var version string

// Version is the version of this build: of the release, or of the commit.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// Env is what a service of this process gets.
func (p *Process) Env(name string) Env {
	return Env{
		Bus: p.Bus.WithSource("//" + p.Config.Cluster + "/" + name), Log: p.Log, Metrics: p.Metrics,
		Tracer: p.Tracing.Tracer(), Health: p.Health, Policies: p.Policies, Cluster: p.Config.Cluster,
		Audit: p.audit, Now: p.now,
	}
}
