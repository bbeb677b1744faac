package detectors

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
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
	// WarmUp is how long a series is only learnt from. Default: 1h.
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
			Name: "level_shift", Input: detector.Metrics, Class: event.ClassAmbient, Hold: 5 * time.Minute,
			Doc: "A series that left its usual level and stays away from it, however noisy it is.",
		},
		LevelShiftConfig{Window: 10 * time.Minute, FalsePerDay: 0.02, MinChange: 0.2, WarmUp: time.Hour, Settle: time.Hour},
		func(c LevelShiftConfig, _ detector.Settings) (detector.Detector, error) {
			return &levelShift{cfg: c, table: newTable[shiftState]()}, nil
		}))
}

// levelShift averages clipped distances from the usual level over a window:
// one wild sample moves the average little, a lasting change moves it far. How
// far it moves by chance is learnt from the series itself, which takes care of
// samples that depend on each other. The onset is where a CUSUM of the same
// distances last left zero (Page 1954).
type levelShift struct {
	cfg LevelShiftConfig
	table[shiftState, *shiftState]
}

type shiftState struct {
	step
	first  int64      // of the series, milliseconds
	usual  stat.Scale // the level before
	drift  stat.Mean  // of clipped distances over the window
	recent stat.Mean  // of values over the window
	cal    stat.Calibration
	up     float64 // CUSUM upwards
	upT    int64
	down   float64
	downT  int64
	odd    int64 // since when it is
}

// Write writes the state.
func (s *shiftState) Write(w *snapshot.Writer) {
	s.step.write(w)
	w.Int(s.first)
	s.usual.Write(w)
	s.drift.Write(w)
	s.recent.Write(w)
	s.cal.Write(w)
	w.Float(s.up)
	w.Int(s.upT)
	w.Float(s.down)
	w.Int(s.downT)
	w.Int(s.odd)
}

// Read reads the state.
func (s *shiftState) Read(r *snapshot.Reader) {
	s.step.read(r)
	s.first = r.Int()
	s.usual.Read(r)
	s.drift.Read(r)
	s.recent.Read(r)
	s.cal.Read(r)
	s.up, s.upT, s.down, s.downT, s.odd = r.Float(), r.Int(), r.Float(), r.Int(), r.Int()
}

// slack is the distance in sigmas that a CUSUM forgives at each sample.
const slack = 0.5

// Observe is detector.Detector's.
func (d *levelShift) Observe(b event.Batch) (found []event.Anomaly) {
	series(b, func(s event.Series) {
		var a event.Anomaly
		odd := false
		for _, p := range s.Points {
			if !finite(p.V) {
				continue
			}
			st, known := d.at(s.ID, p.T)
			if !known {
				st.first = p.T
			}
			if !st.next(p.T) {
				continue
			}
			window := st.count(d.cfg.Window, 4)
			z := max(-4, min(4, st.usual.Z(p.V)))
			st.cusum(p.T, z)
			st.drift.Add(z, window)
			st.recent.Add(p.V, window)
			prob := st.cal.Prob(st.drift.M)
			level, sigma := st.usual.M, st.usual.Sigma()
			st.usual.Add(p.V, st.count(12*time.Hour, 500))
			// Before there is a scale a distance says nothing, and what is odd is no
			// example of what is normal.
			if st.usual.N >= 30 && st.odd == 0 {
				st.cal.Add(st.drift.M)
			}
			limit := threshold(d.cfg.FalsePerDay, &st.step)
			if odd = p.T-st.first >= d.cfg.WarmUp.Milliseconds() && st.usual.N > 3*window && prob <= limit &&
				math.Abs(st.drift.M) > 2 && math.Abs(st.recent.M-level) > d.cfg.MinChange*math.Abs(level); !odd {
				st.odd = 0
				continue
			}
			if st.odd == 0 {
				st.odd = p.T
			}
			if p.T-st.odd >= d.cfg.Settle.Milliseconds() {
				// What has stayed for so long is the new normal.
				st.usual.M, st.drift, st.up, st.down, st.odd, odd = st.recent.M, stat.Mean{}, 0, 0, 0, false
				continue
			}
			a = observation(s, b.Watermark)
			a.Class = classOf(s.Labels, event.ClassAmbient)
			a.Severity, a.TailProb, a.Observed = severityOf(prob), prob, st.recent.M
			a.Expected = &event.Interval{Low: level - 3*sigma, High: level + 3*sigma}
			a.Onset = time.UnixMilli(st.onset()).UTC()
			a.Summary = fmt.Sprintf("%s moved from about %s to about %s", a.Signal, number(level, a.Unit), number(st.recent.M, a.Unit))
			a.Explanation = fmt.Sprintf("mean of the last %s lies %.1f clipped sigmas away; tail probability %.1e, alarm below %.1e", d.cfg.Window, st.drift.M, prob, limit)
		}
		if odd {
			found = append(found, a)
		}
	})
	d.sweep(b.Watermark)
	return found
}

func (s *shiftState) cusum(t int64, z float64) {
	if s.up = max(0, s.up+z-slack); s.up == 0 || s.upT == 0 {
		s.upT = t
	}
	if s.down = max(0, s.down-z-slack); s.down == 0 || s.downT == 0 {
		s.downT = t
	}
}

func (s *shiftState) onset() int64 {
	if s.drift.M > 0 {
		return s.upT
	}
	return s.downT
}
