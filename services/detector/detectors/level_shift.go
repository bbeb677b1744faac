package detectors

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncall-copilot/oncall/pkg/baseline"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
)

// LevelShiftConfig is the `detector.level_shift:` section of the configuration file.
type LevelShiftConfig struct {
	// Window is how long a level must hold to count as one. Default: 10m.
	Window time.Duration `yaml:"window"`
	// FalsePerDay is how many false observations a day of one series are
	// accepted. Default: 0.02.
	FalsePerDay float64 `yaml:"false_per_day"`
	// MinChange is the least relative change of the level, a ratio. Default: 0.2.
	MinChange float64 `yaml:"min_change"`
	// WarmUp is how long a series is only learnt from, at least: before so many
	// samples that false_per_day can be judged, three hours of steps of 30 s,
	// nothing is said either. Default: 1h.
	WarmUp time.Duration `yaml:"warm_up"`
	// Settle is how long a new level is odd before it is the usual one. Default: 1h.
	Settle time.Duration `yaml:"settle"`
}

// Validate checks the ranges.
func (c LevelShiftConfig) Validate() error {
	return errors.Join(
		between("window", c.Window.Minutes(), 1, 24*60, 10),
		between("false_per_day", c.FalsePerDay, 1e-6, 100, 0.02),
		between("min_change", c.MinChange, 0, 100, 0.2),
		between("warm_up", c.WarmUp.Minutes(), 10, 7*24*60, 60),
		between("settle", c.Settle.Minutes(), 5, 7*24*60, 60),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "level_shift", Input: detector.Metrics, Class: event.ClassAmbient, Hold: 5 * time.Minute, Version: 1,
			Doc: "A series that stays away from its usual level, or from that of the hour where the hour is worth knowing, however noisy it is.",
		},
		LevelShiftConfig{Window: 10 * time.Minute, FalsePerDay: 0.02, MinChange: 0.2, WarmUp: time.Hour, Settle: time.Hour},
		func(c LevelShiftConfig, _ detector.Settings) (detector.Detector, error) {
			return &levelShift{rules: baseline.Rules(c)}, nil
		}))
}

// levelShift runs [baseline.Level] over each series.
type levelShift struct {
	rules baseline.Rules
	table[baseline.Level, *baseline.Level]
}

// Observe is detector.Detector's.
func (d *levelShift) Observe(b event.Batch) (found []event.Anomaly) {
	series(b, func(s event.Series) {
		var last baseline.Shift
		for _, p := range s.Points {
			if finite(p.V) {
				st, _ := d.at(s.ID)
				last = st.Observe(p.T, p.V, &d.rules)
			}
		}
		if last.Away {
			found = append(found, d.anomaly(s, b.Watermark, last))
		}
	})
	d.sweep(b.Watermark)
	return found
}

func (d *levelShift) anomaly(s event.Series, at time.Time, v baseline.Shift) event.Anomaly {
	a := observation(s, at)
	a.Class = classOf(s.Labels, event.ClassAmbient)
	a.Severity, a.TailProb, a.Observed = severityOf(v.TailProb), v.TailProb, v.Recent
	a.Expected = &event.Interval{Low: v.Low, High: v.High}
	a.Onset = time.UnixMilli(v.Onset).UTC()
	unit := unitOf(a.Signal, a.Unit)
	a.Summary = fmt.Sprintf("%s moved from about %s to about %s", a.Signal, number(v.Expected, unit), number(v.Recent, unit))
	level := "usual level"
	if v.AtHour {
		level = "level of this hour"
		a.Summary = fmt.Sprintf("%s about %s, usually about %s at this hour", a.Signal, number(v.Recent, unit), number(v.Expected, unit))
	}
	a.Explanation = fmt.Sprintf("mean of the last %s lies %.1f clipped sigmas from the %s; tail probability %.1e, alarm below %.1e",
		d.rules.Window, v.Drift, level, v.TailProb, v.Limit)
	return a
}
