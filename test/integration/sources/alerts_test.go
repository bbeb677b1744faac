package sources

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/alertmanager"
)

// TestAUsersAlertBecomesAnIncidentAndItsEndIsSeen runs every service on an
// Alertmanager alone, which fires one page, the Watchdog, and an alert of ours
// that has come back.
func TestAUsersAlertBecomesAnIncidentAndItsEndIsSeen(t *testing.T) {
	var mu sync.Mutex
	starts := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	alert := func(fingerprint string, labels map[string]string) map[string]any {
		return map[string]any{
			"fingerprint": fingerprint, "labels": labels, "annotations": map[string]string{"summary": "checkout answers with errors"}, "startsAt": starts, "endsAt": starts, "updatedAt": starts,
			"status": map[string]any{"state": "active", "silencedBy": []string{}, "inhibitedBy": []string{}},
		}
	}
	watchdog := alert("w", map[string]string{"alertname": "Watchdog", "severity": "none"})
	alerts := []any{
		alert("a", map[string]string{"alertname": "CheckoutErrors", "severity": "page", "namespace": "shop", "deployment": "checkout"}),
		alert("o", map[string]string{"alertname": "OncallIncident", "oncall_incident": "x", "severity": "critical", "namespace": "bank"}), watchdog,
	}
	am := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(w).Encode(alerts)
	}))
	defer am.Close()
	cfg := service.DefaultConfig(pipeline.Services...)
	cfg.Obs.Listen = ""
	h, err := pipeline.Open(t.Context(), cfg, pipeline.Options{Data: t.TempDir(), MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	c := h.Config.Section("collector").(collector.Config)
	a := alertmanager.Config{Every: time.Second, Settle: time.Second}
	a.URL = am.URL
	a.Fill()
	if err := c.Add("alertmanager", a); err != nil {
		t.Fatal(err)
	}
	h.Config.SetSection("collector", c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, pipeline.Services...) }()
	incidents := func() (out []event.Incident) {
		if err := h.Bus.Read(t.Context(), event.Incidents, bus.ReadOptions{}, func(m bus.Message) error {
			if i, ok := m.Data.(event.Incident); ok {
				out = append(out, i)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	within(t, "an incident of the user's alert", func() bool {
		return slices.ContainsFunc(incidents(), func(i event.Incident) bool {
			return i.Entity.String() == "shop/deployment/checkout" && i.Priority.Pages()
		})
	})
	mu.Lock()
	alerts = []any{watchdog}
	mu.Unlock()
	within(t, "the end of the anomaly", func() bool {
		ended := false
		if err := h.Bus.Read(t.Context(), event.Anomalies, bus.ReadOptions{}, func(m bus.Message) error {
			if an, ok := m.Data.(event.Anomaly); ok && an.Ended != nil && an.Alert == "CheckoutErrors" {
				ended = true
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return ended
	})
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the pipeline ended with %v", err)
	}
	for _, i := range incidents() {
		if i.Entity.Namespace != "shop" {
			t.Errorf("an incident of %s: our own alert, or the Watchdog, came through", i.Entity)
		}
	}
}

// within waits for a condition of a pipeline, whose clock is the collector's ticks.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within two minutes", what)
		case <-look.C:
		}
	}
}
