package detector_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

func TestServiceTurnsTelemetryOnTheBusIntoAnomalies(t *testing.T) {
	b := bustest.Start(t)
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	windows := map[detector.Input][]event.Batch{}
	for _, in := range inputs {
		windows[in] = detectortest.Stream(in, 260)
		for _, w := range windows[in] {
			for _, m := range w.Metrics {
				m.Source, m.Query, m.Partition = "prom", "q", 7
				if err := b.Publish(t.Context(), event.MetricsRead.Out(m)); err != nil {
					t.Fatal(err)
				}
			}
			for _, l := range w.Logs {
				l.Partition = 7
				if err := b.Publish(t.Context(), event.LogsRead.Out(l)); err != nil {
					t.Fatal(err)
				}
			}
			var out []event.Outgoing
			for _, e := range w.Events {
				out = append(out, event.KubeEventSeen.Out(e))
			}
			for _, c := range w.Changes {
				out = append(out, event.ChangeSeen.Out(c))
			}
			for _, a := range w.Alerts {
				out = append(out, event.AlertSeen.Out(a))
			}
			tick := event.Tick{Watermark: w.Watermark, Blind: w.Blind}
			switch in {
			case detector.Metrics:
				out = append(out, event.MetricsTick.Out(tick))
			case detector.Logs:
				out = append(out, event.LogsTick.Out(tick))
			case detector.Events:
				out = append(out, event.EventsTick.Out(tick))
			}
			if err := b.Publish(t.Context(), out...); err != nil {
				t.Fatal(err)
			}
		}
	}
	// So many false alarms are accepted that three hours suffice to learn a level.
	cfg := detector.DefaultConfig()
	if err := yaml.Unmarshal([]byte("level_shift: {false_per_day: 1}"), &cfg); err != nil {
		t.Fatal(err)
	}
	run, err := detector.New(cfg, service.Env{Bus: b, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Policies: store})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- run.Run(ctx) }()
	found := map[string]int{}
	ended := map[string]int{}
	changes := 0
	last := map[string]time.Time{}
	closed := map[string]int{} // partitions at the end, by group
	end := detectortest.Start.Add(259 * time.Minute)
	err = b.Read(ctx, event.Anomalies, bus.ReadOptions{Follow: true}, func(m bus.Message) error {
		switch v := m.Data.(type) {
		case event.Anomaly:
			if v.Ended != nil {
				ended[v.Detector]++
			} else {
				found[v.Detector]++
			}
		case event.Change:
			changes++
		case event.Watermark:
			last[v.Group] = v.Time
			if v.Time.Equal(end) {
				closed[v.Group]++
			}
		}
		for _, in := range inputs {
			if closed[string(in)] < event.Partitions {
				return nil
			}
		}
		return errSeen
	})
	if !errors.Is(err, errSeen) {
		t.Fatalf("read: %v; watermarks %v, found %v", err, last, found)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	for _, name := range []string{"burn_rate", "availability", "spike", "level_shift", "log_spike", "log_new_pattern", "event_surge", "change", "alert", "forecast"} {
		if found[name] == 0 {
			t.Errorf("no anomaly of %s", name)
		}
	}
	for _, name := range []string{"burn_rate", "availability", "log_spike", "event_surge", "change", "alert"} {
		if ended[name] == 0 {
			t.Errorf("no end of an anomaly of %s", name)
		}
	}
	if changes != 1 {
		t.Errorf("got %d changes passed on, want 1", changes)
	}
}

var errSeen = errString("seen")

type errString string

func (e errString) Error() string { return string(e) }

func TestConfigErrorsNameLineFieldAndFix(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"a wrong value of a detector":  {"level_shift:\n  warm_up: 2h\n  false_per_day: -1\n", "oncall.yaml:3: level_shift.false_per_day: -1 is not between 1e-06 and 100; write 0.02"},
		"a detector that is not there": {"max_series: 5000\nspikes:\n  warm_up: 1\n", "oncall.yaml:2: spikes: is neither a setting nor a detector"},
		"a limit that is too low":      {"max_series: 1\n", "oncall.yaml:1: max_series: 1 is not at least 100"},
		"an unknown name in disabled":  {"disabled: [nothing]\n", "oncall.yaml:1: disabled[0]: nothing is not a detector; write one of alert"},
		"an unknown field":             {"alert:\n  pages: [x]\n", "pages: unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			var doc yaml.Node
			if err := yaml.Unmarshal([]byte(c.in), &doc); err != nil {
				t.Fatal(err)
			}
			_, err := detector.Spec.Check("oncall.yaml", doc.Content[0])
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
