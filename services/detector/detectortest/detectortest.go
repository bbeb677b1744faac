// Package detectortest checks the promises of detector.Detector for any
// implementation, in the manner of testing/fstest.
package detectortest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/detector"
)

// Options say what is special about a detector.
type Options struct {
	// Facts marks a detector that states what it was told, which may speak on
	// the first window; every other must be silent while it knows nothing.
	Facts    bool
	Policies *policy.Store
}

// Run checks, with the default configuration, that the detector is
// deterministic, that a restore at any cut changes nothing, that it is silent
// on data that says nothing, and that no input and no state makes it panic.
func Run(t *testing.T, info detector.Info, o Options) {
	t.Helper()
	fresh := func(t testing.TB) detector.Detector {
		t.Helper()
		d, err := detector.Alone(info, info.Default(), detector.Settings{Policies: o.Policies})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	stream := selected(fresh(t), Stream(info.Input, 300))
	want := fold(t, fresh(t), stream)

	t.Run("the same windows give the same anomalies and the same state", func(t *testing.T) {
		a, b := fresh(t), fresh(t)
		if got, again := fold(t, a, stream), fold(t, b, stream); !bytes.Equal(got, again) {
			t.Errorf("two runs differ:\n%s\n%s", got, again)
		}
		if !bytes.Equal(state(t, a), state(t, b)) {
			t.Error("two runs end in different state")
		}
	})
	t.Run("a restore at any cut changes nothing", func(t *testing.T) {
		whole := fresh(t)
		fold(t, whole, stream)
		for _, cut := range []int{0, 1, 2, 17, 73, 151, 299, len(stream)} {
			a := fresh(t)
			got := fold(t, a, stream[:cut])
			s := state(t, a)
			b := fresh(t)
			if err := b.UnmarshalBinary(s); err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			if !bytes.Equal(state(t, b), s) {
				t.Errorf("cut at %d: state read and written again differs", cut)
			}
			if got = append(got, fold(t, b, stream[cut:])...); !bytes.Equal(got, want) {
				t.Errorf("cut at %d: anomalies differ from an undisturbed run", cut)
			}
			if !bytes.Equal(state(t, b), state(t, whole)) {
				t.Errorf("cut at %d: state at the end differs from an undisturbed run", cut)
			}
		}
	})
	t.Run("empty windows give nothing", func(t *testing.T) {
		d := fresh(t)
		for i := range 50 {
			if got := d.Observe(frame(i)); len(got) != 0 {
				t.Fatalf("window %d: got %d anomalies of nothing", i, len(got))
			}
		}
	})
	if !o.Facts {
		t.Run("a cold start is silent", func(t *testing.T) {
			if got := fold(t, fresh(t), stream[:5]); len(got) != 0 {
				t.Errorf("anomalies in the first five windows: %s", got)
			}
		})
	}
	t.Run("numbers that are none, repeats and disorder are safe", func(t *testing.T) {
		d := fresh(t)
		for _, b := range selected(d, Hostile(info.Input)) {
			check(t, d.Observe(b))
		}
		state(t, d)
	})
	t.Run("damaged state is an error or harmless", func(t *testing.T) {
		d := fresh(t)
		fold(t, d, stream)
		s := state(t, d)
		r := rand.New(rand.NewPCG(3, 4))
		for range 200 {
			damaged := bytes.Clone(s[:r.IntN(len(s)+1)])
			for range r.IntN(4) {
				if len(damaged) > 0 {
					damaged[r.IntN(len(damaged))] ^= byte(1 << r.IntN(8))
				}
			}
			b := fresh(t)
			if err := b.UnmarshalBinary(damaged); err == nil {
				b.Observe(stream[len(stream)-1])
			}
		}
	})
	t.Run("every anomaly can be published", func(t *testing.T) {
		d := fresh(t)
		for _, b := range stream {
			check(t, d.Observe(b))
		}
	})
}

func check(t *testing.T, found []event.Anomaly) {
	t.Helper()
	for _, a := range found {
		if a.Detector == "" {
			a.Detector = "test"
		}
		if err := detector.Valid(a); err != nil {
			t.Errorf("%v: %+v", err, a)
		}
		if _, err := json.Marshal(a); err != nil {
			t.Errorf("%v: %+v", err, a)
		}
		if len(a.Evidence) == 0 {
			t.Errorf("anomaly without evidence: %+v", a)
		}
	}
}

// selected leaves out the series that a detector does not select, as the
// service does.
func selected(d detector.Detector, in []event.Batch) []event.Batch {
	sel, ok := d.(detector.Selector)
	if !ok {
		return in
	}
	out := make([]event.Batch, len(in))
	for i, b := range in {
		out[i] = b
		out[i].Metrics = nil
		for _, m := range b.Metrics {
			series := m.Series
			m.Series = nil
			for _, s := range series {
				if sel.Selects(s.Labels) {
					m.Series = append(m.Series, s)
				}
			}
			if len(m.Series) > 0 {
				out[i].Metrics = append(out[i].Metrics, m)
			}
		}
	}
	return out
}

func fold(t testing.TB, d detector.Detector, bs []event.Batch) []byte {
	t.Helper()
	var out []byte
	for _, b := range bs {
		for _, a := range d.Observe(b) {
			j, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			out = append(append(out, j...), '\n')
		}
	}
	return out
}

func state(t testing.TB, d detector.Detector) []byte {
	t.Helper()
	s, err := d.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Start is the watermark of the first window of [Stream].
var Start = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func frame(i int) event.Batch {
	b := event.Batch{Watermark: Start.Add(time.Duration(i) * time.Minute)}
	if i > 0 {
		b.Previous = b.Watermark.Add(-time.Minute)
	}
	return b
}

// Stream is n windows of a minute of an invented workload that is well for
// most of the time, has a bad time from window 200 to 220, and is unseen from
// 240 to 245.
func Stream(in detector.Input, n int) []event.Batch {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]event.Batch, n)
	for i := range out {
		b := frame(i)
		bad := i >= 200 && i < 220
		if i >= 240 && i < 245 {
			b.Blind = []event.Blindness{{Source: "prom", Since: b.Previous, Reason: "connection refused"}}
			out[i] = b
			continue
		}
		switch in {
		case detector.Metrics:
			b.Metrics = metrics(r, b.Watermark, bad)
		case detector.Logs:
			b.Logs = logs(r, b, bad)
		case detector.Events:
			events(r, &b, i, bad)
		}
		out[i] = b
	}
	return out
}

