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
	// Deep is how many series are known in full, 3.3 KB each, in all partitions
	// together and in each an equal part of them: what requests feel (latencies,
	// shares of errors, objectives) before anything else, and who came first before
	// who came later. The others are known by 208 bytes, without the hours of the
	// day. Default: 5000.
	Deep int `yaml:"deep"`
}

// Validate checks the ranges.
func (c SpikeConfig) Validate() error {
	return errors.Join(
		between("min_change", c.MinChange, 0, 100, 0.1),
		between("deep", float64(c.Deep), 0, 1_000_000, 5000),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "spike", Input: detector.Metrics, Class: event.ClassAmbient, Hold: 2 * time.Minute, Version: 3,
			Doc: "A sample far from the last few, from the hour's usual or from the usual level, by how far such samples were before.",
		},
		SpikeConfig{MinChange: 0.1, Deep: 5000},
		func(c SpikeConfig, _ detector.Settings) (detector.Detector, error) {
			return &spikes{cfg: c, most: c.Deep / event.Partitions}, nil
		}))
}

var _ detector.Rationer = (*spikes)(nil)

// spikes runs package baseline over each series: a [baseline.Light] over all, and a
// [baseline.Series], as `oncall detect metrics` does over a file, over those for which
// there is room. Which these are depends on what came and on its order alone.
type spikes struct {
	cfg    SpikeConfig
	most   int // series that are known in full
	light  table[lightState, *lightState]
	deep   table[deepState, *deepState]
	turns  uint64 // of coming to deep
	full   bool   // deep is, of what requests feel
	passed int64  // looked at lightly, since Rationed was asked
}

// lightState is what is known of every series.
type lightState struct {
	series baseline.Light
	least  float64 // tail probability since the onset
}

// deepState is what is known of the series for which there is room.
type deepState struct {
	series baseline.Series
	least  float64       // tail probability since the onset
	view   baseline.View // that gave it
	turn   uint64        // when it came
	felt   bool          // by requests
}

// Last is when a value came last, in milliseconds.
func (s *lightState) Last() int64 { return s.series.Last() }

// Last is when a value came last, in milliseconds.
func (s *deepState) Last() int64 { return s.series.Last() }

// Write writes the state.
func (s *lightState) Write(w *snapshot.Writer) { s.series.Write(w); w.Float(s.least) }

// Read reads the state.
func (s *lightState) Read(r *snapshot.Reader) { s.series.Read(r); s.least = r.Float() }

// Write writes the state.
func (s *deepState) Write(w *snapshot.Writer) {
	s.series.Write(w)
	w.Float(s.least)
	w.String(string(s.view))
	w.Uint(s.turn)
	w.Bool(s.felt)
}

// Read reads the state.
func (s *deepState) Read(r *snapshot.Reader) {
	s.series.Read(r)
	s.least, s.view, s.turn, s.felt = r.Float(), baseline.View(r.String()), r.Uint(), r.Bool()
}

// MarshalBinary writes the state.
func (d *spikes) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	w.Uint(d.turns)
	d.light.write(w)
	d.deep.write(w)
	return w.Data(), nil
}

// UnmarshalBinary reads the state.
func (d *spikes) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	d.turns, d.full = r.Uint(), false
	d.light.read(r)
	d.deep.read(r)
	return r.Close()
}

// Rationed is detector.Rationer's.
func (d *spikes) Rationed() int64 {
	n := d.passed
	d.passed = 0
	return n
}

// Observe is detector.Detector's.
func (d *spikes) Observe(b event.Batch) (found []event.Anomaly) {
	crowded := 0
	series(b, func(s event.Series) {
		light, _ := d.light.at(s.ID)
		deep := d.place(s)
		if deep == nil {
			d.passed++
			if felt(s.Labels) {
				crowded++
			}
		}
		var last spike
		for _, p := range s.Points {
			if !finite(p.V) {
				continue
			}
			last = light.observe(p)
			if deep != nil {
				// What got its place late is judged by what was known of it before.
				if v := deep.observe(p); v.Ready || !last.Ready {
					last = v
				}
			}
		}
		if last.Anomaly && far(last.value, last.Low, last.High, d.cfg.MinChange) {
			found = append(found, last.anomaly(s, b.Watermark))
		}
	})
	if crowded > 0 {
		found = append(found, d.crowded(crowded))
	}
	d.light.sweep(b.Watermark)
	d.deep.sweep(b.Watermark)
	return found
}

