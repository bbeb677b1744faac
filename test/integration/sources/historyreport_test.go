//go:build e2e

package sources

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/reasoner"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// newIn is an anomaly that calls a statement of the workload web new.
func newIn(key, template, line string, onset, seen time.Time) event.Anomaly {
	return event.Anomaly{
		Detector: "log_new_pattern", Series: key, Key: key, Entity: event.Entity{Namespace: "shop", Kind: "Workload", Name: "web"}, Signal: "log:" + key,
		Class: event.ClassCause, Severity: event.Warning, Onset: onset, WindowEnd: seen, Observed: 20, Unit: "{line}", TailProb: 1e-8,
		Summary: "new log line (error): " + template, Labels: map[string]string{"template": template, event.LabelSource: "loki"},
		Evidence: []event.EvidenceRef{{Source: "loki", Query: `{namespace="shop", pod=~"web-.*"} |= "` + strings.Fields(template)[0] + `"`, Excerpt: []string{line}}},
	}
}

// TestAReportSaysWhatLokiKnowsOfTheHoursBefore has two statements called new, one of
// which Loki holds since hours, by its patterns and by its lines.
func TestAReportSaysWhatLokiKnowsOfTheHoursBefore(t *testing.T) {
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		patterns bool
		by       string
	}{
		"with patterns":    {true, "(Loki's patterns)"},
		"without patterns": {false, "(lines counted in Loki)"},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := bed(t).StartLoki(t.Context(), testbed.LokiConfig{Patterns: c.patterns})
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now().UTC()
			values, _ := past(now, now.Add(-3*time.Hour))
			pod := &shopPod{server: server}
			pod.push(t, values)
			pod.storedLine(t, now.Add(-178*time.Minute), "upstream timed out")
			up, err := upstream.New(upstream.Config{URL: server.URL, MaxQPS: 100}, upstream.Settings{Source: "loki"})
			if err != nil {
				t.Fatal(err)
			}
			loki := evidence.NewLoki(up, redact.New(redact.Options{}))
			mux := evidence.NewMux()
			mux.Add(evidence.Loki, "loki", loki)
			r, err := reasoner.NewReasoner(reasoner.DefaultConfig(), mux, store)
			if err != nil {
				t.Fatal(err)
			}
			onset := now.Add(-4 * time.Minute)
			fresh := newIn("01", "ledger rejected the entry <*>", `level=error msg="ledger rejected the entry" err="constraint violated"`, onset, now)
			old := newIn("02", "upstream timed out <*>", `level=error msg="upstream timed out" upstream=10.0.0.4`, onset, now)
			inc := event.Incident{
				ID: "log0000000001", Revision: 1, State: event.Open, Priority: event.P3, Entity: fresh.Entity, Title: "shop/web: " + old.Summary,
				Onset: onset, Opened: now, Updated: now, Anomalies: []event.Anomaly{fresh, old}, Related: []event.Entity{fresh.Entity}, Reason: "opened",
			}
			of := func(rep event.Report, a event.Anomaly) event.Finding {
				i := slices.IndexFunc(rep.Findings, func(f event.Finding) bool { return f.Title == a.Summary })
				if i < 0 {
					t.Fatalf("no finding of %s in %+v", a.Summary, rep.Findings)
				}
				return rep.Findings[i]
			}
			// Loki hands lines to its miner in batches.
			var rep event.Report
			for deadline := time.Now().Add(time.Minute); ; {
				if rep, err = r.Draft(t.Context(), inc); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(of(rep, old).Detail, c.by) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("after a minute the report says %q; unknown: %q", of(rep, old).Detail, rep.Unknown)
				}
				select {
				case <-t.Context().Done():
					t.Fatal(t.Context().Err())
				case <-time.After(200 * time.Millisecond):
				}
			}
			if f := of(rep, fresh); !strings.Contains(f.Detail, "In Loki none in the 2 h 4") || f.Confidence != event.Medium {
				t.Errorf("of the new one: %q, %s; want none in the 2 h 45 min before, medium", f.Detail, f.Confidence)
			}
			if f := of(rep, old); !strings.Contains(f.Detail, " already, ") || !strings.Contains(f.Detail, "That speaks against it.") || f.Confidence != event.Low {
				t.Errorf("of the old one: %q, %s; want that it was there already, low", f.Detail, f.Confidence)
			}
			if !strings.Contains(rep.TLDR, "That is in doubt: Loki has it at ") {
				t.Errorf("the summary says nothing of the doubt: %s", rep.TLDR)
			}
			if len(rep.Unknown) > 0 {
				t.Errorf("unknown: %q", rep.Unknown)
			}
			shown, err := json.MarshalIndent(rep.Evidence, "", " ")
			if err != nil || !strings.Contains(string(shown), "count_over_time({namespace") || c.patterns && !strings.Contains(string(shown), `patterns {namespace`) {
				t.Errorf("the evidence does not show what was asked: %s, %v", shown, err)
			}
		})
	}
}
