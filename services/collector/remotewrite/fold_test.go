package remotewrite

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
)

// steps folds a log and returns the values of each step by signal and entity.
func steps(t *testing.T, s *Source, log []sent, ends ...int) map[int]map[string]float64 {
	t.Helper()
	f := newFold("rw", s.cfg.Window, s.cfg.MaxSeries, s.rules, s.names)
	in, err := decode1(message1Of(log...))
	if err != nil {
		t.Fatal(err)
	}
	batches, _, err := s.admit(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		f.add(b)
	}
	out := map[int]map[string]float64{}
	for _, n := range ends {
		end := noon.Add(time.Duration(n) * time.Second)
		f.mark(end)
		out[n] = map[string]float64{}
		for _, b := range f.step(end) {
			for _, se := range b.Series {
				if event.Partition(b.Namespace, se.Labels.Workload()) != b.Partition || se.Points[0].T != end.UnixMilli() {
					t.Errorf("series %s is in partition %d at %d", se.Labels, b.Partition, se.Points[0].T)
				}
				out[n][se.Labels.Get(event.LabelFamily)+" "+se.Labels.Get(event.LabelName)+" "+se.Labels.Entity().String()] = se.Points[0].V
			}
		}
	}
	return out
}

func TestRawSeriesBecomeGoldenSignals(t *testing.T) {
	s := newSource(t, Config{}, collector.Env{Now: func() time.Time { return noon }})
	const other = `namespace="shop", pod="web-7d4b9c6f5-zzzzz"`
	bucket := func(le string, n float64) sent {
		return series(`__name__="http_request_duration_seconds_bucket", le="`+le+`", `+web, at(0, 0), at(30, n))
	}
	for name, tc := range map[string]struct {
		log  []sent
		want map[string]float64
	}{
		"the rates of a workload's pods are added": {
			[]sent{series(`__name__="http_requests_total", code="200", `+web, at(0, 100), at(15, 150), at(30, 400)), series(`__name__="http_requests_total", code="200", `+other, at(0, 0), at(30, 60))},
			map[string]float64{"http_requests_total request_rate shop/workload/web": 12, "http_requests_total error_rate shop/workload/web": 0, "http_requests_total error_ratio shop/workload/web": 0},
		},
		"errors, by either label, are a share of requests": {
			[]sent{series(`__name__="http_requests_total", code="200", `+web, at(0, 0), at(30, 60)), series(`__name__="http_requests_total", status="503", `+web, at(0, 0), at(30, 20))},
			map[string]float64{"http_requests_total request_rate shop/workload/web": 80.0 / 30, "http_requests_total error_rate shop/workload/web": 20.0 / 30, "http_requests_total error_ratio shop/workload/web": 0.25},
		},
		"a counter that began anew goes on": {
			[]sent{series(`__name__="container_cpu_usage_seconds_total", container="app", `+web, at(0, 1000), at(15, 1015), at(30, 15))},
			map[string]float64{"cadvisor cpu_usage shop/workload/web": 1},
		},
		"a counter's first sample is no rate": {
			[]sent{series(`__name__="http_requests_total", code="200", `+web, at(30, 1000))},
			map[string]float64{},
		},
		"a gauge is its last value, unless it has ended": {
			[]sent{series(`__name__="container_memory_working_set_bytes", container="app", `+web, at(0, 5), at(30, 7)), series(`__name__="container_memory_working_set_bytes", container="app", `+other, at(0, 100), at(15, math.Float64frombits(staleNaN)))},
			map[string]float64{"cadvisor memory_usage shop/workload/web": 7},
		},
		"what a matcher leaves out is left out": {
			[]sent{series(`__name__="container_memory_working_set_bytes", container="", `+web, at(30, 7)), series(`__name__="container_memory_working_set_bytes", container="POD", `+web, at(30, 7))},
			map[string]float64{},
		},
		"a ratio of two gauges hides them": {
			[]sent{series(`__name__="kubelet_volume_stats_used_bytes", namespace="data", persistentvolumeclaim="pg-0", job="kubelet"`, at(30, 90)), series(`__name__="kubelet_volume_stats_capacity_bytes", namespace="data", persistentvolumeclaim="pg-0", job="kubelet"`, at(30, 100))},
			map[string]float64{"kubelet_volumes pvc_used_ratio data/persistentvolumeclaim/pg-0": 0.9},
		},
		"restarts are an increase": {
			[]sent{series(`__name__="kube_pod_container_status_restarts_total", container="app", `+web, at(0, 3), at(30, 5))},
			map[string]float64{"kube_state_metrics restarts shop/workload/web": 2},
		},
		"a quantile is estimated within its bucket, whichever way bounds are written": {
			[]sent{bucket("0.1", 90), bucket("1.0", 100), bucket("+Inf", 100), bucket("0.5", 95)},
			map[string]float64{"http_requests_total latency_p99 shop/workload/web": 0.9},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := steps(t, s, tc.log, 30)[30]
			if len(got) != len(tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			for k, v := range tc.want {
				if math.Abs(got[k]-v) > 1e-9 {
					t.Errorf("%s = %v, want %v", k, got[k], v)
				}
			}
		})
	}
}

