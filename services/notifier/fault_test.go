package notifier_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/notifier/notifiertest"
)

// probe is a channel of the test's.
type probe func(ctx context.Context, n event.Notification) error

func (p probe) Send(ctx context.Context, n event.Notification, th notifier.Thread) (notifier.Thread, error) {
	return th, p(ctx, n)
}

func (w *world) register(name string, traits notifier.Traits, p probe) {
	traits.Examples = []string{"{}"}
	w.kinds.Register(notifier.Define(name, "For tests.", traits, func() struct{} { return struct{}{} },
		func(struct{}, notifier.Env) (notifier.Channel, error) { return p, nil }))
}

// latencies measures, for incidents published one after another, how long each
// takes to its channel.
func latencies(t *testing.T, withSlow bool) time.Duration {
	t.Helper()
	w := newWorld(t, "mode: page\n")
	w.kinds = &service.Registry[notifier.Info]{}
	arrived := make(chan string)
	w.register("fast", notifier.Traits{Edits: true}, func(_ context.Context, n event.Notification) error {
		arrived <- n.Incident
		return nil
	})
	cfg := notifier.DefaultConfig()
	cfg.Mode, cfg.Timeout, cfg.MaxPerMinute = notifier.ModePage, time.Second, 100000
	cfg.Channels = map[string]notifier.ChannelConfig{"fast": {Type: "fast"}}
	if withSlow {
		w.register("slow", notifier.Traits{Edits: true}, func(ctx context.Context, _ event.Notification) error {
			<-ctx.Done()
			return ctx.Err()
		})
		cfg.Channels["slow"] = notifier.ChannelConfig{Type: "slow"}
	}
	w.run(cfg)
	var took []time.Duration
	for i := range 120 {
		started := time.Now()
		w.publish(incident(i))
		if got := <-arrived; got != incident(i).Incident {
			t.Fatalf("got %s", got)
		}
		if i >= 20 { // warm
			took = append(took, time.Since(started))
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100-1]
}

func TestASlowChannelDelaysNoOther(t *testing.T) {
	alone := latencies(t, false)
	beside := latencies(t, true)
	t.Logf("p99 alone %v, beside a channel that hangs %v", alone, beside)
	if beside > 3*alone+500*time.Millisecond {
		t.Errorf("p99 is %v beside a channel that hangs, %v alone", beside, alone)
	}
}

func TestARevokedTokenStopsTheChannelAndIsSaidElsewhere(t *testing.T) {
	t.Parallel()
	chat := notifiertest.NewSlack(t)
	hook := newReceiver(t)
	w := newWorld(t, webhookConfig(hook.URL)+slackConfig(t, chat)+
		"routes:\n- {name: people, channels: [chat]}\n")
	l := w.start()
	w.publish(incident(0))
	eventually(t, 10*time.Second, "a message", w.delivered(1))

	chat.Revoke(true)
	chat.Calls()
	started := time.Now()
	for i := 1; i <= 5; i++ {
		w.publish(incident(i))
	}
	eventually(t, time.Minute, "the refusal on the other channel", func() bool { return len(hook.ids()) == 1 })
	t.Logf("said elsewhere after %v", time.Since(started))
	var told event.Report
	for _, n := range cloudEvents(t, hook) {
		told = n.Report
	}
	if told.State != event.Open || told.Priority != event.P1 || !strings.HasPrefix(told.Headline, "P1 prod-eu-1 notification channel chat: refuses every message since ") ||
		!strings.Contains(told.TLDR, "token_revoked") || !strings.Contains(told.TLDR, "shop/deployment/checkout: 12% of requests fail") {
		t.Errorf("got %q: %q, want who refuses, why, and what waits", told.Headline, told.TLDR)
	}
	// It is tried, but not by every message.
	before := time.Now()
	chat.Calls()
	always(t, time.Second, "one notice", func() bool { return hook.requests() == 1 })
	if calls, most := len(chat.Calls()), int(time.Since(before)/(300*time.Millisecond))+2; calls > most {
		t.Errorf("%d calls in a second, want at most %d", calls, most)
	}
	parts, ready := w.health.Parts()
	if i := slices.IndexFunc(parts, func(p obsPart) bool { return p.Name == "channel chat" }); !ready || i < 0 || !parts[i].Degraded {
		t.Errorf("health does not say so: %+v", parts)
	}

	// A restart says it no second time.
	l.stop()
	w.start()
	always(t, 700*time.Millisecond, "one notice", func() bool { return hook.requests() == 1 })

	chat.Revoke(false)
	eventually(t, 20*time.Second, "what waited", func() bool { return len(chat.Main()) == 6 })
	eventually(t, 10*time.Second, "the end of the refusal", func() bool { return len(hook.ids()) == 2 })
	all := cloudEvents(t, hook)
	if end := all[len(all)-1].Report; end.State != event.Resolved || end.Incident != told.Incident {
		t.Errorf("got %s %s, want the end of %s", end.Incident, end.State, told.Incident)
	}
	if n := len(read(w, event.DeadLettered)); n != 0 {
		t.Errorf("%d dead letters: the messages had done nothing", n)
	}
}

// cloudEvents are the notifications that a receiver got.
func cloudEvents(t *testing.T, r *receiver) []event.Notification {
	t.Helper()
	var out []event.Notification
	for _, req := range r.Requests() {
		var e struct{ Data event.Notification }
		if err := json.Unmarshal([]byte(req.Body), &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Data)
	}
	return out
}

func TestMoreThanTheLimitWaitsAndAPageDoesNot(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, "max_per_minute: 4\n"+webhookConfig(hook.URL))
	w.start()
	for i := range 6 {
		r := incident(i)
		r.Priority = event.P3
		w.publish(r)
	}
	eventually(t, 10*time.Second, "three tickets", func() bool { return len(hook.ids()) == 3 })
	w.publish(incident(9))
	eventually(t, 10*time.Second, "the page", func() bool {
		return slices.Contains(hook.ids(), event.NotificationID(incident(9).Incident, 1, "hook"))
	})
	always(t, 500*time.Millisecond, "the other tickets wait", func() bool { return len(hook.ids()) == 4 })
	// An update of a message is not counted.
	next := incident(9)
	next.Revision = 2
	w.publish(next)
	eventually(t, 10*time.Second, "the update", func() bool { return len(hook.ids()) == 5 })
}

