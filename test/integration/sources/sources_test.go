//go:build e2e

package sources

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/schemas"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/alertmanager"
	"github.com/oncall-copilot/oncall/services/collector/entities"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/receiver"
	"github.com/oncall-copilot/oncall/services/collector/remotewrite"
	"github.com/oncall-copilot/oncall/test/testbed"
)

func bed(t *testing.T) *testbed.Bed {
	t.Helper()
	b, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func env(t *testing.T, b *bus.Bus) collector.Env {
	t.Helper()
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	e := collector.Env{
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Health: obs.NewHealth(time.Now), Policies: store, Now: time.Now,
		Redact: redact.New(redact.Options{Key: []byte("0123456789abcdef")}), Audit: func(event.Audit) {},
	}
	if b != nil {
		e.Publish, e.Follow = b.Publish, b.Read
	}
	return e
}

// run runs something until the test ends.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func emissions(t *testing.T, s collector.Source) chan collector.Emission {
	t.Helper()
	got := make(chan collector.Emission, 10_000) // of a few minutes
	run(t, func(ctx context.Context) error {
		return s.Run(ctx, nil, func(_ context.Context, e collector.Emission) error { got <- e; return nil })
	})
	return got
}

// until reads emissions until one is enough.
func until(t *testing.T, what string, got chan collector.Emission, enough func(collector.Emission) bool) {
	t.Helper()
	deadline := time.After(90 * time.Second)
	for {
		select {
		case e := <-got:
			if enough(e) {
				return
			}
		case <-deadline:
			t.Fatalf("%s: not within 90s", what)
		}
	}
}

func listen(t *testing.T, r *receiver.Receiver) string {
	t.Helper()
	run(t, r.Run)
	addr, err := r.Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + addr.String()
}