// felt says whether a series tells what requests feel.
func felt(ls event.Labels) bool {
	return ls.Get(event.LabelSLO) != "" || event.SignalClass(ls.Get(event.LabelClass)) == event.ClassSymptom
}

// place is what is known in full of a series that comes; nil when there is no room.
func (d *spikes) place(s event.Series) *deepState {
	if st := d.deep.rows.Find(s.ID); st != nil {
		return st
	}
	if d.deep.rows.Len() >= d.most && (d.full || !felt(s.Labels) || !d.leave()) {
		return nil
	}
	st, _ := d.deep.at(s.ID)
	d.turns++
	st.turn, st.felt = d.turns, felt(s.Labels)
	d.full = d.full && st.felt
	return st
}

// leave has the one that came last leave, of those that requests do not feel; false
// when there is none.
func (d *spikes) leave() bool {
	last, turn := uint64(0), uint64(0)
	for id, st := range d.deep.rows.All() {
		if !st.felt && st.turn > turn {
			last, turn = id, st.turn
		}
	}
	d.full = turn == 0
	return d.deep.rows.DeleteFunc(func(id uint64, _ *deepState) bool { return !d.full && id == last })
}

// crowded is the notice that what requests feel is known lightly, for want of room.
func (d *spikes) crowded(n int) event.Anomaly {
	return event.Anomaly{
		Series: event.SeriesHash(event.HashStrings("spike", "deep")), Entity: event.Entity{Kind: "Cluster", Name: "cluster"}, Signal: "series",
		Class: event.ClassAmbient, Severity: event.Info, Observed: float64(n), TailProb: 1, Unit: "{series}",
		Summary:     fmt.Sprintf("%d of the latencies, shares of errors and objectives are known lightly: one partition of %d knows %d series in full", n, event.Partitions, d.most),
		Explanation: fmt.Sprintf("detector.spike.deep is %d, for all partitions; a series more is 3.3 KB. What is known lightly is not held against the hour of the day", d.cfg.Deep),
	}
}

// spike is what a sample looks like, and what has to be said of it.
type spike struct {
	baseline.Verdict
	value float64
	least float64 // tail probability since the onset
	view  baseline.View
	n     float64 // samples before it
	hours bool    // it was held against those of the day
}

func (s *lightState) observe(p event.Point) spike {
	v := s.series.Observe(p.T, p.V)
	if !v.Anomaly {
		s.least = 1
	}
	s.least = min(s.least, v.TailProb)
	return spike{
		Verdict: v, value: p.V, least: s.least, view: v.View, n: float64(s.series.Seen()),
	}
}

func (s *deepState) observe(p event.Point) spike {
	v := s.series.Observe(p.T, p.V)
	switch {
	case !v.Anomaly:
		s.least, s.view = 1, ""
	case s.view == "" || v.TailProb < s.least:
		s.least, s.view = v.TailProb, v.View
	}
	return spike{Verdict: v, value: p.V, least: s.least, view: s.view, n: float64(s.series.Seen()), hours: true}
}

// anomaly states the strongest of the samples since the onset: how improbable
// the last one was says little of what has become usual.
func (s *spike) anomaly(of event.Series, at time.Time) event.Anomaly {
	a := observation(of, at)
	a.Class = classOf(of.Labels, event.ClassAmbient)
	a.Severity, a.TailProb, a.Observed = severityOf(s.least), s.least, s.value
	a.Expected = &event.Interval{Low: s.Low, High: s.High}
	a.Onset = time.UnixMilli(s.Onset).UTC()
	unit := unitOf(a.Signal, a.Unit)
	a.Summary = fmt.Sprintf("%s %s, expected %s to %s", a.Signal, number(s.value, unit), number(s.Low, unit), number(s.High, unit))
	a.Explanation = fmt.Sprintf("%s; tail probability %.1e against %.0f samples of this series; now %.1f robust standard deviations from the usual level",
		s.view, s.least, s.n, min(s.Distance, 99))
	if s.hours {
		a.Explanation += fmt.Sprintf(", %.1f from what is usual at this hour", min(s.HourDistance, 99))
	} else {
		a.Explanation += "; known lightly, without the hours of the day"
	}
	return a
}
