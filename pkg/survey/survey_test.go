package survey_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/survey"
)

var (
	now = time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	web = event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	pay = event.Entity{Namespace: "shop", Kind: "Deployment", Name: "pay"}
)

func seen(id, query string) event.Evidence {
	return event.Evidence{ID: id, Source: "kubernetes", Query: query, Digest: query, Excerpt: []string{query}}
}

func incident(e event.Entity, p event.Priority) survey.Incident {
	return survey.Incident{
		Incident: event.Incident{ID: "i" + e.Name, State: event.Open, Priority: p, Entity: e, Symptom: "30 % of requests fail", Onset: now.Add(-10 * time.Minute), Related: []event.Entity{e}},
		Report: event.Report{
			Incident: "i" + e.Name, TLDR: "30 % of requests fail.", Status: "web answers some requests with errors.",
			Findings: []event.Finding{{Rule: "symptom", Entity: e, Title: "30 % of requests fail", Evidence: []string{"E1"}}},
			Checks:   []event.Check{{Why: "pods", Command: "kubectl -n shop get pods"}},
			Evidence: []event.Evidence{seen("E1", "errors of "+e.Name)},
		},
	}
}

func root(e event.Entity, u event.Urgency, state string) check.Root {
	return check.Root{Entity: e, Urgency: u, Severity: event.Critical, State: state, Since: now.Add(-9 * time.Minute), Findings: []event.Finding{
		{Rule: "workload_ready", Entity: e, Urgency: u, Title: state, Confidence: event.High, Evidence: []string{"E1"}, Checks: []event.Check{{Why: "pods", Command: "kubectl -n shop get pods"}}},
		{Rule: "oom_killed", Entity: e, Urgency: u, Title: "OOMKilled", Cause: true, Confidence: event.High, Evidence: []string{"E2"}, Rollback: []event.Check{{Why: "back", Command: "kubectl -n shop rollout undo deployment " + e.Name}}},
	}}
}

func TestWhatBothFoundIsOneThing(t *testing.T) {
	r := survey.Make(survey.Found{
		Incidents: []survey.Incident{incident(web, event.P1)},
		Health: &check.Result{
			Roots:    []check.Root{root(web, event.Broken, "0/2 ready"), root(pay, event.Soon, "full soon"), root(pay, event.Hygiene, "no probes")},
			Evidence: []event.Evidence{seen("E1", "object web"), seen("E2", "errors of web")},
		},
	}, now)
	if len(r.Things) != 2 || r.Hygiene != 1 {
		t.Fatalf("%d things and %d of hygiene, want web, pay, and 1: %+v", len(r.Things), r.Hygiene, r.Things)
	}
	got := r.Things[0]
	if got.Entity != web || got.Priority != event.P1 || !strings.Contains(got.Line, "30 % of requests fail since 02:50; 0/2 ready 9m") {
		t.Errorf("the first thing is %+v, want web with what both say of it", got)
	}
	if len(got.Causes) != 1 || got.Causes[0].Text != "OOMKilled" {
		t.Errorf("its causes are %v, want what health explains", got.Causes)
	}
	// One list of evidence: the pass and the examination both saw "errors of web".
	if len(r.Evidence) != 2 {
		t.Errorf("evidence %v, want the errors and the object once each", r.Evidence)
	}
	for _, th := range r.Things {
		for _, f := range th.Findings {
			for _, id := range f.Evidence {
				if !slices.ContainsFunc(r.Evidence, func(e event.Evidence) bool { return e.ID == id }) {
					t.Errorf("%q cites %s, which is not there", f.Title, id)
				}
			}
		}
	}
	if len(r.Checks) != 1 || len(r.Rollback) != 2 {
		t.Errorf("checks %v and rollback %v, want the one command once, and an undo of each", r.Checks, r.Rollback)
	}
	if !strings.HasPrefix(r.TLDR, "shop/deploy/web: 30 %") || !strings.HasSuffix(r.TLDR, "And 1 soon.") || r.Status == "" {
		t.Errorf("tl;dr %q, status %q", r.TLDR, r.Status)
	}
}

