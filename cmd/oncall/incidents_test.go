package main

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// reportOf is a revision of the report of an open incident.
func reportOf(incident string, revision int) event.Report {
	at := time.Date(2026, 11, 23, 2, 51, 0, 0, time.UTC)
	web := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	return event.Report{
		Incident: incident, Revision: revision, IncidentRevision: (revision + 1) / 2, State: event.Open, Priority: event.P2, Entity: web,
		Onset: at, Time: at.Add(time.Minute), Headline: "P2 shop/deployment/web: slow since 02:51", TLDR: "Slow.", Status: "Slow.",
		Findings: []event.Finding{}, Causes: []event.Cause{}, Checks: []event.Check{}, Evidence: []event.Evidence{}, Timeline: []event.TimelineEntry{},
	}
}

func TestTheReportOfTheHighestRevisionIsShown(t *testing.T) {
	for name, revisions := range map[string][]int{
		"in order":               {1, 3, 5},
		"the newest comes first": {5, 1, 3},
		"a model answers late":   {1, 5, 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := bustest.Start(t)
			var id string
			for _, n := range revisions {
				r := reportOf("9kdq3vz7m2xha", n)
				id = r.Incident
				if err := b.Publish(t.Context(), event.ReportDrafted.Out(r)); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Publish(t.Context(), event.ReportDrafted.Out(reportOf("aaaaaaaaaaaab", 9))); err != nil {
				t.Fatal(err)
			}
			got, err := latestReport(t.Context(), b, id)
			if err != nil {
				t.Fatal(err)
			}
			if got == nil || got.Incident != id || got.Revision != 5 {
				t.Errorf("of revisions %v of %s, got %+v, want 5", revisions, id, got)
			}
			all, err := outcomes(t.Context(), b, pipeline.Span{})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range all {
				if o.last.Incident == id && o.last.Revision != 5 {
					t.Errorf("of revisions %v, the last is %d, want 5", revisions, o.last.Revision)
				}
			}
		})
	}
	if got, err := latestReport(t.Context(), bustest.Start(t), "aaaaaaaaaaaaa"); err != nil || got != nil {
		t.Errorf("of an incident without a report: got %v, %v, want nothing", got, err)
	}
}
