package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func report(incident string, rev int) event.Report {
	return event.Report{Incident: incident, Revision: rev, Time: noon.Add(time.Duration(rev) * time.Second), Entity: event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}}
}

// eventually waits for a condition with a deadline.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 20s", what)
		case <-tick.C:
		}
	}
}

// seen collects strings from several goroutines.
type seen struct {
	mu  sync.Mutex
	all []string
}

func (s *seen) add(v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, v)
}

func (s *seen) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

func read(t *testing.T, b *bus.Bus, s *event.Stream) []bus.Message {
	t.Helper()
	var out []bus.Message
	if err := b.Read(t.Context(), s, bus.ReadOptions{}, func(m bus.Message) error { out = append(out, m); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPublishStoresARepeatedIDOnce(t *testing.T) {
	b := bustest.Start(t)
	for range 3 {
		if err := b.Publish(t.Context(), event.ReportDrafted.Out(report("a", 1)), event.ReportDrafted.Out(report("a", 2))); err != nil {
			t.Fatal(err)
		}
	}
	got := read(t, b, event.Reports)
	if len(got) != 2 {
		t.Fatalf("stream holds %d messages, want 2", len(got))
	}
	m := got[0]
	if m.ID != "r:a:1" || m.Subject != "reports.a.drafted" || m.About != "shop/deployment/web" || !m.Time.Equal(noon.Add(time.Second)) {
		t.Errorf("attributes %+v", m.Attributes)
	}
	if r, ok := m.Data.(event.Report); !ok || r.Revision != 1 {
		t.Errorf("data %#v", m.Data)
	}
}

func TestAHandlersResultIsTheAcknowledgement(t *testing.T) {
	b := bustest.Start(t)
	var calls seen
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	cfg := bus.ConsumerConfig{Durable: "test", Backoff: []time.Duration{10 * time.Millisecond}, MaxDeliver: 3}
	go func() {
		done <- bus.Consume(ctx, b, event.ReportDrafted, cfg, func(_ context.Context, e event.Event[event.Report]) error {
			calls.add(e.Data.Incident)
			n := 0
			for _, c := range calls.list() {
				if c == e.Data.Incident {
					n++
				}
			}
			switch e.Data.Incident {
			case "reject":
				return bus.Reject(errors.New("never"))
			case "retry":
				if n < 2 {
					return bus.Retry(errors.New("later"), 10*time.Millisecond)
				}
			case "panic":
				panic("boom")
			case "error":
				return errors.New("always")
			}
			return nil
		})
	}()
	for _, i := range []string{"ok", "reject", "retry", "panic", "error"} {
		if err := bus.Publish(t.Context(), b, event.ReportDrafted, report(i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "three dead letters", func() bool { return len(read(t, b, event.DeadLetters)) == 3 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Consume ended with %v", err)
	}
	count := map[string]int{}
	for _, c := range calls.list() {
		count[c]++
	}
	want := map[string]int{"ok": 1, "reject": 1, "retry": 2, "panic": 3, "error": 3}
	for k, n := range want {
		if count[k] != n {
			t.Errorf("%s was delivered %d times, want %d", k, count[k], n)
		}
	}
	reasons := ""
	for _, m := range read(t, b, event.DeadLetters) {
		reasons += m.Data.(event.DeadLetter).Reason + "\n"
	}
	for _, r := range []string{"never", "panic: boom", "always"} {
		if !strings.Contains(reasons, r) {
			t.Errorf("no dead letter says %q:\n%s", r, reasons)
		}
	}
}

func TestPoisonGoesToTheDeadLettersAndTheNextMessageIsHandled(t *testing.T) {
	b := bustest.Start(t)
	poison := map[string][]string{"Nats-Msg-Id": {"p1"}, "ce-specversion": {"1.0"}, "ce-id": {"p1"}, "ce-type": {"dev.oncall.report.drafted.v1"}, "ce-source": {"//x/y"}}
	if err := b.Republish(t.Context(), "reports.x.drafted", poison, []byte("{not json")); err != nil {
		t.Fatal(err)
	}
	if err := b.Republish(t.Context(), "reports.x.drafted", map[string][]string{"Nats-Msg-Id": {"p2"}}, []byte("no event at all")); err != nil {
		t.Fatal(err)
	}
	if err := bus.Publish(t.Context(), b, event.ReportDrafted, report("good", 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls seen
	go func() {
		_ = bus.Consume(ctx, b, event.ReportDrafted, bus.ConsumerConfig{Durable: "test"}, func(_ context.Context, e event.Event[event.Report]) error {
			calls.add(e.Data.Incident)
			return nil
		})
	}()
	eventually(t, "the good message", func() bool { return slices.Equal(calls.list(), []string{"good"}) })
	letters := read(t, b, event.DeadLetters)
	if len(letters) != 2 {
		t.Fatalf("%d dead letters, want 2", len(letters))
	}
	if got := string(letters[0].Data.(event.DeadLetter).Payload); got != "{not json" {
		t.Errorf("payload %q was not kept", got)
	}
}

func TestKeyValueUpdateRefusesAnOvertakenRevision(t *testing.T) {
	b := bustest.Start(t)
	kv, err := b.KV(t.Context(), bus.BucketConfig)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := kv.Get(t.Context(), "a.b"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("Get of nothing = %v", err)
	}
	rev, err := kv.Update(t.Context(), "a.b", []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Update(t.Context(), "a.b", []byte("x"), 0); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("second create = %v, want a conflict", err)
	}
	if _, err := kv.Update(t.Context(), "a.b", []byte("2"), rev); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Update(t.Context(), "a.b", []byte("x"), rev); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("update of an old revision = %v, want a conflict", err)
	}
	if keys, err := kv.Keys(t.Context(), "a."); err != nil || !slices.Equal(keys, []string{"a.b"}) {
		t.Errorf("Keys = %v, %v", keys, err)
	}
	if err := kv.Delete(t.Context(), "a.b"); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Update(t.Context(), "a.b", []byte("3"), 0); err != nil {
		t.Errorf("create after delete = %v", err)
	}
}

func TestOnlyOneLeads(t *testing.T) {
	s := bustest.Server(t)
	var who seen
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, stopFirst := context.WithCancel(ctx)
	lead := func(ctx context.Context, name string) {
		b := bustest.Connect(t, s, nil)
		go func() {
			_ = b.Lead(ctx, "collector", func(ctx context.Context) error {
				who.add(name)
				<-ctx.Done()
				return ctx.Err()
			})
		}()
	}
	lead(first, "first")
	eventually(t, "the first leads", func() bool { return slices.Equal(who.list(), []string{"first"}) })
	lead(ctx, "second")
	stopFirst()
	eventually(t, "the second takes over", func() bool { return slices.Equal(who.list(), []string{"first", "second"}) })
}

func TestRequestsAreAnsweredOrRefusedWithTheReason(t *testing.T) {
	b := bustest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() {
		_ = b.Serve(ctx, event.QuerySubject, "q", func(_ context.Context, body []byte) (any, error) {
			var n int
			if err := json.Unmarshal(body, &n); err != nil {
				return nil, err
			}
			if n < 0 {
				return nil, fmt.Errorf("%d is negative", n)
			}
			return n + 1, nil
		})
	}()
	var got int
	eventually(t, "an answer", func() bool { return b.Request(ctx, event.QuerySubject, 41, &got) == nil })
	if got != 42 {
		t.Errorf("got %d, want 42", got)
	}
	if err := b.Request(ctx, event.QuerySubject, -1, &got); err == nil || !strings.Contains(err.Error(), "-1 is negative") {
		t.Errorf("err = %v, want the service's reason", err)
	}
}

func TestPuttingOffDoesNotLengthenTheBackoff(t *testing.T) {
	b := bustest.Start(t)
	if err := bus.Publish(t.Context(), b, event.ReportDrafted, report("a", 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls seen
	cfg := bus.ConsumerConfig{Durable: "test", Backoff: []time.Duration{time.Millisecond, time.Hour}, MaxDeliver: 100}
	go func() {
		_ = bus.Consume(ctx, b, event.ReportDrafted, cfg, func(context.Context, event.Event[event.Report]) error {
			calls.add("call")
			switch n := len(calls.list()); {
			case n <= 5:
				return bus.Retry(errors.New("not yet"), time.Millisecond)
			case n == 6:
				return errors.New("the first failure")
			}
			return nil
		})
	}()
	eventually(t, "the attempt after the first failure", func() bool { return len(calls.list()) == 7 })
}
