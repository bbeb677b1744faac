package detectors

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
)

func TestAConditionOfANodeHasToHold(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	type happened struct {
		after  time.Duration
		kind   string
		reason string
	}
	for name, tc := range map[string]struct {
		events []happened
		want   time.Duration // when it is first odd; 0: never
	}{
		"a kubelet that restarts within seconds is nothing": {[]happened{{0, "Node", "NodeNotReady"}, {4 * time.Second, "Node", "NodeReady"}}, 0},
		"a node that stays away is odd after a minute":      {[]happened{{0, "Node", "NodeNotReady"}}, time.Minute},
		"one that comes back later was odd until then":      {[]happened{{0, "Node", "NodeNotReady"}, {90 * time.Second, "Node", "NodeReady"}}, time.Minute},
		"one that goes away again counts from then": {
			[]happened{{0, "Node", "NodeNotReady"}, {4 * time.Second, "Node", "NodeReady"}, {30 * time.Second, "Node", "NodeNotReady"}}, 90 * time.Second,
		},
		"a pod repeats what its node says":              {[]happened{{0, "Pod", "NodeNotReady"}}, 0},
		"memory that is short for a moment is nothing":  {[]happened{{0, "Node", "NodeHasInsufficientMemory"}, {10 * time.Second, "Node", "NodeHasSufficientMemory"}}, 0},
		"what is no condition of a node is odd at once": {[]happened{{0, "Node", "Rebooted"}}, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			info, _ := detector.Builtin.Lookup("event_surge")
			d, err := info.New(info.Default(), detector.Settings{})
			if err != nil {
				t.Fatal(err)
			}
			var odd []time.Duration
			for after := time.Duration(0); after <= 5*time.Minute; after += 2 * time.Second {
				b := event.Batch{Watermark: start.Add(after)}
				for _, e := range tc.events {
					if e.after > after-2*time.Second && e.after <= after && after > 0 || e.after == 0 && after == 2*time.Second {
						k := event.KubeEvent{Reason: e.reason, Type: "Normal", Count: 1, LastTimestamp: start.Add(e.after), InvolvedObject: event.KubeRef{Kind: e.kind, Name: "node-1"}}
						k.Metadata.UID = e.kind + e.reason + e.after.String()
						b.Events = append(b.Events, k)
					}
				}
				if len(d.Observe(b)) > 0 {
					odd = append(odd, after)
				}
			}
			switch {
			case tc.want == 0 && odd != nil:
				t.Errorf("odd after %v, want never", odd[0])
			case tc.want != 0 && (odd == nil || odd[0] != tc.want):
				t.Errorf("odd after %v, want after %s", odd, tc.want)
			}
		})
	}
}
