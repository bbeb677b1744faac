package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/baseline"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/alertmanager"
	kubernetes "github.com/oncall-copilot/oncall/services/collector/kubernetes"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectors"
)

// firstReading is how long the first reading of every source may take until it
// is said what was seen.
const firstReading = 90 * time.Second

// welcome says, once every source was read or has had its time, what is seen of
// the cluster and since when that can be judged. After it there is silence
// until something happens.
func welcome(ctx context.Context, h *pipeline.Host, say func(string, ...any)) {
	start := time.Now()
	since := oldestTick(ctx, h.Bus, start)
	late := firstTicks(ctx, h, start)
	if ctx.Err() != nil {
		return
	}
	s, err := look(ctx, h.Bus, start)
	if err != nil {
		return // the services say what is wrong with the bus
	}
	signals, err := s.signals(h.Policies)
	if err != nil {
		return // so do they of a policy
	}
	for _, l := range s.lines(signals) {
		say("%s", l)
	}
	for _, name := range late {
		say("%s: nothing read yet; oncall doctor says what to do", name)
	}
	cfg := h.Config.Section(detector.Spec.Name).(detector.Config)
	cfg.Disabled = append(slices.Clone(cfg.Disabled), blind(h)...)
	now := time.Now()
	at, first := learning(cfg, stepOf(h), past{metrics: historyRead(ctx, h.Bus), logs: linesRead(ctx, h.Bus)})
	for name, d := range first {
		if !since.Add(d).After(now) {
			at = append(at, name) // it has learnt before this start
		}
	}
	slices.Sort(at)
	say("judged from now: %s", strings.Join(at, ", "))
	if words := learns(first, since, now); words != "" {
		say("still learnt from what comes: %s", words)
	}
	say("nothing more is said until something happens")
}

// blind are the detectors of what no source is configured for.
func blind(h *pipeline.Host) (names []string) {
	for _, s := range streamFilters {
		for _, i := range detector.Builtin.All() {
			if string(i.Input) == s.name && !configures(h, s.kinds) {
				names = append(names, i.Name)
			}
		}
	}
	return names
}

