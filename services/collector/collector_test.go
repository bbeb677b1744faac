package collector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// scripted is a source that emits what it is told, from its cursor on.
type scripted struct {
	name  string
	steps []Emission
	mu    sync.Mutex
	began []string // cursors that Run was given
	done  chan struct{}
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Run(ctx context.Context, cursor []byte, emit Emit) error {
	s.mu.Lock()
	s.began = append(s.began, string(cursor))
	s.mu.Unlock()
	for _, e := range s.steps {
		if cursor != nil && e.Cursor != nil && string(e.Cursor) <= string(cursor) {
			continue
		}
		if err := emit(ctx, e); err != nil {
			return err
		}
	}
	if s.done != nil {
		close(s.done)
	}
	<-ctx.Done()
	return ctx.Err()
}

func env(t *testing.T, b *bus.Bus) service.Env {
	t.Helper()
	return service.Env{Bus: b, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Health: obs.NewHealth(time.Now)}
}

// start runs a collector until the test or stop ends it.
func start(t *testing.T, c *Collector) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 30s", what)
		case <-look.C:
		}
	}
}

// stored is what a stream holds, in order: the ids of data and of ticks.
func stored(t *testing.T, b *bus.Bus, s *event.Stream) (ids []string, ticks []event.Tick) {
	t.Helper()
	if err := b.Read(t.Context(), s, bus.ReadOptions{}, func(m bus.Message) error {
		if tick, ok := m.Data.(event.Tick); ok {
			ticks = append(ticks, tick)
		}
		ids = append(ids, m.ID)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ids, ticks
}

func batch(source string, at time.Time) event.Outgoing {
	ls := event.LabelsOf(map[string]string{"__name__": "up", "namespace": "shop", "workload": "web"})
	return event.MetricsRead.Out(event.MetricBatch{Source: source, Query: "q", Partition: 3, Namespace: "shop", Step: at, Series: []event.Series{{ID: ls.Hash(), Labels: ls, Points: []event.Point{{T: at.UnixMilli(), V: 1}}}}})
}

func metricSteps(source string, n int) (out []Emission) {
	for i := 1; i <= n; i++ {
		out = append(out, Emission{Stream: event.Metrics, Events: []event.Outgoing{batch(source, step(i))}, Closed: step(i), Cursor: fmt.Appendf(nil, "%03d", i)})
	}
	return out
}

func TestEventsAreStoredBeforeTheirTickAndARestartRepeatsNothing(t *testing.T) {
	b := bustest.Start(t)
	steps := metricSteps("a", 4)
	first := &scripted{name: "a", steps: steps[:2], done: make(chan struct{})}
	stop := start(t, NewCollector(Settings{Env: env(t, b), Sources: []Running{{first, []*event.Stream{event.Metrics}}}, Patience: time.Hour}))
	kv, err := b.KV(t.Context(), bus.BucketCollector)
	if err != nil {
		t.Fatal(err)
	}
	cursor := func() string {
		v, _, err := kv.Get(t.Context(), "a")
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			t.Fatal(err)
		}
		return string(v)
	}
	eventually(t, "the second cursor", func() bool { return cursor() == "002" })
	stop()
	// The cursor was lost on the way: everything is read, and published, again.
	if _, err := kv.Put(t.Context(), "a", []byte("001")); err != nil {
		t.Fatal(err)
	}
	second := &scripted{name: "a", steps: steps}
	stop = start(t, NewCollector(Settings{Env: env(t, b), Sources: []Running{{second, []*event.Stream{event.Metrics}}}, Patience: time.Hour}))
	eventually(t, "the last cursor", func() bool { return cursor() == "004" })
	stop()
	if got := fmt.Sprint(first.began, second.began); got != "[] [001]" {
		t.Errorf("sources began from %s, want from nothing and from 001", got)
	}
	ids, _ := stored(t, b, event.Metrics)
	var want []string
	for i := 1; i <= 4; i++ {
		want = append(want, steps[i-1].Events[0].ID, fmt.Sprintf("tick:metrics:%d", step(i).UnixMilli()))
	}
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	slices.Sort(want)
	if !slices.Equal(sorted, want) {
		t.Errorf("stored %v, want each of %v once", ids, want)
	}
	for i := 1; i <= 4; i++ {
		if slices.Index(ids, fmt.Sprintf("tick:metrics:%d", step(i).UnixMilli())) < slices.Index(ids, steps[i-1].Events[0].ID) {
			t.Errorf("tick %d stands before its data in %v", i, ids)
		}
	}
}

func TestABlindSourceHoldsItsStreamForThePatienceOnlyAndNoOtherStream(t *testing.T) {
	b := bustest.Start(t)
	blind := &scripted{name: "b", steps: []Emission{{Stream: event.Metrics, Blind: &event.Blindness{Source: "b", Since: step(0), Reason: "unreachable"}}}}
	sees := &scripted{name: "a", steps: metricSteps("a", 3)}
	logs := &scripted{name: "l", steps: []Emission{{Stream: event.Logs, Closed: step(1)}}}
	var mu sync.Mutex
	now := step(3)
	e := env(t, b)
	c := NewCollector(Settings{
		Env: e, Patience: time.Minute, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
		Sources: []Running{{sees, []*event.Stream{event.Metrics}}, {blind, []*event.Stream{event.Metrics}}, {logs, []*event.Stream{event.Logs}}},
	})
	start(t, c)
	eventually(t, "a tick of the logs", func() bool { _, ticks := stored(t, b, event.Logs); return len(ticks) > 0 })
	if _, ticks := stored(t, b, event.Metrics); len(ticks) != 0 {
		t.Errorf("ticks %+v within the patience", ticks)
	}
	parts, ready := e.Health.Parts()
	if !ready || !slices.ContainsFunc(parts, func(p obs.Part) bool {
		return p.Degraded && p.Name == "source b" && strings.Contains(p.Why, "blind since")
	}) {
		t.Errorf("health %+v", parts)
	}
	if v := testutil.ToFloat64(c.blind.WithLabelValues("b")); v != 1 {
		t.Errorf("oncall_collector_source_blind{source=b} = %v", v)
	}
	mu.Lock()
	now = now.Add(2 * time.Minute)
	mu.Unlock()
	eventually(t, "ticks after the patience", func() bool { _, ticks := stored(t, b, event.Metrics); return len(ticks) > 0 })
	_, ticks := stored(t, b, event.Metrics)
	for _, tick := range ticks {
		if !slices.ContainsFunc(tick.Blind, func(x event.Blindness) bool { return x.Source == "b" && x.Since.Equal(step(0)) }) {
			t.Errorf("tick %+v does not name the source that is blind", tick)
		}
	}
}

func TestOfTwoCollectorsOneReads(t *testing.T) {
	s := bustest.Server(t)
	first, second := &scripted{name: "a"}, &scripted{name: "a"}
	stop := start(t, NewCollector(Settings{Env: env(t, bustest.Connect(t, s, nil)), Sources: []Running{{first, nil}}, Patience: time.Hour}))
	reads := func(s *scripted) bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.began) > 0 }
	eventually(t, "the first to read", func() bool { return reads(first) })
	start(t, NewCollector(Settings{Env: env(t, bustest.Connect(t, s, nil)), Sources: []Running{{second, nil}}, Patience: time.Hour}))
	if reads(second) {
		t.Error("both read")
	}
	stop()
	eventually(t, "the second to take over", func() bool { return reads(second) })
}