func TestABrokenWorkloadOfAnothersIncidentHasANameOfItsOwn(t *testing.T) {
	cart := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "cart"}
	node := event.Entity{Kind: "Node", Name: "n1"}
	i := incident(cart, event.P1)
	i.Related = []event.Entity{cart, web, node}
	rollout := event.Change{Kind: event.Rollout, Entity: web, Time: now.Add(-12 * time.Minute), Summary: "image v1 -> v2", Revision: "2"}
	r := survey.Make(survey.Found{
		Incidents: []survey.Incident{i}, Changes: []event.Change{rollout},
		Health: &check.Result{
			Roots:    []check.Root{root(web, event.Broken, "0/2 ready"), root(node, event.Broken, "NotReady")},
			Evidence: []event.Evidence{seen("E1", "object web"), seen("E2", "end of web")},
		},
	}, now)
	if len(r.Things) != 2 || r.Things[0].Entity != cart || r.Things[1].Entity != web {
		t.Fatalf("things %+v, want cart, and web for itself", r.Things)
	}
	mine, its := r.Things[0], r.Things[1]
	if strings.Contains(mine.Line, "0/2 ready") || !strings.Contains(mine.Line, "node/n1 NotReady") {
		t.Errorf("cart: %s, want the node as a part of it, and web not", mine.Line)
	}
	if !slices.ContainsFunc(mine.Causes, func(c event.Cause) bool { return strings.Contains(c.Text, "rollout of shop/deploy/web") }) {
		t.Errorf("causes of cart: %+v, want the rollout of web among them", mine.Causes)
	}
	if !strings.HasPrefix(its.Line, "0/2 ready") || len(its.Causes) == 0 || its.Causes[0].Text != "OOMKilled" || len(its.Findings) == 0 {
		t.Errorf("web: %+v, want how it is and why", its)
	}
}

func TestThingsAreInTheOrderToLookAtThem(t *testing.T) {
	other := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "cart"}
	r := survey.Make(survey.Found{
		Incidents: []survey.Incident{incident(pay, event.P3), incident(web, event.P2)},
		Health:    &check.Result{Roots: []check.Root{root(other, event.Broken, "0/1 ready")}, Evidence: []event.Evidence{seen("E1", "a"), seen("E2", "b")}},
	}, now)
	var got []string
	for _, th := range r.Things {
		got = append(got, th.Entity.Name)
	}
	if want := []string{"web", "cart", "pay"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

func TestWhatTheObjectsShowIsDraftedWithTheRolloutBeforeIt(t *testing.T) {
	rollout := event.Change{Kind: event.Rollout, Entity: web, Time: now.Add(-12 * time.Minute), Summary: "image v1 -> v2", Revision: "2"}
	for name, c := range map[string]struct {
		change event.Change
		want   bool
	}{
		"a rollout just before":         {rollout, true},
		"a rollout hours before":        {event.Change{Kind: event.Rollout, Entity: web, Time: now.Add(-3 * time.Hour)}, false},
		"a rollout after it":            {event.Change{Kind: event.Rollout, Entity: web, Time: now}, false},
		"the first rollout":             {event.Change{Kind: event.Rollout, Entity: web, Time: rollout.Time, First: true}, false},
		"a rollout of something else":   {event.Change{Kind: event.Rollout, Entity: pay, Time: rollout.Time}, false},
		"scaling, which is no template": {event.Change{Kind: event.Scale, Entity: web, Time: rollout.Time}, false},
	} {
		i := survey.Draftable(root(web, event.Broken, "0/2 ready"), []event.Change{c.change}, "testbed", now)
		if got := len(i.Suspects) == 1; got != c.want {
			t.Errorf("%s: suspected %v, want %v", name, got, c.want)
		}
		if i.Priority != event.P2 || i.Symptom != "0/2 ready" {
			t.Errorf("%s: %s %q", name, i.Priority, i.Symptom)
		}
	}
}

func TestNothingWrongSaysNothing(t *testing.T) {
	r := survey.Make(survey.Found{Health: &check.Result{}}, now)
	if r.TLDR != "" || r.Status != "" || len(r.Things)+len(r.Checks)+len(r.Rollback) > 0 {
		t.Errorf("%+v", r)
	}
}
