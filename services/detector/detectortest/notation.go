package detectortest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
)

// staleNaN is the marker by which Prometheus says that a series has ended.
var staleNaN = math.Float64frombits(0x7ff0000000000002)

// Values reads promqltest's notation of a series: numbers, "_" for a step
// without a sample, "stale", "a+bxn" for a, a+b, a+2b … (n+1 values), "a-bxn",
// "axn" for n+1 times a, "_xn" for n gaps, and "a~bxn" of our own for n+1
// values that lie within b of a in a fixed disorder. The second result says
// which steps have a sample.
func Values(t testing.TB, notation string) (vs []float64, there []bool) {
	t.Helper()
	add := func(v float64, ok bool) { vs, there = append(vs, v), append(there, ok) }
	num := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatalf("series %q: %q is not a number", notation, s)
		}
		return v
	}
	noise := uint64(42)
	for _, tok := range strings.Fields(notation) {
		body, times, repeated := strings.Cut(tok, "x")
		n := 0
		if repeated {
			n = int(num(times))
		}
		switch {
		case body == "_":
			for range max(1, n) {
				add(0, false)
			}
			continue
		case body == "stale":
			add(staleNaN, true)
			continue
		}
		if a, b, ok := strings.Cut(body, "~"); ok {
			for range n + 1 {
				noise = noise*6364136223846793005 + 1442695040888963407
				add(num(a)+num(b)*(float64(noise>>33)/(1<<30)-1), true)
			}
			continue
		}
		start, slope := body, 0.0
		if i := strings.LastIndexAny(body, "+-"); i > 0 && body[i-1] != 'e' {
			start, slope = body[:i], num(body[i:])
		}
		for i := range n + 1 {
			add(num(start)+float64(i)*slope, true)
		}
	}
	return vs, there
}

// Play shows a detector series in [Values]'s notation, a minute a step, and
// returns its observations by the step in which they were made. The keys of
// load are selectors: {__name__="x", namespace="shop"}.
func Play(t testing.TB, d detector.Detector, load map[string]string) map[int][]event.Anomaly {
	t.Helper()
	type loaded struct {
		labels event.Labels
		vs     []float64
		there  []bool
	}
	var all []loaded
	steps := 0
	for sel, notation := range load {
		ls, err := event.ParseLabels(sel)
		if err != nil {
			t.Fatal(err)
		}
		l := loaded{labels: ls}
		l.vs, l.there = Values(t, notation)
		steps = max(steps, len(l.vs))
		all = append(all, l)
	}
	out := map[int][]event.Anomaly{}
	for i := range steps {
		b := frame(i)
		m := event.MetricBatch{Step: b.Watermark}
		for _, l := range all {
			if i < len(l.vs) && l.there[i] {
				m.Series = append(m.Series, event.Series{ID: l.labels.Hash(), Labels: l.labels, Points: []event.Point{{T: b.Watermark.UnixMilli(), V: l.vs[i]}}})
			}
		}
		if len(m.Series) > 0 {
			b.Metrics = []event.MetricBatch{m}
		}
		if found := d.Observe(selected(d, []event.Batch{b})[0]); len(found) > 0 {
			out[i] = found
		}
	}
	return out
}

// Steps writes the steps of observations as ranges: "60-75 90".
func Steps(found map[int][]event.Anomaly) string {
	last := -1
	for i := range found {
		last = max(last, i)
	}
	var parts []string
	for i := 0; i <= last; i++ {
		if len(found[i]) == 0 {
			continue
		}
		j := i
		for len(found[j+1]) > 0 {
			j++
		}
		if j > i {
			parts = append(parts, fmt.Sprintf("%d-%d", i, j))
		} else {
			parts = append(parts, strconv.Itoa(i))
		}
		i = j
	}
	return strings.Join(parts, " ")
}

// At is the time of a step of [Play].
func At(step int) time.Time { return frame(step).Watermark }
