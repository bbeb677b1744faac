package detectors

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

// Where every other count of slow requests is missing, the share is that of the
// steps that are known; of failures a missing count is none.
func TestSlowRequestsThatAreNotToldAreNotTakenForNone(t *testing.T) {
	for objective, want := range map[string]string{
		"latency: {histogram: h, threshold: 300ms}": "60 % of requests take longer than 300ms; SLO web 0.99: burn 60.0x (1h",
		"errors: e, total: t":                       "% of requests fail; SLO web 0.99: burn 30.0x (1h",
	} {
		store, err := policy.NewStore(fstest.MapFS{"slo.yaml": {Data: []byte("objectives:\n  - name: web\n    target: 0.99\n    " + strings.ReplaceAll(objective, "e, total", "e\n    total") + "\n")}})
		if err != nil {
			t.Fatal(err)
		}
		info, _ := detector.Builtin.Lookup("burn_rate")
		d, err := info.New(info.Default(), detector.Settings{Policies: store})
		if err != nil {
			t.Fatal(err)
		}
		const of = `, oncall_family="slo_web", oncall_slo="web"` + web
		found := detectortest.Play(t, d, map[string]string{
			`{__name__="slo_errors"` + of:   strings.Repeat("60 _ ", 60),
			`{__name__="slo_requests"` + of: "100x119",
		})
		last := slices.Max(slices.Collect(maps.Keys(found)))
		got := found[last][0].Summary
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", objective, got, want)
		}
	}
}

// burnWindow is a minute of workloads that serve a hundred requests a second, of which
// a part fails.
func burnWindow(step int, failing float64, workloads ...string) event.Batch {
	b := event.Batch{Watermark: detectortest.At(step), Previous: detectortest.At(step - 1)}
	m := event.MetricBatch{Step: b.Watermark}
	for _, w := range workloads {
		for name, v := range map[string]float64{"error_ratio": failing, "request_rate": 100} {
			ls := event.LabelsOf(map[string]string{event.LabelName: name, event.LabelNamespace: "shop", event.LabelWorkload: w, event.LabelKind: "Deployment"})
			m.Series = append(m.Series, event.Series{ID: ls.Hash(), Labels: ls, Points: []event.Point{{T: b.Watermark.UnixMilli(), V: v}}})
		}
	}
	slices.SortFunc(m.Series, func(a, b event.Series) int { return cmp.Compare(a.ID, b.ID) })
	b.Metrics = []event.MetricBatch{m}
	return b
}

func TestWhatFindsNoLedgerIsCountedAndTold(t *testing.T) {
	info, _ := detector.Builtin.Lookup("burn_rate")
	c := info.Default().(BurnRateConfig)
	c.Ledgers = 2 * event.Partitions
	started := func() *burnRate {
		d, err := info.New(c, detector.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		return d.(*burnRate)
	}
	d := started()
	// says are the workloads that burn, and what is said of the whole cluster.
	says := func(b event.Batch) string {
		var all []string
		for _, a := range d.Observe(b) {
			if all = append(all, a.Entity.Name); a.Entity.Kind == "Cluster" {
				all[len(all)-1] = a.Summary
			}
		}
		slices.Sort(all)
		// A restart must change nothing.
		state, err := d.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		passed := d.passed
		d = started()
		if err := d.UnmarshalBinary(state); err != nil {
			t.Fatal(err)
		}
		d.passed = passed
		return strings.Join(all, "; ")
	}
	for i := range 20 {
		failing := 0.0
		if i >= 10 {
			failing = 0.5
		}
		if got := says(burnWindow(i, failing, "a", "b")); i < 10 && got != "" || i == 19 && got != "a; b" {
			t.Errorf("minute %d: got %q", i, got)
		}
	}
	if n := d.Rationed(); n != 0 {
		t.Errorf("%d workloads are left out where there is room", n)
	}
	const crowded = "the requests of 2 workloads and objectives are not counted: one partition of 32 has room for 2"
	for i := 20; i < 30; i++ {
		if got := says(burnWindow(i, 0.5, "d", "c", "b", "a")); got != "a; b; "+crowded {
			t.Errorf("minute %d: got %q, want that a and b, which came first, are judged as ever", i, got)
		}
	}
	if n := d.Rationed(); n != 20 {
		t.Errorf("%d workloads are counted as left out, want 2 in each of ten minutes", n)
	}
	// A day after b was there last its place is free.
	for i := 30; i < 26*60; i += 30 {
		says(burnWindow(i, 0, "a"))
	}
	for i := range 10 {
		if got := says(burnWindow(26*60+i, 0.5, "a", "c")); i == 9 && got != "a; c" {
			t.Errorf("a day later: got %q, want that c took the place of b", got)
		}
	}
}
