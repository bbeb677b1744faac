package notifiertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/notifier"
)

// latest gives the notifier the revisions of a report in the wrong order, as
// redeliveries may bring them: the newest first. The channel must be told that
// one, once, and none of the older ones, also where the newest was not worth
// telling.
func (s *suite) latest(t *testing.T) {
	m := &made{far: NewFar(t), files: map[string]string{}}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(s.example), &doc); err != nil {
		t.Fatal(err)
	}
	m.replace(t, doc.Content[0], "", m.far.URL, t.TempDir())
	cfg := notifier.DefaultConfig()
	cfg.Mode = notifier.ModePage
	cfg.Channels = map[string]notifier.ChannelConfig{"test": {Type: s.info.Name, Settings: doc.Content[0]}}

	policies, err := policy.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	b := bustest.Start(t)
	run, err := notifier.New(cfg, service.Env{
		Bus: b, Log: slog.New(slog.DiscardHandler), Metrics: obs.NewRegistry(), Tracer: noop.NewTracerProvider().Tracer(""),
		Health: obs.NewHealth(time.Now), Policies: policies, Cluster: "prod-eu-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("notifier: %v", err)
		}
	}()

	revision := func(incident string, n int, state event.IncidentState) event.Report {
		r := Report()
		r.Incident, r.Revision, r.IncidentRevision = incident, n, n
		r.TLDR = fmt.Sprintf("Revision %d of incident %s says so.", n, incident)
		if state == event.Resolved {
			end := r.Onset.Add(time.Minute)
			r.State, r.ResolvedAt = state, &end
		}
		return r
	}
	const told, untold = "aaaaaaaaaaaaa", "bbbbbbbbbbbbb"
	for _, r := range []event.Report{
		revision(told, 5, event.Open), revision(told, 3, event.Open), revision(told, 1, event.Open),
		// Over before anybody was told: nobody is paged for it afterwards.
		revision(untold, 5, event.Resolved), revision(untold, 3, event.Open), revision(untold, 1, event.Open),
	} {
		if err := b.Publish(t.Context(), event.ReportDrafted.Out(r)); err != nil {
			t.Fatal(err)
		}
		// Each is decided about before the next comes.
		await(t, b, event.Decisions, fmt.Sprintf("decision on %s revision %d", r.Incident, r.Revision), func(d event.Decision) bool {
			return d.Incident == r.Incident && d.Revision == r.Revision
		})
	}
	await(t, b, event.Reports, "delivery of revision 5", func(d event.Delivery) bool { return d.Incident == told && d.Revision == 5 && d.Error == "" })
	// A delivery that comes after all of them shows that nothing is left.
	last := revision("ccccccccccccc", 1, event.Open)
	if err := b.Publish(t.Context(), event.ReportDrafted.Out(last)); err != nil {
		t.Fatal(err)
	}
	await(t, b, event.Reports, "delivery of the last", func(d event.Delivery) bool { return d.Incident == last.Incident && d.Error == "" })
	err = b.Read(t.Context(), event.Reports, bus.ReadOptions{}, func(msg bus.Message) error {
		if d, ok := msg.Data.(event.Delivery); ok && d.Incident != last.Incident && (d.Incident != told || d.Revision != 5) {
			t.Errorf("revision %d of %s was delivered", d.Revision, d.Incident)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range sent(m.far.Requests()) {
		for _, old := range []string{"Revision 1 of incident " + told, "Revision 3 of incident " + told, "of incident " + untold} {
			if strings.Contains(body, old) {
				t.Errorf("what was overtaken was sent: %q in %s", old, body)
			}
		}
	}
}

var errFound = errors.New("found")

// await waits for something of a stream.
func await[T any](t testing.TB, b *bus.Bus, s *event.Stream, what string, is func(T) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := b.Read(ctx, s, bus.ReadOptions{Follow: true}, func(m bus.Message) error {
		if v, ok := m.Data.(T); ok && is(v) {
			return errFound
		}
		return nil
	})
	if !errors.Is(err, errFound) {
		t.Fatalf("no %s: %v", what, err)
	}
}
