package reasoner_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/schemas"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

// serve runs the service on a bus until the test ends, or stop is called.
func serve(t *testing.T, b *bus.Bus, c reasoner.Config) (stop func()) {
	t.Helper()
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	run, err := reasoner.New(c, service.Env{
		Bus: b, Log: slog.New(slog.DiscardHandler), Metrics: obs.NewRegistry(), Tracer: noop.NewTracerProvider().Tracer(""),
		Health: obs.NewHealth(time.Now), Policies: store, Cluster: "prod-eu-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the service ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// lookups answers as the collector does, and records each answer.
func lookups(t *testing.T, b *bus.Bus, from evidence.Retriever) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- b.Serve(ctx, event.QuerySubject, "test", func(ctx context.Context, body []byte) (any, error) {
			q, err := evidence.ParseQuery(body)
			if err != nil {
				return nil, err
			}
			return from.Retrieve(ctx, q)
		})
	}()
	t.Cleanup(func() { cancel(); _ = <-done })
}

func published(t *testing.T, b *bus.Bus) []event.Report {
	t.Helper()
	var out []event.Report
	if err := b.Read(t.Context(), event.Reports, bus.ReadOptions{}, func(m bus.Message) error {
		if err := schemas.Validate(m.Attributes, m.Payload); err != nil {
			t.Error(err)
		}
		if r, ok := m.Data.(event.Report); ok {
			out = append(out, r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within a minute", what)
		case <-tick.C:
		}
	}
}

func revisions(rs []event.Report) []int {
	var out []int
	for _, r := range rs {
		out = append(out, r.Revision)
	}
	slices.Sort(out)
	return out
}

func TestTheRulesReportComesFirstAndTheModelsRevisionFollows(t *testing.T) {
	s := stories(t)["oom_after_rollout"]
	b := bustest.Start(t)
	lookups(t, b, s.sources(t))
	answer := make(chan struct{}) // closed when the model may answer
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-answer:
		case <-r.Context().Done():
			return
		}
		says(said(t, map[string]any{"findings": []any{claimOf("There were 18 restarts in all", checkout, "E2")}}))(w, r)
	})
	c := config()
	c.Model = modelConfig(e)
	stop := serve(t, b, c)
	if err := bus.Publish(t.Context(), b, event.IncidentUpdated, s.Incident); err != nil {
		t.Fatal(err)
	}
	await(t, "the report by rules", func() bool { return len(published(t, b)) == 1 })
	if got := published(t, b)[0]; got.Revision != 3 || got.Model != nil {
		t.Errorf("revision %d of the rules, model %+v", got.Revision, got.Model)
	}
	close(answer)
	await(t, "the model's revision", func() bool { return len(published(t, b)) == 2 })
	for _, r := range published(t, b) {
		sound(t, r)
	}
	if got := revisions(published(t, b)); !slices.Equal(got, []int{3, 4}) {
		t.Errorf("revisions %v, want 3 and 4", got)
	}
	stop()

	// A service that starts again on the same bus, with an endpoint that is gone,
	// has the answer: the record is the bus.
	var kept int
	if err := b.Read(t.Context(), event.Evidences, bus.ReadOptions{Filters: []string{event.EvidenceOf(s.Incident.ID, reasoner.SourceModel)}}, func(m bus.Message) error {
		if err := schemas.Validate(m.Attributes, m.Payload); err != nil {
			t.Error(err)
		}
		kept++
		return nil
	}); err != nil || kept != 1 {
		t.Fatalf("%d answers on the bus, %v", kept, err)
	}
	e.Close()
	later := s.Incident
	later.Revision++ // the same facts: the same question
	serve(t, b, c)
	if err := bus.Publish(t.Context(), b, event.IncidentUpdated, later); err != nil {
		t.Fatal(err)
	}
	await(t, "two more revisions", func() bool { return len(published(t, b)) == 4 })
	if got := revisions(published(t, b)); !slices.Equal(got, []int{3, 4, 5, 6}) {
		t.Errorf("revisions %v, want 3 to 6", got)
	}
}

func TestAModelThatIsDownDelaysNoReport(t *testing.T) {
	s := stories(t)["slo_burn_unknown_cause"]
	b := bustest.Start(t)
	lookups(t, b, s.sources(t))
	e := newEndpoint(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := config()
	c.Model = modelConfig(e)
	serve(t, b, c)
	for i := range 6 {
		inc := s.Incident
		inc.ID = "slo000000000" + string(rune('a'+i))
		if err := bus.Publish(t.Context(), b, event.IncidentOpened, inc); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "every report by rules while the model hangs", func() bool { return len(published(t, b)) == 6 })
	await(t, "the model asked", func() bool { return len(e.asked()) > 0 })
	for _, r := range published(t, b) {
		if r.Model != nil || r.Revision != 1 {
			t.Errorf("report %s revision %d, model %+v", r.Incident, r.Revision, r.Model)
		}
	}
}
