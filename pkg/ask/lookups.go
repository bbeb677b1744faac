package ask

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/runbook"
	"github.com/oncall-copilot/oncall/pkg/triage"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

func (b *Toolbox) health() *tool {
	type args struct {
		Namespace string `json:"namespace,omitempty"`
	}
	return define("health", "What is broken now or soon among the objects of a namespace (or of all in scope), one line each with its cause.", `"namespace":{"type":"string"}`,
		func(a *args) error {
			if a.Namespace == "" {
				if len(b.Scope.Namespaces) == 0 {
					return nil
				}
				if len(b.Scope.Namespaces) > 1 {
					return errors.New("namespace is missing: " + strings.Join(b.Scope.Namespaces, " or "))
				}
				a.Namespace = b.Scope.Namespaces[0]
			}
			return b.Scope.holds(a.Namespace)
		},
		func(ctx context.Context, a args) (event.Evidence, error) {
			h, err := b.src.Health(ctx, a.Namespace)
			if err != nil {
				return event.Evidence{}, err
			}
			return b.found(evidence.Kubernetes, strings.TrimSpace("health "+a.Namespace), event.Entity{}, Condition(h)), nil
		})
}

// Condition is a result of health in lines.
func Condition(h *check.Result) []string {
	var lines []string
	for _, r := range h.Roots {
		if r.Urgency != event.Hygiene {
			lines = append(lines, fmt.Sprintf("%s %s %s", r.Urgency, check.Name(r.Entity), r.Line(h.Time)))
		}
	}
	if len(lines) == 0 {
		lines = []string{fmt.Sprintf("nothing is broken; %d pods and %d nodes were examined", h.Pods, h.Nodes)}
	}
	for _, u := range h.NotChecked {
		lines = append(lines, fmt.Sprintf("not checked: %s: %s", u.What, u.Why))
	}
	return lines
}

func (b *Toolbox) look(ctx context.Context, e event.Entity) (*triage.Result, error) {
	if r := b.seen[e]; r != nil {
		return r, nil
	}
	r, err := b.src.Triage(ctx, e)
	if err == nil {
		b.seen[e] = r
	}
	return r, err
}

// ofWorkload is a tool that tells a part of what triage finds of a workload.
func (b *Toolbox) ofWorkload(name, doc string, tell func(about string, r *triage.Result) event.Evidence) *tool {
	return define(name, doc, kindDoc,
		func(o *object) error { return b.object(o, workloads) },
		func(ctx context.Context, o object) (event.Evidence, error) {
			r, err := b.look(ctx, o.entity())
			if err != nil {
				return event.Evidence{}, err
			}
			return tell(o.entity().String(), r), nil
		})
}

func (b *Toolbox) triage() *tool {
	return b.ofWorkload("triage", "Everything at once about one workload or pod: status, verdict, pods, how containers ended, failed probes, changes, error patterns of logs, metrics.",
		func(about string, r *triage.Result) event.Evidence {
			return b.found(evidence.Kubernetes, "triage "+about, r.Entity, Situation(r))
		})
}

