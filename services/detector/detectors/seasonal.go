package detectors

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/services/detector"
)

// SeasonalConfig is the `detector.seasonal:` section of the configuration file.
type SeasonalConfig struct {
	// FalsePerDay is how many false observations a day of one series are
	// accepted. Default: 0.02.
	FalsePerDay float64 `yaml:"false_per_day"`
	// MinChange is the least relative distance from the forecast, a ratio. Default: 0.2.
	MinChange float64 `yaml:"min_change"`
	// For is how long it must last, so that a single sample is the
	// spike detector's. Default: 5m.
	For time.Duration `yaml:"for"`
}

// Validate checks the ranges.
func (c SeasonalConfig) Validate() error {
	return errors.Join(
		between("false_per_day", c.FalsePerDay, 1e-6, 100, 0.02),
		between("min_change", c.MinChange, 0, 100, 0.2),
		between("for", c.For.Minutes(), 0, 24*60, 5),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "seasonal", Input: detector.Metrics, Class: event.ClassAmbient, Hold: 5 * time.Minute,
			Doc: "A series that is not what it usually is at this hour (Holt-Winters over the day), where the hour is worth knowing.",
		},
		SeasonalConfig{FalsePerDay: 0.02, MinChange: 0.2, For: 5 * time.Minute},
		func(c SeasonalConfig, _ detector.Settings) (detector.Detector, error) {
			return &seasonal{cfg: c, table: newTable[seasonState]()}, nil
		}))
}

// seasonal compares a series with Holt-Winters' forecast for the hour. It
// speaks only where the season has earned it: where it forecast the last days
// clearly better than the hour before did.
type seasonal struct {
	cfg SeasonalConfig
	table[seasonState, *seasonState]
}

type seasonState struct {
	step
	season stat.Season
	mean   stat.Mean // of residuals over a few minutes
	scale  stat.Scale
	cal    stat.Calibration
	run    int64
}

// Write writes the state.
func (s *seasonState) Write(w *snapshot.Writer) {
	s.step.write(w)
	s.season.Write(w)
	s.mean.Write(w)
	s.scale.Write(w)
	s.cal.Write(w)
	w.Int(s.run)
}

// Read reads the state.
func (s *seasonState) Read(r *snapshot.Reader) {
	s.step.read(r)
	s.season.Read(r)
	s.mean.Read(r)
	s.scale.Read(r)
	s.cal.Read(r)
	s.run = r.Int()
}

// Observe is detector.Detector's.
func (d *seasonal) Observe(b event.Batch) (found []event.Anomaly) {
	series(b, func(s event.Series) {
		var a event.Anomaly
		odd := false
		for _, p := range s.Points {
			if !finite(p.V) {
				continue
			}
			st, _ := d.at(s.ID, p.T)
			if !st.next(p.T) {
				continue
			}
			expected, ok := st.season.Forecast(p.T)
			if !ok {
				st.season.Add(p.T, p.V)
				continue
			}
			st.mean.Add(p.V-expected, st.count(5*time.Minute, 3))
			z := st.scale.Z(st.mean.M)
			prob, sigma := st.cal.Prob(z), st.scale.Sigma()
			if st.scale.N >= 30 {
				st.cal.Add(z)
			}
			st.scale.Add(st.mean.M, st.count(24*time.Hour, 500))
			st.season.Add(p.T, p.V)
			limit := threshold(d.cfg.FalsePerDay, &st.step)
			low, high := expected-3*sigma, expected+3*sigma
			if !st.season.Earned() || prob > limit || !far(p.V, low, high, d.cfg.MinChange) {
				st.run, odd = 0, false
				continue
			}
			if st.run == 0 {
				st.run = p.T
			}
			if odd = p.T-st.run >= d.cfg.For.Milliseconds(); !odd {
				continue
			}
			a = observation(s, b.Watermark)
			a.Class = classOf(s.Labels, event.ClassAmbient)
			a.Severity, a.TailProb, a.Observed = severityOf(prob), prob, p.V
			a.Expected = &event.Interval{Low: low, High: high}
			a.Onset = time.UnixMilli(st.run).UTC()
			a.Summary = fmt.Sprintf("%s %s, usually about %s at this hour", a.Signal, number(p.V, a.Unit), number(expected, a.Unit))
			a.Explanation = fmt.Sprintf("Holt-Winters over %d hours; tail probability %.1e, alarm below %.1e", st.season.Hours, prob, limit)
		}
		if odd {
			found = append(found, a)
		}
	})
	d.sweep(b.Watermark)
	return found
}
