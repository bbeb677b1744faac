package detectors

import (
	"testing"

	"github.com/oncall-copilot/oncall/policies"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

func store(t testing.TB) *policy.Store {
	t.Helper()
	s, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// facts are the detectors that state what they were told.
var facts = map[string]bool{"alert": true, "change": true, "event_surge": true, "availability": true, "forecast": true}

func TestConformance(t *testing.T) {
	s := store(t)
	for _, info := range detector.Builtin.All() {
		t.Run(info.Name, func(t *testing.T) {
			t.Parallel()
			detectortest.Run(t, info, detectortest.Options{Facts: facts[info.Name], Policies: s})
		})
	}
	declared, err := detector.Declared(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(declared) < 3 {
		t.Fatalf("got %d declared detectors, want at least 3", len(declared))
	}
	for _, info := range declared {
		t.Run(info.Name, func(t *testing.T) {
			t.Parallel()
			detectortest.Run(t, info, detectortest.Options{Policies: s})
		})
	}
}
