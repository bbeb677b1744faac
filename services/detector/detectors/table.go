// Package detectors holds the detectors we ship, one per file.
package detectors

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/slab"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// forgetAfter is how long a series is remembered that no longer comes, in
// milliseconds.
const forgetAfter = 24 * 3_600_000

// stored is a pointer to a state that can be written and read, and that knows when
// its series came last, in milliseconds.
type stored[S any] interface {
	*S
	Last() int64
	Write(*snapshot.Writer)
	Read(*snapshot.Reader)
}

// table is what a detector remembers of each of its series. What no longer
// comes is forgotten, so the table is as large as what is there. The zero value is
// ready to use.
type table[S any, P stored[S]] struct {
	rows  slab.Table[S]
	swept int64 // hour of the last sweep
}

// at is the state of a series, made when it is new, and whether it was known. It is
// good until the next call.
func (t *table[S, P]) at(id uint64) (*S, bool) { return t.rows.At(id) }

// sweep forgets, once an hour of event time, what no longer comes.
func (t *table[S, P]) sweep(watermark time.Time) {
	ms := watermark.UnixMilli()
	hour := ms / 3_600_000
	if hour <= t.swept {
		return
	}
	t.swept = hour
	t.rows.DeleteFunc(func(_ uint64, s *S) bool { return P(s).Last() < ms-forgetAfter })
}

func (t *table[S, P]) write(w *snapshot.Writer) {
	w.Int(t.swept)
	w.Uint(uint64(t.rows.Len()))
	for id, s := range t.rows.All() {
		w.Fixed(id)
		P(s).Write(w)
	}
}

func (t *table[S, P]) read(r *snapshot.Reader) {
	t.swept = r.Int()
	t.rows = slab.Table[S]{}
	n := r.Len()
	t.rows.Reserve(n)
	for range n {
		id := r.Fixed()
		if r.Err() != nil {
			return
		}
		s, _ := t.rows.At(id)
		P(s).Read(r)
	}
}

// MarshalBinary writes the table.
func (t *table[S, P]) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	t.write(w)
	return w.Data(), nil
}

// UnmarshalBinary reads it back.
func (t *table[S, P]) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	t.read(r)
	return r.Close()
}

// series calls f with every series of a window.
func series(b event.Batch, f func(event.Series)) {
	for i := range b.Metrics {
		for _, s := range b.Metrics[i].Series {
			f(s)
		}
	}
}

// finite says whether a number can be reckoned with: squares and sums of it
// stay numbers.
func finite(v float64) bool { return math.Abs(v) < 1e100 }

// step is the running distance between the points of a series, in
// milliseconds; constants that mean time are divided by it.
type step struct {
	last int64
	gap  float64
}

// next folds a time and says whether it is later than the last one.
func (s *step) next(t int64) bool {
	if s.last == 0 {
		s.last = t
		return true
	}
	d := float64(t - s.last)
	if d <= 0 {
		return false
	}
	s.last = t
	switch {
	case s.gap == 0:
		s.gap = d
	default:
		// A pause is not a new step: growth is bounded.
		s.gap += 0.1 * (min(d, 4*s.gap) - s.gap)
	}
	return true
}

func (s *step) write(w *snapshot.Writer) { w.Int(s.last); w.Float(s.gap) }
func (s *step) read(r *snapshot.Reader)  { s.last, s.gap = r.Int(), r.Float() }

// saturates says whether a series tells of a resource that runs out.
func saturates(ls event.Labels) bool {
	return event.SignalClass(ls.Get(event.LabelClass)) == event.ClassSaturation
}

// classOf is the class that the series states, or the fallback. A series
// cannot make itself a symptom: what pages is decided by detectors that test
// for it.
func classOf(ls event.Labels, fallback event.SignalClass) event.SignalClass {
	switch c := event.SignalClass(ls.Get(event.LabelClass)); c {
	case event.ClassSaturation, event.ClassCause, event.ClassAmbient:
		return c
	}
	return fallback
}

// observation is what all anomalies of a series have in common.
func observation(s event.Series, at time.Time) event.Anomaly {
	name := s.Labels.Get(event.LabelName)
	return event.Anomaly{
		Series: event.SeriesHash(s.ID), Entity: s.Labels.Entity(), Signal: name, Unit: s.Labels.Get(event.LabelUnit),
		Labels: s.Labels.Map(), Evidence: []event.EvidenceRef{promQL(s.Labels, at)},
	}
}

// window of the evidence around an observation.
const evidenceBefore = 30 * time.Minute

// promQL is the query that shows a series: its name and its labels without
// those of ours.
func promQL(ls event.Labels, at time.Time) event.EvidenceRef {
	own := make(event.Labels, 0, len(ls))
	for _, l := range ls {
		if l.Name != event.LabelName && !strings.HasPrefix(l.Name, "oncall_") {
			own = append(own, l)
		}
	}
	return event.EvidenceRef{Source: "prometheus", Query: ls.Get(event.LabelName) + own.String(), Start: at.Add(-evidenceBefore), End: at}
}

// severityOf grades a tail probability of something that is merely odd.
func severityOf(p float64) event.Severity {
	if p <= 1e-6 {
		return event.Warning
	}
	return event.Info
}

// annotations are what UCUM has in braces: {request}/s.
var annotations = strings.NewReplacer("{", "", "}", "")

// unitOf is the unit to write behind a value of a signal: none where the signal is
// called by it, so that nobody reads of restarts that they are 3 restart.
func unitOf(signal, unit string) string {
	if "{"+strings.TrimSuffix(signal, "s")+"}" == unit {
		return ""
	}
	return unit
}

// number writes a value as a person would, with its unit.
func number(v float64, unit string) string {
	a := math.Abs(v)
	switch unit {
	case "By":
		for _, u := range []struct {
			f float64
			s string
		}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
			if a >= u.f {
				return fmt.Sprintf("%.3g %s", v/u.f, u.s)
			}
		}
		return fmt.Sprintf("%.4g B", v)
	case "ms":
		return number(v/1000, "s")
	case "s":
		switch {
		case a >= 172_800:
			return fmt.Sprintf("%.3g d", v/86_400)
		case a >= 7_200:
			return fmt.Sprintf("%.3g h", v/3_600)
		case a > 0 && a < 1:
			return fmt.Sprintf("%.3g ms", v*1000)
		}
		return fmt.Sprintf("%.3g s", v)
	case "1":
		if a <= 10 {
			return fmt.Sprintf("%.3g %%", v*100)
		}
		return fmt.Sprintf("%.4g", v)
	case "":
		return fmt.Sprintf("%.4g", v)
	}
	return fmt.Sprintf("%.4g %s", v, annotations.Replace(unit))
}

// span writes a duration in seconds as people say it.
func span(seconds float64) string {
	if math.IsInf(seconds, 0) || seconds > 400*86_400 {
		return "over a year"
	}
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.1f d", d.Hours()/24)
	case d >= time.Hour:
		return fmt.Sprintf("%d h %02d m", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%d m", int(d.Minutes()))
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

// far says whether x lies outside an interval by more than a share of the
// larger bound.
func far(x, low, high, share float64) bool {
	scale := share * max(math.Abs(low), math.Abs(high))
	return x > high+scale || x < low-scale
}

func between(path string, v, low, high, instead float64) error {
	if v >= low && v <= high {
		return nil
	}
	return &policy.FieldError{Path: path, Value: v, Problem: fmt.Sprintf("is not between %g and %g", low, high), Fix: fmt.Sprintf("write %g", instead)}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func expNeg(x float64) float64 { return math.Exp(-x) }
