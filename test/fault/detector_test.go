//go:build e2e

package fault

import (
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
)

// panicking is a detector that finds nothing and panics in one partition, in
// the middle of the history.
func panicking() detector.Info {
	return detector.Define(
		detector.Meta{Name: "fault_panics", Input: detector.Metrics, Class: event.ClassAmbient, Doc: "Panics, for the tests of this package."},
		struct{}{},
		func(struct{}, detector.Settings) (detector.Detector, error) { return panics{}, nil })
}

type panics struct{}

func (panics) Observe(b event.Batch) []event.Anomaly {
	if b.Partition == event.Partition("shop", "web") && b.Watermark.Minute()%10 == 5 {
		panic("the detector cannot bear this minute")
	}
	return nil
}

func (panics) MarshalBinary() ([]byte, error) { return nil, nil }
func (panics) UnmarshalBinary(b []byte) error { return nil }
