package reasoner

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

// draft is a report in the making.
type draft struct {
	r      *Reasoner
	in     *policies // in force when the draft began
	inc    event.Incident
	report event.Report
	tags   []string
	rules  []string
	pasts  map[string]past // what Loki knows of before, by the key of the anomaly
	unread []unread
	misses []miss
}

// judge applies the rules to every subject, keeps what holds with the evidence
// that shows it, and adds what the detectors saw.
func (d *draft) judge(ctx context.Context, subjects []subject) error {
	d.observations()
	for _, s := range subjects {
		in := rule.Input{
			Entity: s.entity, Anomalies: d.anomaliesOf(s.entity), Changes: d.inc.Changes, Evidence: s.answers, Context: d.r.cfg.KubeContext,
		}
		matches, err := d.in.rules.Eval(ctx, in)
		if err != nil {
			return err
		}
		for _, m := range matches {
			cited := d.citations(m, in)
			if cited == nil {
				continue // nothing to show for it
			}
			m.Finding.Evidence = cited
			m.Finding.Rollback = d.undoable(m.Finding)
			d.report.Findings = append(d.report.Findings, m.Finding)
			d.tags = append(d.tags, m.Tags...)
			d.rules = append(d.rules, m.Finding.Rule)
		}
		d.account(s)
	}
	d.unsaid()
	d.recall()
	d.unknowns(subjects)
	slices.SortStableFunc(d.report.Findings, func(a, b event.Finding) int {
		return cmp.Or(cmp.Compare(group(a), group(b)), cmp.Compare(b.Severity.Number(), a.Severity.Number()), cmp.Compare(rank(a.Confidence), rank(b.Confidence)))
	})
	return nil
}

// group orders findings for a reader: what users feel, what explains it, the
// rest.
func group(f event.Finding) int {
	switch {
	case f.Rule == symptomRule:
		return 0
	case f.Cause:
		return 1
	}
	return 2
}

func rank(c event.Confidence) int {
	return slices.Index([]event.Confidence{event.High, event.Medium, event.Low}, c)
}

// undoable leaves a roll-back to the revision before out when no rollout is
// known to have happened: it would undo something that is not the trouble. A
// first rollout has none before it.
func (d *draft) undoable(f event.Finding) []event.Check {
	if slices.ContainsFunc(d.inc.Changes, func(c event.Change) bool {
		return c.Kind == event.Rollout && !c.First && (c.Entity == f.Entity || c.Entity.Namespace == f.Entity.Namespace && c.Entity.Name == f.Entity.Name)
	}) {
		return f.Rollback
	}
	return slices.DeleteFunc(slices.Clone(f.Rollback), event.Check.Undoes)
}

// The rules that findings of detectors are attributed to.
const (
	symptomRule = "symptom"
	anomalyRule = "anomaly"
)

// maxAnomalies bounds how many anomalies become findings of their own.
const maxAnomalies = 6

// observations states what users feel: the symptoms, each with the query it was
// seen with.
func (d *draft) observations() {
	n := 0
	for _, a := range d.inc.Anomalies {
		if n == maxAnomalies || a.Class != event.ClassSymptom || a.Severity == event.Info || a.Ended != nil && d.inc.State == event.Open && n > 0 {
			continue
		}
		n++
		d.report.Findings = append(d.report.Findings, d.seen(symptomRule, a))
	}
}

// unsaid adds the anomalies that no rule and no symptom speaks of.
func (d *draft) unsaid() {
	n := 0
	for _, a := range d.inc.Anomalies {
		if n == maxAnomalies || a.Class == event.ClassSymptom || a.Severity == event.Info || a.Detector == "change" {
			continue
		}
		if slices.ContainsFunc(d.report.Findings, func(f event.Finding) bool {
			return strings.Contains(f.Title, a.Summary) || strings.Contains(f.Detail, a.Summary) || f.Entity == d.root(a.Entity) && says(f, a.Signal)
		}) {
			continue
		}
		n++
		d.report.Findings = append(d.report.Findings, d.seen(anomalyRule, a))
	}
}

// says tells whether a finding speaks of the reason of an event: an anomaly
// that counts OOMKilling says nothing beside "6 of 6 pods OOMKilled".
func says(f event.Finding, signal string) bool {
	stem := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(signal), "ing"), "ed")
	return len(stem) > 3 && strings.Contains(strings.ToLower(f.Title+" "+f.Detail), stem)
}

