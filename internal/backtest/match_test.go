package backtest

import (
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

var (
	noon     = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	checkout = event.Entity{Namespace: "shop", Kind: "Deployment", Name: "checkout"}
)

func minutes(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }

// ours is an incident of so many minutes after noon.
func ours(e event.Entity, from, to int, change func(*tracked)) *tracked {
	over := minutes(to)
	t := &tracked{Related: []event.Entity{e}, Incident: Incident{
		ID: "abcdefghijklm", Entity: e, Priority: event.P1, Title: "requests fail", Onset: minutes(from), Paged: []time.Time{minutes(from + 2)}, Resolved: &over,
	}}
	if change != nil {
		change(t)
	}
	return t
}

func quiet(p event.Priority, held string) func(*tracked) {
	return func(t *tracked) { t.Incident.Priority, t.Incident.Paged, t.Held = p, nil, held }
}

func theirs(e event.Entity, from, to int) Firing {
	end := minutes(to)
	return Firing{Alert: "HighErrorRate", Severity: "page", Entity: e, Start: minutes(from), End: &end, Labels: map[string]string{"alertname": "HighErrorRate", "namespace": e.Namespace}}
}

func TestWhatIsTheSameTroubleAndWhyThereIsNoneOfOurs(t *testing.T) {
	pod := event.Entity{Namespace: "shop", Kind: "Pod", Name: "checkout-7d4b9c6f5-x2x8q"}
	space := event.Entity{Kind: "Namespace", Name: "shop"}
	watchedAll := func(h *harvest) {
		h.Watched["/shop/checkout"] = &watched{First: minutes(-1000), Last: minutes(1000), Signals: map[string]curveRef{"error_ratio": {}, "cpu_usage": {}}}
	}
	for name, tc := range map[string]struct {
		ours  []*tracked
		their Firing
		held  func(*harvest)
		same  string // by what; "" for only theirs
		why   Why
		says  string
		lead  time.Duration
	}{
		"a page of the same workload at the same time": {
			ours: []*tracked{ours(checkout, 0, 30, nil)}, their: theirs(checkout, 10, 30), same: sameThing, lead: 8 * time.Minute,
		},
		"a page of ours that came later": {
			ours: []*tracked{ours(checkout, 10, 40, nil)}, their: theirs(checkout, 5, 30), same: sameThing, lead: -7 * time.Minute,
		},
		"an alert of one of its pods": {
			ours: []*tracked{ours(checkout, 0, 30, nil)}, their: theirs(pod, 10, 30), same: sameThing, lead: 8 * time.Minute,
		},
		"a workload whose kind only one side knows": {
			ours: []*tracked{ours(event.Entity{Namespace: "shop", Kind: "Workload", Name: "checkout"}, 0, 30, nil)}, their: theirs(checkout, 10, 30), same: sameThing, lead: 8 * time.Minute,
		},
		"an alert that names the namespace alone": {
			ours: []*tracked{ours(checkout, 0, 30, nil)}, their: theirs(space, 10, 30), same: sameNamespace, lead: 8 * time.Minute,
		},
		"an alert about another workload of the namespace": {
			ours: []*tracked{ours(checkout, 0, 30, nil)}, their: theirs(event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}, 10, 30), why: NotWatched, says: "no query",
		},
		"a workload of that name in another namespace": {
			ours: []*tracked{ours(checkout, 0, 30, nil)}, their: theirs(event.Entity{Namespace: "stage", Kind: "Deployment", Name: "checkout"}, 10, 30), why: NotWatched, says: "no query",
		},
		"a volume called as the workload is": {
			ours: []*tracked{ours(checkout, 0, 30, nil)}, their: theirs(event.Entity{Namespace: "shop", Kind: "PersistentVolumeClaim", Name: "checkout"}, 10, 30), why: NotWatched, says: "no query",
		},
		"an alert of the next day": {
			ours: []*tracked{ours(checkout, 0, 30, nil)}, their: theirs(checkout, 900, 930), held: watchedAll, why: BelowThreshold, says: "nothing odd in error_ratio, cpu_usage",
		},
		"an alert that ends before ours began, but for a moment": {
			ours: []*tracked{ours(checkout, 20, 60, nil)}, their: theirs(checkout, 0, 10), same: sameThing, lead: -22 * time.Minute,
		},
		"what paged counts before what did not": {
			ours: []*tracked{ours(checkout, 8, 30, quiet(event.P3, "")), ours(checkout, 0, 30, func(t *tracked) { t.Incident.ID = "other" })}, their: theirs(checkout, 10, 30), same: sameThing, lead: 8 * time.Minute,
		},
		"ours was held by the budget": {
			ours: []*tracked{ours(checkout, 0, 30, quiet(event.P4, "no symptom, and score 3.1 is below the bound 8.2"))}, their: theirs(checkout, 10, 30), why: HeldByBudget, says: "score 3.1 is below",
		},
		"ours was a ticket": {
			ours: []*tracked{ours(checkout, 0, 30, quiet(event.P3, ""))}, their: theirs(checkout, 10, 30), why: BelowPage, says: "was a ticket, for no user felt it",
		},
		"ours was a line in the digest": {
			ours: []*tracked{ours(checkout, 0, 30, quiet(event.P4, ""))}, their: theirs(checkout, 10, 30), why: BelowPage, says: "line in the digest",
		},
		"ours had paged while it was learnt": {
			ours: []*tracked{ours(checkout, -800, 30, func(t *tracked) { t.Incident.Paged = []time.Time{minutes(-790)} })}, their: theirs(checkout, 10, 30), why: PagedBefore, says: "before the time that is judged",
		},
		"nothing was read at the time": {
			their: theirs(checkout, 10, 30), held: func(h *harvest) { watchedAll(h); h.Gaps = []period{{minutes(0), minutes(20)}} }, why: HistoryMissing, says: "no metrics from 12:00 to 12:20 UTC",
		},
		"the workload gave metrics only later": {
			their: theirs(checkout, 10, 30), held: func(h *harvest) { h.Watched["/shop/checkout"] = &watched{First: minutes(500), Last: minutes(1000)} }, why: HistoryMissing, says: "and did at others",
		},
		"it was odd, and no incident came of it": {
			their: theirs(checkout, 10, 30), held: func(h *harvest) {
				watchedAll(h)
				h.Odd["k"] = &oddity{Place: "/shop/checkout", Signal: "cpu_usage", Summary: "cpu 3.1, expected 1", Onset: minutes(5), Last: minutes(20)}
			}, why: BelowThreshold, says: "cpu 3.1, expected 1",
		},
		"it was over before anybody could look": {
			their: theirs(checkout, 10, 13), held: watchedAll, why: BelowThreshold, says: "over after 3 m; nothing odd",
		},
		"its labels name nothing": {
			ours: []*tracked{ours(checkout, 0, 30, nil)}, their: theirs(event.Entity{}, 10, 30), why: NamesNothing, says: "cannot be compared",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarvest()
			for _, o := range tc.ours {
				h.Incidents[o.Incident.ID+o.Incident.Onset.String()] = o
			}
			if tc.held != nil {
				tc.held(h)
			}
			m := &matcher{h: h, since: minutes(-720), until: minutes(2000), pages: func(f Firing) bool { return f.Severity == "page" }}
			told, firings, _, yours, same := m.both([]Firing{tc.their})
			f := firings[0]
			if f.Same != tc.same && tc.same != "" || f.Why != tc.why || !strings.Contains(f.Because, tc.says) {
				t.Errorf("same %q, why %q, because %q; want %q, %q, %q", f.Same, f.Why, f.Because, tc.same, tc.why, tc.says)
			}
			if tc.same == "" {
				if yours.Only != 1 || same.Firings != 0 || yours.OnlyWhy[tc.why] != 1 {
					t.Errorf("counts %+v %+v", yours, same)
				}
				return
			}
			if same.Firings != 1 || same.Incidents != 1 || same.LeadSeconds == nil || *same.LeadSeconds != tc.lead.Seconds() {
				t.Errorf("same %+v, want a lead of %s", same, tc.lead)
			}
			for _, i := range told {
				if len(i.Firings) == 1 && i.ID != f.Incident {
					t.Errorf("incident %s has the firing of %s", i.ID, f.Incident)
				}
			}
		})
	}
}

