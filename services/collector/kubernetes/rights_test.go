package kubernetes

import (
	"maps"
	"slices"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/kube"
)

// TestTheRightsThatAreAskedForAreThoseOfWhatIsWatched keeps kube.Needed, from
// which the shipped ClusterRole is made, in step with what this package does.
func TestTheRightsThatAreAskedForAreThoseOfWhatIsWatched(t *testing.T) {
	want := map[kube.Right]bool{}
	for _, r := range resources {
		want[kube.Right{Verb: "list", Group: r.gv.Group, Resource: r.plural}] = true
		want[kube.Right{Verb: "watch", Group: r.gv.Group, Resource: r.plural}] = true
	}
	for _, r := range kube.Needed() {
		if r.Verb == "get" {
			continue // of look-ups, which pkg/evidence asks
		}
		if !want[r] {
			t.Errorf("%s is asked for and not used", r)
		}
		delete(want, r)
	}
	for _, r := range slices.Collect(maps.Keys(want)) {
		t.Errorf("%s is used and not asked for", r)
	}
}
