package bus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// abandon delivers the first message of a stream as often as its consumer may,
// to somebody who never answers.
func abandon(t *testing.T, b *bus.Bus, s *event.Stream, durable string, settle func(jetstream.Msg)) {
	t.Helper()
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.CreateConsumer(t.Context(), s.Name, jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: 200 * time.Millisecond, MaxDeliver: 2, FilterSubject: s.Subjects[0],
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the third time it is not delivered, but given up
		batch, err := c.Fetch(1, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			if settle != nil {
				settle(m)
			}
		}
	}
}

func letters(t *testing.T, b *bus.Bus, want int) []bus.Letter {
	t.Helper()
	var ls []bus.Letter
	eventually(t, "the dead letters", func() bool {
		var err error
		ls, err = b.Letters(t.Context())
		return err == nil && len(ls) == want
	})
	return ls
}

func TestWhatNobodyLivedToRejectBecomesADeadLetterAndIsRedrivenOnce(t *testing.T) {
	for name, settle := range map[string]func(jetstream.Msg){
		"given up by the server":      nil,
		"terminated by a third party": func(m jetstream.Msg) { _ = m.TermWithReason("not for me") },
	} {
		t.Run(name, func(t *testing.T) {
			b := bustest.Start(t)
			if err := bus.Publish(t.Context(), b, event.ReportDrafted, report("a", 1)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); b.RunDeadLetters(ctx) }()
			defer func() { cancel(); <-done }()
			abandon(t, b, event.Reports, "third", settle)
			l := letters(t, b, 1)[0]
			reason := "given up after 2 deliveries"
			if settle != nil {
				reason = "not for me"
			}
			if l.Stream != "REPORTS" || l.Consumer != "third" || l.Subject != "reports.a.drafted" || !strings.Contains(l.Reason, reason) {
				t.Errorf("letter %+v", l)
			}
			if got := l.Headers["ce-id"]; len(got) != 1 || got[0] != "r:a:1" || !strings.Contains(string(l.Payload), `"incident":"a"`) {
				t.Errorf("headers %v and payload %s are not the original's", l.Headers, l.Payload)
			}

			var calls seen
			go func() {
				_ = bus.Consume(ctx, b, event.ReportDrafted, bus.ConsumerConfig{Durable: "again"}, func(_ context.Context, e event.Event[event.Report]) error {
					calls.add(e.ID)
					return nil
				})
			}()
			eventually(t, "the message as it was", func() bool { return len(calls.list()) == 1 })
			if err := b.Redrive(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			// A second redrive, as after one that was cut short, stores nothing.
			if err := b.Redrive(t.Context(), l); err == nil {
				t.Error("a letter that is gone was redriven again without a word")
			}
			eventually(t, "the redriven message", func() bool { return len(calls.list()) == 2 })
			letters(t, b, 0)
			if got := read(t, b, event.Reports); len(got) != 2 || got[1].ID != "r:a:1" {
				t.Errorf("the stream holds %d messages, want the first and its redrive with the same ce-id", len(got))
			}
			eventually(t, "nothing left to handle", func() bool {
				idle, err := b.Idle(t.Context(), event.Reports, "again")
				return err == nil && idle
			})
			if n := len(calls.list()); n != 2 {
				t.Errorf("handled %d times, want once more than before", n)
			}
		})
	}
}

func TestAGivenUpMessageLeavesItsWorkQueue(t *testing.T) {
	b := bustest.Start(t)
	n := event.Notification{Incident: "a", Revision: 1, Channel: "hook", Report: report("a", 1)}
	if err := bus.Publish(t.Context(), b, event.NotificationQueued, n); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.RunDeadLetters(ctx) }()
	defer func() { cancel(); <-done }()
	abandon(t, b, event.Notify, "notifier-hook", nil)
	letters(t, b, 1)
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "an empty queue", func() bool {
		s, err := js.Stream(t.Context(), event.Notify.Name)
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
}

