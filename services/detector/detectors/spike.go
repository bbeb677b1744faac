package detectors

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncall-copilot/oncall/pkg/baseline"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/services/detector"
)

// SpikeConfig is the `detector.spike:` section of the configuration file.
type SpikeConfig struct {
	// MinChange is the least relative distance from what is expected that is
	// worth a word, a ratio. Default: 0.1.
	MinChange float64 `yaml:"min_change"`
}

// Validate checks the ranges.
func (c SpikeConfig) Validate() error {
	return errors.Join(between("min_change", c.MinChange, 0, 100, 0.1))
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "spike", Input: detector.Metrics, Class: event.ClassAmbient, Hold: 2 * time.Minute,
			Doc: "A sample far from the last few, from the hour's usual or from the usual level, by how far such samples were before.",
		},
		SpikeConfig{MinChange: 0.1},
		func(c SpikeConfig, _ detector.Settings) (detector.Detector, error) {
			return &spikes{cfg: c}, nil
		}))
}

// spikes runs package baseline over each series, as `oncall detect metrics`
// does over a file.
type spikes struct {
	cfg SpikeConfig
	table[spikeState, *spikeState]
}

type spikeState struct {
	series baseline.Series
	least  float64       // tail probability since the onset
	view   baseline.View // that gave it
}

// Write writes the state.
func (s *spikeState) Write(w *snapshot.Writer) {
	s.series.Write(w)
	w.Float(s.least)
	w.String(string(s.view))
}

// Read reads the state.
func (s *spikeState) Read(r *snapshot.Reader) {
	s.series.Read(r)
	s.least, s.view = r.Float(), baseline.View(r.String())
}

// Observe is detector.Detector's.
func (d *spikes) Observe(b event.Batch) (found []event.Anomaly) {
	series(b, func(s event.Series) {
		var last baseline.Verdict
		var value float64
		var st *spikeState
		for _, p := range s.Points {
			if finite(p.V) {
				st, _ = d.at(s.ID, p.T)
				last, value = st.observe(p.T, p.V), p.V
			}
		}
		if last.Anomaly && far(value, last.Low, last.High, d.cfg.MinChange) {
			found = append(found, st.anomaly(s, b.Watermark, value, last))
		}
	})
	d.sweep(b.Watermark)
	return found
}

func (s *spikeState) observe(t int64, x float64) baseline.Verdict {
	v := s.series.Observe(t, x)
	switch {
	case !v.Anomaly:
		s.least, s.view = 1, ""
	case s.view == "" || v.TailProb < s.least:
		s.least, s.view = v.TailProb, v.View
	}
	return v
}

// anomaly states the strongest of the samples since the onset: how improbable
// the last one was says little of what has become usual. Of n samples nobody can
// say that something is rarer than one in n².
func (s *spikeState) anomaly(of event.Series, at time.Time, x float64, v baseline.Verdict) event.Anomaly {
	n := float64(s.series.Seen())
	prob := max(s.least, 1/(n*n))
	a := observation(of, at)
	a.Class = classOf(of.Labels, event.ClassAmbient)
	a.Severity, a.TailProb, a.Observed = severityOf(prob), prob, x
	a.Expected = &event.Interval{Low: v.Low, High: v.High}
	a.Onset = time.UnixMilli(v.Onset).UTC()
	a.Summary = fmt.Sprintf("%s %s, expected %s to %s", a.Signal, number(x, a.Unit), number(v.Low, a.Unit), number(v.High, a.Unit))
	a.Explanation = fmt.Sprintf("%s; tail probability %.1e against %.0f samples of this series; now %.1f robust standard deviations from the usual level, %.1f from what is usual at this hour",
		s.view, prob, n, min(v.Distance, 99), min(v.HourDistance, 99))
	return a
}
