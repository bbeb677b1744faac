package loki

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
)

// Source reads windows of one Loki.
type Source struct {
	cfg    Config
	env    collector.Env
	up     *upstream.Client
	now    func() time.Time // by the server's clock; nil in a recording
	name   string
	query  string
	hash   string
	stream *event.Stream
	// make turns the lines of a window into what is published.
	make func(streams []stream, start, end time.Time) []event.Outgoing
	bell *bell // nil without a tail
	// limit is how many lines are asked for at once: what is configured, or what
	// the server allows.
	limit *atomic.Int64
	// windows samples the windows that are read one after the other, and traces joins
	// lines over their ends.
	windows  *sampler
	traces   *traces
	sampling *atomic.Bool // in the last one

	dropped prometheus.Counter
	sampled prometheus.Counter
	bytes   *prometheus.CounterVec
	rate    prometheus.Gauge
	parsed  *prometheus.CounterVec // of events
}

var _ collector.Source = (*Source)(nil)

// New makes a source of log lines.
func New(cfg Config, env collector.Env) (*Source, error) {
	cfg.Fill()
	up, err := upstream.New(cfg.Config, upstream.Settings{Service: "collector", Source: "loki", Audit: env.Audit, Now: env.Now})
	if err != nil {
		return nil, err
	}
	s := newSource(cfg, env, up)
	s.now = up.Clock().Now
	env.Clocks.Add(cfg.Name, up.Clock())
	if !cfg.Tail.Off {
		s.bell = newBell(cfg, s.now)
		env.Metrics.MustRegister(s.bell.rings, s.bell.late, s.bell.gone, s.bell.open)
	}
	return s, nil
}

// newSource makes a source without a tail.
func newSource(cfg Config, env collector.Env, up *upstream.Client) *Source {
	matchers := cfg.ExtraMatchers
	for _, ns := range cfg.ExcludeNamespaces {
		matchers = strings.TrimPrefix(matchers+fmt.Sprintf(", namespace!=%q", ns), ", ")
	}
	labels := prometheus.Labels{"source": cfg.Name}
	s := &Source{
		cfg: cfg, env: env, up: up, name: cfg.Name, query: upstream.InjectLogQL(cfg.Selector, matchers), stream: event.Logs,
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_collector_log_windows_cut_total", Help: "Moments of which Loki would not give every line, because more than its limit have the same time.", ConstLabels: labels}),
		sampled: prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_collector_log_lines_sampled_out_total", Help: "Lines left out to keep the byte budget.", ConstLabels: labels}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "oncall_collector_log_bytes_total", Help: "Text of log lines, redacted, as it was read and as it was published within the budget.", ConstLabels: labels},
			[]string{"what"}),
		rate: prometheus.NewGauge(prometheus.GaugeOpts{Name: "oncall_collector_log_sample_rate", Help: "The most lines that one line of the last window stands for; 1 while none are left out.", ConstLabels: labels}),
		parsed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "oncall_collector_event_lines_total", Help: "Lines of an event exporter, by what became of them.", ConstLabels: labels},
			[]string{"outcome"}),
	}
	s.make = func(streams []stream, start, end time.Time) (out []event.Outgoing) {
		for _, b := range s.batches(streams, start, end, s.windows, s.traces) {
			out = append(out, event.LogsRead.Out(b))
		}
		return out
	}
	for _, o := range []string{"event", "no_event", "no_identity"} {
		s.parsed.WithLabelValues(o)
	}
	for _, w := range []string{"read", "published"} {
		s.bytes.WithLabelValues(w)
	}
	s.windows, s.traces, s.sampling, s.limit = newSampler(nil, time.Time{}), newTraces(nil), &atomic.Bool{}, &atomic.Int64{}
	s.limit.Store(int64(cfg.Limit))
	env.Metrics.MustRegister(s.dropped, s.sampled, s.bytes, s.rate, s.parsed)
	s.hash = event.SeriesHash(event.HashStrings(s.query, cfg.Window.String()))[:8]
	return s
}

// Name is the configured name.
func (s *Source) Name() string { return s.name }

// cursor is how far has been read.
type cursor struct {
	End time.Time `json:"end"` // of the last window that is stored
	// Words is the version of the miner for which the past was read.
	Words string `json:"words,omitempty"`
	// Skeletons are those that a sampler knows, and Sampled is the end of the last
	// window that it sampled.
	Skeletons []byte    `json:"skeletons,omitempty"`
	Sampled   time.Time `json:"sampled,omitzero"`
	// Open is what goes on in the next window: traces, by their streams.
	Open []byte `json:"open,omitempty"`
}