func token(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("tok"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func post(t *testing.T, url string, body any) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(url, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if text, _ := io.ReadAll(res.Body); res.StatusCode/100 != 2 {
		t.Fatalf("%s: %d %s", url, res.StatusCode, text)
	}
}

// TestARealPrometheusPushesInBothVersions scrapes a service that answers ten
// requests a second, one of them with an error, and pushes twice.
func TestARealPrometheusPushesInBothVersions(t *testing.T) {
	b := bustest.Start(t)
	began := time.Now()
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s := time.Since(began).Seconds()
		fmt.Fprintf(w, "# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} %f\nhttp_requests_total{code=\"500\"} %f\n# TYPE go_goroutines gauge\ngo_goroutines 5\n", 1000+9*s, s)
	}))
	defer exporter.Close()
	file := token(t)
	e := env(t, b)
	var writes []map[string]any
	got := map[string]chan collector.Emission{}
	for name, message := range map[string]string{"v1": "prometheus.WriteRequest", "v2": "io.prometheus.write.v2.Request"} {
		cfg := remotewrite.Config{Name: name, Step: time.Second, Window: 15 * time.Second, Lateness: 2 * time.Second}
		cfg.Listen, cfg.BearerTokenFile = "127.0.0.1:0", file
		s, err := remotewrite.New(cfg, e)
		if err != nil {
			t.Fatal(err)
		}
		address := listen(t, s.Receiver())
		writes = append(writes, map[string]any{
			"url": address + remotewrite.Path, "name": name, "protobuf_message": message, "authorization": map[string]any{"credentials_file": file},
			"queue_config": map[string]any{"batch_send_deadline": "500ms"},
		})
		got[name] = emissions(t, s)
	}
	if _, err := bed(t).StartPrometheus(t.Context(), testbed.PrometheusConfig{
		Scrapes:     []testbed.Scrape{{Job: "web", Targets: []string{strings.TrimPrefix(exporter.URL, "http://")}, Labels: map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}}},
		RemoteWrite: writes, External: map[string]string{"prometheus_replica": "a"},
	}); err != nil {
		t.Fatal(err)
	}
	for name, c := range got {
		until(t, name, c, func(e collector.Emission) bool {
			values := map[string]float64{}
			for _, o := range e.Events {
				for _, s := range o.Data().(event.MetricBatch).Series {
					if s.Labels.Entity().String() == "shop/workload/web" {
						values[s.Labels.Get(event.LabelName)] = s.Points[0].V
					}
				}
			}
			return math.Abs(values["request_rate"]-10) < 1 && math.Abs(values["error_ratio"]-0.1) < 0.02
		})
	}
	if err := b.Read(t.Context(), event.Pushed, bus.ReadOptions{}, func(m bus.Message) error {
		if err := schemas.Validate(m.Attributes, m.Payload); err != nil {
			t.Error(err)
		}
		for _, s := range m.Data.(event.MetricBatch).Series {
			if n := s.Labels.Get(event.LabelName); n != "http_requests_total" {
				t.Errorf("%s is stored", n)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestARealLokiRings writes lines to a Loki: a window with an error is read
// early, every line comes once, and an exporter's events are events.
func TestARealLokiRings(t *testing.T) {
	server, err := bed(t).StartLoki(t.Context(), testbed.LokiConfig{})
	if err != nil {
		t.Fatal(err)
	}
	push := func(labels map[string]string, line string) time.Time {
		t.Helper()
		now := time.Now()
		post(t, server.URL+"/loki/api/v1/push", map[string]any{"streams": []any{map[string]any{"stream": labels, "values": [][2]string{{strconv.FormatInt(now.UnixNano(), 10), line}}}}})
		return now
	}
	shop := map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}
	push(shop, "INFO before") // so that the stream is there
	const delay = 60 * time.Second
	cfg := loki.Config{Window: time.Second, Delay: delay, Tail: loki.Tail{Least: time.Second}}
	cfg.URL = server.URL
	s, err := loki.New(cfg, env(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	got := emissions(t, s)
	seen := 0
	// The tail is open some time after the source has begun: lines are written
	// until one rings.
	began := time.Now()
	deadline := time.After(delay)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for n := 0; seen == 0; n++ {
		select {
		case <-tick.C:
			push(shop, fmt.Sprintf("ERROR number %d password=hunter2hunter2", n))
		case e := <-got:
			for _, o := range e.Events {
				for _, st := range o.Data().(event.LogBatch).Streams {
					for _, l := range st.Lines {
						if strings.Contains(l.Text, "ERROR") {
							seen++
						}
						if strings.Contains(l.Text, "hunter2") {
							t.Errorf("%q is not redacted", l.Text)
						}
					}
				}
			}
		case <-deadline:
			t.Fatalf("no line within %v, though the bell should have rung", time.Since(began))
		}
	}
	if d := time.Since(began); d >= delay {
		t.Errorf("read after %v, want less than the delay of %v", d, delay)
	}
}

// TestARealAlertmanagerIsPolledAndPushes fires, silences and resolves an alert.
func TestARealAlertmanagerIsPolledAndPushes(t *testing.T) {
	b := bustest.Start(t)
	e := env(t, b)
	names, err := entities.Load(e.Policies)
	if err != nil {
		t.Fatal(err)
	}
	hooked := alertmanager.Config{}
	hooked.Name = "am"
	hooked.Webhook.Listen, hooked.Webhook.BearerTokenFile = "127.0.0.1:0", token(t)
	h, err := alertmanager.New(hooked, e, names)
	if err != nil {
		t.Fatal(err)
	}
	server, err := bed(t).StartAlertmanager(t.Context(), testbed.AlertmanagerConfig{Webhook: listen(t, h.Webhook()) + alertmanager.Path, Token: "tok"})
	if err != nil {
		t.Fatal(err)
	}
	polled := alertmanager.Config{Every: time.Second, Settle: time.Second}
	polled.URL, polled.Name = server.URL, "am"
	p, err := alertmanager.New(polled, env(t, b), names)
	if err != nil {
		t.Fatal(err)
	}
	got := emissions(t, p)
	labels := map[string]string{"alertname": "HighErrors", "severity": "page", "namespace": "shop", "deployment": "checkout"}
	starts := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)
	fire := func(ends time.Time) {
		post(t, server.URL+"/api/v2/alerts", []any{map[string]any{"labels": labels, "annotations": map[string]string{"summary": "s"}, "startsAt": starts, "endsAt": ends}})
	}
	told := func(what string, ok func(event.Alert) bool) (id string) {
		t.Helper()
		until(t, what, got, func(e collector.Emission) bool {
			for _, o := range e.Events {
				if ok(o.Data().(event.Alert)) {
					id = o.ID
					return true
				}
			}
			return false
		})
		return id
	}
	fire(time.Now().Add(time.Hour))
	firing := told("firing", func(a event.Alert) bool { return a.Firing() && !a.Silenced && a.Entity().Name == "checkout" })
	pushed := func(ok func(bus.Message) bool) bool {
		found := false
		if err := b.Read(t.Context(), event.KubeEvents, bus.ReadOptions{}, func(m bus.Message) error { found = found || ok(m); return nil }); err != nil {
			t.Fatal(err)
		}
		return found
	}
	eventually(t, "the same event by webhook", func() bool { return pushed(func(m bus.Message) bool { return m.ID == firing }) })
	post(t, server.URL+"/api/v2/silences", map[string]any{
		"matchers": []any{map[string]any{"name": "alertname", "value": "HighErrors", "isRegex": false, "isEqual": true}},
		"startsAt": time.Now(), "endsAt": time.Now().Add(10 * time.Second), "createdBy": "me", "comment": "test",
	})
	told("silenced", func(a event.Alert) bool { return a.Firing() && a.Silenced })
	told("heard again", func(a event.Alert) bool { return a.Firing() && !a.Silenced && a.Toggled == 2 })
	fire(time.Now())
	told("resolved", func(a event.Alert) bool { return !a.Firing() })
	eventually(t, "the end by webhook", func() bool {
		return pushed(func(m bus.Message) bool { a, ok := m.Data.(event.Alert); return ok && !a.Firing() })
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 60s", what)
		case <-look.C:
		}
	}
}
