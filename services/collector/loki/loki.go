// Package loki reads log lines from Loki in aligned, closed windows: the same
// window read again gives the same batches with the same ids.
package loki

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
)

// Config is one Loki in the collector's section.
type Config struct {
	upstream.Config `yaml:",inline"`
	// Selector chooses the streams. Default: {namespace=~".+"}.
	Selector string `yaml:"selector"`
	// ExcludeNamespaces are left out. Default: our own, oncall.
	ExcludeNamespaces []string `yaml:"exclude_namespaces"`
	// Window is the time that one reading covers. Default: 5s.
	Window time.Duration `yaml:"window"`
	// Delay is how long after its end a window is read, so that lines have
	// arrived. Default: 5s.
	Delay time.Duration `yaml:"delay"`
	// MaxCatchUp is how far back missed windows are read after an outage. What
	// is older is skipped and counted. Default: 30m.
	MaxCatchUp time.Duration `yaml:"max_catch_up"`
	// BytesPerDay bounds what is published. Beyond the share of it that falls on
	// a window, lines are sampled. Default: 20 GiB.
	BytesPerDay int64 `yaml:"log_bytes_per_day"`
	// Limit is the most lines asked for at once; Loki's own default limit is
	// 5000. Default: 5000.
	Limit int `yaml:"limit"`
}

// Fill gives the fields that are not set their defaults.
func (c *Config) Fill() {
	c.Config.Fill("loki")
	c.Selector = cmp.Or(c.Selector, `{namespace=~".+"}`)
	if c.ExcludeNamespaces == nil {
		c.ExcludeNamespaces = []string{"oncall"}
	}
	c.Window = cmp.Or(c.Window, 5*time.Second)
	c.Delay = cmp.Or(c.Delay, 5*time.Second)
	c.MaxCatchUp = cmp.Or(c.MaxCatchUp, 30*time.Minute)
	c.BytesPerDay = cmp.Or(c.BytesPerDay, 20<<30)
	c.Limit = cmp.Or(c.Limit, 5000)
}

// Validate checks the fields; path stands before their names in errors.
func (c *Config) Validate(path string) error {
	errs := []error{c.Config.Validate(path)}
	bad := func(field string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path + field, Value: value, Problem: problem, Fix: fix})
	}
	if !strings.HasPrefix(strings.TrimSpace(c.Selector), "{") || !strings.HasSuffix(strings.TrimSpace(c.Selector), "}") {
		bad("selector", c.Selector, "is not a stream selector", `write {namespace=~".+"}`)
	}
	if c.Window < time.Second || c.Window > 5*time.Minute {
		bad("window", c.Window, "is not between 1s and 5m", "write 5s")
	}
	if c.Limit < 100 || c.Limit > 100_000 {
		bad("limit", c.Limit, "is not between 100 and 100000", "write 5000")
	}
	if c.BytesPerDay < 1<<20 {
		bad("log_bytes_per_day", c.BytesPerDay, "is less than 1 MiB", "write 21474836480")
	}
	return errors.Join(errs...)
}

func init() {
	collector.Builtin.Register(collector.Define[Config]("loki", "Log lines from Loki, in closed windows.",
		func(cfg Config, env collector.Env) (collector.Built, error) {
			s, err := New(cfg, env)
			if err != nil {
				return collector.Built{}, err
			}
			return collector.Built{
				Sources:   []collector.Running{{Source: s, Streams: []*event.Stream{event.Logs}}},
				Retriever: evidence.NewLoki(s.up, env.Redact), Kind: evidence.Loki, Instance: cfg.Name,
			}, nil
		}))
}

// Source reads one Loki.
type Source struct {
	cfg     Config
	env     collector.Env
	up      *upstream.Client
	query   string
	hash    string
	dropped prometheus.Counter
	sampled prometheus.Counter
}

var _ collector.Source = (*Source)(nil)