func metrics(r *rand.Rand, at time.Time, bad bool) []event.MetricBatch {
	x := 0.0
	if bad {
		x = 1
	}
	hour := float64(at.Unix()%86400) / 86400
	values := map[string]float64{
		"request_rate": 100 + 20*math.Sin(2*math.Pi*hour) + 3*r.NormFloat64(), "error_ratio": 0.001 + 0.3*x + 0.0005*r.Float64(),
		"latency_p99": 0.2 + 0.01*r.NormFloat64() + 2*x, "replicas_desired": 4, "replicas_ready": 4 - 4*x,
		"memory_limit_ratio": min(0.99, 0.5+0.001*float64(at.Sub(Start).Minutes())), "cert_expiry_seconds": 86400*3 - at.Sub(Start).Seconds(),
		"node_ready": 1 - x,
	}
	units := map[string]string{"error_ratio": "1", "memory_limit_ratio": "1", "latency_p99": "s", "request_rate": "{request}/s"}
	m := event.MetricBatch{Step: at}
	for _, name := range []string{"cert_expiry_seconds", "error_ratio", "latency_p99", "memory_limit_ratio", "node_ready", "replicas_desired", "replicas_ready", "request_rate"} {
		ls := map[string]string{event.LabelName: name, event.LabelNamespace: "shop", event.LabelWorkload: "web", event.LabelKind: "Deployment", event.LabelSource: "prom"}
		if u := units[name]; u != "" {
			ls[event.LabelUnit] = u
		}
		if name == "node_ready" {
			ls = map[string]string{event.LabelName: name, event.LabelNode: "n1", event.LabelSource: "prom"}
		}
		l := event.LabelsOf(ls)
		m.Series = append(m.Series, event.Series{ID: l.Hash(), Labels: l, Points: []event.Point{{T: at.UnixMilli(), V: values[name]}}})
	}
	return []event.MetricBatch{m}
}

func logs(r *rand.Rand, b event.Batch, bad bool) []event.LogBatch {
	l := event.LabelsOf(map[string]string{event.LabelNamespace: "shop", event.LabelWorkload: "web", event.LabelKind: "Deployment", event.LabelSource: "loki"})
	s := event.LogStream{ID: l.Hash(), Labels: l}
	line := func(format string, args ...any) {
		s.Lines = append(s.Lines, event.LogLine{Time: b.Watermark.Add(-time.Minute + time.Duration(len(s.Lines))*time.Millisecond), Text: fmt.Sprintf(format, args...)})
	}
	for range 5 + r.IntN(5) {
		line("level=info msg=\"served request\" path=/cart status=200 took=%dms", r.IntN(90))
		line("level=info msg=\"cache hit\" key=user-%d", r.IntN(1000))
	}
	if r.IntN(4) == 0 {
		line("level=error msg=\"upstream timed out\" upstream=10.0.0.%d", r.IntN(9))
	}
	if bad {
		for range 40 {
			line("level=error msg=\"upstream timed out\" upstream=10.0.0.%d", r.IntN(9))
			line("panic: runtime error: invalid memory address or nil pointer dereference at 0x%x", r.Uint32())
		}
	}
	return []event.LogBatch{{Source: "loki", Query: "q", Namespace: "shop", Start: b.Watermark.Add(-time.Minute), End: b.Watermark, SampledRate: 1, Streams: []event.LogStream{s}}}
}

