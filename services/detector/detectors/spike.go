package detectors

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/services/detector"
)

// SpikeConfig is the `detector.spike:` section of the configuration file.
type SpikeConfig struct {
	// FalsePerDay is how many false observations a day of one series are
	// accepted; with the series' step it gives the tail probability to alarm at,
	// between 1e-6 and 1e-3. Default: 0.02.
	FalsePerDay float64 `yaml:"false_per_day"`
	// MinChange is the least relative distance from what is expected that is
	// worth a word, a ratio. Default: 0.1.
	MinChange float64 `yaml:"min_change"`
	// WarmUp is how many samples of a series are only learnt from. Default: 150.
	WarmUp int `yaml:"warm_up"`
}

// Validate checks the ranges.
func (c SpikeConfig) Validate() error {
	return errors.Join(
		between("false_per_day", c.FalsePerDay, 1e-6, 100, 0.02),
		between("min_change", c.MinChange, 0, 100, 0.1),
		between("warm_up", float64(c.WarmUp), 30, 100_000, 150),
	)
}

func between(path string, v, low, high, instead float64) error {
	if v >= low && v <= high {
		return nil
	}
	return &policy.FieldError{Path: path, Value: v, Problem: fmt.Sprintf("is not between %g and %g", low, high), Fix: fmt.Sprintf("write %g", instead)}
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "spike", Input: detector.Metrics, Class: event.ClassAmbient, Hold: 2 * time.Minute,
			Doc: "A sample far from the last few and far from the usual level, by how far such samples were before.",
		},
		SpikeConfig{FalsePerDay: 0.02, MinChange: 0.1, WarmUp: 150},
		func(c SpikeConfig, _ detector.Settings) (detector.Detector, error) {
			return &spike{cfg: c, table: newTable[spikeState]()}, nil
		}))
}

// spike looks at a sample in two ways, both calibrated against the series'
// own past: its distance from the mean of the last few (the innovation), and
// the smaller of that and its distance from the habitual level, which is far
// only when both are.
type spike struct {
	cfg SpikeConfig
	table[spikeState, *spikeState]
}

type spikeState struct {
	step
	seen     uint32
	near     stat.Mean  // of the last few values
	innov    stat.Scale // of the innovation
	habit    stat.Scale // of the values
	far      stat.Scale // of the smaller distance
	innovCal stat.Calibration
	farCal   stat.Calibration
	run      int64 // since when it is odd, milliseconds; 0: it is not
}

// Horizons in samples, from a measured recipe.
const (
	nearHorizon  = 6
	innovHorizon = 2000
	habitHorizon = 4000
)

// Write writes the state.
func (s *spikeState) Write(w *snapshot.Writer) {
	s.step.write(w)
	w.Uint(uint64(s.seen))
	s.near.Write(w)
	s.innov.Write(w)
	s.habit.Write(w)
	s.far.Write(w)
	s.innovCal.Write(w)
	s.farCal.Write(w)
	w.Int(s.run)
}

// Read reads the state.
func (s *spikeState) Read(r *snapshot.Reader) {
	s.step.read(r)
	s.seen = uint32(r.Uint())
	s.near.Read(r)
	s.innov.Read(r)
	s.habit.Read(r)
	s.far.Read(r)
	s.innovCal.Read(r)
	s.farCal.Read(r)
	s.run = r.Int()
}

// threshold is the tail probability that an operator's false alarms a day
// mean at a series' step.
func threshold(falsePerDay float64, s *step) float64 {
	if s.gap <= 0 {
		return 1e-6
	}
	return max(1e-6, min(1e-3, falsePerDay*s.gap/86_400_000))
}

// Observe is detector.Detector's.
func (d *spike) Observe(b event.Batch) (found []event.Anomaly) {
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
			prob, view, low, high := st.look(p.V)
			ready := st.seen > uint32(d.cfg.WarmUp)
			limit := threshold(d.cfg.FalsePerDay, &st.step)
			if ready && prob <= limit && far(p.V, low, high, d.cfg.MinChange) {
				if st.run == 0 {
					st.run = p.T
				}
				odd = true
				a = observation(s, b.Watermark)
				a.Class = classOf(s.Labels, event.ClassAmbient)
				a.Severity, a.TailProb, a.Observed = severityOf(prob), prob, p.V
				a.Expected = &event.Interval{Low: low, High: high}
				a.Onset = time.UnixMilli(st.run).UTC()
				a.Summary = fmt.Sprintf("%s %s, expected %s to %s", a.Signal, number(p.V, a.Unit), number(low, a.Unit), number(high, a.Unit))
				a.Explanation = fmt.Sprintf("%s; tail probability %.1e against %d samples of this series, alarm below %.1e", view, prob, st.seen, limit)
			} else {
				st.run, odd = 0, false
			}
		}
		if odd {
			found = append(found, a)
		}
	})
	d.sweep(b.Watermark)
	return found
}

// look scores a value before it is learnt from.
func (s *spikeState) look(x float64) (prob float64, view string, low, high float64) {
	e := x - s.near.M
	h := x - s.habit.M
	q := e
	if abs(h) < abs(e) {
		q = h
	}
	ze, zq := s.innov.Z(e), s.far.Z(q)
	pe, pq := s.innovCal.Prob(ze), s.farCal.Prob(zq)
	prob, view = pe, "far from the last few samples"
	centre, width := s.near.M+s.innov.M, 3*s.innov.Sigma()
	if pq < pe {
		prob, view = pq, "far from the last few samples and from the usual level"
		centre, width = s.habit.M, 3*s.habit.Sigma()
	}
	// Two looks, so the smaller of two probabilities.
	prob = stat.Prob(1 - (1-prob)*(1-prob))
	low, high = centre-width, centre+width
	if s.habit.M >= 0 && low < 0 && x >= 0 {
		low = 0
	}
	if s.seen >= nearHorizon {
		s.innov.Add(e, innovHorizon)
		s.far.Add(q, innovHorizon)
	}
	// A distance is no distance before there is a scale to measure it by, and
	// one such would spoil the tail for thousands of samples.
	if s.seen >= 4*nearHorizon {
		s.innovCal.Add(ze)
		s.farCal.Add(zq)
	}
	s.habit.Add(x, habitHorizon)
	// One wild sample must not make the next one look wild: the mean of the last
	// few follows at most six sigmas at a time.
	if sigma := s.innov.Sigma(); s.seen >= 4*nearHorizon && sigma > 0 {
		x = max(s.near.M-6*sigma, min(s.near.M+6*sigma, x))
	}
	s.near.Add(x, nearHorizon)
	s.seen++
	return prob, view, low, high
}

// far says whether x lies outside an interval by more than a share of the
// larger bound.
func far(x, low, high, share float64) bool {
	scale := share * max(abs(low), abs(high))
	return x > high+scale || x < low-scale
}

func abs(x float64) float64 {
	if x < 0 {
		return -x
	}
	return x
}