func TestAFullStreamHoldsItsPublisherBackAndLosesNothing(t *testing.T) {
	s := bustest.Server(t)
	cfg := bus.DefaultConfig()
	cfg.MaxBytes = 32 << 20 // leaves the work queue some 400 KiB
	reg := prometheus.NewRegistry()
	var states seen
	b, err := bus.Connect(t.Context(), cfg, bus.Settings{InProcess: s, Metrics: reg, OnState: func(ready bool, why string) {
		if !ready {
			states.add(why)
		} else {
			states.add("ready")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	const total = 200
	published := make(chan error, 1)
	go func() {
		for i := range total {
			n := event.Notification{Incident: "a", Revision: i + 1, Channel: "hook", Report: report("a", i+1)}
			n.Report.TLDR = strings.Repeat(strconvQuote(i), 1000) // does not compress to nothing
			if err := bus.Publish(t.Context(), b, event.NotificationQueued, n); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	eventually(t, "a publisher that is held back, and says so", func() bool {
		list := states.list()
		return len(list) > 0 && strings.Contains(list[len(list)-1], "NATS does not store: ")
	})
	if n, err := testutil.GatherAndCount(reg, "oncall_bus_publish_blocked_total"); err != nil || n != 1 {
		t.Errorf("blocked metric: %d, %v", n, err)
	}
	select {
	case err := <-published:
		t.Fatalf("the publisher ended with %v though the queue is full", err)
	default:
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got seen
	go func() {
		c := bus.ConsumerConfig{Durable: "notifier-hook", Filter: event.NotifyFilter("hook"), Workers: 8}
		_ = bus.Consume(ctx, b, event.NotificationQueued, c, func(_ context.Context, e event.Event[event.Notification]) error {
			got.add(e.ID)
			return nil
		})
	}()
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	eventually(t, "every notification", func() bool { return len(got.list()) >= total })
	if list := states.list(); list[len(list)-1] != "ready" {
		t.Errorf("the last state is %q, want ready", list[len(list)-1])
	}
}

// strconvQuote is a little text that differs by i.
func strconvQuote(i int) string { return string(rune('a'+i%26)) + string(rune('a'+i/26%26)) }

func TestGroupsSayHowTheyStand(t *testing.T) {
	s := bustest.Server(t)
	reg := prometheus.NewRegistry()
	now := noon.Add(time.Minute)
	cfg := bus.DefaultConfig()
	cfg.MaxBytes = 1 << 30
	b, err := bus.Connect(t.Context(), cfg, bus.Settings{InProcess: s, Metrics: reg, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	feed(t, b, 0, 3)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.RunGroup(ctx, group(0)) }()
	eventually(t, "everything folded", func() bool { return anomalies(t, b) == 12 })
	eventually(t, "the lag of the last tick", func() bool {
		return testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP oncall_partition_owner 1 where this process folds the partition of the group.
# TYPE oncall_partition_owner gauge
oncall_partition_owner{group="sum",partition="00"} 1
oncall_partition_owner{group="sum",partition="01"} 1
oncall_partition_owner{group="sum",partition="02"} 1
oncall_partition_owner{group="sum",partition="03"} 1
# HELP oncall_watermark_lag_seconds Wall clock less the oldest event time folded in the partitions held here, by group.
# TYPE oncall_watermark_lag_seconds gauge
oncall_watermark_lag_seconds{group="sum"} 58
`), "oncall_partition_owner", "oncall_watermark_lag_seconds") == nil
	})
	if n, err := testutil.GatherAndCount(reg, "oncall_checkpoint_age_seconds"); err != nil || n != 1 {
		t.Errorf("checkpoint age: %d, %v", n, err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n, _ := testutil.GatherAndCount(reg, "oncall_watermark_lag_seconds"); n != 0 {
		t.Error("a group that has left still says how it stands")
	}
}
