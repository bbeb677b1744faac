package reasoner

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

// draft is a report in the making.
type draft struct {
	r      *Reasoner
	inc    event.Incident
	report event.Report
	tags   []string
	rules  []string
}

// subject is one entity that rules are applied to, with its look-ups.
type subject struct {
	entity  event.Entity
	answers map[string]event.Evidence // by look-up name
}

// maxSubjects bounds how many entities are looked at: what is affected most,
// the first suspects, and nodes.
const maxSubjects = 4

// subjects are the entities worth looking at, the affected one first.
func (d *draft) subjects() []event.Entity {
	var out []event.Entity
	add := func(e event.Entity) {
		if len(out) < maxSubjects && e.Kind != "Cluster" && e.Kind != "Source" && !e.IsZero() && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	add(d.inc.Entity)
	for _, s := range d.inc.Suspects {
		add(s.Entity)
	}
	for _, e := range d.inc.Related {
		if e.Kind == "Node" {
			add(e)
		}
	}
	return out
}

// gather asks everything that the rules may need, at once, and returns the
// answers by subject. A question without an answer is an answer too.
func (d *draft) gather(ctx context.Context) []subject {
	type question struct {
		subject int
		name    string
		query   evidence.Query
	}
	entities := d.subjects()
	out := make([]subject, len(entities))
	var qs []question
	end := d.inc.Updated
	start := d.inc.Onset.Add(-15 * time.Minute)
	for i, e := range entities {
		out[i] = subject{entity: e, answers: map[string]event.Evidence{}}
		ask := func(name, source, expr string, limit int) {
			qs = append(qs, question{i, name, evidence.Query{
				Source: source, Expr: expr, Start: start, End: end, Limit: limit, Incident: d.inc.ID, Entity: e,
			}})
		}
		where := strings.TrimSpace(e.Namespace + " " + e.Kind + "/" + e.Name)
		switch e.Kind {
		case "Node", "PersistentVolume", "Namespace":
			ask("object", evidence.Kubernetes, fmt.Sprintf("object %s %s", e.Kind, e.Name), 1)
			ask("events", evidence.Kubernetes, "events "+where, 50)
		case "Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Rollout", "Workload":
			ask("pods", evidence.Kubernetes, "pods "+where, 20)
			ask("events", evidence.Kubernetes, "events "+where, 50)
			if e.Kind != "Workload" {
				ask("object", evidence.Kubernetes, fmt.Sprintf("object %s %s/%s", e.Kind, e.Namespace, e.Name), 1)
			}
			ask("logs", evidence.Loki, errorLines(e), 30)
		default:
			ask("object", evidence.Kubernetes, fmt.Sprintf("object %s %s/%s", e.Kind, e.Namespace, e.Name), 1)
			ask("events", evidence.Kubernetes, "events "+where, 50)
		}
	}
	answers := make([]event.Evidence, len(qs))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 6) // as many as the collector answers at once
	for i, q := range qs {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			e, err := d.r.ask.Retrieve(ctx, q.query)
			if err != nil {
				e = evidence.Failed(q.query, err.Error())
			}
			answers[i] = e
		})
	}
	wg.Wait()
	for i, q := range qs {
		out[q.subject].answers[q.name] = answers[i]
	}
	return out
}

// errorLines is LogQL for the lines of a workload that look like trouble.
func errorLines(e event.Entity) string {
	pod := e.Name
	if e.Kind != "Pod" {
		pod = e.Name + "-.*"
	}
	return fmt.Sprintf(`{namespace=%q, pod=~%q} |~ "(?i)error|fatal|panic|exception|refused|timeout|denied|killed"`, e.Namespace, pod)
}

// judge numbers the evidence, applies the rules to every subject, and keeps
// what holds.
func (d *draft) judge(ctx context.Context, subjects []subject) error {
	anomalies := d.anomalyEvidence()
	for _, s := range subjects {
		in := rule.Input{
			Entity: s.entity, Anomalies: d.anomaliesOf(s.entity), Changes: d.inc.Changes, Evidence: s.answers, Context: d.r.cfg.KubeContext,
		}
		matches, err := d.r.rules.Eval(ctx, in)
		if err != nil {
			return err
		}
		for _, m := range matches {
			var cited []string
			for _, name := range m.Evidence {
				if e, ok := s.answers[name]; ok && e.Failed == "" {
					cited = append(cited, d.cite(e))
				}
			}
			if cited == nil {
				cited = anomalies[s.entity]
			}
			if cited == nil && len(in.Anomalies) > 0 {
				cited = []string{d.cite(observed(in.Anomalies[0]))}
			}
			if cited == nil {
				for _, c := range d.inc.Changes {
					cited = append(cited, d.cite(changed(c)))
					break
				}
			}
			if cited == nil {
				continue // nothing to show for it
			}
			m.Finding.Evidence = slices.Compact(cited)
			d.report.Findings = append(d.report.Findings, m.Finding)
			d.tags = append(d.tags, m.Tags...)
			d.rules = append(d.rules, m.Finding.Rule)
		}
		d.account(s)
	}
	rank := map[event.Confidence]int{event.High: 0, event.Medium: 1, event.Low: 2}
	slices.SortStableFunc(d.report.Findings, func(a, b event.Finding) int {
		if a.Cause != b.Cause {
			if a.Cause {
				return -1
			}
			return 1
		}
		if c := b.Severity.Number() - a.Severity.Number(); c != 0 {
			return c
		}
		return rank[a.Confidence] - rank[b.Confidence]
	})
	return nil
}