func TestOnlyOursAndWhatIsNotCounted(t *testing.T) {
	h := newHarvest()
	node := event.Entity{Kind: "Node", Name: "node-1"}
	for id, i := range map[string]*tracked{
		"paged": ours(checkout, 0, 30, nil),
		"twice": ours(node, 100, 300, func(t *tracked) {
			t.Incident.Paged = []time.Time{minutes(102), minutes(200)}
			t.Incident.Priority = event.P2
		}),
		"ticket":  ours(checkout, 400, 430, quiet(event.P3, "")),
		"held":    ours(checkout, 500, 530, quiet(event.P4, "the budget is spent")),
		"digest":  ours(checkout, 600, 630, quiet(event.P4, "")),
		"learnt":  ours(checkout, -900, -800, nil),
		"blind":   ours(event.Entity{Kind: "Source", Name: "prometheus"}, 0, 30, func(t *tracked) { t.Source = true }),
		"swallow": ours(checkout, 0, 1, func(t *tracked) { t.Merged, t.Incident.Paged = true, nil }),
	} {
		i.Incident.ID = id
		h.Incidents[id] = i
	}
	m := &matcher{h: h, since: minutes(-720), until: minutes(2000), pages: func(Firing) bool { return true }}
	told, _, got, _, same := m.both(nil)
	want := Ours{Pages: 3, PerWeek: got.PerWeek, P1: 1, P2: 1, Incidents: 2, Only: 2, Tickets: 1, Digest: 2, Held: 1}
	if got != want || same.LeadSeconds != nil || len(told) != 2 || told[0].ID != "paged" || told[1].ID != "twice" {
		t.Errorf("got %+v of %v, want %+v", got, told, want)
	}
}

