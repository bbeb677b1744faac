package prometheus

import (
	"maps"
	"strings"
	"testing"
	"testing/fstest"

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
