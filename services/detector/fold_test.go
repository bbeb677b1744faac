package detector_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

func newFold(t testing.TB, in detector.Input, cfg detector.Config) bus.Fold {
	t.Helper()
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	f, err := detector.NewFold(in, 7, cfg, store, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// messages are the windows of a stream as they lie on the bus: batches, then
// the tick that closes them.
func messages(in detector.Input, windows []event.Batch) []bus.Message {
	var out []bus.Message
	add := func(id string, at time.Time, v any) {
		out = append(out, bus.Message{Attributes: event.Attributes{ID: id, Time: at}, Sequence: uint64(len(out) + 1), Data: v})
	}
	for _, b := range windows {
		for i, m := range b.Metrics {
			m.Chunk = i
			add(event.MetricsRead.ID(m), b.Watermark, m)
		}
		for _, l := range b.Logs {
			add(event.LogsRead.ID(l), b.Watermark, l)
		}
		for _, e := range b.Events {
			add(event.KubeEventSeen.ID(e), b.Watermark, e)
		}
		for _, c := range b.Changes {
			add(event.ChangeSeen.ID(c), b.Watermark, c)
		}
		for _, a := range b.Alerts {
			add(event.AlertSeen.ID(a), b.Watermark, a)
		}
		add(fmt.Sprintf("t:%s:%d", in, b.Watermark.UnixMilli()), b.Watermark, event.Tick{Watermark: b.Watermark, Blind: b.Blind})
	}
	return out
}

func apply(t testing.TB, f bus.Fold, msgs []bus.Message) []event.Outgoing {
	t.Helper()
	var out []event.Outgoing
	for _, m := range msgs {
		o, err := f.Apply(m)
		if err != nil {
			t.Fatalf("message %s: %v", m.ID, err)
		}
		out = append(out, o...)
	}
	return out
}

func lines(t testing.TB, out []event.Outgoing) string {
	t.Helper()
	var b strings.Builder
	for _, o := range out {
		p, err := o.Payload()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s %s\n", o.ID, o.Subject, p)
	}
	return b.String()
}

func state(t testing.TB, f bus.Fold) []byte {
	t.Helper()
	b, err := f.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func anomalies(out []event.Outgoing) (found []event.Anomaly) {
	for _, o := range out {
		if a, ok := o.Data().(event.Anomaly); ok {
			found = append(found, a)
		}
	}
	return found
}

var inputs = []detector.Input{detector.Metrics, detector.Logs, detector.Events}

func TestFold(t *testing.T) {
	for _, in := range inputs {
		msgs := messages(in, detectortest.Stream(in, 300))
		whole := newFold(t, in, detector.DefaultConfig())
		out := apply(t, whole, msgs)
		want, end := lines(t, out), state(t, whole)
		if len(anomalies(out)) == 0 {
			t.Fatalf("%s: the bad time gave no anomaly", in)
		}
		t.Run(string(in)+": a restore between any two messages changes nothing", func(t *testing.T) {
			for _, cut := range []int{0, 1, 2, 3, len(msgs) / 3, len(msgs)/3 + 1, 2 * len(msgs) / 3, 2*len(msgs)/3 + 1, len(msgs)} {
				a := newFold(t, in, detector.DefaultConfig())
				got := apply(t, a, msgs[:cut])
				b := newFold(t, in, detector.DefaultConfig())
				s := state(t, a)
				if err := b.UnmarshalBinary(s); err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				if !bytes.Equal(state(t, b), s) {
					t.Errorf("cut at %d: state read and written again differs", cut)
				}
				if got := lines(t, append(got, apply(t, b, msgs[cut:])...)); got != want {
					t.Errorf("cut at %d: output differs from an undisturbed run", cut)
				}
				if !bytes.Equal(state(t, b), end) {
					t.Errorf("cut at %d: state differs from an undisturbed run", cut)
				}
			}
		})
		t.Run(string(in)+": every message twice, and again long after, changes nothing", func(t *testing.T) {
			f := newFold(t, in, detector.DefaultConfig())
			var doubled []bus.Message
			for i, m := range msgs {
				doubled = append(doubled, m, m)
				if i >= 50 {
					doubled = append(doubled, msgs[i-50])
				}
			}
			if got := lines(t, apply(t, f, doubled)); got != want {
				t.Error("output differs from an undisturbed run")
			}
			if !bytes.Equal(state(t, f), end) {
				t.Error("state differs from an undisturbed run")
			}
		})
		t.Run(string(in)+": the order of batches within a window does not matter", func(t *testing.T) {
			f := newFold(t, in, detector.DefaultConfig())
			swapped := slices.Clone(msgs)
			for i, from := 0, 0; i < len(swapped); i++ {
				if _, tick := swapped[i].Data.(event.Tick); tick {
					slices.Reverse(swapped[from:i])
					from = i + 1
				}
			}
			if got := lines(t, apply(t, f, swapped)); got != want {
				t.Error("output differs from an undisturbed run")
			}
		})
		t.Run(string(in)+": every window ends with its watermark", func(t *testing.T) {
			marks := 0
			last := time.Time{}
			for _, o := range out {
				if w, ok := o.Data().(event.Watermark); ok {
					marks++
					if !w.Time.After(last) || w.Partition != 7 || w.Group != string(in) {
						t.Errorf("watermark %+v after %s", w, last)
					}
					last = w.Time
				}
				if a, ok := o.Data().(event.Anomaly); ok && !a.WindowEnd.After(last) {
					t.Errorf("anomaly of %s after the watermark %s", a.WindowEnd, last)
				}
			}
			if marks != 300 {
				t.Errorf("got %d watermarks, want 300", marks)
			}
		})
		t.Run(string(in)+": ids are unique, and an anomaly that began ends once", func(t *testing.T) {
			seen := map[string]bool{}
			open := map[string]bool{}
			for _, o := range out {
				if seen[o.ID] {
					t.Errorf("id %s twice", o.ID)
				}
				seen[o.ID] = true
				if a, ok := o.Data().(event.Anomaly); ok {
					if a.Ended != nil && !open[a.Key] {
						t.Errorf("%s %s ended without having begun", a.Detector, a.Key)
					}
					open[a.Key] = a.Ended == nil
				}
			}
		})
	}
}

// History is learnt from in the window that closes next: what was odd in it and is
// over is no news, and what goes on at its end is told at once, since when it does.
func TestOfHistoryOnlyTheEndIsJudged(t *testing.T) {
	const steps = 200
	end := detectortest.Start.Add(steps * time.Minute)
	for name, c := range map[string]struct {
		odd  func(i int) bool
		want string // onset
	}{
		"nothing happened":     {func(int) bool { return false }, ""},
		"trouble that is over": {func(i int) bool { return i > 100 && i < 120 }, ""},
		"trouble that goes on": {func(i int) bool { return i > steps-5 }, "4m0s"},
		"trouble that begins":  {func(i int) bool { return i == steps }, "0s"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := detector.DefaultConfig()
			f := newFold(t, detector.Metrics, cfg)
			l := event.LabelsOf(map[string]string{event.LabelName: "latency_p99", event.LabelNamespace: "shop", event.LabelWorkload: "web", event.LabelKind: "Deployment", event.LabelDetected: "spike"})
			var points []event.Point
			r := rand.New(rand.NewPCG(1, 2))
			for i := range steps + 1 {
				v := 10 + r.NormFloat64()
				if c.odd(i) {
					v += 100
				}
				points = append(points, event.Point{T: detectortest.Start.Add(time.Duration(i) * time.Minute).UnixMilli(), V: v})
			}
			batch := func(points []event.Point, bootstrap bool) bus.Message {
				return bus.Message{Data: event.MetricBatch{Step: end, Partition: 7, Namespace: "shop", Bootstrap: bootstrap, Series: []event.Series{{ID: l.Hash(), Labels: l, Points: points}}}}
			}
			// It is there again after a restart, and history of a source that came later
			// is not late.
			out := apply(t, f, []bus.Message{
				{Data: event.Tick{Watermark: end.Add(-time.Minute)}},
				batch(points[:steps], true), batch(points[:steps], true), batch(points[steps:], false),
				{Data: event.Tick{Watermark: end}},
			})
			got := ""
			for _, a := range anomalies(out) {
				got += end.Sub(a.Onset).String()
			}
			if got != c.want {
				t.Errorf("anomalies since %q, want %q", got, c.want)
			}
		})
	}
}

func TestCardinalityIsBoundedPerNamespace(t *testing.T) {
	cfg := detector.DefaultConfig()
	cfg.MaxSeries = 100
	f := newFold(t, detector.Metrics, cfg)
	at := detectortest.Start
	m := event.MetricBatch{Step: at, Partition: 7, Namespace: "flood"}
	for i := range 300 {
		l := event.LabelsOf(map[string]string{event.LabelName: "x", event.LabelNamespace: "flood", "id": fmt.Sprint(i)})
		m.Series = append(m.Series, event.Series{ID: l.Hash(), Labels: l, Points: []event.Point{{T: at.UnixMilli(), V: 1}}})
	}
	out := apply(t, f, []bus.Message{{Data: m}, {Data: event.Tick{Watermark: at}}})
	found := anomalies(out)
	if len(found) != 1 || found[0].Detector != "cardinality" || found[0].Entity.Name != "flood" {
		t.Errorf("got %+v, want one cardinality anomaly of the namespace", found)
	}
}

func TestLifecycle(t *testing.T) {
	f := newFold(t, detector.Events, detector.DefaultConfig())
	var got []string
	for _, a := range anomalies(apply(t, f, messages(detector.Events, detectortest.Stream(detector.Events, 300)))) {
		if a.Detector != "alert" {
			continue
		}
		what := "detected"
		if a.Ended != nil {
			what = "ended " + a.Ended.Sub(detectortest.Start).String()
		}
		got = append(got, fmt.Sprintf("%s %s %s %s", a.WindowEnd.Sub(detectortest.Start), what, a.Severity, a.Class))
	}
	want := []string{
		"3h25m0s detected critical symptom", "3h30m0s detected critical symptom", "3h35m0s detected critical symptom",
		"3h40m0s detected critical symptom", "3h45m0s ended 3h45m0s critical symptom",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzFoldState(f *testing.F) {
	for _, in := range inputs {
		fold := newFold(f, in, detector.DefaultConfig())
		apply(f, fold, messages(in, detectortest.Stream(in, 20)))
		f.Add(state(f, fold))
	}
	tick := bus.Message{Data: event.Tick{Watermark: detectortest.Start.Add(24 * time.Hour)}}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, in := range inputs {
			fold := newFold(t, in, detector.DefaultConfig())
			if err := fold.UnmarshalBinary(b); err != nil {
				continue
			}
			if _, err := fold.Apply(tick); err != nil {
				t.Error(err)
			}
		}
	})
}

func BenchmarkMetricFold(b *testing.B) {
	// 2,000 series of ten signals, each with the detectors that its query asks
	// for, a step of 30 s; the time includes building the windows, not decoding.
	asked := map[string]string{
		"request_rate": "level_shift", "error_ratio": "burn_rate,spike,level_shift", "latency_p99": "level_shift,spike",
		"cpu_usage": "level_shift", "memory_limit_ratio": "forecast", "restarts": "spike", "replicas_ready": "availability", "replicas_desired": "availability",
		"cpu_throttling_ratio": "level_shift", "memory_usage": "level_shift",
	}
	for _, all := range []bool{false, true} {
		name := "as_asked"
		if all {
			name = "all_detectors"
		}
		b.Run(name, func(b *testing.B) {
			f := newFold(b, detector.Metrics, detector.DefaultConfig())
			var series []event.Series
			for w := range 200 {
				for _, signal := range slices.Sorted(func(yield func(string) bool) {
					for k := range asked {
						if !yield(k) {
							return
						}
					}
				}) {
					m := map[string]string{event.LabelName: signal, event.LabelNamespace: "shop", event.LabelWorkload: fmt.Sprint("w", w), event.LabelKind: "Deployment", event.LabelUnit: "1"}
					if !all {
						m[event.LabelDetected] = asked[signal]
					}
					l := event.LabelsOf(m)
					series = append(series, event.Series{ID: l.Hash(), Labels: l})
				}
			}
			step := int64(0)
			x := uint64(1)
			one := func() {
				step++
				t := detectortest.Start.UnixMilli() + 30_000*step
				for from := 0; from < len(series); from += event.MaxBatchSamples {
					m := event.MetricBatch{Step: time.UnixMilli(t)}
					for _, s := range series[from:min(from+event.MaxBatchSamples, len(series))] {
						x = x*6364136223846793005 + 1442695040888963407
						s.Points = []event.Point{{T: t, V: 0.1 + float64(x>>40)/(1<<24)/100}}
						m.Series = append(m.Series, s)
					}
					if _, err := f.Apply(bus.Message{Data: m}); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := f.Apply(bus.Message{Data: event.Tick{Watermark: time.UnixMilli(t)}}); err != nil {
					b.Fatal(err)
				}
			}
			for range 200 {
				one()
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				one()
				n += len(series)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "samples/s")
			s, err := f.MarshalBinary()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(s))/float64(len(series)), "state-B/series")
		})
	}
}
