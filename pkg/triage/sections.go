package triage

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// othersEvidence is what was read of pods of others on a node.
func (a *assembly) othersEvidence(pods []*corev1.Pod, node string) string {
	var lines []string
	for _, p := range pods[:min(len(pods), 5)] {
		what, since, _ := a.g.c.Trouble(p)
		lines = append(lines, a.line(fmt.Sprintf("pod %s/%s %s since %s", p.Namespace, p.Name, what, since.UTC().Format(time.RFC3339))))
	}
	return a.cite(evidence.New(evidence.Query{Source: evidence.Kubernetes, Expr: "pods Node/" + node, End: a.g.c.Now, Entity: event.Entity{Kind: "Node", Name: node}}, lines, nil))
}

func (a *assembly) events() {
	e := a.g.events
	if e.Failed != "" {
		a.notRead("events", e.Failed)
		return
	}
	all := eventsOf(e)
	a.r.Probes = append(a.r.Probes, probes(all, a.g.pod)...)
	groups := groupEvents(all)
	if len(groups)+len(a.r.Probes) == 0 {
		return
	}
	id := []string{a.cite(e)}
	for i := range a.r.Probes {
		a.r.Probes[i].Evidence = id
	}
	for i := range groups {
		groups[i].Evidence = id
	}
	a.r.Events = append(a.r.Events, groups...)
}

func (a *assembly) logs(found []Pattern, trouble []line, lines int) {
	l := &a.r.Logs
	l.Newest = len(a.g.loki.Excerpt) >= a.g.limit
	l.Lines, l.Loki, l.Errors, l.Patterns = lines, len(a.g.loki.Excerpt), len(trouble), []Pattern{}
	failed := map[string][]string{}
	var reasons []string
	for i, k := range a.g.containers {
		switch e := a.g.logs[i]; {
		case e.Failed != "":
			why := e.Failed
			if k.previous && strings.Contains(why, "previous terminated container") {
				continue // the kubelet has thrown it away, or it was another pod's
			}
			// What differs is only whose log it is.
			pod := a.g.root.Namespace + "/" + k.pod
			why = strings.NewReplacer(`"`+pod+`"`, "it", `"`+k.pod+`"`, "it", pod, "it", k.pod, "it").Replace(strings.TrimPrefix(why, string(upstream.BadQuery)+": "))
			if failed[why] == nil {
				reasons = append(reasons, why)
			}
			failed[why] = append(failed[why], k.String())
		case k.previous:
			l.Previous++
		default:
			l.Containers++
		}
	}
	for _, why := range reasons {
		what := "logs of " + failed[why][0]
		if n := len(failed[why]) - 1; n > 0 {
			what += " and " + strconv.Itoa(n) + " more"
		}
		a.notRead(what, why)
	}
	if a.g.lokiAsked && a.g.loki.Failed != "" {
		a.notRead("loki", a.g.loki.Failed)
	}
	for _, p := range found {
		e := evidence.New(evidence.Query{Source: evidence.Kubernetes, Expr: a.logQuery(p), Start: a.r.Since, End: a.g.c.Now, Entity: a.g.root},
			[]string{fmt.Sprintf("%d lines like: %s", p.Count, p.Template), strings.TrimSpace(stamp(p.Last) + " " + p.Example)}, nil)
		if strings.HasSuffix(p.Where, "(Loki)") {
			e.Source = evidence.Loki
		}
		p.Evidence = []string{a.cite(e)}
		l.Patterns = append(l.Patterns, p)
	}
}

// logQuery is the look-up that a pattern's example came from.
func (a *assembly) logQuery(p Pattern) string {
	if strings.HasSuffix(p.Where, "(Loki)") {
		return a.g.loki.Query
	}
	q := "logs " + a.g.root.Namespace + "/" + p.Where
	if p.Previous {
		q += " previous"
	}
	return q
}

func (a *assembly) metrics() {
	of := Measured{Entity: a.g.root, Start: a.r.Since, End: a.g.c.Now}
	for _, s := range a.g.series {
		if s.Failed != "" {
			a.notRead("metric "+s.Signal, a.line(s.Failed))
			continue
		}
		m, e, ok := metric(s, of)
		if !ok {
			continue
		}
		m.Evidence = []string{a.cite(e)}
		a.r.Metrics = append(a.r.Metrics, m)
	}
	if a.s.Measure != nil && len(a.r.Metrics) == 0 && !slices.ContainsFunc(a.r.NotRead, func(u check.Unchecked) bool { return strings.HasPrefix(u.What, "metric") }) && !slices.ContainsFunc(a.g.notRead, func(u check.Unchecked) bool { return u.What == "metrics" }) {
		a.notRead("metrics", "Prometheus has none of its pods that policies/queries knows")
	}
}

func (a *assembly) owner(object any) {
	l := owner.Labels{Own: map[string]string{}, Namespace: a.g.namespace}
	if o, ok := object.(interface {
		GetLabels() map[string]string
		GetAnnotations() map[string]string
	}); ok && o != nil {
		for k, v := range o.GetAnnotations() {
			l.Own[k] = v
		}
		for k, v := range o.GetLabels() {
			l.Own[k] = v
		}
	}
	a.r.Owner = a.s.Owners.Of(a.g.root, l)
	a.r.Owner.Team = a.line(a.r.Owner.Team)
}
