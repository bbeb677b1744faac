package triage

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// Measured is what measurements are wanted of.
type Measured struct {
	Entity     event.Entity
	Pods       string // regular expression for the names of its pods
	Start, End time.Time
}

// Series is one measurement as it was read, at even distances; NaN where there
// is none.
type Series struct {
	Signal string
	Unit   string // as in UCUM: By, s, 1, {cpu}, {request}/s
	Query  string // that gave it
	Values []float64
	Failed string // why there is none
}

// Step is the distance of the points of a measurement: thirty of them, and no
// closer than a scrape.
func Step(span time.Duration) time.Duration {
	return max((span / 30).Truncate(time.Second), 15*time.Second)
}

// bars are the heights of a sparkline.
var bars = []rune("▁▂▃▄▅▆▇█")

// Sparkline draws values from their lowest to their highest, a gap where there
// is none. What does not vary is flat, at the bottom.
func Sparkline(values []float64) string {
	low, high := bounds(values)
	var b strings.Builder
	for _, v := range values {
		switch {
		case math.IsNaN(v):
			b.WriteRune(' ')
		case high-low <= 1e-9*math.Max(math.Abs(high), math.Abs(low)):
			b.WriteRune(bars[0])
		default:
			b.WriteRune(bars[min(len(bars)-1, int((v-low)/(high-low)*float64(len(bars))))])
		}
	}
	return b.String()
}

// bounds are the lowest and highest of values; NaN when there is none.
func bounds(values []float64) (low, high float64) {
	low, high = math.NaN(), math.NaN()
	for _, v := range values {
		if math.IsNaN(v) {
			continue
		}
		if !(low <= v) {
			low = v
		}
		if !(high >= v) {
			high = v
		}
	}
	return low, high
}

// metric is a series that has a value, with its evidence.
func metric(s Series, of Measured) (Metric, event.Evidence, bool) {
	values := make([]float64, len(s.Values))
	m := Metric{Signal: s.Signal, Unit: s.Unit}
	has := false
	for i, v := range s.Values {
		if math.IsInf(v, 0) {
			v = math.NaN() // JSON has no word for it
		}
		values[i] = v
		if math.IsNaN(v) {
			m.Points = append(m.Points, nil)
			continue
		}
		if !has {
			m.First, has = v, true
		}
		m.Last, m.LastAt = v, of.Start.Add(time.Duration(i)*Step(of.End.Sub(of.Start))).UTC()
		m.Points = append(m.Points, &values[i])
	}
	if !has {
		return m, event.Evidence{}, false
	}
	m.Min, m.Max = bounds(values)
	m.Sparkline = Sparkline(values)
	q := evidence.Query{Source: evidence.Prometheus, Expr: s.Query, Start: of.Start, End: of.End, Step: Step(of.End.Sub(of.Start)), Entity: of.Entity}
	return m, evidence.New(q, []string{fmt.Sprintf("%s last %s, first %s, min %s, max %s", s.Signal, Quantity(m.Last, s.Unit), Quantity(m.First, s.Unit), Quantity(m.Min, s.Unit), Quantity(m.Max, s.Unit))}, nil), true
}

// Quantity is a value with its unit, as people read it.
func Quantity(v float64, unit string) string {
	scaled := func(v, by float64, units ...string) string {
		i := 0
		for math.Abs(v) >= by && i < len(units)-1 {
			v, i = v/by, i+1
		}
		return strings.TrimSpace(short(v) + " " + units[i])
	}
	switch unit {
	case "By":
		return scaled(v, 1024, "B", "KiB", "MiB", "GiB", "TiB")
	case "s":
		if math.Abs(v) < 1 {
			return short(v*1000) + " ms"
		}
		return short(v) + " s"
	case "ms":
		if math.Abs(v) >= 1000 {
			return short(v/1000) + " s"
		}
		return short(v) + " ms"
	case "1":
		return short(v*100) + " %"
	case "{cpu}":
		if math.Abs(v) < 1 {
			return short(v*1000) + "m"
		}
		return short(v) + " cores"
	case "{request}/s":
		return short(v) + "/s"
	}
	return short(v)
}

// short is a number with about three digits.
func short(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