// Situation is a result of triage in lines.
func Situation(r *triage.Result) []string {
	at := func(t time.Time) string { return t.UTC().Format("15:04:05") }
	lines := []string{fmt.Sprintf("%s %s", check.Name(r.Entity), r.Status)}
	if r.Verdict.Confidence != "" {
		lines = append(lines, fmt.Sprintf("likely cause (%s): %s %s", r.Verdict.Confidence, r.Verdict.Text, r.Verdict.Detail))
	} else {
		lines = append(lines, "verdict: "+r.Verdict.Text)
	}
	for _, s := range r.Verdict.Besides {
		lines = append(lines, fmt.Sprintf("beside that (%s): %s", s.Confidence, s.Text))
	}
	for _, p := range r.Pods[:min(len(r.Pods), 4)] {
		lines = append(lines, fmt.Sprintf("pod %s %s on %s", p.Name, p.State, p.Node))
		for _, c := range p.Containers {
			if c.Last != nil {
				lines = append(lines, fmt.Sprintf("container %s: %d restarts, last ended %s with exit code %d at %s", c.Name, c.Restarts, c.Last.Reason, c.Last.ExitCode, at(c.Last.Finished)))
			}
		}
	}
	for _, c := range r.Changes[:min(len(r.Changes), 4)] {
		lines = append(lines, fmt.Sprintf("change %s revision %s: %s", at(c.Time), c.Revision, c.Summary))
	}
	for _, p := range r.Probes[:min(len(r.Probes), 3)] {
		lines = append(lines, fmt.Sprintf("%s probe failed %d times until %s: %s", p.Kind, p.Count, at(p.Last), p.Message))
	}
	for _, p := range r.Logs.Patterns[:min(len(r.Logs.Patterns), 5)] {
		if p.Trouble {
			lines = append(lines, fmt.Sprintf("log x%d until %s: %s", p.Count, at(p.Last), p.Example))
		}
	}
	for _, m := range r.Metrics {
		lines = append(lines, measured(m))
	}
	for _, n := range r.Neighbours[:min(len(r.Neighbours), 4)] {
		lines = append(lines, fmt.Sprintf("also in trouble: %s %s", check.Name(n.Entity), n.Status))
	}
	for _, u := range r.NotRead {
		lines = append(lines, fmt.Sprintf("not read: %s: %s", u.What, u.Why))
	}
	return lines
}

func measured(m triage.Metric) string {
	q := func(v float64) string { return triage.Quantity(v, m.Unit) }
	return fmt.Sprintf("metric %s: now %s, first %s, lowest %s, highest %s", m.Signal, q(m.Last), q(m.First), q(m.Min), q(m.Max))
}

func (b *Toolbox) metrics() *tool {
	return b.ofWorkload("metrics", "The golden signals of one workload over the last hour: request rate, error ratio, latency, CPU, throttling, memory, restarts, as its Prometheus has them.",
		func(about string, r *triage.Result) event.Evidence {
			var lines []string
			for _, m := range r.Metrics {
				lines = append(lines, measured(m))
			}
			if len(lines) == 0 {
				for _, u := range r.NotRead {
					if strings.HasPrefix(u.What, "metric") {
						return event.Evidence{Failed: u.Why}
					}
				}
			}
			return b.found(evidence.Prometheus, "golden signals of "+about, r.Entity, lines)
		})
}

func (b *Toolbox) promql() *tool {
	type args struct {
		Expr    string `json:"expr"`
		Minutes int    `json:"minutes,omitempty"` // 0: now
	}
	return define("promql", "One PromQL expression, now or over the last minutes; at most 20 series, summarised. It is confined to the scope.", `"expr":{"type":"string"},"minutes":{"type":"integer","minimum":0,"maximum":1440}`,
		func(a *args) error {
			if a.Minutes < 0 || a.Minutes > maxMinutes {
				return fmt.Errorf("minutes %d is not between 0 and %d", a.Minutes, maxMinutes)
			}
			return checkPromQL(a.Expr)
		},
		func(ctx context.Context, a args) (event.Evidence, error) {
			expr := upstream.InjectPromQL(a.Expr, b.Scope.matchers())
			if b.src.Parse != nil {
				if err := b.src.Parse(ctx, expr); err != nil {
					return event.Evidence{}, err
				}
			}
			q := evidence.Query{Source: evidence.Prometheus, Expr: expr, Limit: maxSeries}
			q.Start, q.End = b.span(a.Minutes)
			if a.Minutes > 0 {
				q.Step = triage.Step(q.End.Sub(q.Start))
			} else {
				q.Start = time.Time{}
			}
			return b.src.Prometheus.Retrieve(ctx, q)
		})
}

