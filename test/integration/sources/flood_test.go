//go:build e2e

package sources

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// reading is what was read of a Loki, window by window.
type reading struct {
	emissions []collector.Emission
	cursors   [][]byte
}

// readUntil reads from a cursor until a time is closed.
func readUntil(t *testing.T, url string, cursor []byte, end time.Time) (r reading) {
	t.Helper()
	// A window's share is 100 kB, of a stream 20 kB.
	cfg := loki.Config{Window: 10 * time.Second, Delay: time.Second, MaxCatchUp: 3 * time.Hour, BytesPerDay: 100_000 * 8640, Tail: loki.Tail{Off: true}, WarmStart: loki.WarmStart{Off: true}}
	cfg.URL, cfg.MaxQPS = url, 10_000
	s, err := loki.New(cfg, env(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	_ = s.Run(ctx, cursor, func(_ context.Context, e collector.Emission) error {
		r.emissions, r.cursors = append(r.emissions, e), append(r.cursors, e.Cursor)
		if !e.Closed.Before(end) {
			cancel()
		}
		return nil
	})
	if n := len(r.emissions); n == 0 || r.emissions[n-1].Closed.Before(end) {
		t.Fatalf("%d windows are read within ten minutes, not up to %s", n, end)
	}
	return r
}

// TestOnePodThatFloodsARealLokiIsSampledAndNobodyElse has one pod write four hundred
// lines a second beside quiet ones, after a time in which it wrote two a minute.
func TestOnePodThatFloodsARealLokiIsSampledAndNobodyElse(t *testing.T) {
	server, err := bed(t).StartLoki(t.Context(), testbed.LokiConfig{})
	if err != nil {
		t.Fatal(err)
	}
	const (
		before  = 80 * time.Minute
		floods  = 90 * time.Second
		each    = 400 // lines a second
		retried = "retrying upstream"
	)
	end := time.Now().Add(-10 * time.Second).Truncate(10 * time.Second).UTC()
	began, broke := end.Add(-before-floods), end.Add(-floods)
	streams := map[string][][2]string{}
	write := func(pod string, at time.Time, format string, args ...any) {
		streams[pod] = append(streams[pod], [2]string{strconv.FormatInt(at.UnixNano(), 10), fmt.Sprintf(format, args...)})
	}
	const loud = "loud-7d4b9c6f5-x2x8q"
	truth := map[string]int{}
	flood := []time.Time{}
	for at := began; at.Before(end); at = at.Add(time.Second) {
		for p := range 4 {
			write(fmt.Sprintf("quiet%d-7d4b9c6f5-x2x8q", p), at.Add(time.Millisecond), `level=info msg="queue polled" depth=%d`, p)
			truth["queue polled"]++
		}
		write(loud, at, `level=info msg="lease renewed" term=%d`, at.Unix())
		truth["lease renewed"]++
		if at.Second()%30 == 0 {
			write(loud, at.Add(time.Microsecond), `level=warn msg="`+retried+`" try=1`)
			truth[retried]++
			flood = append(flood, at.Add(time.Microsecond))
		}
		if at.Before(broke) {
			continue
		}
		for i := range each {
			line := at.Add(time.Duration(i+1) * 2 * time.Millisecond)
			write(loud, line, `level=warn msg="`+retried+`" try=%d backoff=%dms`, i, 3*i)
			truth[retried]++
			flood = append(flood, line)
		}
		if at.Second()%20 == 7 {
			write(loud, at.Add(999*time.Millisecond), `level=error msg="ledger rejected the entry" err="constraint violated"`)
			truth["ledger rejected"]++
		}
	}
	for pod, values := range streams {
		for len(values) > 0 {
			n := min(len(values), 5000)
			post(t, server.URL+"/loki/api/v1/push", map[string]any{"streams": []any{map[string]any{
				"stream": map[string]string{"namespace": "shop", "pod": pod}, "values": values[:n],
			}}})
			values = values[n:]
		}
	}

	r := readUntil(t, server.URL, loki.After(began), end)
	kept, stands, highest := map[string]int{}, map[string]int{}, map[string]int{}
	for _, e := range r.emissions {
		for _, o := range e.Events {
			b := o.Data().(event.LogBatch)
			for _, st := range b.Streams {
				for _, l := range st.Lines {
					for text := range truth {
						if strings.Contains(l.Text, text) && l.Time.Before(end) {
							kept[text]++
							stands[text] += b.SampledRate
							highest[text] = max(highest[text], b.SampledRate)
						}
					}
				}
			}
		}
	}
	for text, n := range truth {
		t.Logf("%q: %d lines, %d published, 1:%d sampled, stand for %d", text, n, kept[text], highest[text], stands[text])
		if text != retried && (kept[text] != n || stands[text] != n) {
			t.Errorf("%q: %d of %d lines are published, and stand for %d", text, kept[text], n, stands[text])
		}
	}
	rate := highest[retried]
	if off, most := math.Abs(float64(stands[retried]-truth[retried])), 5*math.Sqrt(float64(truth[retried]*(rate-1))); rate < 5 || off > most {
		t.Errorf("lines of the flood stand for %d, which is %.0f from the truth, more than %.0f", stands[retried], off, most)
	}

	// A restart in the middle of the flood gives the same.
	at := len(r.emissions) - int(floods/(20*time.Second))
	again := readUntil(t, server.URL, r.cursors[at], end)
	for i, e := range again.emissions {
		if want := r.emissions[at+1+i]; fmt.Sprint(e.Events) != fmt.Sprint(want.Events) || !e.Closed.Equal(want.Closed) {
			t.Fatalf("after a restart the window that ends at %s is another", e.Closed)
		}
	}

	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	fold, err := detector.NewFold(detector.Logs, event.Partition("shop", "loud"), detector.DefaultConfig(), store, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]event.Anomaly{}
	for _, e := range r.emissions {
		for _, m := range asMessages(e) {
			if b, ok := m.Data.(event.LogBatch); ok && b.Partition != event.Partition("shop", "loud") {
				continue
			}
			out, err := fold.Apply(m)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range out {
				a, ok := o.Data().(event.Anomaly)
				if !ok || a.Ended != nil {
					continue
				}
				if _, ok := told[a.Detector]; !ok || a.Detector == "log_spike" && strings.Contains(a.Summary, retried) {
					told[a.Detector] = a
				}
				if a.Onset.Before(broke.Add(-time.Second)) {
					t.Errorf("%s told before the flood: %s", a.Detector, a.Summary)
				}
			}
		}
	}
	spike := told["log_spike"]
	t.Logf("%s; %s", spike.Summary, spike.Explanation)
	t.Logf("%s; %s", told["log_new_pattern"].Summary, told["log_new_pattern"].Explanation)
	want := 0
	minute := spike.WindowEnd.Add(-1).Truncate(time.Minute)
	for _, l := range flood {
		if !l.Before(minute) && l.Before(spike.WindowEnd) {
			want++
		}
	}
	if off := math.Abs(spike.Observed - float64(want)); !strings.Contains(spike.Summary, " sampled)") || off > 5*math.Sqrt(float64(want*(rate-1))) {
		t.Errorf("%v lines are told of, want about %d: %s", spike.Observed, want, spike.Summary)
	}
	if a := told["log_new_pattern"]; !strings.Contains(a.Summary, "ledger rejected") {
		t.Errorf("the error in the flood is not told of: %+v", a)
	}
	if a, ok := told["log_vanished"]; ok {
		t.Errorf("told of a silence: %s", a.Summary)
	}
}
