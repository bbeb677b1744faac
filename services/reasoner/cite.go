package reasoner

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/grounding"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

// citations are the ids of the evidence that shows what a rule claims: of the
// look-ups it read, the anomalies and the changes, as many as it takes to show
// every number and name in the claim.
func (d *draft) citations(m rule.Match, in rule.Input) []string {
	var candidates []event.Evidence
	for _, name := range m.Evidence {
		if e, ok := in.Evidence[name]; ok && e.Failed == "" && (len(e.Excerpt) > 0 || len(e.Values) > 0) {
			candidates = append(candidates, e)
		}
	}
	for _, a := range in.Anomalies {
		candidates = append(candidates, observed(a))
	}
	for _, c := range in.Changes {
		candidates = append(candidates, changed(c))
	}
	if len(candidates) == 0 {
		return nil
	}
	claim := m.Finding.Title + "\n" + m.Finding.Detail
	known := &grounding.Facts{}
	known.AddEntity(in.Entity)
	var ids []string
	missing := len(known.Check(claim))
	for _, e := range candidates {
		if missing == 0 && len(ids) > 0 {
			break
		}
		known.AddEvidence(e)
		if now := len(known.Check(claim)); now < missing {
			missing = now
			ids = append(ids, d.cite(e))
		}
	}
	if ids == nil {
		ids = []string{d.cite(candidates[0])}
	}
	return slices.Compact(ids)
}

// observed is an anomaly as evidence: what was seen, and the query that shows
// it.
func observed(a event.Anomaly) event.Evidence {
	q := evidence.Query{Source: "anomaly", Expr: a.Detector + " " + a.Signal, Start: a.Onset, End: a.WindowEnd, Entity: a.Entity}
	lines := []string{a.Summary}
	if a.Explanation != "" {
		lines = append(lines, a.Explanation)
	}
	if len(a.Evidence) > 0 {
		q.Source, q.Expr = a.Evidence[0].Source, a.Evidence[0].Query
		lines = append(lines, a.Evidence[0].Excerpt...)
	}
	if a.Ended != nil {
		lines = append(lines, "over since "+a.Ended.UTC().Format(time.RFC3339))
	}
	e := evidence.New(q, lines, map[string]any{"observed": a.Observed, "tail_prob": a.TailProb, "detector": a.Detector})
	e.Entity = a.Entity
	return e
}

// changed is a change as evidence.
func changed(c event.Change) event.Evidence {
	lines := []string{fmt.Sprintf("%s %s %s", c.Time.UTC().Format(time.RFC3339), c.Kind, c.Summary)}
	if c.Actor != "" {
		lines[0] += ", by " + c.Actor
	}
	for _, f := range c.Fields {
		lines = append(lines, fmt.Sprintf("%s: %q -> %q", f.Path, f.From, f.To))
	}
	q := evidence.Query{Source: evidence.Kubernetes, Expr: fmt.Sprintf("change %s revision %s", c.Entity, c.Revision), Start: c.Time, End: c.Time, Entity: c.Entity}
	e := evidence.New(q, lines, nil)
	e.Entity = c.Entity
	return e
}

// cite numbers a piece of evidence in the report: E1, E2 and so on.
func (d *draft) cite(e event.Evidence) string {
	for _, o := range d.report.Evidence {
		if o.QueryHash == e.QueryHash && o.Digest == e.Digest {
			return o.ID
		}
	}
	e.ID = fmt.Sprintf("E%d", len(d.report.Evidence)+1)
	// The whole object stays in the EVIDENCE stream; a report shows lines.
	e.Values, e.Excerpt = scalars(e.Values), slices.Clone(e.Excerpt)
	d.report.Evidence = append(d.report.Evidence, e)
	return e.ID
}

// Bounds of evidence in a report.
const (
	maxExcerptLines = 10
	maxExcerptLine  = 500
)

// trim cuts the cited evidence to the lines that show what the findings claim,
// and fills up with the first, or for what is in order of time the last.
func (d *draft) trim() {
	for i := range d.report.Evidence {
		e := &d.report.Evidence[i]
		for j, l := range e.Excerpt {
			e.Excerpt[j] = clip(l, maxExcerptLine)
		}
		object := strings.HasPrefix(e.Query, "object ")
		if len(e.Excerpt) <= maxExcerptLines && !object {
			continue
		}
		var claims []string
		for _, f := range d.report.Findings {
			if slices.Contains(f.Evidence, e.ID) {
				claims = append(claims, f.Title, f.Detail)
			}
		}
		keep := shows(e.Excerpt, grounding.Needed(strings.Join(claims, "\n")))
		if object && len(keep) > 0 {
			keep[0] = true // what it is; of the rest only what the claims need
		}
		timed := strings.HasPrefix(e.Query, "events ") || strings.HasPrefix(e.Query, "logs ") || e.Source == evidence.Loki
		for k := 0; k < len(e.Excerpt) && len(keep) < maxExcerptLines && !(object && len(keep) > 1); k++ {
			at := k
			if timed {
				at = len(e.Excerpt) - 1 - k
			}
			keep[at] = true
		}
		var lines []string
		for k, l := range e.Excerpt {
			if keep[k] {
				lines = append(lines, l)
			}
		}
		e.Truncated = e.Truncated || len(lines) < len(e.Excerpt)
		e.Excerpt = lines
	}
}

// shows picks lines that hold the needed words, few at best: a line is taken
// when it holds a word that no line before it held.
func shows(lines []string, needed []string) map[int]bool {
	keep, have := map[int]bool{}, map[string]bool{}
	for i, l := range lines {
		known := grounding.Of(l)
		for _, w := range needed {
			if !have[w] && len(keep) < maxExcerptLines && len(known.Check(w)) == 0 {
				keep[i], have[w] = true, true
			}
		}
	}
	return keep
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