// New makes a source.
func New(cfg Config, env collector.Env) (*Source, error) {
	cfg.Fill()
	up, err := upstream.New(cfg.Config, upstream.Settings{Service: "collector", Source: "loki", Audit: env.Audit, Now: env.Now})
	if err != nil {
		return nil, err
	}
	return newSource(cfg, env, up), nil
}

func newSource(cfg Config, env collector.Env, up *upstream.Client) *Source {
	matchers := cfg.ExtraMatchers
	for _, ns := range cfg.ExcludeNamespaces {
		matchers = strings.TrimPrefix(matchers+fmt.Sprintf(", namespace!=%q", ns), ", ")
	}
	s := &Source{
		cfg: cfg, env: env, up: up, query: upstream.InjectLogQL(cfg.Selector, matchers),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_collector_log_lines_dropped_total", Help: "Lines that Loki would not give, because more than its limit fell into one millisecond.", ConstLabels: prometheus.Labels{"source": cfg.Name}}),
		sampled: prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_collector_log_lines_sampled_out_total", Help: "Lines left out to keep the byte budget.", ConstLabels: prometheus.Labels{"source": cfg.Name}}),
	}
	s.hash = event.SeriesHash(event.HashStrings(s.query, cfg.Window.String()))[:8]
	env.Metrics.MustRegister(s.dropped, s.sampled)
	return s
}

// Name is the configured name.
func (s *Source) Name() string { return s.cfg.Name }

// cursor is how far has been read.
type cursor struct {
	End time.Time `json:"end"` // of the last window that is stored
}

// After is the cursor of a source that has read everything up to a time: it
// goes on with the window that begins there.
func After(at time.Time) []byte {
	b, _ := json.Marshal(cursor{at.UTC()}) // a time of this era is JSON
	return b
}

// Run reads every aligned window once it is Delay old.
func (s *Source) Run(ctx context.Context, raw []byte, emit collector.Emit) error {
	var cur cursor
	if raw != nil {
		if err := json.Unmarshal(raw, &cur); err != nil {
			s.env.Log.Warn("cursor unreadable, reading from now on", "source", s.cfg.Name, "err", err)
		}
	}
	if cur.End.IsZero() {
		cur.End = s.env.Now().Add(-s.cfg.Delay).Truncate(s.cfg.Window).UTC()
	}
	var blind *event.Blindness
	for backoff := time.Second; ; {
		start := cur.End
		end := start.Add(s.cfg.Window)
		now := s.env.Now()
		if wait := end.Add(s.cfg.Delay).Sub(now); wait > 0 {
			if !sleep(ctx, wait) {
				return ctx.Err()
			}
			continue
		}
		skipped := 0
		if oldest := now.Add(-s.cfg.MaxCatchUp).Truncate(s.cfg.Window); start.Before(oldest) {
			skipped = int(oldest.Sub(start) / s.cfg.Window)
			start, end = oldest.UTC(), oldest.Add(s.cfg.Window).UTC()
			s.env.Log.Warn("windows skipped, older than max_catch_up", "source", s.cfg.Name, "windows", skipped, "to", start)
		}
		streams, err := s.read(ctx, start, end)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if blind == nil {
				blind = &event.Blindness{Source: s.cfg.Name, Since: start, Reason: reason(err)}
				s.env.Log.Warn("source unreadable, trying again", "source", s.cfg.Name, "since", start, "err", err)
			}
			if e := emit(ctx, collector.Emission{Stream: event.Logs, Blind: blind}); e != nil {
				return e
			}
			if !sleep(ctx, max(backoff, retryAfter(err))) {
				return ctx.Err()
			}
			backoff = min(2*backoff, 30*time.Second)
			continue
		}
		if blind != nil {
			s.env.Log.Info("source readable again, catching up", "source", s.cfg.Name, "blind_since", blind.Since)
		}
		blind, backoff = nil, time.Second
		cur.End = end
		position, err := json.Marshal(cur)
		if err != nil {
			return fmt.Errorf("cursor: %w", err)
		}
		var out []event.Outgoing
		for _, b := range s.batches(streams, start, end) {
			out = append(out, event.LogsRead.Out(b))
		}
		if err := emit(ctx, collector.Emission{Stream: event.Logs, Events: out, Cursor: position, Closed: end, Skipped: skipped}); err != nil {
			return err
		}
	}
}

