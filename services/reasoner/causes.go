package reasoner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// maxCauses bounds the causes that are stated: who reads a fourth has no cause.
const maxCauses = 3

// maxCitations bounds the ids behind one cause.
const maxCitations = 5

// causes joins what the correlator suspects with what the rules found. A cause
// that nothing but weak hints speaks for is not stated, and a weak one is not
// stated beside one that is all but certain: it sends people two ways.
func (d *draft) causes() {
	r := &d.report
	var all []candidate
	for _, s := range d.inc.Suspects {
		c := d.doubted(d.candidate(s))
		if c.Confidence != "" && len(c.Evidence)+len(c.facts) > 0 && !slices.ContainsFunc(all, func(o candidate) bool { return o.Text == c.Text }) {
			all = append(all, c)
		}
	}
	if slices.ContainsFunc(all, func(c candidate) bool { return c.Confidence == event.High }) {
		all = slices.DeleteFunc(all, func(c candidate) bool { return c.Confidence == event.Low })
	}
	for _, c := range all[:min(len(all), maxCauses)] {
		ids := make([]string, 0, maxCitations)
		for _, e := range c.facts {
			ids = append(ids, d.cite(e))
		}
		for _, id := range c.Evidence {
			if !slices.Contains(ids, id) && len(ids) < maxCitations {
				ids = append(ids, id)
			}
		}
		slices.SortFunc(ids, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }) // E2 before E10
		c.Evidence = ids
		r.Causes = append(r.Causes, c.Cause)
	}
	if len(r.Causes) > 0 {
		return
	}
	for _, f := range r.Findings {
		if f.Cause && f.Confidence != event.Low && (d.inc.Symptom == "" || !strings.Contains(f.Title, d.inc.Symptom)) {
			r.Causes = append(r.Causes, event.Cause{
				Text: d.about(f.Entity, f.Title), Entity: f.Entity, Confidence: lower(f.Confidence), Evidence: f.Evidence,
			})
			return
		}
	}
}

// candidate is a cause that may be stated, with the ids of what the rules cite
// and facts that are cited once it is.
type candidate struct {
	event.Cause
	facts []event.Evidence
}

// candidate says of a suspect what the rules know of it.
func (d *draft) candidate(s event.Suspect) candidate {
	c := candidate{Cause: event.Cause{Text: s.Why, Entity: s.Entity, Confidence: s.Confidence, Score: s.Score}}
	if s.Change != nil {
		c.Text = changeText(*s.Change, s.Entity)
		c.facts = append(c.facts, changed(*s.Change))
	}
	explained := false
	for _, f := range d.report.Findings {
		if !f.Cause || f.Entity != s.Entity {
			continue
		}
		c.Evidence = append(c.Evidence, f.Evidence...)
		if s.Change == nil && !explained {
			c.Text = d.about(s.Entity, f.Title)
			if c.Confidence == event.Low && f.Confidence == event.High {
				c.Confidence = event.Medium // what the correlator suspects, a rule explains
			}
		}
		explained = true
	}
	if len(c.Evidence)+len(c.facts) > 0 {
		return c
	}
	for _, a := range d.anomaliesOf(s.Entity) {
		if a.Class != event.ClassSymptom {
			c.facts = append(c.facts, observed(a))
			break
		}
	}
	return c
}

// doubted is a cause that is an anomaly which Loki speaks against, with that.
func (d *draft) doubted(c candidate) candidate {
	if p, ok := d.doubtOf(c.Text); ok {
		c.Text += "; " + p.doubt
		c.facts = append(c.facts, p.shown)
		if c.Confidence != "" {
			c.Confidence = lower(c.Confidence)
		}
	}
	return c
}

// about is what is said of an entity, with its name where it is another than
// the incident's.
func (d *draft) about(e event.Entity, text string) string {
	if e == d.inc.Entity {
		return text
	}
	return e.String() + ": " + text
}

// changeText is a change as a cause.
func changeText(c event.Change, e event.Entity) string {
	what := map[event.ChangeKind]string{
		event.Rollout: "rollout of ", event.Scale: "scaling of ", event.ConfigEdit: "changed configuration of ", event.Drain: "drain of ", event.Autoscale: "autoscaler of ",
	}[c.Kind]
	return fmt.Sprintf("%s%s at %s: %s", what, e, clock(c.Time), c.Summary)
}

// lower is one step less sure: a rule that holds where the correlator suspects
// nothing is a hint.
func lower(c event.Confidence) event.Confidence {
	if c == event.High {
		return event.Medium
	}
	return event.Low
}