// lines say what is seen of a cluster.
func (s *seen) lines(signals []coveredBy) []string {
	namespaces := map[string]bool{}
	for w := range s.workloads {
		ns, _, _ := strings.Cut(w, "/")
		namespaces[ns] = true
	}
	sees := fmt.Sprintf("sees %s in %s", count(len(s.workloads), "workload"), count(len(namespaces), "namespace"))
	if s.topology {
		sees += fmt.Sprintf(", %s, %s", count(s.allPods(), "pod"), count(s.nodes, "node"))
	}
	if len(s.workloads) == 0 {
		return []string{sees + "; oncall doctor --coverage says more"}
	}
	var parts []string
	for _, c := range signals {
		part := fmt.Sprintf("%s %d/%d", c.Name, c.Covered, len(s.workloads))
		if from := c.from(); from != "" && c.Name != "owner" && c.Name != "SLO" {
			part += " (" + from + ")"
		}
		parts = append(parts, part)
	}
	out := []string{sees, strings.Join(parts, ", ")}
	if slices.ContainsFunc(signals, func(c coveredBy) bool { return len(c.Missing) > 0 }) {
		out = append(out, "which are missing, and what to do: oncall doctor --coverage, oncall owner ls --none")
	}
	return out
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// oldestTick is since when the bus has been filled, as far back as it keeps
// that; now, when it is empty.
func oldestTick(ctx context.Context, b *bus.Bus, now time.Time) time.Time {
	found := errors.New("found")
	oldest := now
	for _, s := range streamFilters {
		_ = b.Read(ctx, s.stream, bus.ReadOptions{Filters: []string{s.tick}}, func(m bus.Message) error {
			if t, ok := m.Data.(event.Tick); ok && t.Watermark.Before(oldest) {
				oldest = t.Watermark
			}
			return found
		})
	}
	return oldest
}

// streamFilters are the streams of telemetry, with what says how far each was
// read.
var streamFilters = []struct {
	name, tick string
	stream     *event.Stream
	kinds      []string // of sources
}{
	{"metrics", event.MetricsTick.Filter(), event.Metrics, []string{"prometheus"}},
	{"logs", event.LogsTick.Filter(), event.Logs, []string{"loki"}},
	{"events", event.EventsTick.Filter(), event.KubeEvents, []string{"kubernetes", "alertmanager"}},
}

// firstTicks waits until the streams of all configured sources were read past
// the start, and names those that were not in time.
func firstTicks(ctx context.Context, h *pipeline.Host, start time.Time) []string {
	var mu sync.Mutex
	var late []string
	waiting, cancel := context.WithTimeout(ctx, firstReading)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range streamFilters {
		if !configures(h, s.kinds) {
			continue
		}
		wg.Go(func() {
			read := errors.New("read")
			err := h.Bus.Read(waiting, s.stream, bus.ReadOptions{Filters: []string{s.tick}, Follow: true, New: true}, func(m bus.Message) error {
				if t, ok := m.Data.(event.Tick); ok && len(t.Blind) == 0 && !t.Watermark.Before(start.Add(-time.Minute)) {
					return read
				}
				return nil
			})
			if !errors.Is(err, read) {
				mu.Lock()
				defer mu.Unlock()
				late = append(late, s.name)
			}
		})
	}
	wg.Wait()
	slices.Sort(late)
	return late
}

// configures says whether there is a source of one of the kinds.
func configures(h *pipeline.Host, kinds []string) bool {
	found := false
	c := h.Config.Section(collector.Spec.Name).(collector.Config)
	c.Each(func(_ string, src any) {
		kind := ""
		switch src.(type) {
		case prometheus.Config:
			kind = "prometheus"
		case loki.Config:
			kind = "loki"
		case kubernetes.Config:
			kind = "kubernetes"
		case alertmanager.Config:
			kind = "alertmanager"
		}
		found = found || slices.Contains(kinds, kind)
	})
	return found
}

// stepOf is the time between two samples of a series.
func stepOf(h *pipeline.Host) time.Duration {
	step := 30 * time.Second
	c := h.Config.Section(collector.Spec.Name).(collector.Config)
	c.Each(func(_ string, src any) {
		if p, ok := src.(prometheus.Config); ok {
			step = p.Step
		}
	})
	return step
}

// historyRead is how far back the metrics go that were read before the first step:
// how much a server has kept is not known before.
func historyRead(ctx context.Context, b *bus.Bus) time.Duration {
	over := errors.New("over")
	var oldest, first time.Time
	_ = b.Read(ctx, event.Metrics, bus.ReadOptions{}, func(m bus.Message) error {
		switch v := m.Data.(type) {
		case event.MetricBatch:
			for _, s := range v.Series {
				if !v.Bootstrap || len(s.Points) == 0 {
					continue
				}
				if at := time.UnixMilli(s.Points[0].T); oldest.IsZero() || at.Before(oldest) {
					oldest = at
				}
			}
		case event.Tick:
			first = v.Watermark
			return over
		}
		return nil
	})
	if oldest.IsZero() || first.IsZero() {
		return 0
	}
	return first.Sub(oldest)
}

// past is what was read of the time before the first step and window.
type past struct {
	metrics time.Duration
	logs    logPast
}

// logPast is history of logs: so many minutes, spread over so long.
type logPast struct{ read, span time.Duration }

// linesRead is the history of logs that was read before the first window.
func linesRead(ctx context.Context, b *bus.Bus) (p logPast) {
	over := errors.New("over")
	var oldest, first time.Time
	minutes := map[time.Time]bool{}
	_ = b.Read(ctx, event.Logs, bus.ReadOptions{}, func(m bus.Message) error {
		switch v := m.Data.(type) {
		case event.LogBatch:
			if !v.Bootstrap || v.Chosen {
				return nil
			}
			minutes[v.Start] = true
			if oldest.IsZero() || v.Start.Before(oldest) {
				oldest = v.Start
			}
		case event.Tick:
			first = v.Watermark
			return over
		}
		return nil
	})
	if oldest.IsZero() || first.IsZero() {
		return p
	}
	return logPast{time.Duration(len(minutes)) * time.Minute, first.Sub(oldest)}
}

// learning says which detectors judge what they see at once, and how long each
// of the others learns what is normal first, beyond the history that was read.
func learning(cfg detector.Config, step time.Duration, history past) (at []string, first map[string]time.Duration) {
	first = map[string]time.Duration{}
	for _, i := range detector.Builtin.All() {
		c, err := cfg.Section(i)
		if err != nil || slices.Contains(cfg.Disabled, i.Name) {
			continue
		}
		switch c := c.(type) {
		case detectors.SpikeConfig:
			first[i.Name] = baseline.WarmUp * step
		case detectors.LevelShiftConfig:
			first[i.Name] = baseline.Rules(c).Learns(step)
		case detectors.FlatlineConfig:
			first[i.Name] = c.WarmUp
		case detectors.ForecastConfig:
			first[i.Name] = c.History
		case detectors.LogSpikeConfig:
			first[i.Name] = c.WarmUp - history.logs.read
		case detectors.LogNewPatternConfig:
			// So long nothing new must have been said that something new is improbable.
			first[i.Name] = c.WarmUp + time.Duration(0.5/c.P*float64(time.Minute)) - history.logs.read
		case detectors.LogErrorRatioConfig:
			first[i.Name] = c.WarmUp - history.logs.read
		case detectors.LogVanishedConfig:
			first[i.Name] = time.Duration(c.Hours)*time.Hour - history.logs.span
		}
		if i.Input == detector.Metrics {
			first[i.Name] -= history.metrics
		}
		if first[i.Name] <= 0 {
			delete(first, i.Name)
			at = append(at, i.Name)
		}
	}
	return at, first
}

// learns says until when detectors learn that began at a time; "" when all have
// learnt.
func learns(first map[string]time.Duration, since, now time.Time) string {
	byTime := map[time.Duration][]string{}
	for _, name := range slices.Sorted(maps.Keys(first)) {
		if since.Add(first[name]).After(now) {
			byTime[first[name]] = append(byTime[first[name]], name)
		}
	}
	var out []string
	for _, d := range slices.SortedFunc(maps.Keys(byTime), cmp.Compare[time.Duration]) {
		until := since.Add(d).Local()
		layout := "15:04"
		if d >= 24*time.Hour || until.Local().YearDay() != now.Local().YearDay() {
			layout = "Jan 2 15:04"
		}
		out = append(out, fmt.Sprintf("%s until %s", strings.Join(byTime[d], ", "), until.Format(layout)))
	}
	return strings.Join(out, "; ")
}
