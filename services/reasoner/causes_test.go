package reasoner_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// suspected is an incident of one workload, of which others are suspected too.
func suspected(how ...event.Confidence) story {
	onset := time.Date(2026, 11, 23, 2, 50, 0, 0, time.UTC)
	web := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	s := story{Incident: event.Incident{
		ID: "aaaaaaaaaaaaa", Revision: 1, State: event.Open, Priority: event.P2, Entity: web, Title: web.String() + ": slow", Symptom: "slow",
		Onset: onset, Opened: onset, Updated: onset.Add(time.Minute), Related: []event.Entity{web}, Anomalies: []event.Anomaly{},
	}}
	for i, c := range how {
		e := event.Entity{Namespace: "shop", Kind: "Deployment", Name: fmt.Sprintf("w%d", i)}
		ch := event.Change{Kind: event.Rollout, Entity: e, Time: onset.Add(-time.Minute), Revision: "2", Summary: fmt.Sprintf("image v%d -> v%d", i, i+1)}
		s.Incident.Changes = append(s.Incident.Changes, ch)
		s.Incident.Suspects = append(s.Incident.Suspects, event.Suspect{Entity: e, Change: &ch, Score: float64(9 - i), Confidence: c, Why: "rollout"})
	}
	return s
}

func TestAWeakCauseIsNotStatedBesideACertainOne(t *testing.T) {
	high, medium, low := event.High, event.Medium, event.Low
	for name, c := range map[string]struct{ suspects, causes []event.Confidence }{
		"a weak one beside a certain one is left out":  {[]event.Confidence{high, low}, []event.Confidence{high}},
		"all weak ones beside a certain one are":       {[]event.Confidence{high, medium, low, low}, []event.Confidence{high, medium}},
		"one that is likely beside a certain one is":   {[]event.Confidence{high, medium}, []event.Confidence{high, medium}},
		"a weak one beside one that is likely is":      {[]event.Confidence{medium, low}, []event.Confidence{medium, low}},
		"a weak one alone is, as the weak hint it is":  {[]event.Confidence{low}, []event.Confidence{low}},
		"weak ones leave room for those worth stating": {[]event.Confidence{high, low, low, medium}, []event.Confidence{high, medium}},
	} {
		t.Run(name, func(t *testing.T) {
			r := draft(t, suspected(c.suspects...))
			var got []event.Confidence
			for _, x := range r.Causes {
				got = append(got, x.Confidence)
			}
			if !slices.Equal(got, c.causes) {
				t.Errorf("suspects %v: causes %v, want %v", c.suspects, got, c.causes)
			}
			if len(r.Evidence) != len(c.causes) {
				t.Errorf("%d pieces of evidence for %d causes: what is left out is cited", len(r.Evidence), len(c.causes))
			}
		})
	}
}

func TestAFirstRolloutIsNotOfferedToBeUndone(t *testing.T) {
	for name, first := range map[string]bool{"the second may be": false, "the first may not": true} {
		t.Run(name, func(t *testing.T) {
			s := suspected(event.High)
			web := s.Incident.Entity
			s.Incident.Changes[0].Entity, s.Incident.Changes[0].First = web, first
			s.Incident.Suspects[0].Entity, s.Incident.Suspects[0].Change = web, &s.Incident.Changes[0]
			s.Incident.Anomalies = []event.Anomaly{{
				Key: "k", Detector: "spike", Signal: "latency", Entity: web, Class: event.ClassSymptom, Severity: event.Critical, Summary: "slow",
				Onset: s.Incident.Onset, WindowEnd: s.Incident.Updated, TailProb: 1e-9, Evidence: []event.EvidenceRef{{Source: "prometheus", Query: "latency"}},
			}}
			r := draft(t, s)
			undo := slices.ContainsFunc(r.Rollback, func(c event.Check) bool { return strings.Contains(c.Command, "rollout undo") })
			if undo == first {
				t.Errorf("first rollout %v: roll-back offered %v: %+v", first, undo, r.Rollback)
			}
		})
	}
}
