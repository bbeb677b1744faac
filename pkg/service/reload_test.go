package service

import (
	"io/fs"
	"slices"
	"testing"

	"github.com/oncall-copilot/oncall/policies"
)

// TestEveryPolicyIsTakenOverAtOnceOrAtTheStart has no file in between, of which nobody
// says that it waits for a restart.
func TestEveryPolicyIsTakenOverAtOnceOrAtTheStart(t *testing.T) {
	var names []string
	if err := fs.WalkDir(policies.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && name != "policies.go" {
			names = append(names, name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	start := atStart(names)
	for _, want := range []string{"slo.yaml", "entities.yaml", "pushed.yaml", "queries/istio.yaml", "detectors/tcp_retransmits.yaml"} {
		if !slices.Contains(start, want) {
			t.Errorf("%s is not among those of the start: %v", want, start)
		}
	}
	// The correlator and the reasoner take theirs over, commands read theirs each time.
	live := map[string]bool{"correlation.yaml": true, "ownership.yaml": true, "canary.yaml": true, "prices.yaml": true, "exemptions.yaml": true, "health.yaml": true}
	for _, name := range names {
		folder := name[:max(0, slices.Index([]byte(name), '/'))]
		if at := live[name] || folder == "rules" || folder == "runbooks"; at == slices.Contains(start, name) {
			t.Errorf("%s is both or neither", name)
		}
	}
}
