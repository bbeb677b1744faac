package triage

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

func TestAPatternIsLikeThatOfAnIncidentOfBefore(t *testing.T) {
	said := func(template string) []event.Anomaly {
		return []event.Anomaly{{Labels: map[string]string{}}, {Labels: map[string]string{"template": template}}}
	}
	all := []event.Incident{
		{ID: "aaaaaaaaaaaaa", Onset: noon.Add(-48 * time.Hour), Anomalies: said("cannot reach the upstream <*> within <*>")},
		{ID: "bbbbbbbbbbbbb", Onset: noon.Add(-24 * time.Hour), Anomalies: said("cannot reach the upstream <*> within <*>")},
		{ID: "ccccccccccccc", Onset: noon, Anomalies: said("disk of <*> is full")},
	}
	patterns := []Pattern{
		{Trouble: true, Template: "cannot reach the database <*> within <*>"},
		{Trouble: true, Template: "the card was declined by <*>"},
		{Template: "disk of <*> is full"},
	}
	likePatterns(all, patterns, noon, func(event.Evidence) string { return "E1" }, same)
	got := patterns[0].Like
	if got == nil || got.Incident != event.ShortID("bbbbbbbbbbbbb") || got.Ratio < 0.6 || got.Ratio >= 1 || got.Evidence != "E1" || got.Template != "cannot reach the upstream <*> within <*>" {
		t.Errorf("got %+v, want the newest that says nearly the same", got)
	}
	if patterns[1].Like != nil || patterns[2].Like != nil {
		t.Errorf("what says something else is like %+v, and what is no trouble like %+v", patterns[1].Like, patterns[2].Like)
	}
}
