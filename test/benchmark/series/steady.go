package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/detector"
)

// warm are the steps that a steady run begins with and does not count: series are
// new in them.
const warm = 4

// steady has n series come at the pace of the clock over a bus on disk, whose
// detectors write checkpoints as often as they do by default, and states what share of
// a core the process takes: encoding and publishing the samples, the server, decoding,
// the folds, and their checkpoints.
func steady(w io.Writer, cfg detector.Config, store *policy.Store, n int, pace pace) error {
	all, err := parts(cfg, store, n)
	if err != nil {
		return err
	}
	for _, p := range all {
		p.fold = nil // the service has its own
	}
	cfg.MaxSeries = n
	dir, err := os.MkdirTemp("", "series")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server, err := embedded.Start(embedded.Config{Dir: dir, MaxBytes: pace.room})
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	reg, warnings := prometheus.NewRegistry(), slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	busCfg := bus.DefaultConfig()
	busCfg.MaxBytes = pace.room / 10 * 9
	b, err := bus.Connect(ctx, busCfg, bus.Settings{InProcess: server, Name: "series", Source: "//benchmark/oncall", Metrics: reg, Log: warnings})
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	run, err := detector.New(cfg, service.Env{Bus: b, Log: warnings, Metrics: reg, Policies: store})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Run(ctx) }()
	defer func() {
		cancel()
		_ = <-ended // which is that it was cancelled, or was returned
	}()

	rng := rand.New(rand.NewPCG(2, uint64(n)))
	clock := time.NewTicker(pace.step)
	defer clock.Stop()
	var from time.Time
	var used time.Duration
	var folded, written float64
	for step := range warm + pace.steps {
		if step == warm {
			from, used = time.Now(), cpu()
			folded, written = counted(reg, "oncall_detector_observations_total"), counted(reg, "oncall_bus_checkpoints_total")
		}
		at := time.Now().UTC().Truncate(time.Millisecond)
		for _, p := range all {
			p.next(at, rng)
			for i := range p.batches {
				if err := b.Publish(ctx, event.MetricsRead.Out(p.batches[i])); err != nil {
					return err
				}
			}
		}
		if err := b.Publish(ctx, event.MetricsTick.Out(event.Tick{Watermark: at, Signals: []string{"metrics"}})); err != nil {
			return err
		}
		select {
		case <-clock.C:
		case err := <-ended:
			ended <- err
			return fmt.Errorf("detectors ended: %w", err)
		}
	}
	passed := time.Since(from)
	folded, written = counted(reg, "oncall_detector_observations_total")-folded, counted(reg, "oncall_bus_checkpoints_total")-written
	fmt.Fprintf(w, "%d series every %s for %s over a bus, a checkpoint every %s: %.1f %% of a core, %.0f %% of the samples folded in time, %.0f checkpoints of a partition written, %.2f GiB resident\n",
		n, pace.step, passed.Round(time.Second), busCfg.CheckpointEvery, 100*(cpu()-used).Seconds()/passed.Seconds(), 100*folded/float64(n*pace.steps), written, float64(resident())/(1<<30))
	return nil
}

// counted is the sum of a counter over its labels.
func counted(reg prometheus.Gatherer, name string) (sum float64) {
	families, _ := reg.Gather() // what cannot be gathered counts as nothing
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}