func TestASourceThatCannotWorkEndsTheCollectorWithItsName(t *testing.T) {
	b := bustest.Start(t)
	c := NewCollector(Settings{Env: env(t, b), Sources: []Running{{broken{}, nil}}, Patience: time.Hour})
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "source broken: no such file") {
		t.Errorf("Run: %v", err)
	}
	c = NewCollector(Settings{Env: env(t, b), Patience: time.Hour, Serve: []func(context.Context) error{func(context.Context) error { return errors.New("address in use") }}})
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address in use") {
		t.Errorf("Run: %v", err)
	}
}

type broken struct{}

func (broken) Name() string                            { return "broken" }
func (broken) Run(context.Context, []byte, Emit) error { return errors.New("no such file") }

// answering is a retriever that counts.
type answering struct{ n int }

func (a *answering) Retrieve(_ context.Context, q evidence.Query) (event.Evidence, error) {
	a.n++
	return evidence.New(q, []string{"an answer"}, nil), nil
}

func TestLookupsAreBoundedAuditedAndStored(t *testing.T) {
	b := bustest.Start(t)
	var audits []event.Audit
	r := &answering{}
	l := &lookups{mux: r, env: env(t, b), audit: func(a event.Audit) { audits = append(audits, a) }}
	ask := func(incident, expr string) event.Evidence {
		t.Helper()
		body, err := json.Marshal(evidence.Query{Source: evidence.Prometheus, Expr: expr, End: noon, Incident: incident})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := l.answer(t.Context(), body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.(event.Evidence)
	}
	for range maxPerIncident {
		ask("i1", "up")
	}
	if e := ask("i1", "up"); !strings.Contains(e.Failed, "budget of 400") {
		t.Errorf("beyond the budget: %+v", e)
	}
	if e := ask("i2", "up"); e.Failed != "" {
		t.Errorf("another incident: %+v", e)
	}
	if r.n != maxPerIncident+1 || len(audits) != r.n || audits[0].Incident != "i1" || audits[0].Query != "up" {
		t.Errorf("%d asked, %d audited: %+v", r.n, len(audits), audits[0])
	}
	if ids, _ := stored(t, b, event.Evidences); len(ids) != 2 {
		t.Errorf("stored %v, want one answer for each incident", ids)
	}
	for name, body := range map[string]string{"no JSON": "{", "an unknown source": `{"source":"etcd","expr":"x","end":"2026-11-24T12:00:00Z"}`, "no question": `{"source":"loki"}`} {
		if _, err := l.answer(t.Context(), []byte(body)); err == nil {
			t.Errorf("%s is answered", name)
		}
	}
}

func TestAuditsThatCannotBeKeptAreCountedAndNotWaitedFor(t *testing.T) {
	b := bustest.Start(t)
	a := newAuditor(env(t, b), redact.New(redact.Options{Key: []byte("0123456789abcdef")}))
	n := cap(a.queue) + 10
	for i := range n { // nobody takes them yet
		a.record(event.Audit{Service: "collector", Source: "prometheus", Operation: "query", Query: fmt.Sprint(i), Time: noon, Error: "answered 500: password=hunter2hunter2"})
	}
	if v := testutil.ToFloat64(a.dropped); v != 10 {
		t.Errorf("%v dropped, want 10", v)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.run(ctx) }()
	eventually(t, "the others", func() bool { ids, _ := stored(t, b, event.Audits); return len(ids) == n-10 })
	cancel()
	_ = <-done
	if err := b.Read(t.Context(), event.Audits, bus.ReadOptions{}, func(m bus.Message) error {
		if strings.Contains(string(m.Payload), "hunter2") {
			t.Errorf("published %s", m.Payload)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestTheSectionsErrorsNameLineAndField(t *testing.T) {
	for want, text := range map[string]string{
		"collector.promethus: unknown; it is one of patience": "patience: 1m\npromethus: {}\n",
		"file.yaml:1: collector: is not a mapping":            "- a\n",
	} {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(text), &n); err != nil {
			t.Fatal(err)
		}
		if _, err := Spec.Check("file.yaml", n.Content[0]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
