package detectors

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/services/detector"
)

// AvailabilityConfig is the `detector.availability:` section of the configuration file.
type AvailabilityConfig struct {
	// For is how long a workload must be below its minimum, so that a normal
	// rollout says nothing; moments in which it comes back, as in a crash loop, do
	// not start the time again unless they last as long. Default: 3m.
	For time.Duration `yaml:"for"`
	// Minimum is the share of the wanted replicas that must be ready; below it,
	// users feel it. A ratio. Default: 0.5.
	Minimum float64 `yaml:"minimum"`
	// DegradedFor is how long some replicas, or a node, may be missing before it
	// is worth a warning. Default: 10m.
	DegradedFor time.Duration `yaml:"degraded_for"`
}

// Validate checks the ranges.
func (c AvailabilityConfig) Validate() error {
	return errors.Join(
		between("for", c.For.Minutes(), 0, 24*60, 3),
		between("minimum", c.Minimum, 0, 1, 0.5),
		between("degraded_for", c.DegradedFor.Minutes(), 0, 24*60, 10),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "availability", Input: detector.Metrics, Class: event.ClassSymptom, Always: true, Hold: time.Minute, Reads: []string{signalDesired, signalReady},
			Doc: "A workload with fewer ready replicas than its minimum, or a node that is not ready, from kube-state signals.",
		},
		AvailabilityConfig{For: 3 * time.Minute, Minimum: 0.5, DegradedFor: 10 * time.Minute},
		func(c AvailabilityConfig, _ detector.Settings) (detector.Detector, error) {
			return &availability{cfg: c}, nil
		}))
}

// The signals it reads.
const (
	signalDesired = "replicas_desired"
	signalReady   = "replicas_ready"
	signalNode    = "node_ready"
)

type availability struct {
	cfg AvailabilityConfig
	table[readyState, *readyState]
	tested int64
}

type readyState struct {
	desired, ready float64
	seen           int64 // when any value came last
	at             int64 // of the newest value
	below          int64 // since when below the minimum, with moments of being back
	down           int64 // milliseconds of that in which it was below
	back           int64 // since when it is back; 0 while it is below
	short          int64 // since when not all are ready
	wasUp          bool  // it was at its minimum once: what never worked is not an outage
}

// Last is when a value came last, in milliseconds.
func (s *readyState) Last() int64 { return s.seen }

// Write writes the state.
func (s *readyState) Write(w *snapshot.Writer) {
	w.Int(s.seen)
	w.Float(s.desired)
	w.Float(s.ready)
	w.Int(s.at)
	w.Int(s.below)
	w.Int(s.down)
	w.Int(s.back)
	w.Int(s.short)
	w.Bool(s.wasUp)
}

// Read reads the state.
func (s *readyState) Read(r *snapshot.Reader) {
	*s = readyState{seen: r.Int(), desired: r.Float(), ready: r.Float(), at: r.Int(), below: r.Int(), down: r.Int(), back: r.Int(), short: r.Int(), wasUp: r.Bool()}
}

// Selects is detector.Selector's.
func (d *availability) Selects(ls event.Labels) bool {
	return slices.Contains([]string{signalDesired, signalReady, signalNode}, ls.Get(event.LabelName))
}

// Tested is detector.Tester's.
func (d *availability) Tested() int64 {
	n := d.tested
	d.tested = 0
	return n
}

// Observe is detector.Detector's.
func (d *availability) Observe(b event.Batch) (found []event.Anomaly) {
	labels := map[uint64]event.Labels{}
	var order []uint64
	// Desired before ready: both of one step belong together.
	for _, want := range []string{signalNode, signalDesired, signalReady} {
		series(b, func(s event.Series) {
			if s.Labels.Get(event.LabelName) != want {
				return
			}
			key := event.HashStrings("availability", s.Labels.Entity().String(), s.Labels.Get(event.LabelSource))
			if _, ok := labels[key]; !ok {
				order = append(order, key)
			}
			labels[key] = s.Labels
			for _, p := range s.Points {
				if !finite(p.V) {
					continue
				}
				st, _ := d.at(key)
				st.seen = p.T
				switch want {
				case signalDesired:
					st.desired = p.V
				case signalReady:
					st.ready = p.V
					d.fold(st, p.T)
				case signalNode:
					st.desired, st.ready = 1, p.V
					d.fold(st, p.T)
				}
			}
		})
	}
	for _, key := range order {
		if a, ok := d.judge(key, labels[key], b.Watermark); ok {
			found = append(found, a)
		}
	}
	d.sweep(b.Watermark)
	return found
}

