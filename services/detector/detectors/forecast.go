package detectors

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/services/detector"
)

// ForecastConfig is the `detector.forecast:` section of the configuration file.
type ForecastConfig struct {
	// Window is the history a trend is fitted to. Default: 6h.
	Window time.Duration `yaml:"window"`
	// History is the least history before a trend is believed. Default: 30m.
	History time.Duration `yaml:"history"`
	// Warn and Urgent are how far ahead a limit is worth a warning, and a
	// symptom. Defaults: 72h, 4h.
	Warn   time.Duration `yaml:"warn"`
	Urgent time.Duration `yaml:"urgent"`
	// Floor is the least share of the limit that must be in use, so that a
	// start at nothing is no trend; a ratio. Default: 0.5.
	Floor float64 `yaml:"floor"`
	// CertWarn and CertUrgent are the same for certificates, which expire
	// whatever the trend. Defaults: 168h, 24h.
	CertWarn   time.Duration `yaml:"cert_warn"`
	CertUrgent time.Duration `yaml:"cert_urgent"`
}

// Validate checks the ranges.
func (c ForecastConfig) Validate() error {
	return errors.Join(
		between("window", c.Window.Hours(), 0.5, 7*24, 6),
		between("history", c.History.Hours(), 0.1, c.Window.Hours(), 0.5),
		between("urgent", c.Urgent.Hours(), 0.1, c.Warn.Hours(), 4),
		between("floor", c.Floor, 0, 1, 0.5),
		between("cert_urgent", c.CertUrgent.Hours(), 0.1, c.CertWarn.Hours(), 24),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "forecast", Input: detector.Metrics, Class: event.ClassSaturation, Hold: 15 * time.Minute, Version: 1,
			Doc:   "A disk, volume, memory limit, quota or certificate that will reach its limit soon, by its trend, with an interval.",
			Reads: []string{"memory_limit_ratio", "pvc_used_ratio", "cert_expiry_seconds"},
		},
		ForecastConfig{
			Window: 6 * time.Hour, History: 30 * time.Minute, Warn: 72 * time.Hour, Urgent: 4 * time.Hour, Floor: 0.5,
			CertWarn: 168 * time.Hour, CertUrgent: 24 * time.Hour,
		},
		func(c ForecastConfig, _ detector.Settings) (detector.Detector, error) {
			return &forecast{cfg: c}, nil
		}))
}

// forecast fits a line through the history of a ratio of use, as PromQL's
// predict_linear does, and asks when it reaches the limit of 1. It believes
// the line when a robust slope agrees with it and the slope is clearly not
// zero, and drops the history when the use falls at once: somebody made room.
type forecast struct {
	cfg ForecastConfig
	table[trendState, *trendState]
}

type trendState struct {
	past stat.Means
	odd  int64 // since when it is
	seen int64 // when it came last, be it an expiry
}

// Last is when the series came last, in milliseconds.
func (s *trendState) Last() int64 { return s.seen }

// Write writes the state.
func (s *trendState) Write(w *snapshot.Writer) { s.past.Write(w); w.Int(s.odd); w.Int(s.seen) }

// Read reads the state.
func (s *trendState) Read(r *snapshot.Reader) { s.past.Read(r); s.odd, s.seen = r.Int(), r.Int() }

// Selects is detector.Selector's: shares of a limit, and times to an expiry.
func (d *forecast) Selects(ls event.Labels) bool { return isShare(ls) || isExpiry(ls) }

// isShare recognises a share of a limit: dimensionless, and of a resource that
// fills up.
func isShare(ls event.Labels) bool {
	name := ls.Get(event.LabelName)
	if !saturates(ls) && !strings.HasSuffix(name, "_used_ratio") && name != "node_disk_ratio" && name != "memory_limit_ratio" && name != "node_memory_ratio" {
		return false
	}
	// CPU comes and goes; it does not fill up.
	return (ls.Get(event.LabelUnit) == "1" || strings.HasSuffix(name, "_ratio")) && !strings.Contains(name, "cpu") && !strings.Contains(name, "thrott")
}

func isExpiry(ls event.Labels) bool {
	name := ls.Get(event.LabelName)
	return strings.HasSuffix(name, "expiry_seconds")
}