func events(r *rand.Rand, b *event.Batch, i int, bad bool) {
	pod := event.Entity{Namespace: "shop", Kind: "Pod", Name: "web-7d4b9c6f5-x2x8q"}
	web := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	add := func(reason, typ string, n int) {
		b.Events = append(b.Events, event.KubeEvent{
			Metadata: event.KubeMeta{Name: reason, Namespace: "shop", UID: fmt.Sprintf("%s-%d", reason, i), ResourceVersion: fmt.Sprint(i)},
			Reason:   reason, Type: typ, Message: "something about " + reason, Count: n, FirstTimestamp: b.Watermark.Add(-30 * time.Second),
			LastTimestamp:  b.Watermark.Add(-time.Duration(r.IntN(30)) * time.Second),
			InvolvedObject: event.KubeRef{Kind: pod.Kind, Namespace: pod.Namespace, Name: pod.Name}, Workload: web,
		})
	}
	if r.IntN(5) == 0 {
		add("Scheduled", "Normal", 1)
		add("Pulled", "Normal", 1)
	}
	if bad {
		add("OOMKilling", "Warning", 1)
		add("OddThing", "Warning", 10)
	}
	if i == 199 {
		b.Changes = append(b.Changes, event.Change{
			Kind: event.Rollout, Entity: web, Time: b.Watermark, Summary: "image v1 -> v2", Revision: "2",
			Fields: []event.FieldChange{{Path: "image", From: "v1", To: "v2"}},
		})
	}
	if i == 205 || i == 225 {
		a := event.Alert{
			Status: "firing", Labels: map[string]string{"alertname": "High", "severity": "page", "namespace": "shop", "workload": "web", "workload_kind": "Deployment"},
			Annotations: map[string]string{"summary": "it is high"}, StartsAt: b.Watermark, Fingerprint: "f1", Source: "am",
		}
		if i == 225 {
			a.Status, a.StartsAt, a.EndsAt = "resolved", Start.Add(205*time.Minute), b.Watermark
		}
		b.Alerts = append(b.Alerts, a)
	}
}

// Hostile is windows with everything in them that should not be: numbers that
// are none, stale markers, repeats, disorder, empty names and text that is no
// text.
func Hostile(in detector.Input) []event.Batch {
	out := Stream(in, 30)
	odd := []float64{math.NaN(), math.Float64frombits(0x7ff0000000000002), math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64, 0, math.SmallestNonzeroFloat64}
	for i := range out {
		b := &out[i]
		for j := range b.Metrics {
			for k := range b.Metrics[j].Series {
				s := &b.Metrics[j].Series[k]
				t := b.Watermark.UnixMilli()
				s.Points = []event.Point{{T: t, V: odd[i%len(odd)]}, {T: t, V: 1}, {T: t - 7_200_000, V: odd[(i+k)%len(odd)]}, {T: t + 1, V: odd[(i+k+1)%len(odd)]}}
			}
			if i%7 == 0 {
				b.Metrics[j].Series = append(b.Metrics[j].Series, b.Metrics[j].Series...)
				b.Metrics[j].Series = append(b.Metrics[j].Series, event.Series{ID: uint64(i)})
			}
		}
		for j := range b.Logs {
			for k := range b.Logs[j].Streams {
				s := &b.Logs[j].Streams[k]
				s.Lines = append(s.Lines, event.LogLine{}, event.LogLine{Text: "\xff\xfe\x00{{{[[[((("}, event.LogLine{Text: string(bytes.Repeat([]byte("a b "), 20_000))},
					event.LogLine{Text: "{\"msg\":\""}, event.LogLine{Text: "= = = \"\"\"\"''''"})
			}
			b.Logs[j].SampledRate = i - 3
			b.Logs[j].Streams = append(b.Logs[j].Streams, event.LogStream{})
		}
		if in == detector.Events {
			b.Events = append(b.Events, event.KubeEvent{}, event.KubeEvent{Reason: "OOMKilling", Count: -5, LastTimestamp: b.Watermark.Add(1000 * time.Hour)},
				event.KubeEvent{Reason: "BackOff", Count: math.MaxInt32, Message: "\xff\xfe", LastTimestamp: b.Watermark})
			b.Changes = append(b.Changes, event.Change{}, event.Change{Kind: "x", Entity: event.Entity{Kind: "Node", Name: "n"}, Time: b.Watermark})
			b.Alerts = append(b.Alerts, event.Alert{}, event.Alert{Status: "resolved"}, event.Alert{Labels: map[string]string{"severity": "page"}, StartsAt: b.Watermark.Add(time.Hour)})
			b.Topology = append(b.Topology, event.Topology{})
		}
	}
	return out
}
