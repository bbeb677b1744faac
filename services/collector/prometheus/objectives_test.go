package prometheus

import (
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
)

// What somebody has promised with queries of their own is asked for, whatever
// exporters are there, and its answers are about what they or the objective say.
func TestQueriesOfObjectivesAreAskedAtEveryStep(t *testing.T) {
	store, err := policy.NewStore(policies.FS, fstest.MapFS{"slo.yaml": {Data: []byte(`
objectives:
  - {name: pay, target: 0.999, errors: "sum by (namespace, pod, code) (bad_pay)", total: "sum by (namespace, pod, code) (all_pay)"}
  - {name: front, target: 0.99, match: {namespaces: [shop], workloads: [web]}, errors: sum(bad_front), total: sum(all_front)}
  - {name: whole, target: 0.99, match: {namespaces: [shop], workloads: ["w*"]}, errors: sum(bad_whole), total: sum(all_whole)}
  - {name: all, target: 0.9, errors: sum(bad_all), total: sum(all_all)}
  - {name: default, target: 0.995}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(query string, at float64) (out []sample) {
		switch {
		case strings.Contains(query, "_pay"):
			pod := "pay-7d4b9c6f5-x2x8q"
			out = []sample{one(at, 2, "namespace", "shop", "pod", pod, "code", "500"), one(at, 3, "namespace", "shop", "pod", pod, "code", "200")}
		case strings.Contains(query, "bad_"):
			out = []sample{one(at, 1)}
		case strings.Contains(query, "all_"):
			out = []sample{one(at, 10)}
		}
		return out
	})
	batches := read(t, newTestSource(t, store, s.URL, nil), noon)
	want := map[string]float64{
		"slo_pay slo_errors shop/workload/pay": 5, "slo_pay slo_requests shop/workload/pay": 5,
		"slo_front slo_errors shop/workload/web": 1, "slo_front slo_requests shop/workload/web": 10,
		"slo_whole slo_errors namespace/shop": 1, "slo_whole slo_requests namespace/shop": 10,
		"slo_all slo_errors cluster/cluster": 1, "slo_all slo_requests cluster/cluster": 10,
	}
	if got := values(batches); !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for _, b := range batches {
		for _, one := range b.Series {
			if name := one.Labels.Get(event.LabelSLO); "slo_"+name != one.Labels.Get(event.LabelFamily) {
				t.Errorf("%s is of objective %q", one.Labels, name)
			}
		}
	}
}

// A threshold that is no bound gives no series, which looks like a service whose
// requests are all in time: it is said, once, and again when it is mended.
func TestAnObjectiveThatNoHistogramAnswersIsSaidOnce(t *testing.T) {
	store, err := policy.NewStore(policies.FS, fstest.MapFS{"slo.yaml": {Data: []byte(`
objectives:
  - {name: pay, target: 0.99, latency: {histogram: 'pay_seconds{job="x"}', threshold: 300ms, by: [namespace, pod]}}
  - {name: odd, target: 0.99, latency: {histogram: odd_seconds, threshold: 250ms}}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	bounds := []string{"0.1", "0.3", "+Inf"}
	s := serve(t, func(query string, at float64) (out []sample) {
		switch {
		case strings.HasPrefix(query, "count by (le)"):
			for _, le := range bounds {
				out = append(out, one(at, 1, "le", le))
			}
		case strings.Contains(query, " - ") && strings.Contains(query, `pay_seconds_bucket{job="x", le="0.3"}[2m]`):
			out = []sample{one(at, 1, "namespace", "shop", "pod", "pay-7d4b9c6f5-x2x8q")}
		case strings.Contains(query, `pay_seconds_count{job="x"}[2m]`):
			out = []sample{one(at, 10, "namespace", "shop", "pod", "pay-7d4b9c6f5-x2x8q")}
		}
		return out
	})
	var log strings.Builder
	source := newTestSource(t, store, s.URL, nil)
	source.env.Log = slog.New(slog.NewTextHandler(&log, nil))
	want := map[string]float64{"slo_pay slo_errors shop/workload/pay": 1, "slo_pay slo_requests shop/workload/pay": 10}
	if got := values(read(t, source, noon)); !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	const wrong = "policies/slo.yaml: objectives[1].latency.threshold: 250ms is no bound of odd_seconds's buckets; write 100ms or 300ms, the nearest"
	if got := log.String(); strings.Count(got, wrong) != 1 || strings.Contains(got, "objective=pay") {
		t.Errorf("said at first:\n%s", got)
	}
	read(t, source, noon.Add(10*time.Minute))
	if got := log.String(); strings.Count(got, wrong) != 1 {
		t.Errorf("said again:\n%s", got)
	}
	bounds = []string{"0.25", "0.3", "+Inf"}
	read(t, source, noon.Add(20*time.Minute))
	if got := log.String(); !strings.Contains(got, "objective is measured again") {
		t.Errorf("not said that it is mended:\n%s", got)
	}
}

func TestAProbeLooksAtAFewObjectives(t *testing.T) {
	var text strings.Builder
	text.WriteString("objectives:\n")
	for i := range 12 {
		fmt.Fprintf(&text, "  - {name: o%d, target: 0.99, latency: {histogram: h%d, threshold: 1}}\n", i, i)
	}
	store, err := policy.NewStore(policies.FS, fstest.MapFS{"slo.yaml": {Data: []byte(text.String())}})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(string, float64) []sample { return nil })
	source := newTestSource(t, store, s.URL, nil)
	seen := map[string]bool{}
	for n := range 3 {
		s.asked = nil
		read(t, source, noon.Add(time.Duration(10*n)*time.Minute))
		checks := 0
		for _, q := range s.asked {
			if strings.HasPrefix(q, "count by (le)") {
				checks++
				seen[q] = true
			}
		}
		if checks != checkedAtOnce || len(s.asked) > MaxQueries {
			t.Errorf("probe %d: %d checks of %d queries", n, checks, len(s.asked))
		}
	}
	if len(seen) != 12 {
		t.Errorf("%d of 12 were looked at", len(seen))
	}
}