// After is the cursor of a source that has read everything up to a time: it
// goes on with the window that begins there.
func After(at time.Time) []byte {
	b, _ := json.Marshal(cursor{End: at.UTC(), Words: logpattern.Version}) // a time of this era is JSON
	return b
}

// introduction is how long the first reading waits for Kubernetes to say whose
// pods are.
const introduction = 30 * time.Second

// Run reads every aligned window once it is Delay old.
func (s *Source) Run(ctx context.Context, raw []byte, emit collector.Emit) error {
	var cur cursor
	if raw != nil {
		if err := json.Unmarshal(raw, &cur); err != nil {
			s.env.Log.Warn("cursor unreadable, reading from now on", "source", s.name, "err", err)
		}
	}
	if cur.End.IsZero() {
		cur.End = s.latest()
	}
	s.windows, s.traces = newSampler(cur.Skeletons, cur.Sampled), newTraces(cur.Open)
	first := raw == nil
	s.env.Workloads.Wait(ctx, introduction)
	if s.bell != nil {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { s.tail(ctx) })
	}
	var blind *event.Blindness
	var next ahead
	for backoff := time.Second; ; {
		start := cur.End
		end := start.Add(s.cfg.Window)
		now := s.now()
		delay := s.delay(start)
		if wait := end.Add(delay).Sub(now); wait > 0 {
			if !s.wait(ctx, wait) {
				return ctx.Err()
			}
			continue
		}
		skipped := 0
		if oldest := now.Add(-s.cfg.MaxCatchUp).Truncate(s.cfg.Window); start.Before(oldest) {
			skipped = int(oldest.Sub(start) / s.cfg.Window)
			start, end = oldest.UTC(), oldest.Add(s.cfg.Window).UTC()
			s.env.Log.Warn("windows skipped, older than max_catch_up", "source", s.name, "windows", skipped, "to", start)
		}
		closed := max(1, int(now.Add(-delay).Sub(start)/s.cfg.Window))
		streams, err := s.window(ctx, &next, start, closed)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if blind == nil {
				blind = &event.Blindness{Source: s.name, Since: start, Reason: s.env.Redact.Line(upstream.Reason(err))}
				s.env.Log.Warn("source unreadable, trying again", "source", s.name, "since", start, "err", blind.Reason)
			}
			if e := emit(ctx, collector.Emission{Stream: s.stream, Blind: blind}); e != nil {
				return e
			}
			if !upstream.Wait(ctx, max(backoff, upstream.RetryIn(err))) {
				return ctx.Err()
			}
			backoff = min(2*backoff, 30*time.Second)
			continue
		}
		if blind != nil {
			s.env.Log.Info("source readable again, catching up", "source", s.name, "blind_since", blind.Since)
		}
		blind, backoff = nil, time.Second
		// The answer has told what time it is there. What was asked of a time that has
		// not come is no answer, and it must not be closed.
		if end.Add(delay).After(s.now()) {
			if first {
				cur.End = s.latest()
			}
			next = ahead{}
			continue
		}
		first = false
		if s.stream == event.Logs && cur.Words != logpattern.Version && !s.cfg.WarmStart.Off {
			if err := s.past(ctx, start, emit); err != nil {
				return err
			}
		}
		made := s.make(streams, start, end)
		cur = cursor{End: end, Words: logpattern.Version, Skeletons: s.windows.save(), Sampled: s.windows.until, Open: s.traces.save()}
		position, err := json.Marshal(cur)
		if err != nil {
			return fmt.Errorf("cursor: %w", err)
		}
		if s.bell != nil {
			s.bell.wasRead(end)
		}
		if err := emit(ctx, collector.Emission{Stream: s.stream, Events: made, Cursor: position, Closed: end, Skipped: skipped}); err != nil {
			return err
		}
	}
}

// latest is the end of the last window that could be read now.
func (s *Source) latest() time.Time {
	return s.now().Add(-s.cfg.Delay).Truncate(s.cfg.Window).UTC()
}

// delay is how long after its end the window that begins at start is read.
func (s *Source) delay(start time.Time) time.Duration {
	if s.bell == nil {
		return s.cfg.Delay
	}
	return s.bell.delay(start)
}

// wait waits, or until the bell rings, and returns false when ctx is done.
func (s *Source) wait(ctx context.Context, d time.Duration) bool {
	if s.bell == nil {
		return upstream.Wait(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-s.bell.ring:
	}
	return true
}
