package detector

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/criterion"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

// Declared are the detectors of policies/detectors/*.yaml, in the order of
// their files.
func Declared(store *policy.Store) ([]Info, error) {
	all, err := criterion.Load(store)
	if err != nil {
		return nil, err
	}
	out := make([]Info, 0, len(all))
	for _, c := range all {
		out = append(out, declaredInfo(c))
	}
	return out, nil
}

func declaredInfo(c criterion.Criterion) Info {
	return Info{
		Name: c.Name, Doc: c.Doc, Input: Metrics, Class: c.Class, Hold: max(2*time.Minute, c.For/2), Always: true, Reads: []string{c.Name},
		Default: func() any { return c },
		Check: func(file string, section *yaml.Node) (any, error) {
			if section != nil {
				return nil, fmt.Errorf("%s: %s is configured in policies/detectors, not here", file, c.Name)
			}
			return c, nil
		},
		New: func(cfg any, _ Settings) (Detector, error) {
			return &declared{c: cfg.(criterion.Criterion), rows: map[uint64]*declaredRow{}}, nil
		},
	}
}

// declared is a criterion at work.
type declared struct {
	c    criterion.Criterion
	rows map[uint64]*declaredRow
}

// declaredRow is what is remembered of one series of the expression.
type declaredRow struct {
	ring   stat.Ring
	season stat.Season
	smooth stat.Smooth
	scale  stat.Scale
	cal    stat.Calibration
	lastT  int64
	run    int64 // since when it is odd
}

// Selects is Selector's: the collector names the series after the criterion.
func (d *declared) Selects(ls event.Labels) bool { return ls.Get(event.LabelName) == d.c.Name }

// Observe is Detector's.
func (d *declared) Observe(b event.Batch) (found []event.Anomaly) {
	for _, mb := range b.Metrics {
		for _, s := range mb.Series {
			row, ok := d.rows[s.ID]
			if !ok {
				row = &declaredRow{}
				d.rows[s.ID] = row
			}
			var a event.Anomaly
			odd := false
			for _, p := range s.Points {
				if p.T <= row.lastT || !(math.Abs(p.V) < 1e100) {
					continue
				}
				row.lastT = p.T
				prob, normal, why := d.judge(row, p)
				if prob >= 1 {
					row.run, odd = 0, false
					continue
				}
				if row.run == 0 {
					row.run = p.T
				}
				if odd = p.T-row.run >= d.c.For.Milliseconds(); odd {
					a = d.anomaly(s, p, prob, normal, why, row.run, b.Watermark)
				}
			}
			if odd {
				found = append(found, a)
			}
		}
	}
	old := b.Watermark.Add(-seriesTTL).UnixMilli()
	for id, row := range d.rows {
		if row.lastT < old {
			delete(d.rows, id)
		}
	}
	return found
}

// judge gives the tail probability of a point, and 1 when it is normal.
func (d *declared) judge(row *declaredRow, p event.Point) (prob float64, normal event.Interval, why string) {
	c := d.c
	switch c.Model {
	case criterion.Threshold:
		normal = bounds(c)
		if p.V > normal.High || p.V < normal.Low {
			return 1e-4, normal, "beyond the threshold"
		}
	case criterion.PredictLinear:
		row.ring.Add(p.T, p.V, c.Window.Milliseconds()/360, c.Window.Milliseconds())
		normal = bounds(c)
		n := len(row.ring.T)
		if n < 10 || row.ring.T[n-1]-row.ring.T[0] < c.Window.Milliseconds()/12 {
			return 1, normal, ""
		}
		line, ok := stat.Fit(row.ring.T, row.ring.V, p.T)
		if !ok {
			return 1, normal, ""
		}
		at := line.At(c.Horizon.Seconds())
		if (at > normal.High || at < normal.Low) && math.Abs(line.Slope) > 4*line.SlopeErr {
			return stat.Prob(2 * stat.NormalTail(math.Abs(line.Slope)/max(line.SlopeErr, 1e-300))), normal, fmt.Sprintf("the trend gives %.4g in %s", at, c.Horizon)
		}
	case criterion.QuantileBand:
		band := slices.Clone(row.ring.V)
		normal = event.Interval{Low: stat.Quantile(band, c.Quantiles[0]), High: stat.Quantile(band, c.Quantiles[1])}
		margin := c.MinChange * max(math.Abs(normal.Low), math.Abs(normal.High))
		odd := len(band) >= learnt && (p.V > normal.High+margin || p.V < normal.Low-margin)
		// What is odd would be the edge of the band for what comes next, and so never
		// last; what has lasted as long as the band looks back is usual.
		if !odd || row.run != 0 && p.T-row.run > c.Window.Milliseconds() {
			row.ring.Add(p.T, p.V, c.Window.Milliseconds()/360, c.Window.Milliseconds())
		}
		if odd {
			return max(1/float64(len(band)+1), 1-c.Quantiles[1]+c.Quantiles[0]), normal, fmt.Sprintf("outside the band of %d values of %s", len(band), c.Window)
		}
	case criterion.Seasonal:
		expected, ok := row.season.Forecast(p.T)
		earned := row.season.Earned()
		row.season.Add(p.T, p.V)
		if !ok {
			return 1, normal, ""
		}
		prob, normal := row.off(p.V, expected)
		if earned && prob <= surprising && math.Abs(p.V-expected) > c.MinChange*math.Abs(expected) {
			return prob, normal, "off the forecast for this hour"
		}
		return 1, normal, ""
	case criterion.Smoothing:
		expected, ok := row.smooth.Forecast()
		if !ok {
			row.smooth.Add(p.V, c.Smoothing[0], c.Smoothing[1])
			return 1, normal, ""
		}
		prob, normal := row.off(p.V, expected)
		// What is odd moves the level no further than what is usual would, else a
		// spike would be the level of what comes after it, and its end an anomaly.
		x := p.V
		if row.scale.N >= learnt {
			x = max(normal.Low, min(normal.High, x))
		}
		row.smooth.Add(x, c.Smoothing[0], c.Smoothing[1])
		if row.scale.N >= learnt && prob <= surprising && math.Abs(p.V-expected) > c.MinChange*math.Abs(expected) {
			return prob, normal, "off the forecast of level and trend"
		}
		return 1, normal, ""
	}
	return 1, normal, ""
}

