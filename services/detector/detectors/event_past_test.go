package detectors_test

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
)

// TestWhatIsPastAtAFirstListingIsLearntFromOnly has one event of four minutes ago.
func TestWhatIsPastAtAFirstListingIsLearntFromOnly(t *testing.T) {
	start := time.Date(2026, 11, 24, 16, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		past  bool
		again bool // it happens three times more after the start
		want  int  // occurrences that are told at the end; 0 for no anomaly
	}{
		"what may be so still is told":            {false, false, 9},
		"what is past is not":                     {true, false, 0},
		"what is past and comes again is told of": {true, true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			info, _ := detector.Builtin.Lookup("event_surge")
			d, err := info.New(info.Default(), detector.Settings{})
			if err != nil {
				t.Fatal(err)
			}
			e := event.KubeEvent{
				Metadata: event.KubeMeta{UID: "u1", Namespace: "shop", Name: "web-1.17"}, InvolvedObject: event.KubeRef{Kind: "Pod", Namespace: "shop", Name: "web-1"},
				Reason: "BackOff", Type: "Warning", Message: "Back-off restarting failed container app in pod web-1", Count: 9,
				FirstTimestamp: start.Add(-6 * time.Minute), LastTimestamp: start.Add(-4 * time.Minute), Past: c.past,
			}
			found := d.Observe(event.Batch{Watermark: start, Events: []event.KubeEvent{e}})
			if c.again {
				e.Count, e.LastTimestamp, e.Past = 12, start.Add(time.Minute), false
				found = d.Observe(event.Batch{Watermark: start.Add(time.Minute), Events: []event.KubeEvent{e}})
			}
			switch {
			case c.want == 0 && len(found) > 0:
				t.Errorf("%s, want nothing", found[0].Summary)
			case c.want > 0 && (len(found) != 1 || found[0].Observed != float64(c.want)):
				t.Errorf("%+v, want BackOff x%d", found, c.want)
			}
		})
	}
}