func (b *Toolbox) logs() *tool {
	type args struct {
		object
		Contains string `json:"contains,omitempty"`
		Minutes  int    `json:"minutes,omitempty"`
	}
	return define("logs", "The log lines of one workload or pod in the last minutes, grouped by pattern, with an example each; contains keeps the lines that hold this text.", kindDoc+`,"contains":{"type":"string"},`+timeDoc,
		func(a *args) error {
			if a.Kind == "" {
				a.Kind = "Deployment"
			}
			if err := b.object(&a.object, workloads); err != nil {
				return err
			}
			if len(a.Contains) > 100 || strings.ContainsFunc(a.Contains, unicode.IsControl) {
				return errors.New("contains is longer than 100 bytes, or holds control characters")
			}
			return minutes(&a.Minutes, 60)
		},
		func(ctx context.Context, a args) (event.Evidence, error) {
			start, end := b.span(a.Minutes)
			e := a.entity()
			if b.src.Loki == nil {
				if a.Kind != "Pod" {
					return event.Evidence{Failed: "there is no Loki; name one pod, whose log the API server gives"}, nil
				}
				q := evidence.Query{Source: evidence.Kubernetes, Expr: fmt.Sprintf("logs %s/%s", a.Namespace, a.Name), Start: start, End: end, Limit: evidence.MaxLimit, Entity: e}
				got, err := b.src.Kubernetes.Retrieve(ctx, q)
				return grouped(got, a.Contains), err
			}
			pod := regexp.QuoteMeta(a.Name)
			if a.Kind != "Pod" {
				pod += "-.+"
			}
			expr := fmt.Sprintf("{namespace=%q, pod=~%q}", a.Namespace, pod)
			if a.Contains != "" {
				expr += fmt.Sprintf(" |~ %q", "(?i)"+regexp.QuoteMeta(a.Contains))
			}
			got, err := b.src.Loki.Retrieve(ctx, evidence.Query{Source: evidence.Loki, Expr: expr, Start: start, End: end, Limit: evidence.MaxLimit, Entity: e})
			return grouped(got, ""), err
		})
}

// maxPatterns is how many patterns of lines are told.
const maxPatterns = 12

// grouped are the lines of an answer by pattern, the most serious and then the
// most frequent first.
func grouped(e event.Evidence, contains string) event.Evidence {
	if e.Failed != "" {
		return e
	}
	type group struct {
		n           int
		level       logpattern.Level
		first, last string // times
		example     string
	}
	miner := logpattern.New(logpattern.Config{})
	groups := map[uint64]*group{}
	var order []*group
	lines := 0
	for _, l := range e.Excerpt {
		if contains != "" && !strings.Contains(strings.ToLower(l), strings.ToLower(contains)) {
			continue
		}
		lines++
		at, text, _ := strings.Cut(l, " ")
		m := miner.Add(text)
		g := groups[m.ID]
		if g == nil {
			g = &group{first: at}
			groups[m.ID] = g
			order = append(order, g)
		}
		g.n, g.last, g.example = g.n+1, at, text
		g.level = max(g.level, m.Level)
	}
	slices.SortStableFunc(order, func(a, b *group) int {
		if a.level != b.level {
			return int(b.level) - int(a.level)
		}
		return b.n - a.n
	})
	e.Excerpt = []string{fmt.Sprintf("%d lines were read", lines)}
	if e.Truncated {
		e.Excerpt[0] += ", the newest of more"
	}
	for _, g := range order[:min(len(order), maxPatterns)] {
		e.Excerpt = append(e.Excerpt, fmt.Sprintf("x%d from %s to %s: %s", g.n, g.first, g.last, g.example))
	}
	if n := len(order) - maxPatterns; n > 0 {
		e.Truncated = true
	}
	return e
}

func (b *Toolbox) events() *tool {
	type args struct {
		object
		Minutes int `json:"minutes,omitempty"`
	}
	return define("events", "Kubernetes events about one object and what it owns in the last minutes, newest last.", kindDoc+`,`+timeDoc,
		func(a *args) error {
			if err := b.object(&a.object, described); err != nil {
				return err
			}
			return minutes(&a.Minutes, 60)
		},
		func(ctx context.Context, a args) (event.Evidence, error) {
			q := evidence.Query{Source: evidence.Kubernetes, Expr: fmt.Sprintf("events %s %s/%s", a.Namespace, a.Kind, a.Name), Limit: maxLines, Entity: a.entity()}
			q.Start, q.End = b.span(a.Minutes)
			q.End = q.End.Add(5 * time.Minute) // clocks differ
			return b.src.Kubernetes.Retrieve(ctx, q)
		})
}

