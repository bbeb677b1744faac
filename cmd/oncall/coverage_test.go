package main

import (
	"math"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// TestWhatTheSourcesAreAskedIsWhatUpAsks holds the load that doctor tells, which it
// reads in ranges, against what it is by hand.
func TestWhatTheSourcesAreAskedIsWhatUpAsks(t *testing.T) {
	ranged := func(q string, ms int64) event.Audit {
		return event.Audit{Source: "prometheus", Operation: "query_range", Query: q, DurationMS: ms}
	}
	for name, c := range map[string]struct {
		audits         []event.Audit
		queries, share float64
	}{
		"a range counts at every step": {[]event.Audit{ranged("a", 30), ranged("b", 60)}, 2, 0.003},
		"a range in two parts is one":  {[]event.Audit{ranged("a", 30), ranged("a", 60)}, 1, 0.002},
		"a look at what is there is once in the window": {
			[]event.Audit{{Source: "prometheus", Operation: "query", Query: "count(up)", DurationMS: 300}}, 0.1, 0.001,
		},
		"Loki is no Prometheus": {[]event.Audit{{Source: "loki", Operation: "query_range", Query: "{}", DurationMS: 300}}, 0, 0},
		"nothing was asked":     {nil, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := load{Step: 30 * time.Second}
			l.ask(c.audits, 5*time.Minute)
			if math.Abs(l.QueriesPerStep-c.queries) > 1e-9 || math.Abs(l.QueryShare-c.share) > 1e-9 {
				t.Errorf("got %v queries, %v of the time, want %v and %v", l.QueriesPerStep, l.QueryShare, c.queries, c.share)
			}
		})
	}
}
