package correlator

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

func TestOfRolloutsOnlyThoseThatReplacedSomethingAreSuspected(t *testing.T) {
	checkout, catalog := deploy("checkout"), deploy("catalog")
	rollout := func(e event.Entity, revision string, first bool) event.Change {
		return event.Change{Kind: event.Rollout, Entity: e, Time: at(0), Revision: revision, Summary: "image v1", First: first}
	}
	for name, c := range map[string]struct {
		changes []event.Change
		want    string // of the first suspect: its entity and change
	}{
		"a rollout of what is affected is the likely cause":       {[]event.Change{rollout(checkout, "2", false)}, "shop/deployment/checkout 2"},
		"the first rollout of what is affected is not":            {[]event.Change{rollout(checkout, "1", true)}, "shop/deployment/checkout"},
		"the first rollout of a bystander is not suspected":       {[]event.Change{rollout(catalog, "1", true)}, "shop/deployment/checkout"},
		"a rollout after the first one is suspected":              {[]event.Change{rollout(checkout, "1", true), rollout(checkout, "2", false)}, "shop/deployment/checkout 2"},
		"a bystander's first rollout is not suspected beside one": {[]event.Change{rollout(catalog, "1", true), rollout(checkout, "2", false)}, "shop/deployment/checkout 2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &story{}
			s.topology(checkout, "n1")
			s.topology(catalog, "n1")
			s.watermarks(at(-2 * time.Minute))
			for _, ch := range c.changes {
				s.add(event.ContextChange.Out(ch))
			}
			s.anomaly("event_surge", checkout, event.ClassCause, event.Critical, at(2*time.Minute), at(2*time.Minute), "OOMKilled 3 of 3 pods")
			s.anomaly("burn_rate", checkout, event.ClassSymptom, event.Critical, at(3*time.Minute), at(3*time.Minute), "12 % of requests fail")
			s.watermarks(at(5 * time.Minute))
			got := run(t, newTestFold(t), s.msgs)
			if len(got) == 0 {
				t.Fatal("no incident")
			}
			last := got[len(got)-1]
			if len(last.Suspects) == 0 {
				t.Fatal("no suspect")
			}
			first := last.Suspects[0].Entity.String()
			if ch := last.Suspects[0].Change; ch != nil {
				first += " " + ch.Revision
			}
			if first != c.want {
				t.Errorf("first suspect %q, want %q", first, c.want)
			}
			for _, s := range last.Suspects {
				if s.Change != nil && s.Change.First {
					t.Errorf("a first rollout is suspected: %s (%s)", s.Why, s.Confidence)
				}
			}
			if len(last.Changes) != len(c.changes) {
				t.Errorf("%d changes are told, want all %d", len(last.Changes), len(c.changes))
			}
		})
	}
}

func TestAFirstRolloutIsNearNothing(t *testing.T) {
	c := event.Change{Kind: event.Rollout, Entity: deploy("web"), Time: at(0), Revision: "1", First: true}
	if w, why := (changeProximity{}).Score(Evidence{Suspect: c.Entity, MainRoot: c.Entity, Change: &c, Onset: at(time.Minute)}); w != 0 {
		t.Errorf("a first rollout weighs %.2f (%s), want nothing", w, why)
	}
}
