package signals

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/triage"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector/entities"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

var web = event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}

// minutes is a track of so many values, the last one now; what is before them is
// not known.
func minutes(values ...float64) *track {
	t := &track{entity: web, of: &ranged{expr: "q"}, values: slices.Repeat([]float64{math.NaN()}, steps)}
	copy(t.values[steps-len(values):], values)
	return t
}

// each is a value n times, and what comes after it.
func each(n int, v float64, then ...float64) []float64 {
	return append(slices.Repeat([]float64{v}, n), then...)
}

func TestWhatFailsIsCountedOverFiveMinutes(t *testing.T) {
	start := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	now := start.Add(signalHistory)
	rate := minutes(each(240, 10)...)
	for name, c := range map[string]struct {
		ratio  []float64
		failed float64 // of 5 minutes at 10 a second
		usual  float64
		since  time.Duration // ago; 0 for never
	}{
		"nothing":                     {each(240, 0), 0, 0, 0},
		"as ever":                     {each(240, 0.02), 60, 0.02, 0},
		"since four minutes":          {each(235, 0.001, each(5, 0.3)...), 900, 0.001, 4 * time.Minute},
		"with a lull of three":        {each(230, 0, append(append(each(3, 0.2), 0, 0, 0), each(4, 0.2)...)...), 480, 0, 9 * time.Minute},
		"after a longer one anew":     {each(226, 0, append(append(each(5, 0.2), 0, 0, 0, 0), each(5, 0.2)...)...), 600, 0, 4 * time.Minute},
		"minutes without a value":     {each(235, 0, 0.3, math.NaN(), 0.3, math.NaN(), 0.3), 540, 0, 4 * time.Minute},
		"where little is known of it": {each(5, 0.3), 900, 0, 4 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			f := failing(minutes(c.ratio...), rate, start)
			if math.Abs(f.Failed-c.failed) > 1e-6 || f.Usual != c.usual || f.Query != "q" || f.Entity != web {
				t.Errorf("%+v, want %v failed and %v usual", f, c.failed, c.usual)
			}
			if since := now.Sub(f.Since); c.since == 0 != f.Since.IsZero() || c.since > 0 && since != c.since {
				t.Errorf("since %v, want %v ago", f.Since, c.since)
			}
		})
	}
}

func TestAQueryIsNarrowedToOneWorkload(t *testing.T) {
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	families, err := prometheus.LoadFamilies(store)
	if err != nil {
		t.Fatal(err)
	}
	present := map[string]bool{}
	for _, f := range families {
		present[f.Guard] = true
	}
	of := triage.Measured{Entity: web, Pods: "web-.*"}
	for _, signal := range shown {
		list := measurements(families, present, signal, of, 15*time.Second)
		if len(list) == 0 {
			t.Errorf("no family tells %s of one workload", signal)
		}
		for _, m := range list {
			pods := strings.Contains(m.expr, `namespace="shop",pod=~"web-.*"`)
			mesh := strings.Contains(m.expr, `destination_workload_namespace="shop",destination_workload="web"`)
			if pods == mesh || strings.Contains(m.expr, "$window") || m.unit == "" {
				t.Errorf("%s: not of one workload: %+v", signal, m)
			}
		}
	}
	if list := measurements(families, map[string]bool{}, "request_rate", of, 15*time.Second); list != nil {
		t.Errorf("asked for metrics that are not there: %v", list)
	}
}

func TestStreamsOfAWorkloadAreChosenByTheLabelsOfItsLines(t *testing.T) {
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	r := &Reader{}
	if r.Entities, err = entities.Load(store); err != nil {
		t.Fatal(err)
	}
	for want, labels := range map[string]map[string]string{
		`{namespace="shop", pod=~"web(-.*)?"}`: {"namespace": "shop", "pod": "web-6b8d7c9f4-x2x8q", "app": "web"},
		`{namespace="shop", app="web"}`:        {"namespace": "shop", "app": "web"},
		`{namespace="shop"}`:                   {"namespace": "shop", "job": ""},
	} {
		if got := r.selector(labels, web); got != want {
			t.Errorf("%v: %s, want %s", labels, got, want)
		}
	}
}
