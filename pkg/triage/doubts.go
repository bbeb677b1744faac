package triage

import (
	"math"
	"slices"
	"time"
)

// Bounds from which on a measurement speaks against a workload's being well. They
// are far beyond what is asked of an alert: nothing here knows what is usual on
// this day of the week.
const (
	manyFail   = 0.05 // of requests
	muchSlower = 3    // times the median before
	leastPast  = 8    // points, for a median to mean something
	slowest    = 0.1  // s, below which no latency is slow
	throttled  = 0.5  // of the time
	nearLimit  = 0.95 // of the memory limit
)

// doubts finds in the measurements what speaks against the workload's being
// well, where no check has said anything of it.
func (a *assembly) doubts() {
	r := a.r
	if r.Urgency != "" {
		return
	}
	for _, m := range r.Metrics {
		if m.Ended(r.Time, r.Since) {
			continue
		}
		past, known := m.before()
		was := ""
		if known {
			was = ", " + Quantity(past, m.Unit) + " before"
		}
		switch now := Quantity(m.Last, m.Unit); {
		case m.Signal == "error_ratio" && m.Last >= manyFail && (!known || m.Last >= 3*past):
			a.doubt(now+" of its requests fail"+was, m)
		case m.Signal == "latency_p99" && known && m.seconds() >= slowest && m.Last >= muchSlower*past:
			a.doubt("the 99th percentile of its latency is "+now+was, m)
		case m.Signal == "cpu_throttling_ratio" && m.Last >= throttled:
			a.doubt("its CPU limit throttles it "+now+" of the time"+was, m)
		case m.Signal == "memory_limit_ratio" && m.Last >= nearLimit:
			a.doubt("it uses "+now+" of its memory limit"+was, m)
		}
	}
	if l := r.Logs; len(r.Doubts) > 0 && l.Errors > 0 && len(l.Patterns) > 0 {
		r.Doubts = append(r.Doubts, Statement{Text: errorLines(l.Errors), Evidence: l.Patterns[0].Evidence})
	}
	if len(r.Doubts) > 0 {
		r.Status += "; " + r.Doubts[0].Text
	}
}

func (a *assembly) doubt(text string, m Metric) {
	a.r.Doubts = append(a.r.Doubts, Statement{Text: text, Evidence: m.Evidence})
}

// Ended says whether the series, read from a time on, ended before now.
func (m *Metric) Ended(now, since time.Time) bool {
	return now.Sub(m.LastAt) > 3*Step(now.Sub(since))
}

// before is the median without the last minutes: a quarter of the points.
func (m *Metric) before() (median float64, known bool) {
	var past []float64
	for _, p := range m.Points[:len(m.Points)*3/4] {
		if p != nil {
			past = append(past, *p)
		}
	}
	if len(past) < leastPast {
		return math.NaN(), false
	}
	slices.Sort(past)
	return past[len(past)/2], true
}

// seconds is the last value of a latency.
func (m *Metric) seconds() float64 {
	if m.Unit == "ms" {
		return m.Last / 1000
	}
	return m.Last
}
