package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/detector"
)

func TestWhatIsSeenIsSaidWithWhereItComesFrom(t *testing.T) {
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	s := &seen{
		workloads: map[string]map[string]string{"shop/web": {"team": "front"}, "shop/job": {}, "lab/try": {}}, pods: map[string]int{"shop/web": 4, "lab/try": 1},
		nodes: 1, topology: true, by: map[string]map[string]map[string]bool{},
	}
	s.mark("traffic", "istio", "shop", "web")
	s.mark("logs", "loki", "shop", "web")
	s.mark("logs", "loki", "lab", "try")
	s.mark("logs", "loki", "gone", "gone") // not in the topology
	signals, err := s.signals(store)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(s.lines(signals), "\n")
	want := "sees 3 workloads in 2 namespaces, 5 pods, 1 node\n" +
		"traffic 1/3 (istio 1), resources 0/3, logs 2/3 (loki 2), SLO 1/3, owner 1/3\n" +
		"which are missing, and what to do: oncall doctor --coverage, oncall owner ls --none"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEveryDetectorIsJudgedFromNowOrLearns(t *testing.T) {
	at, first := learning(detector.DefaultConfig(), 30*time.Second, past{})
	for _, i := range detector.Builtin.All() {
		_, learns := first[i.Name]
		if slices.Contains(at, i.Name) == learns {
			t.Errorf("%s: judged from now %v, learns %v", i.Name, !learns, learns)
		}
	}
	if got := first["spike"]; got != 30*time.Minute {
		t.Errorf("spike learns for %s of 30s steps, want 30m", got)
	}
	_, first = learning(detector.DefaultConfig(), 30*time.Second, past{metrics: 2 * time.Hour})
	if _, learns := first["spike"]; learns || first["level_shift"] != 70*time.Minute || first["log_spike"] == 0 {
		t.Errorf("after two hours of history: %v; spike has learnt, level_shift has 70 minutes left, logs have no history", first)
	}
	_, first = learning(detector.DefaultConfig(), 30*time.Second, past{logs: logPast{96 * time.Minute, 24 * time.Hour}})
	for _, name := range []string{"log_spike", "log_new_pattern", "log_error_ratio", "log_vanished"} {
		if left, learns := first[name]; learns {
			t.Errorf("after a day of history %s learns for %s more", name, left)
		}
	}
	off := detector.DefaultConfig()
	off.Disabled = []string{"spike", "change"}
	at, first = learning(off, 30*time.Second, past{})
	if _, ok := first["spike"]; ok || slices.Contains(at, "change") {
		t.Error("what is switched off is named")
	}
}

func TestHistoryIsAsLongAsWhatWasReadOfIt(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	batch := func(step time.Time, history bool, ago ...time.Duration) event.Outgoing {
		ls := event.LabelsOf(map[string]string{event.LabelName: "x"})
		s := event.Series{ID: ls.Hash(), Labels: ls}
		for _, d := range ago {
			s.Points = append(s.Points, event.Point{T: at.Add(-d).UnixMilli(), V: 1})
		}
		return event.MetricsRead.Out(event.MetricBatch{Source: "p", Query: "q", Step: step, Bootstrap: history, Series: []event.Series{s}})
	}
	tick := event.MetricsTick.Out(event.Tick{Watermark: at})
	for name, c := range map[string]struct {
		stored []event.Outgoing
		want   time.Duration
	}{
		"nothing was read yet":    {nil, 0},
		"no history":              {[]event.Outgoing{batch(at, false, 0), tick}, 0},
		"twelve minutes of it":    {[]event.Outgoing{batch(at.Add(-time.Minute), true, 12*time.Minute, time.Minute), batch(at, false, 0), tick}, 12 * time.Minute},
		"history before any tick": {[]event.Outgoing{batch(at.Add(-time.Minute), true, time.Minute)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := service.DefaultConfig(pipeline.Services...)
			cfg.Obs.Listen, cfg.Obs.LogLevel = "", "error"
			h, err := pipeline.Open(t.Context(), cfg, pipeline.Options{Data: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = h.Close() }()
			if err := publish(h, c.stored); err != nil {
				t.Fatal(err)
			}
			if got := historyRead(t.Context(), h.Bus); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestWhatHasLearntIsNotSaidToLearn(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	time.Local = time.UTC
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first := map[string]time.Duration{"b": 30 * time.Minute, "a": 30 * time.Minute, "c": time.Hour, "d": 48 * time.Hour}
	for name, tc := range map[string]struct {
		since time.Time
		want  string
	}{
		"at the first start":           {now, "a, b until 12:30; c until 13:00; d until Mar 3 12:00"},
		"after three quarters":         {now.Add(-45 * time.Minute), "c until 12:15; d until Mar 3 11:15"},
		"when all of them have learnt": {now.Add(-50 * time.Hour), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := learns(first, tc.since, now); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