func reason(err error) string {
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		return string(e.Kind) + ": " + e.Err.Error()
	}
	return err.Error()
}

func retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// stream is one stream of Loki's answer.
type stream struct {
	Labels map[string]string `json:"stream"`
	Values [][]any           `json:"values"` // [nanoseconds as a string, line, metadata]
}

// read returns every line of [start, end). An answer that is full may hide
// lines: the window is halved until it is not.
func (s *Source) read(ctx context.Context, start, end time.Time) ([]stream, error) {
	params := url.Values{
		"query": {s.query}, "direction": {"forward"}, "limit": {strconv.Itoa(s.cfg.Limit)},
		"start": {strconv.FormatInt(start.UnixNano(), 10)}, "end": {strconv.FormatInt(end.UnixNano(), 10)},
	}
	body, err := s.up.Get(ctx, "/loki/api/v1/query_range", params, upstream.Query{Operation: "query_range", Text: s.query})
	if err != nil {
		return nil, err
	}
	streams, n, err := parse(body)
	if err != nil {
		return nil, &upstream.Error{Source: s.cfg.Name, Kind: upstream.Unreachable, Err: err}
	}
	if n < s.cfg.Limit {
		return streams, nil
	}
	half := end.Sub(start) / 2
	if half < time.Millisecond {
		s.dropped.Add(1)
		return streams, nil
	}
	first, err := s.read(ctx, start, start.Add(half))
	if err != nil {
		return nil, err
	}
	second, err := s.read(ctx, start.Add(half), end)
	return append(first, second...), err
}

