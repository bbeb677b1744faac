//go:build e2e

package sources

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// mostToSpike is how long after its first line a spike is to be reported at the latest.
const mostToSpike = 15 * time.Second

// surge is a statement of one workload that comes once a minute, and at a time often.
type surge struct {
	workload, level, text string
	first                 time.Time     // line of the spike, by the clock of this process
	told                  time.Duration // after it; 0 while it is not
	summary               string
}

func (s *surge) pod() map[string]string {
	return map[string]string{"namespace": "shop", "pod": s.workload + "-7d4b9c6f5-x2x8q"}
}

// said is the n-th line, at a time.
func (s *surge) said(at time.Time, n int) [2]string {
	return [2]string{strconv.FormatInt(at.Add(time.Duration(n)*time.Millisecond).UnixNano(), 10), fmt.Sprintf("level=%s msg=%q shard=%d took=%dms", s.level, s.text, n%9, 10+n%50)}
}

// TestASpikeIsToldWithinFifteenSeconds has ten workloads of which each says one
// statement five times a second from some second on, half of them one that rings the
// doorbell, and takes the time from the push of the first line to the anomaly. The
// windows are those of the defaults; the spikes begin at different places in them.
func TestASpikeIsToldWithinFifteenSeconds(t *testing.T) {
	server, err := bed(t).StartLoki(t.Context(), testbed.LokiConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var all []*surge
	for i := range 5 {
		all = append(all,
			&surge{workload: fmt.Sprintf("api%d", i), level: "error", text: "upstream timed out"},
			&surge{workload: fmt.Sprintf("cache%d", i), level: "info", text: "cache entry evicted"})
	}
	push := func(s *surge, values ...[2]string) {
		post(t, server.URL+"/loki/api/v1/push", map[string]any{"streams": []any{map[string]any{"stream": s.pod(), "values": values}}})
	}
	began := time.Now()
	p := &shopPod{server: server}
	for _, s := range all {
		var past [][2]string
		for at := began.Add(-25 * time.Hour).Truncate(time.Minute); at.Before(began.Add(-time.Second)); at = at.Add(time.Minute) {
			past = append(past, s.said(at, 0))
		}
		push(s, past...)
	}
	p.storedLine(t, began.Add(-23*time.Hour), "cache entry evicted")

	cfg := loki.Config{}
	cfg.URL = server.URL
	s, err := loki.New(cfg, env(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	folds := map[int]bus.Fold{}
	for _, x := range all {
		n := event.Partition("shop", x.workload)
		if folds[n] == nil {
			if folds[n], err = detector.NewFold(detector.Logs, n, detector.DefaultConfig(), store, prometheus.NewRegistry()); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := emissions(t, s)
	// The past is read first: until then a spike would be judged by nothing.
	warmed := false
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	deadline := time.After(4 * time.Minute)
	var starts time.Time
	for left := len(all); left > 0; {
		select {
		case at := <-ticker.C:
			if !warmed {
				continue
			}
			for i, x := range all {
				// Each begins in another second, five of them in each place of a window.
				if begins := starts.Add(time.Duration(i/2*6+i%2) * time.Second); at.Before(begins) {
					continue
				}
				if x.first.IsZero() {
					x.first = time.Now()
				}
				var said [][2]string
				for n := range 5 {
					said = append(said, x.said(at, n))
				}
				push(x, said...)
			}
		case e := <-got:
			if !e.Closed.IsZero() && !warmed && e.Closed.After(began) {
				warmed, starts = true, time.Now().Add(10*time.Second)
			}
			for _, m := range asMessages(e) {
				for part, fold := range folds {
					if b, ok := m.Data.(event.LogBatch); ok && b.Partition != part {
						continue
					}
					out, err := fold.Apply(m)
					if err != nil {
						t.Fatal(err)
					}
					for _, o := range out {
						a, ok := o.Data().(event.Anomaly)
						if !ok || a.Detector != "log_spike" {
							continue
						}
						i := slices.IndexFunc(all, func(x *surge) bool { return x.workload == a.Entity.Name })
						if i < 0 || all[i].first.IsZero() || !strings.Contains(a.Summary, all[i].text) {
							t.Fatalf("told of what did not happen: %s %s", a.Entity, a.Summary)
						}
						if all[i].told == 0 {
							all[i].told, all[i].summary = time.Since(all[i].first), a.Summary
							left--
						}
					}
				}
			}
		case <-deadline:
			for _, x := range all {
				t.Logf("%s: first %s, told %s", x.workload, x.first, x.told)
			}
			t.Fatalf("%d spikes of %d are not told within four minutes, of partitions %v", left, len(all), slices.Sorted(maps.Keys(folds)))
		}
	}
	for _, level := range []string{"error", "info"} {
		var took []time.Duration
		for _, x := range all {
			if x.level == level {
				took = append(took, x.told.Round(100*time.Millisecond))
				t.Logf("%s, %.1f s after its first line: %s", x.workload, x.told.Seconds(), x.summary)
			}
		}
		slices.Sort(took)
		t.Logf("level=%s: %v", level, took)
		if worst := took[len(took)-1]; worst > mostToSpike {
			t.Errorf("a spike of level %s is told %s after its first line, more than %s", level, worst, mostToSpike)
		}
	}
}