func (b *Toolbox) describe() *tool {
	return define("describe", "One object: its specification and status, without values of environment variables. Kinds: "+strings.Join(described, ", ")+".", kindDoc,
		func(o *object) error { return b.object(o, described) },
		func(ctx context.Context, o object) (event.Evidence, error) {
			name := o.Name
			if o.Namespace != "" {
				name = o.Namespace + "/" + o.Name
			}
			return b.src.Kubernetes.Retrieve(ctx, evidence.Query{Source: evidence.Kubernetes, Expr: fmt.Sprintf("object %s %s", o.Kind, name), Limit: 1, Entity: o.entity()})
		})
}

func (b *Toolbox) changes() *tool {
	return b.ofWorkload("changes", "The rollouts of one workload, newest first, with what each changed.",
		func(about string, r *triage.Result) event.Evidence {
			var lines []string
			for _, c := range r.Changes {
				lines = append(lines, fmt.Sprintf("%s revision %s: %s", c.Time.UTC().Format(time.RFC3339), c.Revision, c.Summary))
				for _, f := range c.Fields {
					lines = append(lines, fmt.Sprintf("revision %s: %s %q -> %q", c.Revision, f.Path, f.From, f.To))
				}
			}
			return b.found(evidence.Kubernetes, "revisions "+about, r.Entity, lines)
		})
}

func (b *Toolbox) runbooks() *tool {
	type args struct {
		Text string `json:"text"`
	}
	return define("runbooks", "The team's runbooks that fit some words, such as a symptom.", `"text":{"type":"string"}`,
		func(a *args) error {
			if strings.TrimSpace(a.Text) == "" || len(a.Text) > 300 {
				return errors.New("text is missing, or longer than 300 bytes")
			}
			return nil
		},
		func(_ context.Context, a args) (event.Evidence, error) {
			books, err := b.src.Runbooks.Find(runbook.Query{Text: a.Text})
			if err != nil {
				return event.Evidence{}, err
			}
			var lines []string
			for _, r := range books {
				lines = append(lines, fmt.Sprintf("runbook %s (%s): %s", r.Title, r.Path, strings.Join(strings.Fields(r.Excerpt), " ")))
			}
			return b.found("runbooks", "runbooks "+a.Text, event.Entity{}, lines), nil
		})
}

// maxIncidents is how many past incidents are told.
const maxIncidents = 10

func (b *Toolbox) incidents() *tool {
	type args struct {
		Namespace string `json:"namespace,omitempty"`
		Name      string `json:"name,omitempty"`
	}
	return define("incidents", "Past and open incidents that the pipeline recorded, newest first, of a namespace or of the workloads of a name.", `"namespace":{"type":"string"},"name":{"type":"string"}`,
		func(a *args) error {
			if a.Namespace == "" {
				return nil // those in scope
			}
			return b.Scope.holds(a.Namespace)
		},
		func(ctx context.Context, a args) (event.Evidence, error) {
			all, err := b.src.Incidents(ctx)
			if err != nil {
				return event.Evidence{}, err
			}
			var lines []string
			for _, i := range all {
				ns := i.Entity.Namespace
				if len(lines) == maxIncidents || a.Namespace != "" && ns != a.Namespace || a.Name != "" && i.Entity.Name != a.Name || a.Namespace == "" && ns != "" && b.Scope.holds(ns) != nil {
					continue
				}
				cause := ""
				if len(i.Suspects) > 0 {
					cause = "; suspected: " + i.Suspects[0].Why
				}
				lines = append(lines, fmt.Sprintf("incident %s %s %s since %s: %s %s%s", event.ShortID(i.ID), i.Priority, i.State, i.Onset.UTC().Format(time.RFC3339), check.Name(i.Entity), i.Title, cause))
			}
			return b.found("incidents", strings.TrimSpace("incidents "+a.Namespace+" "+a.Name), event.Entity{}, lines), nil
		})
}