func TestPointsOfAlertsBecomeFirings(t *testing.T) {
	points := func(at ...int) (out []event.Point) {
		for _, n := range at {
			out = append(out, event.Point{T: minutes(n).UnixMilli(), V: 1})
		}
		return out
	}
	about := func(l map[string]string) (Firing, bool) {
		return Firing{Alert: l["alertname"], Labels: l}, l["alertname"] != "Watchdog"
	}
	alert := func(name string, at ...int) prometheus.Line {
		return prometheus.Line{Labels: map[string]string{"__name__": "ALERTS", "alertstate": "firing", "alertname": name}, Points: points(at...)}
	}
	h := newHarvest()
	// Two slices: what fires over their border is one firing.
	h.alerts([]prometheus.Line{alert("A", 1, 2, 3, 20, 21), alert("B", 28, 29, 30), alert("Watchdog", 1, 2)}, about)
	h.alerts([]prometheus.Line{alert("A", 40), alert("B", 31, 32, 59, 60)}, about)
	var got []string
	for _, f := range h.settle(minutes(60)) {
		end := "goes on"
		if f.End != nil {
			end = f.End.Format("15:04")
		}
		got = append(got, f.Alert+" "+f.Start.Format("15:04")+" "+end)
		if _, ok := f.Labels["alertstate"]; ok {
			t.Error("alertstate is no label of the alert")
		}
	}
	want := "A 12:01 12:03, A 12:20 12:21, B 12:28 12:32, A 12:40 12:40, B 12:59 goes on"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %s\nwant %s", strings.Join(got, ", "), want)
	}
}

func TestAnIncidentPagesWhenItOpensAndWhenItReturns(t *testing.T) {
	h := newHarvest()
	say := func(minute int, state event.IncidentState, p event.Priority, held string) {
		v := event.Incident{ID: "x", State: state, Priority: p, Held: held, Entity: checkout, Title: "t", Onset: noon, Updated: minutes(minute)}
		if state == event.Resolved {
			at := minutes(minute)
			v.ResolvedAt, v.Reason = &at, "resolved"
		}
		h.incident(v)
	}
	say(1, event.Open, event.P3, "")
	say(2, event.Open, event.P1, "")
	say(3, event.Open, event.P2, "")
	say(4, event.Open, event.P1, "")
	say(10, event.Resolved, event.P1, "")
	say(20, event.Open, event.P1, "")
	say(30, event.Resolved, event.P1, "")
	i := h.Incidents["x"].Incident
	if len(i.Paged) != 2 || !i.Paged[0].Equal(minutes(2)) || !i.Paged[1].Equal(minutes(20)) || i.Priority != event.P1 || i.Resolved == nil || !i.Resolved.Equal(minutes(30)) {
		t.Errorf("%+v", i)
	}
}

func TestFiringsThatAlertmanagerGroupsAreOneNotification(t *testing.T) {
	all := []Firing{theirs(checkout, 0, 30), theirs(checkout, 1, 30), theirs(checkout, 4, 30), theirs(checkout, 60, 90), theirs(event.Entity{Namespace: "data", Kind: "Deployment", Name: "pg"}, 61, 90)}
	if n := groups(all); n != 3 {
		t.Errorf("%d notifications, want 3", n)
	}
}

func TestSpansAndLeads(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Minute: "1 m", 90 * time.Minute: "1 h 30 m", 24 * time.Hour: "1 d", 26 * time.Hour: "1 d 2 h", 14 * 24 * time.Hour: "14 d", 2 * time.Hour: "2 h"} {
		if got := Span(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
	for s, want := range map[float64]string{360: "6 m earlier", -60: "1 m later", 10: "at the same time"} {
		if got := Lead(s); got != want {
			t.Errorf("%g: got %q, want %q", s, got, want)
		}
	}
}
