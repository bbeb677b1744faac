package pipeline

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// TestARecordingEndsWithTheTickThatReachesItsEnd: one tick ends a stream; where
// each partition still has its own, one ends its partition and no other.
func TestARecordingEndsWithTheTickThatReachesItsEnd(t *testing.T) {
	end := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	seven := 7
	in := func(subject string, data any) bus.Message {
		return bus.Message{Stream: event.Metrics.Name, Attributes: event.Attributes{Subject: subject}, Data: data}
	}
	data7 := in("telemetry.metrics.07.shop", event.MetricBatch{})
	data8 := in("telemetry.metrics.08.shop", event.MetricBatch{})
	for name, c := range map[string]struct {
		tick         bus.Message
		over7, over8 bool
	}{
		"a tick before the end ends nothing": {in("telemetry.metrics.tick", event.Tick{Watermark: end.Add(-time.Second)}), false, false},
		"a tick at the end ends all":         {in("telemetry.metrics.tick", event.Tick{Watermark: end}), true, true},
		"a tick of one partition ends that":  {in("telemetry.metrics.07.tick", event.Tick{Partition: &seven, Watermark: end}), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{to: end, closed: map[string]bool{}}
			if r.over(c.tick) {
				t.Error("the tick itself is left out")
			}
			if r.over(data7) != c.over7 || r.over(data8) != c.over8 {
				t.Errorf("over: %t and %t, want %t and %t", r.over(data7), r.over(data8), c.over7, c.over8)
			}
			if again := r.over(c.tick); again != c.over7 {
				t.Errorf("the same tick again is left out: %t, want %t", again, c.over7)
			}
		})
	}
}