// seen is an anomaly as a finding. That something is so is known when chance
// does not give it.
func (d *draft) seen(name string, a event.Anomaly) event.Finding {
	f := event.Finding{
		ID: event.FindingID(name+" "+a.Detector+" "+a.Signal, a.Entity), Rule: name, Entity: a.Entity, Urgency: event.Broken, Severity: a.Severity,
		Confidence: event.High, Title: a.Summary, Since: a.Onset, Evidence: []string{d.cite(observed(a))},
	}
	if a.TailProb > 1e-6 {
		f.Confidence = event.Medium
	}
	if a.Ended != nil {
		f.Detail = "Over since " + clock(*a.Ended) + "."
	}
	return f
}

// account says of a subject's look-ups which found what is normal.
func (d *draft) account(s subject) {
	note := func(text string) { d.report.Checked = append(d.report.Checked, text) }
	answered := func(name string) (event.Evidence, bool) {
		e, ok := s.answers[name]
		return e, ok && e.Failed == ""
	}
	if e, ok := answered("pods"); ok && s.entity.Kind != "Node" {
		items, _ := e.Values["items"].([]any)
		n, restarts := 0, 0.0
		for _, p := range items {
			pod, _ := p.(map[string]any)
			status := child(pod, "status")
			if ready(status) {
				n++
			}
			cs, _ := status["containerStatuses"].([]any)
			for _, c := range cs {
				c, _ := c.(map[string]any)
				r, _ := c["restartCount"].(float64)
				restarts += r
			}
		}
		if n == len(items) && n > 0 && restarts == 0 {
			note(fmt.Sprintf("%s of %s ready, no restarts", evidence.Count(n, "pod"), s.entity))
		}
	}
	if e, ok := answered("node"); ok {
		o, _ := e.Values["object"].(map[string]any)
		name, _ := child(o, "metadata")["name"].(string)
		if ready(child(o, "status")) {
			note("node " + name + " is Ready")
		}
	}
	if e, ok := answered("object"); ok && s.entity.Kind == "Node" {
		o, _ := e.Values["object"].(map[string]any)
		if ready(child(o, "status")) {
			note(s.entity.String() + " is Ready")
		}
	}
	if e, ok := answered("events"); ok && len(e.Excerpt) == 0 {
		note("no events about " + s.entity.String())
	}
	if e, ok := answered("logs"); ok && len(e.Excerpt) == 0 {
		note("no error lines in the logs of " + s.entity.String())
	}
}

// titles of look-ups for people.
var titles = map[string]string{
	"pods": "pods", "object": "state", "events": "events", "logs": "logs", "crash": "last lines before the crash", "node": "node", "hpa": "autoscaler",
}

// miss is what gave no answer for one reason.
type miss struct {
	why  string
	what []string
}

func (d *draft) miss(what, why string) {
	if i := slices.IndexFunc(d.misses, func(m miss) bool { return m.why == why }); i >= 0 {
		d.misses[i].what = append(d.misses[i].what, what)
		return
	}
	d.misses = append(d.misses, miss{why, []string{what}})
}

// unknowns lists the look-ups that gave no answer, those that failed alike in
// one line.
func (d *draft) unknowns(subjects []subject) {
	for _, s := range subjects {
		for _, name := range rule.Lookups {
			e, ok := s.answers[name]
			optional := name == "hpa" || name == "crash" || name == "node"
			if !ok || e.Failed == "" || optional && strings.Contains(strings.ToLower(e.Failed), "not found") {
				continue
			}
			d.miss(titles[name]+" of "+s.entity.String(), e.Failed)
		}
	}
	for _, q := range d.unread {
		d.miss(q.what, q.why)
	}
	for _, m := range d.misses {
		if n := len(m.what); n > 3 {
			m.what = append(m.what[:3:3], fmt.Sprintf("%d more look-ups", n-3))
		}
		d.report.Unknown = append(d.report.Unknown, strings.Join(m.what, ", ")+": "+m.why)
	}
}

func (d *draft) anomaliesOf(e event.Entity) []event.Anomaly {
	var out []event.Anomaly
	for _, a := range d.inc.Anomalies {
		if a.Entity == e || d.root(a.Entity) == e || e == d.inc.Entity && a.Entity.Namespace == e.Namespace && a.Entity.Name == e.Name {
			out = append(out, a)
		}
	}
	return out
}

// root is the workload of the incident that a pod's name says it belongs to,
// or the entity itself.
func (d *draft) root(e event.Entity) event.Entity {
	if e.Kind != "Pod" {
		return e
	}
	name := event.WorkloadOfPod(e.Name)
	for _, r := range append([]event.Entity{d.inc.Entity}, d.inc.Related...) {
		if r.Kind != "Pod" && r.Namespace == e.Namespace && r.Name == name {
			return r
		}
	}
	return e
}