func TestADigestComesOnceADayWhateverRestarts(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	am := notifiertest.NewFar(t)
	w := newWorld(t, strings.Replace(webhookConfig(hook.URL), "mode: page", "mode: shadow\ndigest: \"00:00\"", 1)+
		"  am: {type: alertmanager, urls: ["+am.URL+"]}\n")
	l := w.start()
	quiet := incident(2)
	quiet.Priority, quiet.Headline = event.P4, "P4 prod-eu-1 batch/cronjob/nightly: CPU is unusual"
	w.publish(incident(1), quiet)
	eventually(t, 10*time.Second, "decisions", func() bool { return len(read(w, event.Decided)) >= 4 })
	always(t, 300*time.Millisecond, "no digest on the first day", func() bool { return hook.requests() == 0 })
	l.stop()

	w.skew.Store(int64(24 * time.Hour)) // due while nobody ran
	l = w.start()
	eventually(t, 10*time.Second, "the digest", func() bool { return hook.requests() == 1 })
	always(t, 300*time.Millisecond, "one digest", func() bool { return hook.requests() == 1 })
	r := cloudEvents(t, hook)[0].Report
	if !strings.Contains(r.Headline, "1 would have paged, 1 held back") || len(r.Timeline) != 4 {
		t.Errorf("got %q with %d lines", r.Headline, len(r.Timeline))
	}
	l.stop()
	l = w.start()
	always(t, 500*time.Millisecond, "one digest after a restart", func() bool { return hook.requests() == 1 })
	l.stop()

	w.skew.Store(int64(48 * time.Hour))
	w.start()
	w.start() // and another member
	eventually(t, 10*time.Second, "the next digest", func() bool { return hook.requests() == 2 })
	always(t, 500*time.Millisecond, "two digests", func() bool { return hook.requests() == 2 })
	if r := cloudEvents(t, hook)[0].Report; !strings.HasSuffix(r.Headline, "nothing would have been sent") {
		t.Errorf("got %q of an empty day", r.Headline)
	}
	for _, req := range am.Requests() {
		if req.Method == http.MethodPost {
			t.Errorf("Alertmanager got %s", notifier.Clip(req.Body, 200))
		}
	}
}