// fold notes since when replicas are missing.
func (d *availability) fold(st *readyState, t int64) {
	if t < st.at {
		return
	}
	passed := t - st.at
	st.at = t
	if st.desired <= 0 || st.ready >= st.desired {
		st.short = 0
	} else if st.short == 0 {
		st.short = t
	}
	switch {
	case st.desired > 0 && (st.ready < st.desired*d.cfg.Minimum || st.ready <= 0):
		switch {
		case st.below == 0:
			st.below = t
		case st.back == 0:
			st.down += passed
		}
		st.back = 0
	case st.desired <= 0:
		st.below, st.down, st.back = 0, 0, 0
	default:
		st.wasUp = true
		if st.below != 0 && st.back == 0 {
			st.back = t
			st.down += passed
		}
		if st.below != 0 && t-st.back >= d.cfg.For.Milliseconds() {
			st.below, st.down, st.back = 0, 0, 0
		}
	}
}

func (d *availability) judge(key uint64, ls event.Labels, at time.Time) (event.Anomaly, bool) {
	st := d.rows.Find(key)
	if st == nil {
		return event.Anomaly{}, false
	}
	d.tested++
	a := event.Anomaly{
		Series: event.SeriesHash(key), Entity: ls.Entity(), Signal: signalReady, Class: event.ClassSymptom, Severity: event.Critical,
		Observed: st.ready, Expected: &event.Interval{Low: st.desired, High: st.desired}, Unit: "{replica}", TailProb: 1e-6,
		Labels: ls.Map(), Evidence: []event.EvidenceRef{promQL(ls, at)},
	}
	e := a.Entity
	if e.Kind == "Node" {
		a.Signal, a.Unit = signalNode, "1"
	}
	if e.Name != "" && e.Kind != "Workload" {
		a.Evidence = append(a.Evidence, event.EvidenceRef{Source: "kubernetes", Query: objectQuery(e), End: at})
	}
	switch {
	case st.below != 0 && st.back == 0 && st.down >= d.cfg.For.Milliseconds():
		a.Onset = time.UnixMilli(st.below).UTC()
		a.Summary = fmt.Sprintf("%g/%g ready for %s", st.ready, st.desired, span(float64(st.at-st.below)/1000))
		if st.at-st.below > st.down {
			a.Summary = fmt.Sprintf("%g/%g ready, and so for %s of the last %s", st.ready, st.desired, span(float64(st.down)/1000), span(float64(st.at-st.below)/1000))
		}
		a.Explanation = fmt.Sprintf("below %g %% of the wanted replicas for longer than %s", 100*d.cfg.Minimum, short(d.cfg.For))
		if e.Kind == "Node" {
			a.Class, a.Severity = event.ClassCause, event.Warning
			a.Summary = fmt.Sprintf("node not ready for %s", span(float64(st.at-st.below)/1000))
		} else if !st.wasUp {
			a.Class, a.Severity = event.ClassCause, event.Warning
			a.Summary += "; it was never up since it is watched"
		}
		return a, true
	case st.short != 0 && st.at-st.short >= d.cfg.DegradedFor.Milliseconds():
		a.Class, a.Severity, a.Onset = event.ClassCause, event.Warning, time.UnixMilli(st.short).UTC()
		a.Summary = fmt.Sprintf("%g/%g ready for %s, above the minimum", st.ready, st.desired, span(float64(st.at-st.short)/1000))
		a.Explanation = fmt.Sprintf("not all replicas ready for longer than %s", short(d.cfg.DegradedFor))
		return a, true
	}
	return event.Anomaly{}, false
}

// objectQuery is how evidence is asked for an object of Kubernetes.
func objectQuery(e event.Entity) string {
	if e.Namespace == "" {
		return "object " + e.Kind + " " + e.Name
	}
	return "object " + e.Kind + " " + e.Namespace + "/" + e.Name
}
