package detectors

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/services/detector"
)

// FlatlineConfig is the `detector.flatline:` section of the configuration file.
type FlatlineConfig struct {
	// MissingFor is how long a series that always came must be missing.
	// Default: 10m.
	MissingFor time.Duration `yaml:"missing_for"`
	// FlatFor is how long a series that always moved must stand still.
	// Default: 15m.
	FlatFor time.Duration `yaml:"flat_for"`
	// WarmUp is how long a series must have come before its absence means
	// anything. Default: 2h.
	WarmUp time.Duration `yaml:"warm_up"`
}

// Validate checks the ranges.
func (c FlatlineConfig) Validate() error {
	return errors.Join(
		between("missing_for", c.MissingFor.Minutes(), 1, 24*60, 10),
		between("flat_for", c.FlatFor.Minutes(), 1, 24*60, 15),
		between("warm_up", c.WarmUp.Minutes(), 10, 7*24*60, 120),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "flatline", Input: detector.Metrics, Class: event.ClassAmbient, Hold: 2 * time.Minute,
			Doc: "A series that always came and is missing, or always moved and stands still; never while its source cannot be read.",
		},
		FlatlineConfig{MissingFor: 10 * time.Minute, FlatFor: 15 * time.Minute, WarmUp: 2 * time.Hour},
		func(c FlatlineConfig, _ detector.Settings) (detector.Detector, error) {
			return &flatline{cfg: c}, nil
		}))
}

// flatline looks at workload and node series only: a pod that goes takes its
// series with it, and that is no news.
type flatline struct {
	cfg FlatlineConfig
	table[flatState, *flatState]
}

type flatState struct {
	step
	labels  event.Labels
	first   int64
	value   float64
	since   int64     // when it last moved
	longest stat.Mean // of the standstills before, milliseconds
	moves   int64
	absent  int64 // milliseconds it has been missing, blind time left out
	told    bool  // missing was said; it is said once, and forgotten after an hour
}

// Last is when a value came last, in milliseconds.
func (s *flatState) Last() int64 { return s.last }

// Write writes the state.
func (s *flatState) Write(w *snapshot.Writer) {
	s.step.write(w)
	w.Uint(uint64(len(s.labels)))
	for _, l := range s.labels {
		w.String(l.Name)
		w.String(l.Value)
	}
	w.Int(s.first)
	w.Float(s.value)
	w.Int(s.since)
	s.longest.Write(w)
	w.Int(s.moves)
	w.Int(s.absent)
	w.Bool(s.told)
}

// Read reads the state.
func (s *flatState) Read(r *snapshot.Reader) {
	s.step.read(r)
	s.labels = nil
	for range r.Len() {
		s.labels = append(s.labels, event.Label{Name: r.String(), Value: r.String()})
	}
	s.first, s.value, s.since = r.Int(), r.Float(), r.Int()
	s.longest.Read(r)
	s.moves, s.absent, s.told = r.Int(), r.Int(), r.Bool()
}

// Selects is detector.Selector's.
func (d *flatline) Selects(ls event.Labels) bool {
	return ls.Get(event.LabelPod) == "" && ls.Get(event.LabelContainer) == "" && ls.Get(event.LabelName) != ""
}

// Observe is detector.Detector's.
func (d *flatline) Observe(b event.Batch) (found []event.Anomaly) {
	here := map[uint64]bool{}
	series(b, func(s event.Series) {
		here[s.ID] = true
		st, known := d.at(s.ID)
		if !known {
			st.labels = slices.Clone(s.Labels) // a batch shares one block
		}
		st.absent, st.told = 0, false
		for _, p := range s.Points {
			if !finite(p.V) || !st.next(p.T) {
				continue
			}
			if st.first == 0 {
				st.first, st.since, st.value = p.T, p.T, p.V
				continue
			}
			if p.V != st.value {
				st.longest.Add(float64(p.T-st.since), 200)
				st.value, st.since = p.V, p.T
				st.moves++
			}
		}
		if a, ok := d.flat(s, st, b.Watermark); ok {
			found = append(found, a)
		}
	})
	if !b.Previous.IsZero() && b.Skipped == 0 {
		found = append(found, d.missing(b, here)...)
	}
	d.sweep(b.Watermark)
	return found
}

// flat says whether a series stands still that moved at nearly every step.
func (d *flatline) flat(s event.Series, st *flatState, at time.Time) (event.Anomaly, bool) {
	still := st.last - st.since
	if st.last-st.first < d.cfg.WarmUp.Milliseconds() || st.moves < 100 || still < d.cfg.FlatFor.Milliseconds() {
		return event.Anomaly{}, false
	}
	// The standstills before were about geometric with their mean; stating it
	// that way errs towards silence for series that rest at times.
	usual := max(st.longest.M, st.gap)
	if usual > 2*st.gap || float64(still) < 14*usual {
		return event.Anomaly{}, false
	}
	a := observation(s, at)
	a.Class, a.Severity, a.Observed = classOf(s.Labels, event.ClassAmbient), event.Info, st.value
	a.TailProb = stat.Prob(expNeg(float64(still) / usual))
	a.Onset = time.UnixMilli(st.since).UTC()
	a.Summary = fmt.Sprintf("%s stands still at %s for %s, though it used to move at each step", a.Signal, number(st.value, a.Unit), span(float64(still)/1000))
	return a, true
}

// missing finds the series that came for long and do not come now.
func (d *flatline) missing(b event.Batch, here map[uint64]bool) (found []event.Anomaly) {
	passed := b.Watermark.Sub(b.Previous).Milliseconds()
	for id, st := range d.rows.All() {
		if here[id] || st.told || blind(b.Blind, st.labels) || st.last-st.first < d.cfg.WarmUp.Milliseconds() {
			continue
		}
		st.absent += passed
		if st.absent < d.cfg.MissingFor.Milliseconds() || float64(st.absent) < 5*st.gap {
			continue
		}
		if st.absent > int64(time.Hour/time.Millisecond) {
			st.told = true // what is gone for an hour is gone
			continue
		}
		a := observation(event.Series{ID: id, Labels: st.labels}, b.Watermark)
		a.Class, a.Severity, a.Observed = event.ClassAmbient, event.Info, 0
		a.TailProb = 1e-4
		a.Onset = time.UnixMilli(st.last).UTC()
		a.Summary = fmt.Sprintf("%s is missing since %s; before, it came every %s", a.Signal, a.Onset.Format("15:04"), span(st.gap/1000))
		found = append(found, a)
	}
	return found
}

// blind says whether the source of a series may be one that cannot be read.
func blind(all []event.Blindness, ls event.Labels) bool {
	source := ls.Get(event.LabelSource)
	for _, b := range all {
		if b.Source == "" || source == "" || b.Source == source {
			return true
		}
	}
	return false
}
