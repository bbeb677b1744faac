//go:build e2e

package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// counted is a workload whose payments no family of queries knows: twenty a second,
// and from the moment it breaks half of them fail.
type counted struct {
	since time.Time
	broke atomic.Int64 // nanoseconds; 0 while it works
}

// text are both counters at a time, in the text format or, with stamps, in
// OpenMetrics.
func (c *counted) text(at time.Time, more, stamp string) string {
	all, bad := 20*at.Sub(c.since).Seconds(), 0.0
	if ns := c.broke.Load(); ns != 0 {
		bad = max(0, 10*at.Sub(time.Unix(0, ns)).Seconds())
	}
	return fmt.Sprintf("payments_total{namespace=\"shop\",deployment=\"pay\"%s} %f%s\npayments_failed_total{namespace=\"shop\",deployment=\"pay\"%[1]s} %[4]f%[3]s\n", more, all, stamp, bad)
}

// past writes the half hour before now as blocks can be made of it, for the series
// that a scrape of the target gives.
func (c *counted) past(t *testing.T, now time.Time, target string) (files []string) {
	t.Helper()
	const each = 10 * time.Second
	parts := map[int64]*bytes.Buffer{}
	for at := now.Add(-30 * time.Minute); at.Before(now); at = at.Add(each) {
		k := at.Unix() / int64(testbed.BackfillBlock.Seconds())
		if parts[k] == nil {
			parts[k] = &bytes.Buffer{}
		}
		parts[k].WriteString(c.text(at, fmt.Sprintf(",job=\"payments\",instance=%q", target), fmt.Sprintf(" %d", at.Unix())))
	}
	for k, p := range parts {
		file := filepath.Join(t.TempDir(), fmt.Sprintf("%d.om", k))
		if err := os.WriteFile(file, append(p.Bytes(), "# EOF\n"...), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// ownDetector is one of policies/detectors, of the same counters.
const ownDetector = `name: payments_failing
doc: Payments fail.
expr: sum by (namespace, deployment) (rate(payments_failed_total[1m]))
model: threshold
above: 2
for: 10s
class: cause
`

// TestAnObjectiveWithQueriesOfItsOwnPages runs every service on a Prometheus that
// holds nothing but what policies/slo.yaml and policies/detectors ask for.
func TestAnObjectiveWithQueriesOfItsOwnPages(t *testing.T) {
	now := time.Now()
	c := &counted{since: now.Add(-time.Hour)}
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = fmt.Fprint(w, c.text(time.Now(), "", ""))
	}))
	defer exporter.Close()
	target := strings.TrimPrefix(exporter.URL, "http://")
	server, err := bed(t).StartPrometheus(t.Context(), testbed.PrometheusConfig{
		Scrapes:  []testbed.Scrape{{Job: "payments", Targets: []string{target}, Honor: true}},
		Backfill: c.past(t, now, target),
	})
	if err != nil {
		t.Fatal(err)
	}
	own := t.TempDir()
	if err := os.WriteFile(filepath.Join(own, "slo.yaml"), []byte(`objectives:
  - name: payments
    target: 0.9995
    errors: sum by (namespace, deployment) (rate(payments_failed_total[1m]))
    total: sum by (namespace, deployment) (rate(payments_total[1m]))
`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(own, "detectors"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own, "detectors", "payments.yaml"), []byte(ownDetector), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := service.DefaultConfig(pipeline.Services...)
	cfg.Obs.Listen, cfg.Policies = "", own
	h, err := pipeline.Open(t.Context(), cfg, pipeline.Options{Data: t.TempDir(), MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	section := h.Config.Section("collector").(collector.Config)
	p := prometheus.Config{Step: 5 * time.Second, Delay: 2 * time.Second}
	p.URL = server.URL
	p.Fill()
	if err := section.Add("prometheus", p); err != nil {
		t.Fatal(err)
	}
	h.Config.SetSection("collector", section)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, pipeline.Services...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the pipeline ended with %v", err)
		}
	})
	within(t, "the rates of the objective", func() bool {
		found := false
		if err := h.Bus.Read(t.Context(), event.Metrics, bus.ReadOptions{}, func(m bus.Message) error {
			b, ok := m.Data.(event.MetricBatch)
			found = found || ok && len(b.Series) > 0
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return found
	})
	if all := reports(t, h); len(all) > 0 {
		t.Fatalf("told while all went well: %s", all[0].Headline)
	}
	c.broke.Store(time.Now().UnixNano())
	var told event.Report
	within(t, "a page about the objective", func() bool {
		for _, r := range reports(t, h) {
			if r.Priority.Pages() {
				told = r
				return true
			}
		}
		return false
	})
	if told.Priority != event.P1 || told.Entity.String() != "shop/deployment/pay" || !strings.Contains(told.TLDR, "SLO payments 0.9995: burn") {
		t.Errorf("%s about %s: %s", told.Priority, told.Entity, told.TLDR)
	}
	within(t, "an anomaly of the detector in policies/detectors", func() bool {
		found := false
		if err := h.Bus.Read(t.Context(), event.Anomalies, bus.ReadOptions{}, func(m bus.Message) error {
			a, ok := m.Data.(event.Anomaly)
			found = found || ok && a.Detector == "payments_failing" && a.Entity.String() == "shop/deployment/pay"
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return found
	})
	for _, check := range told.Checks {
		_, query, ok := strings.Cut(check.Command, "$PROMETHEUS ")
		if !ok {
			continue
		}
		got, err := server.Query(t.Context(), strings.Trim(query, "'"))
		if err != nil || len(got) != 1 {
			t.Errorf("the next check %s gives %v, %v, and not one ratio", query, got, err)
		}
		return
	}
	t.Errorf("no next check shows the ratio: %v", told.Checks)
}

// reports are all so far, in their order.
func reports(t *testing.T, h *pipeline.Host) (out []event.Report) {
	t.Helper()
	if err := h.Bus.Read(t.Context(), event.Reports, bus.ReadOptions{}, func(m bus.Message) error {
		if r, ok := m.Data.(event.Report); ok {
			out = append(out, r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}
