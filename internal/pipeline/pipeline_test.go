package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/schemas"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// shop answers PromQL as a Prometheus would that watches one workload, whose
// error ratio jumps at a time.
func shop(t *testing.T, bad time.Time) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		query := r.Form.Get("query")
		at, _ := strconv.ParseFloat(r.Form.Get("time"), 64)
		type sample struct {
			Metric map[string]string `json:"metric"`
			Value  [2]any            `json:"value"`
		}
		result := []sample{}
		add := func(v float64, labels map[string]string) {
			result = append(result, sample{labels, [2]any{at, fmt.Sprint(v)}})
		}
		pod := map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}
		switch {
		case strings.Contains(query, "count by (__name__)"):
			if strings.Contains(query, "http_requests_total") {
				add(1, map[string]string{"__name__": "http_requests_total"})
			}
		case strings.Contains(query, "code=~"):
			errs := 0.0
			if at >= float64(bad.Unix()) {
				errs = 30
			}
			add(errs, pod)
		case strings.Contains(query, "http_requests_total"):
			add(100+float64(int(at)%7), pod)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": "vector", "result": result}})
	}))
	t.Cleanup(s.Close)
	return s
}

func open(t *testing.T, dir string) *pipeline.Host {
	t.Helper()
	cfg := service.DefaultConfig(pipeline.Services...)
	cfg.Obs.Listen = ""
	h, err := pipeline.Open(t.Context(), cfg, pipeline.Options{Data: dir, MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 60s", what)
		case <-tick.C:
		}
	}
}

func reports(t *testing.T, b *bus.Bus) []event.Report {
	t.Helper()
	var out []event.Report
	if err := b.Read(t.Context(), event.Reports, bus.ReadOptions{}, func(m bus.Message) error {
		if r, ok := m.Data.(event.Report); ok {
			out = append(out, r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// catchUp lets the collector read a Prometheus from a time on, as after an
// outage.
func catchUp(t *testing.T, h *pipeline.Host, url string, from time.Time) {
	t.Helper()
	kv, err := h.Bus.KV(t.Context(), bus.BucketCollector)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "prometheus", fmt.Appendf(nil, `{"step":%q}`, from.Truncate(15*time.Second).UTC().Format(time.RFC3339))); err != nil {
		t.Fatal(err)
	}
	c := h.Config.Section("collector").(collector.Config)
	p := prometheus.Config{Step: 15 * time.Second}
	p.URL, p.MaxQPS = url, 1000
	p.Fill()
	if err := c.Add("prometheus", p); err != nil {
		t.Fatal(err)
	}
	h.Config.SetSection("collector", c)
}

func TestARunEndsWhenItsDataDirectoryIsTakenAway(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	h := open(t, dir)
	defer func() { _ = h.Close() }()
	catchUp(t, h, shop(t, time.Now()).URL, time.Now().Add(-10*time.Minute))
	done := make(chan error, 1)
	go func() { done <- h.Run(t.Context(), pipeline.Services...) }()
	eventually(t, "the collector reads", func() bool {
		n, err := h.Bus.Last(t.Context(), event.Metrics)
		return err == nil && n > 0
	})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, embedded.ErrGone) || service.ExitCode(err) != service.ExitUsage {
			t.Errorf("run: %v (exit %d), want ErrGone and exit %d", err, service.ExitCode(err), service.ExitUsage)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("still running after 60s")
	}
}

// TestErrorsBecomeAReportAndTheRecordingReplaysExactly runs every service on a
// Prometheus whose history holds a jump in errors, checks every message on the
// bus against its schema, then records the run and replays it twice.
func TestErrorsBecomeAReportAndTheRecordingReplaysExactly(t *testing.T) {
	t.Parallel()
	start := time.Now().Add(-30 * time.Minute)
	prom := shop(t, start.Add(22*time.Minute))
	h := open(t, t.TempDir())
	defer func() { _ = h.Close() }()
	catchUp(t, h, prom.URL, start)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, pipeline.Services...) }()
	eventually(t, "a report that pages about shop/web", func() bool {
		return slices.ContainsFunc(reports(t, h.Bus), func(r event.Report) bool {
			return r.Priority.Pages() && r.Entity.Namespace == "shop" && r.Entity.Name == "web"
		})
	})
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the pipeline ended with %v", err)
	}
	for _, r := range reports(t, h.Bus) {
		if n := len([]rune(r.Headline)); n > 120 {
			t.Errorf("headline of %d characters: %s", n, r.Headline)
		}
		for _, f := range r.Findings {
			if len(f.Evidence) == 0 {
				t.Errorf("finding %q cites nothing", f.Title)
			}
		}
	}
	tap(t, h.Bus)

	dir := filepath.Join(t.TempDir(), "bundle")
	if _, err := pipeline.Record(t.Context(), h.Bus, dir, pipeline.Recording{Manifest: bundle.Manifest{Name: "errors"}}); err != nil {
		t.Fatal(err)
	}
	digests := make(chan string, 7) // one a replay
	t.Run("a replay", func(t *testing.T) {
		for name, r := range map[string]pipeline.Replay{
			"once":              {},
			"again":             {},
			"by two workers":    {Workers: 2},
			"by seven workers":  {Workers: 7},
			"from the sources":  {From: pipeline.FromSources},
			"from anomalies":    {From: pipeline.FromAnomalies},
			"sources, by three": {From: pipeline.FromSources, Workers: 3},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				d, c := replay(t, dir, r)
				digests <- d
				if got := c.String(); got != fmt.Sprintf("replayed %d incidents: equal to the recording", c.Incidents) && got != "replayed 1 incident: equal to the recording" {
					t.Error(got)
				}
				if strings.HasPrefix(d, "0 ") {
					t.Error("found nothing")
				}
			})
		}
	})
	close(digests)
	exact := map[string]bool{}
	for d := range digests {
		exact[d] = true
	}
	if len(exact) != 1 {
		t.Errorf("replays of one bundle differ: %v", exact)
	}
}

func replay(t *testing.T, dir string, r pipeline.Replay) (string, pipeline.Comparison) {
	t.Helper()
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, "")
	defer func() { _ = h.Close() }()
	r.Host, r.Bundle = h, b
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, err := pipeline.Digest(t.Context(), h.Bus)
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Compare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d, c
}

// tap validates everything on every stream against its published schema.
func tap(t *testing.T, b *bus.Bus) {
	t.Helper()
	for _, s := range event.Streams() {
		if s == event.Advisories {
			continue
		}
		if err := b.Read(t.Context(), s, bus.ReadOptions{}, func(m bus.Message) error {
			if err := schemas.Validate(m.Attributes, m.Payload); err != nil {
				t.Errorf("%s %d: %v", s.Name, m.Sequence, err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}