// account says of a subject's look-ups which found nothing and which gave no
// answer.
func (d *draft) account(s subject) {
	for _, name := range rule.Lookups {
		e, ok := s.answers[name]
		switch {
		case !ok:
		case e.Failed != "":
			d.report.Unknown = append(d.report.Unknown, fmt.Sprintf("%s of %s: %s", name, s.entity, e.Failed))
		case name == "logs" && len(e.Excerpt) == 0:
			d.report.Checked = append(d.report.Checked, "no error lines in the logs of "+s.entity.String())
		case name == "events" && len(e.Excerpt) == 0:
			d.report.Checked = append(d.report.Checked, "no events about "+s.entity.String())
		}
	}
}

func (d *draft) anomaliesOf(e event.Entity) []event.Anomaly {
	var out []event.Anomaly
	for _, a := range d.inc.Anomalies {
		if a.Entity == e || belongs(a.Entity, e) || e == d.inc.Entity && a.Entity.Namespace == e.Namespace && a.Entity.Name == e.Name {
			out = append(out, a)
		}
	}
	return out
}

// belongs says whether a pod carries a workload's name.
func belongs(pod, workload event.Entity) bool {
	return pod.Kind == "Pod" && pod.Namespace == workload.Namespace && event.WorkloadOfPod(pod.Name) == workload.Name
}

// maxAnomalyEvidence bounds how many anomalies become evidence.
const maxAnomalyEvidence = 6

// anomalyEvidence makes evidence of the worst anomalies: the query and what it
// showed is what they rest on.
func (d *draft) anomalyEvidence() map[event.Entity][]string {
	out := map[event.Entity][]string{}
	n := 0
	for _, a := range d.inc.Anomalies {
		if n == maxAnomalyEvidence || a.Severity == event.Info {
			continue
		}
		n++
		id := d.cite(observed(a))
		out[a.Entity] = append(out[a.Entity], id)
		if a.Entity.Kind == "Pod" {
			w := event.Entity{Namespace: a.Entity.Namespace, Kind: d.inc.Entity.Kind, Name: event.WorkloadOfPod(a.Entity.Name)}
			out[w] = append(out[w], id)
		}
	}
	return out
}

// observed is an anomaly as evidence.
func observed(a event.Anomaly) event.Evidence {
	q := evidence.Query{Source: "anomaly", Expr: a.Detector + " " + a.Signal, Start: a.Onset, End: a.WindowEnd, Entity: a.Entity}
	lines := []string{a.Summary}
	if len(a.Evidence) > 0 {
		q.Source, q.Expr = a.Evidence[0].Source, a.Evidence[0].Query
		lines = append(lines, a.Evidence[0].Excerpt...)
	}
	e := evidence.New(q, lines, map[string]any{"observed": a.Observed, "tail_prob": a.TailProb, "detector": a.Detector})
	e.Entity = a.Entity
	return e
}

// changed is a change as evidence.
func changed(c event.Change) event.Evidence {
	lines := []string{fmt.Sprintf("%s %s %s", c.Time.UTC().Format(time.RFC3339), c.Kind, c.Summary)}
	for _, f := range c.Fields {
		lines = append(lines, fmt.Sprintf("%s: %q -> %q", f.Path, f.From, f.To))
	}
	q := evidence.Query{Source: evidence.Kubernetes, Expr: fmt.Sprintf("change %s revision %s", c.Entity, c.Revision), Start: c.Time, End: c.Time, Entity: c.Entity}
	e := evidence.New(q, lines, nil)
	e.Entity = c.Entity
	return e
}

// cite numbers a piece of evidence in the report: E1, E2 …
func (d *draft) cite(e event.Evidence) string {
	for _, o := range d.report.Evidence {
		if o.QueryHash == e.QueryHash && o.Digest == e.Digest {
			return o.ID
		}
	}
	e.ID = fmt.Sprintf("E%d", len(d.report.Evidence)+1)
	// The whole object stays in the EVIDENCE stream; a report shows lines.
	e.Values = scalars(e.Values)
	e.Excerpt = e.Excerpt[:min(len(e.Excerpt), 10)]
	d.report.Evidence = append(d.report.Evidence, e)
	return e.ID
}

func scalars(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		switch v.(type) {
		case string, float64, bool, int:
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