// Observe is detector.Detector's.
func (d *forecast) Observe(b event.Batch) (found []event.Anomaly) {
	series(b, func(s event.Series) {
		st, _ := d.at(s.ID)
		st.seen = b.Watermark.UnixMilli()
		var last event.Point
		seen := false
		for _, p := range s.Points {
			if !finite(p.V) || seen && p.T <= last.T {
				continue
			}
			last, seen = p, true
			if isExpiry(s.Labels) {
				continue
			}
			if t, v, ok := st.past.Last(); ok {
				if p.T <= t {
					continue
				}
				if v-p.V > 0.05 {
					st.past.Reset()
				}
			}
			st.past.Add(p.T, p.V, d.cfg.Window.Milliseconds()/360, d.cfg.Window.Milliseconds())
		}
		if !seen {
			return
		}
		var a event.Anomaly
		var ok bool
		if isExpiry(s.Labels) {
			a, ok = d.expiry(s, last, b.Watermark)
		} else {
			a, ok = d.full(s, st, last, b.Watermark)
		}
		if !ok {
			st.odd = 0
			return
		}
		if st.odd == 0 {
			st.odd = last.T
		}
		a.Onset = time.UnixMilli(st.odd).UTC()
		found = append(found, a)
	})
	d.sweep(b.Watermark)
	return found
}

// full asks when a share reaches 1.
func (d *forecast) full(s event.Series, st *trendState, last event.Point, at time.Time) (event.Anomaly, bool) {
	if last.V < d.cfg.Floor || last.V > 1.5 {
		return event.Anomaly{}, false
	}
	ts, vs := st.past.Append(make([]int64, 0, 64), make([]float64, 0, 64))
	n := len(ts)
	if n < 10 || ts[n-1]-ts[0] < d.cfg.History.Milliseconds() {
		return event.Anomaly{}, false
	}
	line, ok := stat.Fit(ts, vs, last.T)
	if !ok || line.Slope <= 0 {
		return event.Anomaly{}, false
	}
	// Residuals of a series of use depend on each other; their number counts a
	// quarter.
	line.SlopeErr *= 2
	best, early, late, ok := line.TimeTo(1, 1.96)
	if !ok || best > d.cfg.Warn.Seconds() {
		return event.Anomaly{}, false
	}
	p := 1e-12
	if line.SlopeErr > 0 {
		p = stat.Prob(2 * stat.NormalTail(line.Slope/line.SlopeErr))
	}
	if p > 1e-4 {
		return event.Anomaly{}, false
	}
	// A line that one jump has bent is no trend, nor is one that has ended.
	robust, ok := stat.TheilSen(ts, vs)
	recent, also := stat.TheilSen(ts[2*n/3:], vs[2*n/3:])
	if !ok || !also || robust < line.Slope/3 || robust > line.Slope*3 || recent < line.Slope/3 {
		return event.Anomaly{}, false
	}
	a := observation(s, at)
	a.Class, a.Severity = event.ClassSaturation, event.Warning
	if best <= d.cfg.Urgent.Seconds() {
		a.Class, a.Severity = event.ClassSymptom, event.Critical
	}
	a.Observed, a.TailProb, a.Unit = last.V, max(p, 1e-12), "1"
	a.Expected = &event.Interval{Low: 0, High: 1}
	a.Summary = fmt.Sprintf("%s at %.1f %%, full in %s (%s - %s)", a.Signal, 100*last.V, span(best), span(early), span(late))
	a.Explanation = fmt.Sprintf("line through %d points of %s: %+.2f %% of the limit an hour, residual %.2f %%", st.past.Points(),
		span(float64(ts[n-1]-ts[0])/1000), 360_000*line.Slope, 100*line.Residual)
	if len(a.Evidence) > 0 {
		q := a.Evidence[0].Query
		a.Evidence = append(a.Evidence, event.EvidenceRef{
			Source: "prometheus", Start: at.Add(-d.cfg.Window), End: at,
			Query: fmt.Sprintf("predict_linear(%s[%s], %d)", q, short(d.cfg.Window), int(math.Min(best, 1e7))),
		})
	}
	return a, true
}

// expiry asks when a time to live is over; it passes a second a second.
func (d *forecast) expiry(s event.Series, last event.Point, at time.Time) (event.Anomaly, bool) {
	if last.V > d.cfg.CertWarn.Seconds() {
		return event.Anomaly{}, false
	}
	a := observation(s, at)
	a.Class, a.Severity = event.ClassSaturation, event.Warning
	if last.V <= d.cfg.CertUrgent.Seconds() {
		a.Class, a.Severity = event.ClassSymptom, event.Critical
	}
	a.Observed, a.TailProb, a.Unit = last.V, 1e-6, "s"
	a.Expected = &event.Interval{Low: d.cfg.CertWarn.Seconds(), High: math.MaxFloat64}
	a.Summary = "certificate expires in " + span(last.V)
	if last.V <= 0 {
		a.Summary = "certificate expired " + span(-last.V) + " ago"
	}
	a.Explanation = fmt.Sprintf("warned from %s, urgent from %s before", span(d.cfg.CertWarn.Seconds()), span(d.cfg.CertUrgent.Seconds()))
	return a, true
}
