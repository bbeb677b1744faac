package detectors

import (
	"errors"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/services/detector"
)

// ChangeConfig is the `detector.change:` section of the configuration file.
type ChangeConfig struct {
	// For is how long a change counts as recent. Default: 15m.
	For time.Duration `yaml:"for"`
}

// Validate checks the range.
func (c ChangeConfig) Validate() error {
	return errors.Join(between("for", c.For.Minutes(), 1, 24*60, 15))
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "change", Input: detector.Events, Class: event.ClassCause, Hold: time.Second,
			Doc: "A rollout, scaling, configuration, node or autoscaler change, as an anomaly of severity info that others can be related to.",
		},
		ChangeConfig{For: 15 * time.Minute},
		func(c ChangeConfig, _ detector.Settings) (detector.Detector, error) {
			return &change{cfg: c, recent: map[uint64]event.Change{}}, nil
		}))
}

// change states facts: a change is there from when it was made until it no
// longer counts as recent.
type change struct {
	cfg    ChangeConfig
	recent map[uint64]event.Change
}

// maxChanges bounds the recent changes of a partition.
const maxChanges = 5000

// Observe is detector.Detector's.
func (d *change) Observe(b event.Batch) (found []event.Anomaly) {
	for _, c := range b.Changes {
		if c.Entity.Kind == "" || c.Entity.Name == "" || len(d.recent) >= maxChanges || b.Watermark.Sub(c.Time) > d.cfg.For {
			continue
		}
		d.recent[event.HashStrings("change", string(c.Kind), c.Entity.String(), c.Revision)] = c
	}
	for _, key := range sortedKeys(d.recent) {
		c := d.recent[key]
		if b.Watermark.Sub(c.Time) > d.cfg.For {
			delete(d.recent, key)
			continue
		}
		a := event.Anomaly{
			Series: event.SeriesHash(key), Entity: c.Entity, Signal: string(c.Kind), Class: event.ClassCause, Severity: event.Info,
			Onset: c.Time, Observed: 1, TailProb: 1e-6, Summary: clip(string(c.Kind)+": "+c.Summary, 300),
			Explanation: "a fact, not a statistic: the change is recent for " + short(d.cfg.For),
			Labels:      map[string]string{"change": string(c.Kind), "revision": c.Revision},
			Evidence:    []event.EvidenceRef{{Source: "kubernetes", Query: objectQuery(c.Entity), End: b.Watermark}},
		}
		for _, f := range c.Fields {
			if len(a.Evidence[0].Excerpt) < 10 {
				a.Evidence[0].Excerpt = append(a.Evidence[0].Excerpt, clip(f.Path+": "+f.From+" -> "+f.To, 200))
			}
		}
		if c.Actor != "" {
			a.Labels["actor"] = c.Actor
		}
		found = append(found, a)
	}
	return found
}

// Tested is detector.Tester's: facts are no hypotheses.
func (d *change) Tested() int64 { return 0 }

// MarshalBinary writes the state.
func (d *change) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	w.Uint(uint64(len(d.recent)))
	for _, key := range sortedKeys(d.recent) {
		c := d.recent[key]
		w.Fixed(key)
		w.String(string(c.Kind))
		writeEntity(w, c.Entity)
		w.Time(c.Time)
		w.String(c.Summary)
		w.String(c.Revision)
		w.String(c.Actor)
		w.Uint(uint64(len(c.Fields)))
		for _, f := range c.Fields {
			w.String(f.Path)
			w.String(f.From)
			w.String(f.To)
		}
	}
	return w.Data(), nil
}

// UnmarshalBinary reads it back.
func (d *change) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	d.recent = map[uint64]event.Change{}
	for range r.Len() {
		key := r.Fixed()
		c := event.Change{Kind: event.ChangeKind(r.String()), Entity: readEntity(r), Time: r.Time(), Summary: r.String(), Revision: r.String(), Actor: r.String()}
		for range r.Len() {
			c.Fields = append(c.Fields, event.FieldChange{Path: r.String(), From: r.String(), To: r.String()})
		}
		if r.Err() != nil {
			return r.Err()
		}
		d.recent[key] = c
	}
	return r.Close()
}