const (
	// surprising is the tail probability from which on a forecast was wrong.
	surprising = 1e-3
	// learnt is after how many values the distances of forecasts are known.
	learnt = 120
)

// off is how probable a value is that far from its forecast, and what would be usual.
func (row *declaredRow) off(v, expected float64) (float64, event.Interval) {
	z := row.scale.Z(v - expected)
	prob, sigma := row.cal.Prob(z), row.scale.Sigma()
	if row.scale.N >= 30 {
		row.cal.Add(z)
	}
	row.scale.Add(v-expected, 2000)
	return prob, event.Interval{Low: expected - 3*sigma, High: expected + 3*sigma}
}

func bounds(c criterion.Criterion) event.Interval {
	i := event.Interval{Low: -math.MaxFloat64, High: math.MaxFloat64}
	if c.Above != nil {
		i.High = *c.Above
	}
	if c.Below != nil {
		i.Low = *c.Below
	}
	return i
}

func (d *declared) anomaly(s event.Series, p event.Point, prob float64, normal event.Interval, why string, run int64, at time.Time) event.Anomaly {
	a := event.Anomaly{
		Series: event.SeriesHash(s.ID), Entity: s.Labels.Entity(), Signal: d.c.Name, Class: d.c.Class, Severity: d.c.Severity,
		Onset: time.UnixMilli(run).UTC(), Observed: p.V, Expected: &normal, Unit: d.c.Unit, TailProb: prob, Labels: s.Labels.Map(),
		Explanation: fmt.Sprintf("policies/detectors: %s, %s for %s", d.c.Model, why, d.c.For), RunbookURL: d.c.Runbook,
		Evidence: []event.EvidenceRef{{Source: "prometheus", Query: shown(d.c.Expr), Start: at.Add(-d.c.Window), End: at}},
	}
	a.Summary = expand(d.c.Summary, p.V, a.Labels)
	if a.Summary == "" {
		a.Summary = fmt.Sprintf("%s: %s %.4g", strings.TrimSuffix(d.c.Doc, "."), d.c.Name, p.V)
	}
	return a
}

// shown is an expression as a person may ask it.
func shown(expr string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(expr, "$window", "5m")), " ")
}

// expand fills $value and $label into a summary. What it fills in is data: a
// dollar in it stays a dollar.
func expand(tmpl string, v float64, labels map[string]string) string {
	names := sortedKeys(labels)
	// The longest names first, so that $pod does not eat $pod_ip.
	sort.SliceStable(names, func(i, j int) bool { return len(names[i]) > len(names[j]) })
	pairs := []string{"$value", fmt.Sprintf("%.4g", v)}
	for _, n := range names {
		pairs = append(pairs, "$"+n, labels[n])
	}
	return strings.NewReplacer(pairs...).Replace(tmpl)
}

// MarshalBinary writes the state.
func (d *declared) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	ids := make([]uint64, 0, len(d.rows))
	for id := range d.rows {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	w.Uint(uint64(len(ids)))
	for _, id := range ids {
		r := d.rows[id]
		w.Fixed(id)
		w.Int(r.lastT)
		w.Int(r.run)
		switch d.c.Model {
		case criterion.QuantileBand, criterion.PredictLinear:
			r.ring.Write(w)
		case criterion.Smoothing:
			r.smooth.Write(w)
			r.scale.Write(w)
			r.cal.Write(w)
		case criterion.Seasonal:
			r.season.Write(w)
			r.scale.Write(w)
			r.cal.Write(w)
		}
	}
	return w.Data(), nil
}

// UnmarshalBinary reads it back.
func (d *declared) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	d.rows = map[uint64]*declaredRow{}
	for range r.Len() {
		id := r.Fixed()
		row := &declaredRow{lastT: r.Int(), run: r.Int()}
		switch d.c.Model {
		case criterion.QuantileBand, criterion.PredictLinear:
			row.ring.Read(r)
		case criterion.Smoothing:
			row.smooth.Read(r)
			row.scale.Read(r)
			row.cal.Read(r)
		case criterion.Seasonal:
			row.season.Read(r)
			row.scale.Read(r)
			row.cal.Read(r)
		}
		if r.Err() != nil {
			return r.Err()
		}
		d.rows[id] = row
	}
	return r.Close()
}
