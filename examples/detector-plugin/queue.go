package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/detector"
)

// QueueConfig is the `detector.acme_queue:` section of the configuration file.
type QueueConfig struct {
	// Rises is at how many rises in a row a queue counts as growing. Default: 10.
	Rises int `yaml:"rises"`
}

// Validate checks the range.
func (c QueueConfig) Validate() error {
	if c.Rises >= 2 && c.Rises <= 1000 {
		return nil
	}
	return &policy.FieldError{Path: "rises", Value: c.Rises, Problem: "is not between 2 and 1000", Fix: "write 10"}
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "acme_queue", Input: detector.Metrics, Class: event.ClassSaturation, Hold: 2 * time.Minute,
			Doc: "A queue of Acme's broker that has only grown for a while.",
		},
		QueueConfig{Rises: 10},
		func(c QueueConfig, _ detector.Settings) (detector.Detector, error) {
			return &queue{cfg: c, Series: map[uint64]*depth{}}, nil
		}))
}

// queue is a fold: no clock, no I/O, and JSON is good enough for its state.
type queue struct {
	cfg    QueueConfig
	Series map[uint64]*depth `json:"series"`
}

type depth struct {
	Last  float64 `json:"last"`
	At    int64   `json:"at"`
	Rises int     `json:"rises"`
	Since int64   `json:"since"`
}

// Selects is detector.Selector's.
func (q *queue) Selects(ls event.Labels) bool { return ls.Get(event.LabelName) == "acme_queue_depth" }

// Observe is detector.Detector's.
func (q *queue) Observe(b event.Batch) (found []event.Anomaly) {
	for _, m := range b.Metrics {
		for _, s := range m.Series {
			d := cmp.Or(q.Series[s.ID], &depth{})
			q.Series[s.ID] = d
			for _, p := range s.Points {
				// Only numbers that JSON can hold, and only what is new.
				if p.T <= d.At || !(p.V > -1e15 && p.V < 1e15) {
					continue
				}
				if p.V <= d.Last || d.At == 0 {
					d.Rises, d.Since = 0, p.T
				} else {
					d.Rises++
				}
				d.Last, d.At = p.V, p.T
			}
			if d.Rises < q.cfg.Rises {
				continue
			}
			found = append(found, event.Anomaly{
				Series: event.SeriesHash(s.ID), Entity: s.Labels.Entity(), Signal: "acme_queue_depth", Severity: event.Warning,
				Onset: time.UnixMilli(d.Since).UTC(), Observed: d.Last, TailProb: max(1e-9, 1/float64(uint64(1)<<min(d.Rises, 30))),
				Summary:  fmt.Sprintf("queue grew %d times in a row to %g", d.Rises, d.Last),
				Labels:   s.Labels.Map(),
				Evidence: []event.EvidenceRef{{Source: "prometheus", Query: "acme_queue_depth" + s.Labels.String(), End: b.Watermark}},
			})
		}
	}
	slices.SortFunc(found, func(x, y event.Anomaly) int { return cmp.Compare(x.Series, y.Series) })
	return found
}

// MarshalBinary writes the state; encoding/json sorts the keys of maps.
func (q *queue) MarshalBinary() ([]byte, error) { return json.Marshal(q) }

// UnmarshalBinary reads it back.
func (q *queue) UnmarshalBinary(b []byte) error {
	q.Series = map[uint64]*depth{}
	if err := json.Unmarshal(b, q); err != nil {
		return err
	}
	for id, d := range q.Series {
		if d == nil {
			delete(q.Series, id)
		}
	}
	if q.Series == nil {
		q.Series = map[uint64]*depth{}
	}
	return nil
}

var _ detector.Detector = (*queue)(nil)
