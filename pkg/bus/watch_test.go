package bus_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// gauge is a metric's value for a stream; false when there is none.
func gauge(t *testing.T, reg prometheus.Gatherer, name, stream string) (float64, bool) {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "stream" && l.GetValue() == stream }) {
				return m.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

// watched runs the watch until a condition holds.
func watched(t *testing.T, b *bus.Bus, what string, cond func() bool) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { b.WatchStreams(ctx) })
	defer run.Wait()
	defer stop()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within a minute", what)
		case <-tick.C:
		}
	}
}

func TestStreamsAreWatched(t *testing.T) {
	s, reg := bustest.Server(t), prometheus.NewRegistry()
	cfg := bus.DefaultConfig()
	cfg.MaxBytes = 1 << 30
	b, err := bus.Connect(t.Context(), cfg, bus.Settings{InProcess: s, Name: "watch", Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	var made []string
	for name := range js.StreamNames(t.Context()).Name() {
		made = append(made, name)
	}
	names := bus.StreamNames()
	slices.Sort(made)
	slices.Sort(names)
	if !slices.Equal(made, names) {
		t.Fatalf("made %q, watched %q", made, names)
	}
	if _, err := js.Publish(t.Context(), "audit.test", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	watched(t, b, "the last stream", func() bool { _, ok := gauge(t, reg, "oncall_bus_stream_leader", bus.LastMade); return ok })
	for _, name := range names {
		if v, _ := gauge(t, reg, "oncall_bus_stream_leader", name); v != 1 {
			t.Errorf("%s has a leader: %v", name, v)
		}
		limit, _ := gauge(t, reg, "oncall_bus_stream_limit_bytes", name)
		if used, ok := gauge(t, reg, "oncall_bus_stream_bytes", name); !ok || limit <= used {
			t.Errorf("%s takes %v of %v bytes", name, used, limit)
		}
	}
	if n, _ := gauge(t, reg, "oncall_bus_stream_messages", event.Audits.Name); n != 1 {
		t.Errorf("%v messages, want 1", n)
	}
	if at, ok := gauge(t, reg, "oncall_bus_stream_oldest_timestamp_seconds", event.Audits.Name); !ok || time.Since(time.Unix(int64(at), 0)) > time.Hour {
		t.Errorf("the oldest message is of %v", at)
	}
	if at, ok := gauge(t, reg, "oncall_bus_stream_oldest_timestamp_seconds", event.Incidents.Name); ok {
		t.Errorf("an empty stream has an oldest message, of %v", at)
	}

	if err := js.DeleteStream(t.Context(), event.Audits.Name); err != nil {
		t.Fatal(err)
	}
	watched(t, b, "that a stream that is gone is seen", func() bool {
		v, _ := gauge(t, reg, "oncall_bus_stream_leader", event.Audits.Name)
		return v == 0
	})
	if v, _ := gauge(t, reg, "oncall_bus_stream_leader", event.Incidents.Name); v != 1 {
		t.Error("another stream is taken to be gone as well")
	}
}