// parse reads the answer to a log query and counts its lines.
func parse(body []byte) ([]stream, int, error) {
	var answer struct {
		Data struct {
			ResultType string   `json:"resultType"`
			Result     []stream `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, 0, fmt.Errorf("answer is not JSON, or was cut: %w", err)
	}
	if t := answer.Data.ResultType; t != "streams" {
		return nil, 0, fmt.Errorf("answer holds %q, not streams", t)
	}
	n := 0
	for _, s := range answer.Data.Result {
		n += len(s.Values)
	}
	return answer.Data.Result, n, nil
}

// names are the labels by which agents call what we call by one name.
var names = map[string][]string{
	event.LabelNamespace: {"namespace", "k8s_namespace_name", "kubernetes_namespace_name", "kubernetes_namespace"},
	event.LabelPod:       {"pod", "k8s_pod_name", "kubernetes_pod_name", "pod_name"},
	event.LabelContainer: {"container", "k8s_container_name", "kubernetes_container_name", "container_name"},
	event.LabelNode:      {"node", "node_name", "k8s_node_name", "nodename", "host"},
	event.LabelWorkload:  {"k8s_deployment_name", "k8s_statefulset_name", "k8s_daemonset_name"},
}

// labels keeps of a stream what says where it comes from.
func (s *Source) labels(in map[string]string) event.Labels {
	out := map[string]string{event.LabelSource: s.cfg.Name}
	for ours, theirs := range names {
		for _, n := range theirs {
			if v := in[n]; v != "" {
				out[ours] = v
				break
			}
		}
	}
	if out[event.LabelPod] == "" && out[event.LabelWorkload] == "" {
		for _, n := range []string{"service_name", "app", "app_kubernetes_io_name", "job"} {
			if v := in[n]; v != "" {
				out[event.LabelWorkload] = v
				break
			}
		}
	}
	return s.env.Redact.Labels(event.LabelsOf(out))
}

// maxBatchBytes bounds the text of one batch; the server takes 512 KiB packed.
const maxBatchBytes = 256 << 10

// line is one line on its way into a batch.
type line struct {
	event.LogLine
	labels event.Labels
	id     uint64
	raw    uint64 // hash of the line as Loki has it, for the order of equal times
}

// batches sorts a window's lines by partition, namespace, stream, time and
// content, and cuts them into batches. Lines beyond the budget are sampled by
// a function of the window alone.
func (s *Source) batches(streams []stream, start, end time.Time) []event.LogBatch {
	type place struct {
		partition int
		namespace string
	}
	groups := map[place][]line{}
	total := int64(0)
	for _, st := range streams {
		ls := s.labels(st.Labels)
		id, ns := ls.Hash(), ls.Get(event.LabelNamespace)
		p := place{event.Partition(ns, ls.Workload()), ns}
		for _, v := range st.Values {
			at, text, ok := value(v)
			if !ok || at.Before(start) || !at.Before(end) {
				continue
			}
			l := line{labels: ls, id: id, raw: event.HashStrings(text), LogLine: event.LogLine{Time: at, Text: s.env.Redact.Line(strings.ToValidUTF8(text, "\uFFFD"))}}
			total += int64(len(l.Text))
			groups[p] = append(groups[p], l)
		}
	}
	rate := sampleRate(total, s.cfg.BytesPerDay, end.Sub(start))
	places := make([]place, 0, len(groups))
	for p := range groups {
		places = append(places, p)
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(a.partition-b.partition, strings.Compare(a.namespace, b.namespace))
	})
	chunks := map[int]int{}
	var out []event.LogBatch
	for _, p := range places {
		lines := groups[p]
		slices.SortFunc(lines, func(a, b line) int {
			return cmp.Or(cmp.Compare(a.id, b.id), a.Time.Compare(b.Time), cmp.Compare(a.raw, b.raw))
		})
		if rate > 1 {
			before := len(lines)
			lines = slices.DeleteFunc(lines, func(l line) bool {
				return event.HashStrings(strconv.FormatUint(l.id, 16), strconv.FormatInt(l.Time.UnixNano(), 10), strconv.FormatUint(l.raw, 16))%uint64(rate) != 0
			})
			s.sampled.Add(float64(before - len(lines)))
		}
		for len(lines) > 0 {
			b := event.LogBatch{
				Source: s.cfg.Name, Query: s.hash, Partition: p.partition, Namespace: p.namespace, Start: start.UTC(), End: end.UTC(),
				Chunk: chunks[p.partition], SampledRate: rate,
			}
			chunks[p.partition]++
			lines = fill(&b, lines)
			out = append(out, b)
		}
	}
	return out
}

// sampleRate is how many lines each kept line stands for, so that a window
// stays within its share of a day's budget; at most 1000.
func sampleRate(bytes, perDay int64, window time.Duration) int {
	share := float64(perDay) * window.Hours() / 24
	return int(min(1000, max(1, math.Ceil(float64(bytes)/share))))
}

// fill moves lines into a batch until it is full, and returns the rest.
func fill(b *event.LogBatch, lines []line) []line {
	size := 0
	for n, l := range lines {
		if n == event.MaxBatchSamples || n > 0 && size+len(l.Text) > maxBatchBytes {
			return lines[n:]
		}
		size += len(l.Text)
		if k := len(b.Streams); k == 0 || b.Streams[k-1].ID != l.id {
			b.Streams = append(b.Streams, event.LogStream{ID: l.id, Labels: l.labels})
		}
		k := len(b.Streams) - 1
		b.Streams[k].Lines = append(b.Streams[k].Lines, l.LogLine)
	}
	return nil
}

func value(v []any) (at time.Time, text string, ok bool) {
	if len(v) < 2 {
		return at, "", false
	}
	ts, ok1 := v[0].(string)
	text, ok2 := v[1].(string)
	n, err := strconv.ParseInt(ts, 10, 64)
	return time.Unix(0, n).UTC(), text, ok1 && ok2 && err == nil
}