func TestTheEndOfASilenceIsNoticed(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	am := notifiertest.NewFar(t)
	var mu sync.Mutex
	silenced := true
	am.Answer(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodGet && silenced {
			fmt.Fprintf(rw, `[{"id":"s1","startsAt":"2020-01-01T00:00:00Z","endsAt":"2099-01-01T00:00:00Z","status":{"state":"active"},
				"matchers":[{"name":"namespace","value":"shop","isRegex":false,"isEqual":true}]}]`)
			return
		}
		notifiertest.Agree(rw, r)
	})
	w := newWorld(t, webhookConfig(hook.URL)+"  am: {type: alertmanager, urls: ["+am.URL+"]}\n")
	w.start()
	w.publish(incident(1), incident(2))
	eventually(t, 10*time.Second, "both alerts at Alertmanager, which mutes them itself", w.delivered(2))
	always(t, 300*time.Millisecond, "silence", func() bool { return hook.requests() == 0 })
	end := notifiertest.Resolved(incident(2))
	w.publish(end)
	eventually(t, 10*time.Second, "the end of the second", w.delivered(3))

	mu.Lock()
	silenced = false
	mu.Unlock()
	w.skew.Store(int64(20 * time.Second)) // the copy of the silences is old
	eventually(t, 10*time.Second, "the first, which is still open", func() bool { return hook.requests() == 1 })
	always(t, 300*time.Millisecond, "nothing of the second, which is over", func() bool { return hook.requests() == 1 })
	var got []string
	for _, d := range read(w, event.Decided) {
		if d.Incident == incident(1).Incident {
			got = append(got, d.Channel+" "+string(d.Outcome)+": "+d.Rule)
		}
	}
	if want := []string{"am sent: route default; silence s1 mutes it there", "hook silenced: silence s1", "hook sent: route default"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTwoMembersSendOnce(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, "max_per_minute: 1000\n"+webhookConfig(hook.URL))
	w.start()
	w.start()
	for i := range 10 {
		w.publish(lifeOf(i)...)
	}
	eventually(t, 30*time.Second, "40 deliveries", w.delivered(40))
	always(t, 300*time.Millisecond, "40 requests", func() bool { return hook.requests() == 40 })
}

func TestALongOutageEndsWithTheLatestAndNotWithAFlood(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, webhookConfig(hook.URL))
	w.start()
	hook.Answer(notifiertest.Status(503))
	w.publish(lifeOf(1)[:3]...)
	eventually(t, 10*time.Second, "an attempt", func() bool { return len(hook.Requests()) > 0 })
	w.skew.Store(int64(10 * time.Minute)) // all have waited longer than for one another
	w.publish(lifeOf(1)[3])
	hook.Answer(notifiertest.Agree)
	eventually(t, 30*time.Second, "the latest", func() bool {
		return slices.ContainsFunc(read(w, event.ReportDelivered), func(d event.Delivery) bool { return d.Revision >= 3 })
	})
	ds := read(w, event.ReportDelivered)
	if !slices.IsSortedFunc(ds, func(a, b event.Delivery) int { return a.Revision - b.Revision }) {
		t.Errorf("got %+v, want no revision after a later one", ds)
	}
}

func TestWhatFailsForTooLongIsGivenUpWithARecord(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, "give_up_after: 1h\n"+webhookConfig(hook.URL))
	w.start()
	hook.Answer(notifiertest.Status(500))
	w.publish(incident(1))
	eventually(t, 10*time.Second, "an attempt", func() bool { return len(hook.Requests()) > 0 })
	w.skew.Store(int64(time.Hour))
	eventually(t, 30*time.Second, "a dead letter", func() bool { return len(read(w, event.DeadLettered)) == 1 })
	failed := read(w, event.ReportFailed)
	if len(failed) != 1 || failed[0].Attempts < 2 || !strings.Contains(failed[0].Error, "answered 500") {
		t.Errorf("got %+v, want a record with the attempts and the error", failed)
	}
}

func TestAReportThatCannotBeRoutedHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, webhookConfig(hook.URL))
	w.start()
	c, err := nats.Connect("", nats.InProcessServer(w.server))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := nats.NewMsg("reports.x.drafted") // of no incident
	m.Data = []byte(`{}`)
	for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": "x", "ce-type": event.ReportDrafted.Type, "ce-source": "//x", "ce-time": "2026-11-26T13:00:00Z"} {
		m.Header.Set(name, value)
	}
	if err := c.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	w.publish(incident(1))
	eventually(t, 10*time.Second, "the delivery of the next", w.delivered(1))
	if letters := read(w, event.DeadLettered); len(letters) != 1 || !strings.Contains(letters[0].Reason, "invalid key") {
		t.Errorf("got dead letters %+v", letters)
	}
}