func TestASeriesThatStopsIsGoneAfterItsWindow(t *testing.T) {
	s := newSource(t, Config{}, collector.Env{Now: func() time.Time { return noon }})
	got := steps(t, s, []sent{series(`__name__="http_requests_total", code="200", `+web, at(0, 0), at(15, 15), at(30, 30))}, 30, 60, 120, 150)
	for n, want := range map[int]int{30: 3, 60: 3, 120: 3, 150: 0} {
		if len(got[n]) != want {
			t.Errorf("at %ds: %v, want %d values", n, got[n], want)
		}
	}
}

// TestAStepIsAFunctionOfTheLog folds one log with a restart at every step and
// without.
func TestAStepIsAFunctionOfTheLog(t *testing.T) {
	s := newSource(t, Config{}, collector.Env{Now: func() time.Time { return noon.Add(30 * time.Minute) }})
	type entry struct {
		at  time.Time // when it was stored
		b   event.MetricBatch
		end bool
	}
	var log []entry
	for sec := 0; sec <= 1200; sec += 15 {
		var in []pushed
		for pod := range 5 {
			v := float64(sec * (pod + 1))
			if sec > 600 && pod == 2 {
				v -= 1800 // began anew
			}
			in = append(in, pushed{labels: event.LabelsOf(map[string]string{"__name__": "http_requests_total", "namespace": "shop", "pod": fmt.Sprintf("web-%d", pod), "code": "200"}), points: []event.Point{at(sec, v+0.1)}})
		}
		stored := noon.Add(time.Duration(sec) * time.Second)
		if sec%60 == 45 {
			stored = stored.Add(time.Minute) // late for the step it belongs to
		}
		batches, _, err := s.admit(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			log = append(log, entry{stored, b, false})
		}
	}
	for sec := 30; sec <= 1200; sec += 30 {
		log = append(log, entry{noon.Add(time.Duration(sec+30) * time.Second), event.MetricBatch{Step: noon.Add(time.Duration(sec) * time.Second)}, true})
	}
	slices.SortStableFunc(log, func(a, b entry) int { return a.at.Compare(b.at) })
	late := 0
	run := func(restart bool) map[time.Time]string {
		out := map[time.Time]string{}
		f := newFold("rw", s.cfg.Window, s.cfg.MaxSeries, s.rules, s.names)
		for i, e := range log {
			if !e.end {
				f.add(e.b)
				continue
			}
			f.mark(e.b.Step)
			b, err := json.Marshal(f.step(e.b.Step))
			if err != nil {
				t.Fatal(err)
			}
			n, _ := f.taken()
			late += n
			out[e.b.Step] = string(b)
			if restart {
				f = newFold("rw", s.cfg.Window, s.cfg.MaxSeries, s.rules, s.names)
				from := e.b.Step.Add(-s.cfg.Window - 2*ahead)
				for _, old := range log[:i+1] {
					switch {
					case old.at.Before(from):
					case old.end:
						f.mark(old.b.Step)
					default:
						f.add(old.b)
					}
				}
			}
		}
		return out
	}
	undisturbed, faulted := run(false), run(true)
	if len(undisturbed) != 40 || late == 0 {
		t.Fatalf("%d steps, %d late samples", len(undisturbed), late)
	}
	for step, want := range undisturbed {
		if got := faulted[step]; got != want {
			t.Errorf("step %s after a restart:\n%s\nwant\n%s", step.Format(time.TimeOnly), got, want)
		}
	}
}

func TestMoreSeriesThanTheLimitAreCounted(t *testing.T) {
	s := newSource(t, Config{MaxSeries: 2}, collector.Env{Now: func() time.Time { return noon }})
	f := newFold("rw", s.cfg.Window, s.cfg.MaxSeries, s.rules, s.names)
	for i := range 5 {
		b, _, _ := s.admit([]pushed{{labels: event.LabelsOf(map[string]string{"__name__": "http_requests_total", "pod": fmt.Sprintf("web-%d", i)}), points: []event.Point{at(0, 1)}}})
		f.add(b[0])
	}
	if _, over := f.taken(); over != 3 || len(f.parts) != 2 {
		t.Errorf("%d over the limit, %d followed", over, len(f.parts))
	}
}
