package correlator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/policies"
)

// flapping is trouble of one class that comes and goes every quarter of an
// hour.
func flapping(times int, class event.SignalClass) *story {
	s := &story{}
	s.watermarks(at(0))
	for i := range times {
		from := at(time.Duration(i) * 15 * time.Minute)
		a := s.anomaly("theirs", deploy("web"), class, event.Critical, from.Add(time.Minute), from.Add(time.Minute), "trouble")
		s.end(a, from.Add(3*time.Minute))
		s.watermarks(from.Add(14 * time.Minute))
	}
	s.watermarks(at(time.Duration(times)*15*time.Minute + time.Hour))
	return s
}

// storm is one alert of each of many workloads that nothing connects, spread
// over a time.
func storm(n int, over time.Duration) *story {
	s := &story{}
	s.watermarks(at(0))
	for i := range n {
		e := event.Entity{Namespace: fmt.Sprintf("ns%d", i), Kind: "Deployment", Name: "web"}
		onset := at(time.Minute + time.Duration(i)*over/time.Duration(n))
		s.anomaly("alert", e, event.ClassSymptom, event.Critical, onset, onset, "HighErrorRate fires")
	}
	s.watermarks(at(5 * time.Minute))
	return s
}

// service runs the correlator on a bus until it is stopped, or killed: then it
// loses its connection before it can write a checkpoint.
func startService(t *testing.T, connect func() *bus.Bus) (stop, kill func()) {
	t.Helper()
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	b := connect()
	cfg := DefaultConfig()
	cfg.Groups = []string{"metrics", "events"}
	svc, err := New(cfg, service.Env{Bus: b, Policies: store, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Cluster: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	stop = func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stopped service: %v", err)
		}
	}
	kill = func() {
		_ = b.Close()
		cancel()
		_ = <-done // whatever it says of the bus that was taken away
	}
	return stop, kill
}

var errEnough = errors.New("enough")

// published reads the first n revisions of incidents on a bus.
func published(t *testing.T, b *bus.Bus, n int) []event.Incident {
	t.Helper()
	if n == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out []event.Incident
	err := b.Read(ctx, event.Incidents, bus.ReadOptions{Follow: true}, func(m bus.Message) error {
		if i, ok := m.Data.(event.Incident); ok {
			out = append(out, i)
		}
		if len(out) == n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("%d of %d revisions are published: %v", len(out), n, err)
	}
	return out
}

// wire is what incidents look like after the bus.
func wire(t *testing.T, in []event.Incident) string {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out []event.Incident
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return fingerprint(t, out)
}

// TestTheServiceTellsEveryStoryAlikeWhateverStopsIt publishes each story on a
// real bus and compares what the service says with what the fold does, without
// and with a stop or a crash while the incident is open.
func TestTheServiceTellsEveryStoryAlikeWhateverStopsIt(t *testing.T) {
	ids := func(got []event.Incident) map[string]event.Incident { // to the last revision
		out := map[string]event.Incident{}
		for _, i := range got {
			out[i.ID] = i
		}
		return out
	}
	open := func(got []event.Incident) (n int) {
		for _, i := range ids(got) {
			if i.State == event.Open {
				n++
			}
		}
		return n
	}
	reason := func(got []event.Incident, r string) (n int) {
		for _, i := range got {
			if i.Reason == r {
				n++
			}
		}
		return n
	}
	for name, c := range map[string]struct {
		story *story
		check func(t *testing.T, got []event.Incident)
	}{
		"a rollout that kills pods is one incident, and resolves": {oom(), func(t *testing.T, got []event.Incident) {
			if len(ids(got)) != 1 || open(got) != 0 {
				t.Errorf("%d incidents, %d open, want one that is over", len(ids(got)), open(got))
			}
		}},
		"a symptom that flaps is one incident, never held, and ends less and less": {flapping(10, event.ClassSymptom), func(t *testing.T, got []event.Incident) {
			if len(ids(got)) != 1 {
				t.Errorf("%d incidents, want 1", len(ids(got)))
			}
			for _, i := range got {
				if i.Held != "" || !i.Priority.Pages() {
					t.Errorf("revision %d is %s and held %q, but users feel it", i.Revision, i.Priority, i.Held)
				}
			}
			// Three flaps are as they come; the fourth and fifth end 10 and 20
			// minutes later, which is past the next return.
			if n := reason(got, "reopened"); n != 5 {
				t.Errorf("reopened %d times for 10 returns, want 5", n)
			}
			if open(got) != 0 {
				t.Error("it is open for ever")
			}
		}},
		"what flaps without a symptom is a line in the digest": {flapping(8, event.ClassCause), func(t *testing.T, got []event.Incident) {
			if len(ids(got)) != 1 {
				t.Errorf("%d incidents, want 1", len(ids(got)))
			}
			held := 0
			for _, i := range got {
				if i.Priority.Pages() {
					t.Errorf("revision %d pages without a symptom", i.Revision)
				}
				if strings.Contains(i.Held, "flapping") {
					held++
				}
			}
			if held == 0 {
				t.Error("it is never held for flapping")
			}
		}},
		"fifty alerts at once are one incident": {storm(50, 0), func(t *testing.T, got []event.Incident) {
			if len(ids(got)) != 1 || open(got) != 1 {
				t.Errorf("%d incidents, %d open, want 1", len(ids(got)), open(got))
			}
			if i := got[0]; !i.Priority.Pages() || len(i.Related) != 50 {
				t.Errorf("%s with %d affected, want a page with 50", i.Priority, len(i.Related))
			}
		}},
		"fifty alerts within a minute become one incident": {storm(50, time.Minute), func(t *testing.T, got []event.Incident) {
			// Before the storm shows, those before it are told: fewer than make one.
			if n := len(ids(got)); n > 4 || open(got) != 1 {
				t.Errorf("%d incidents, %d open, want at most 4 told and 1 open", n, open(got))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := run(t, newTestFold(t), c.story.msgs)
			c.check(t, want)
			for how, crash := range map[string]bool{"stopped": false, "killed": true} {
				// Cut where the incident has just been opened.
				cut := 0
				for f := newTestFold(t); cut < len(c.story.msgs) && len(f.State.Incidents) == 0; cut++ {
					run(t, f, c.story.msgs[cut:cut+1])
				}
				cut = min(cut+1, len(c.story.msgs))
				before := len(run(t, newTestFold(t), c.story.msgs[:cut]))
				srv := bustest.Server(t)
				connect := func() *bus.Bus { return bustest.Connect(t, srv, nil) }
				b := connect()
				if err := b.Publish(t.Context(), c.story.outs[:cut]...); err != nil {
					t.Fatal(err)
				}
				stop, kill := startService(t, connect)
				published(t, b, before)
				if crash {
					kill()
				} else {
					stop()
				}
				if err := b.Publish(t.Context(), c.story.outs[cut:]...); err != nil {
					t.Fatal(err)
				}
				stop, _ = startService(t, connect)
				got := published(t, b, len(want))
				stop()
				if wire(t, got) != wire(t, want) {
					t.Errorf("%s after message %d of %d, the service tells another story than the fold:\n%s\nwant\n%s", how, cut, len(c.story.msgs), wire(t, got), wire(t, want))
				}
			}
		})
	}
}
