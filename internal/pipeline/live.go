package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
	kubernetes "github.com/oncall-copilot/oncall/services/collector/kubernetes"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/correlator"
)

// Live records live sources: every service runs on the host's bus until all
// telemetry up to a time has been read and judged, and then the bus is
// recorded. What is on the bus is redacted, and nothing else is written.
type Live struct {
	Host *Host
	Dir  string
	// Since is how far back metrics and logs are read, from their sources'
	// history. Kubernetes has none but its events and rollouts of the last hour.
	Since time.Duration
	// History is how far back metrics are learnt from before that. What began in it
	// is told when it goes on at its end.
	History time.Duration
	// Logs is how far back logs are read; 0 means Since.
	Logs time.Duration
	// For is how long is watched on from now.
	For time.Duration
	// Late is how long after the end a source may take before the recording goes
	// without the rest of it; 0 means a minute.
	Late     time.Duration
	Manifest bundle.Manifest
}

// Run records, and writes the bundle's folder.
func (l *Live) Run(ctx context.Context) (bundle.Manifest, error) {
	objects, err := bundle.Create(l.Dir, "objects.jsonl")
	if err != nil {
		return l.Manifest, err
	}
	seen := observer{w: objects}
	if err := errors.Join(l.read(ctx, seen.observe), seen.err, objects.Close()); err != nil {
		return l.Manifest, err
	}
	return Record(ctx, l.Host.Bus, l.Dir, Recording{ObjectsWritten: true, Manifest: l.Manifest})
}

// Read is Run without a recording: what was found is on the bus. A negative For
// ends that long ago, so that nothing has to be waited for.
func (l *Live) Read(ctx context.Context) error { return l.read(ctx, nil) }

func (l *Live) read(ctx context.Context, observe func(kubernetes.Observation)) error {
	now := time.Now()
	start, end := now.Add(-l.Since).Truncate(time.Minute), now.Add(l.For)
	held := make(chan struct{})
	c := l.Host.Config.Section(collector.Spec.Name).(collector.Config)
	c.Until, c.Held = end, func() { close(held) }
	l.Manifest.Sources = map[string]string{}
	var seed []func(bus.KV) error
	c.Edit(func(kind string, cfg any) any {
		name := kind
		switch s := cfg.(type) {
		case prometheus.Config:
			name, s.MaxCatchUp = s.Name, max(s.MaxCatchUp, l.Since+10*time.Minute)
			s.WarmStart = prometheus.WarmStart{Off: l.History == 0, History: min(l.History, prometheus.MostHistory*s.Step)}
			seed = append(seed, cursorOf(ctx, name, prometheus.FirstAfter(start.Truncate(s.Step).Add(-s.Step))))
			cfg = s
		case loki.Config:
			name, s.MaxCatchUp = s.Name, max(s.MaxCatchUp, l.Since+l.Logs+10*time.Minute)
			from := start
			if l.Logs > 0 {
				from = now.Add(-l.Logs)
			}
			seed = append(seed, cursorOf(ctx, name, loki.After(from.Truncate(s.Window))))
			cfg = s
		case kubernetes.Config:
			name = s.Name
			s.Observe = observe
			cfg = s
		}
		l.Manifest.Sources[name] = kind
		return cfg
	})
	l.Host.Config.SetSection(collector.Spec.Name, c)
	if l.Since > 0 {
		// A cluster's history is there at once, and that of metrics and logs is
		// read on for a while: what comes last is not late.
		cc := l.Host.Config.Section(correlator.Spec.Name).(correlator.Config)
		cc.Grace = patient
		l.Host.Config.SetSection(correlator.Spec.Name, cc)
		kv, err := l.Host.Bus.KV(ctx, bus.BucketCollector)
		if err != nil {
			return err
		}
		for _, f := range seed {
			if err := f(kv); err != nil {
				return err
			}
		}
	}
	return l.watch(ctx, end, held)
}

func cursorOf(ctx context.Context, source string, cursor []byte) func(bus.KV) error {
	return func(kv bus.KV) error {
		_, err := kv.Put(ctx, event.Token(source), cursor)
		return err
	}
}

// watch runs every service until the sources have been read up to the end, and
// what they gave is judged.
func (l *Live) watch(ctx context.Context, end time.Time, held <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1) // the services' end
	go func() { done <- l.Host.Run(ctx, Services...) }()
	late := l.Late
	if late == 0 {
		late = time.Minute
	}
	timer := time.NewTimer(time.Until(end) + late + l.Since/20) // history takes its time
	defer timer.Stop()
	select {
	case <-held:
	case <-timer.C:
		l.Host.Log.Warn("not every source was read to the end", "end", end.UTC(), "waited", late.String())
	case err := <-done:
		if err == nil {
			err = context.Cause(ctx)
		}
		return err
	}
	r := &Replay{Host: l.Host, From: FromTelemetry, workers: []*Host{l.Host}}
	err := r.settle(ctx)
	cancel(nil)
	return errors.Join(err, clean(<-done))
}
