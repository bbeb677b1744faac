package loki

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
)

// Entry is one recorded line with the labels of its stream.
type Entry struct {
	Time   time.Time
	Labels map[string]string
	Line   string
	Rate   int // how many lines it stands for; 0 for itself alone
}

// Recorded is a source that reads recorded lines as if they came from a Loki:
// the same windows, labels, redaction and batches, with the same ids. What was
// sampled when it was recorded is not sampled again.
type Recorded struct {
	source     *Source
	entries    []Entry // in time order
	start, end time.Time
	wait       func(context.Context, time.Time) error
}

var _ collector.Source = (*Recorded)(nil)

// NewRecorded makes a source of the lines that one source of logs gave between
// two times, in windows that cover all of it. wait is called before each window
// is read, with its end; nil reads at once.
func NewRecorded(name string, entries []Entry, start, end time.Time, window time.Duration, env collector.Env, wait func(context.Context, time.Time) error) *Recorded {
	cfg := Config{Window: window}
	cfg.Name = name
	cfg.Fill()
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	if n := len(entries); n > 0 {
		if start.IsZero() || entries[0].Time.Before(start) {
			start = entries[0].Time
		}
		if last := entries[n-1].Time.Add(1); last.After(end) {
			end = last
		}
	}
	return &Recorded{source: newSource(cfg, env, nil), entries: entries, start: start.Truncate(cfg.Window).UTC(), end: end.UTC(), wait: wait}
}

// Name is the name of the recorded source.
func (r *Recorded) Name() string { return r.source.cfg.Name }

// End is the end of the last window.
func (r *Recorded) End() time.Time {
	w := r.source.cfg.Window
	return r.start.Add((r.end.Sub(r.start) + w - 1).Truncate(w))
}

// Run emits every window and returns at the end of the recording.
func (r *Recorded) Run(ctx context.Context, _ []byte, emit collector.Emit) error {
	rest := r.entries
	for start := r.start; start.Before(r.end); start = start.Add(r.source.cfg.Window) {
		end := start.Add(r.source.cfg.Window)
		if r.wait != nil {
			if err := r.wait(ctx, end); err != nil {
				return err
			}
		}
		n, _ := slices.BinarySearchFunc(rest, end, func(e Entry, t time.Time) int { return e.Time.Compare(t) })
		var out []event.Outgoing
		for _, b := range r.source.batches(streams(rest[:n]), start, end, nil, r.source.traces) {
			out = append(out, event.LogsRead.Out(b))
		}
		rest = rest[n:]
		if err := emit(ctx, collector.Emission{Stream: event.Logs, Events: out, Closed: end}); err != nil {
			return err
		}
	}
	return nil
}

// streams groups lines as Loki's answer does, and by what they stand for.
func streams(entries []Entry) []stream {
	var out []stream
	at := map[string]int{}
	for _, e := range entries {
		labels := asAsked(e.Labels)
		var key strings.Builder
		for _, k := range slices.Sorted(maps.Keys(labels)) {
			key.WriteString(k + "\x00" + labels[k] + "\x00")
		}
		key.WriteString(strconv.Itoa(e.Rate))
		i, ok := at[key.String()]
		if !ok {
			i = len(out)
			at[key.String()] = i
			out = append(out, stream{Labels: labels, rate: e.Rate})
		}
		out[i].Values = append(out[i].Values, [2]string{strconv.FormatInt(e.Time.UnixNano(), 10), e.Line})
	}
	return out
}

// asAsked calls the workload of a line that we recorded by a name that agents
// use for it, so that mapping it again gives the same.
func asAsked(labels map[string]string) map[string]string {
	w, ours := labels[event.LabelWorkload]
	if !ours || labels[event.LabelSource] == "" {
		return labels
	}
	labels = maps.Clone(labels)
	labels[names[event.LabelWorkload][0]] = w
	return labels
}
