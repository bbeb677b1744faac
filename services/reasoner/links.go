package reasoner

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

// Bounds of the lists of commands.
const (
	maxChecks   = 6
	maxRollback = 3
)

// commands gathers what a person may copy: the checks of the findings, then the
// queries behind the anomalies. A check that does not only read is left out,
// whoever wrote it.
func (d *draft) commands() {
	r := &d.report
	add := func(list *[]event.Check, c event.Check, most int) {
		if len(*list) < most && !slices.ContainsFunc(*list, func(o event.Check) bool { return o.Command == c.Command }) {
			*list = append(*list, c)
		}
	}
	check := func(c event.Check, most int) {
		if rule.ReadOnly(c.Command) == nil {
			add(&r.Checks, c, most)
		}
	}
	for _, f := range r.Findings {
		for i, c := range f.Checks {
			if i == 0 || f.Cause {
				check(c, maxChecks-2)
			}
		}
		if f.Cause {
			for _, c := range f.Rollback {
				add(&r.Rollback, c, maxRollback)
			}
		}
	}
	at := d.inc.Updated.UTC()
	for _, a := range d.inc.Anomalies {
		if a.Check != nil {
			check(event.Check{Why: a.Check.Why, Command: d.inContext(a.Check.Command)}, maxChecks-2)
		}
	}
	for _, a := range d.inc.Anomalies {
		for _, e := range a.Evidence {
			switch e.Source {
			case evidence.Prometheus:
				server := "$PROMETHEUS"
				if l := d.r.cfg.Links.Prometheus; l != "" {
					server = rule.Quote(l)
				}
				check(event.Check{Why: "the series behind: " + clip(a.Summary, 60), Command: fmt.Sprintf("promtool query instant --time=%s %s %s", at.Format(time.RFC3339), server, rule.Quote(e.Query))}, maxChecks)
			case evidence.Loki:
				check(event.Check{Why: "the lines behind: " + clip(a.Summary, 60), Command: fmt.Sprintf("logcli query --from=%s --to=%s %s",
					d.inc.Onset.Add(-5*time.Minute).UTC().Format(time.RFC3339), at.Format(time.RFC3339), rule.Quote(e.Query))}, maxChecks)
			}
		}
	}
	if len(r.Checks) < 2 && d.inc.Entity.Namespace != "" {
		ns := "kubectl -n " + rule.Quote(d.inc.Entity.Namespace)
		check(event.Check{Why: "the pods", Command: d.inContext(ns + " get pods -o wide")}, maxChecks)
		check(event.Check{Why: "the latest events", Command: d.inContext(ns + " get events --sort-by=.lastTimestamp")}, maxChecks)
	}
}

// inContext is a command of kubectl for the cluster that is watched.
func (d *draft) inContext(command string) string {
	if c := d.r.cfg.KubeContext; c != "" {
		return strings.Replace(command, "kubectl ", "kubectl --context "+rule.Quote(c)+" ", 1)
	}
	return command
}

// silenceLabels are the labels by which kube-state-metrics, and so people's
// alerts and silences, name the objects of a kind.
var silenceLabels = map[string]string{
	"Pod": "pod", "Node": "node", "Deployment": "deployment", "StatefulSet": "statefulset", "DaemonSet": "daemonset", "ReplicaSet": "replicaset",
	"Job": "job_name", "CronJob": "cronjob", "Service": "service", "Ingress": "ingress", "PersistentVolumeClaim": "persistentvolumeclaim",
	"HorizontalPodAutoscaler": "horizontalpodautoscaler",
}

// links lead to the consoles, at the time of the incident.
func (d *draft) links() []event.Link {
	l, i := d.r.cfg.Links, d.inc
	from, to := i.Onset.Add(-30*time.Minute), d.end().Add(5*time.Minute)
	var metric, logs string
	for _, a := range i.Anomalies {
		for _, e := range a.Evidence {
			if e.Source == evidence.Prometheus && metric == "" {
				metric = e.Query
			}
			if e.Source == evidence.Loki && logs == "" {
				logs = e.Query
			}
		}
	}
	if logs == "" && i.Entity.Namespace != "" && slices.Contains([]string{"Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Rollout", "Workload"}, i.Entity.Kind) {
		logs = errorLines(i.Entity)
	}
	var out []event.Link
	if l.Prometheus != "" && metric != "" {
		// Tab 0 is the graph, for Prometheus 2 and 3 alike.
		q := url.Values{
			"g0.expr": {metric}, "g0.range_input": {strconv.Itoa(int(max(time.Hour, to.Sub(from)).Minutes())) + "m"},
			"g0.end_input": {to.UTC().Format("2006-01-02 15:04:05")}, "g0.moment_input": {to.UTC().Format("2006-01-02 15:04:05")}, "g0.tab": {"0"},
		}
		out = append(out, event.Link{Title: "Graph", URL: under(l.Prometheus, "/graph?"+q.Encode())})
	}
	if l.Grafana != "" {
		if metric != "" {
			out = append(out, event.Link{Title: "Explore", URL: explore(l.Grafana, "prometheus", l.GrafanaPrometheus, metric, from, to)})
		}
		if logs != "" {
			out = append(out, event.Link{Title: "Logs", URL: explore(l.Grafana, "loki", l.GrafanaLoki, logs, from, to)})
		}
	}
	if l.Alertmanager != "" {
		if m := matchers(i.Entity); m != "" {
			out = append(out, event.Link{Title: "Silence", URL: under(l.Alertmanager, "/#/silences/new?filter="+url.QueryEscape(m))})
		}
	}
	return out
}

// matchers are those of a silence about an entity and nothing beside it.
func matchers(e event.Entity) string {
	var parts []string
	if e.Namespace != "" {
		parts = append(parts, fmt.Sprintf("namespace=%q", e.Namespace))
	}
	if l, ok := silenceLabels[e.Kind]; ok {
		parts = append(parts, fmt.Sprintf("%s=%q", l, e.Name))
	}
	if parts == nil {
		return ""
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func under(base, path string) string { return strings.TrimRight(base, "/") + path }

// explore is the address of a query in Grafana's Explore, schema version 1.
func explore(base, typ, uid, expr string, from, to time.Time) string {
	type source struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	type query struct {
		RefID      string `json:"refId"`
		Datasource source `json:"datasource"`
		Expr       string `json:"expr"`
	}
	type span struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	type pane struct {
		Datasource string  `json:"datasource"`
		Queries    []query `json:"queries"`
		Range      span    `json:"range"`
	}
	panes, err := json.Marshal(map[string]pane{"a": {uid, []query{{"A", source{typ, uid}, expr}}, span{strconv.FormatInt(from.UnixMilli(), 10), strconv.FormatInt(to.UnixMilli(), 10)}}})
	if err != nil {
		return under(base, "/explore") // strings cannot fail to be written
	}
	return under(base, "/explore?"+url.Values{"schemaVersion": {"1"}, "panes": {string(panes)}, "orgId": {"1"}}.Encode())
}
