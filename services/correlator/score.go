package correlator

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// classWeight is how much the surprise of a class counts in the composite
// score: what is merely odd says little, however odd.
var classWeight = map[event.SignalClass]float64{
	event.ClassSymptom: 1, event.ClassCause: 0.8, event.ClassSaturation: 0.6, event.ClassAmbient: 0.3,
}

// composite is the score of an incident, in nats: the surprise (-ln p) of the
// strangest anomaly of each independent kind of source, weighted by class.
// Within a source only the strangest counts, because metrics of one workload
// move together: adding them up would count one fact many times.
func composite(inc *incident) (float64, []event.Contribution) {
	best := map[string]event.Anomaly{}
	value := func(a event.Anomaly) float64 {
		return classWeight[a.Class] * min(40, -math.Log(max(a.TailProb, 1e-300)))
	}
	for _, key := range sortedKeys(inc.Anomalies) {
		a := inc.Anomalies[key]
		if a.Foreign {
			continue
		}
		source := sourceOf(a)
		if old, ok := best[source]; !ok || value(a) > value(old) {
			best[source] = a
		}
	}
	total := 0.0
	var out []event.Contribution
	for _, source := range sortedKeys(best) {
		a := best[source]
		v := value(a)
		total += v
		out = append(out, event.Contribution{Scorer: source, Weight: round(v), Why: fmt.Sprintf("%s on %s: %s (p %.2g, %s)", a.Detector, a.Entity, a.Summary, a.TailProb, a.Class)})
	}
	return round(total), out
}

func round(v float64) float64 { return math.Round(v*100) / 100 }

// Evidence is what a [Scorer] looks at: one suspect and the incident around it.
type Evidence struct {
	Suspect  event.Entity  // root entity
	Change   *event.Change // when the suspect is a change to it
	Onset    time.Time     // of the incident's first symptom, or of its first anomaly
	Roots    []event.Entity
	Own      []event.Anomaly // anomalies of the suspect
	All      []event.Anomaly
	Relation func(a, b event.Entity) bool // b depends on a, or runs on it
	MainRoot event.Entity                 // what is affected most
	// Replaced is when a later change of the same kind took the suspected one's
	// place, before the onset; zero when it was in force.
	Replaced time.Time
}

// Scorer adds to a suspect's score. It is pure: the same evidence gives the
// same contribution. A zero weight is left out.
type Scorer interface {
	Name() string
	Score(Evidence) (weight float64, why string)
}

// Scorers are the built-in scorers, in the order they are printed.
func Scorers() []Scorer {
	return []Scorer{changeProximity{}, causeEvidence{}, precedence{}, blastRadius{}, strength{}, quietSuspect{}, replaced{}}
}

// changeProximity: most incidents begin shortly after somebody changed
// something, and a rollout is the likeliest of changes. A first rollout is
// none: it changed nothing that had been well before.
type changeProximity struct{}

func (changeProximity) Name() string { return "change proximity" }

var changeWeight = map[event.ChangeKind]float64{
	event.Rollout: 3.2, event.ConfigEdit: 2.6, event.NodeState: 2.2, event.Drain: 2, event.Scale: 1.2, event.Autoscale: 0.8,
}

func (changeProximity) Score(e Evidence) (float64, string) {
	if e.Change == nil || e.Change.First {
		return 0, ""
	}
	before := e.Onset.Sub(e.Change.Time)
	if before < -time.Minute {
		return -2, fmt.Sprintf("%s came %s after the onset", e.Change.Kind, short(-before))
	}
	w := changeWeight[e.Change.Kind] * math.Exp(-max(0, before.Minutes())/20)
	if e.Suspect != e.MainRoot && !e.Relation(e.Suspect, e.MainRoot) {
		w *= 0.3
	}
	return w, fmt.Sprintf("%s %s before the onset", e.Change.Kind, short(max(0, before)))
}

// causeEvidence: anomalies that explain, such as OOM kills and failed pulls.
type causeEvidence struct{}

func (causeEvidence) Name() string { return "cause evidence" }

func (causeEvidence) Score(e Evidence) (float64, string) {
	best, why := 0.0, ""
	for _, a := range e.Own {
		if a.Class != event.ClassCause && a.Class != event.ClassSaturation || a.Severity == event.Info {
			continue
		}
		w := 1.0
		if a.Class == event.ClassCause {
			w = 1.4
		}
		if a.Severity == event.Critical {
			w += 0.6
		}
		if w > best {
			best, why = w, a.Summary
		}
	}
	return best, why
}

// precedence: a cause comes before what it causes.
type precedence struct{}

func (precedence) Name() string { return "precedence" }

func (precedence) Score(e Evidence) (float64, string) {
	var first time.Time
	for _, a := range e.Own {
		if a.Class != event.ClassSymptom && a.Severity != event.Info && (first.IsZero() || a.Onset.Before(first)) {
			first = a.Onset
		}
	}
	if first.IsZero() {
		return 0, ""
	}
	lead := e.Onset.Sub(first)
	switch {
	case lead >= 0:
		return 0.8, fmt.Sprintf("abnormal %s before the onset", short(lead))
	case lead < -5*time.Minute:
		return -0.8, fmt.Sprintf("abnormal only %s after the onset", short(-lead))
	}
	return 0, ""
}

// blastRadius: what all affected things depend on, or run on.
type blastRadius struct{}

func (blastRadius) Name() string { return "blast radius" }

func (blastRadius) Score(e Evidence) (float64, string) {
	if len(e.Roots) < 2 {
		return 0, ""
	}
	n := 0
	for _, r := range e.Roots {
		if r != e.Suspect && e.Relation(e.Suspect, r) {
			n++
		}
	}
	if n == 0 {
		return 0, ""
	}
	share := float64(n) / float64(len(e.Roots)-1)
	return 2.5 * share, fmt.Sprintf("%d of the %d other affected things depend on it", n, len(e.Roots)-1)
}

// strength: how strange the suspect is itself.
type strength struct{}

func (strength) Name() string { return "strength" }

func (strength) Score(e Evidence) (float64, string) {
	p := 1.0
	for _, a := range e.Own {
		if a.Class != event.ClassSymptom && !a.Foreign {
			p = min(p, a.TailProb)
		}
	}
	if p >= 0.01 {
		return 0, ""
	}
	return min(1, -math.Log(p)/28), fmt.Sprintf("tail probability %.2g", p)
}

// quietSuspect: a changed thing that shows nothing itself is a weak suspect
// for trouble elsewhere.
type quietSuspect struct{}

func (quietSuspect) Name() string { return "shows nothing itself" }

func (quietSuspect) Score(e Evidence) (float64, string) {
	if e.Change == nil || e.Suspect == e.MainRoot {
		return 0, ""
	}
	for _, a := range e.Own {
		if a.Severity != event.Info {
			return 0, ""
		}
	}
	return -1, "changed, but nothing is wrong with it"
}

// replaced: what is no longer in force explains little.
type replaced struct{}

func (replaced) Name() string { return "replaced" }

func (replaced) Score(e Evidence) (float64, string) {
	if e.Replaced.IsZero() {
		return 0, ""
	}
	return -5, fmt.Sprintf("another %s took its place at %s", e.Change.Kind, clock(e.Replaced))
}

func short(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%ds", int(d.Seconds()))
	}
	return fmt.Sprintf("%dm", int(d.Minutes()+0.5))
}

// The scores from which a suspect is called a cause, and how surely. Below
// lowScore nothing is said: a weak cause stated as the cause sends people the
// wrong way.
const (
	highScore   = 4.5
	mediumScore = 3.0
	lowScore    = 1.6
	clearLead   = 0.8 // to the next suspect on another entity, for high
	maxSuspects = 5
	maxRoots    = 150
)

// suspects ranks what may have caused an incident.
func (f *fold) suspects(inc *incident, onset time.Time) []event.Suspect {
	s := &f.State
	var roots []event.Entity
	for _, k := range sortedKeys(inc.Roots) {
		if len(roots) == maxRoots {
			break // a storm: more of them say nothing new about a cause
		}
		roots = append(roots, inc.Roots[k])
	}
	var all []event.Anomaly
	own := map[string][]event.Anomaly{}
	for _, k := range sortedKeys(inc.Anomalies) {
		a := inc.Anomalies[k]
		all = append(all, a)
		r := s.Topology.root(a.Entity).String()
		own[r] = append(own[r], a)
	}
	depends := func(on, e event.Entity) bool {
		r := s.Topology.relate(on, e)
		return r == same || r == placed || s.Topology.calls(e, on)
	}
	main := f.affected(inc)
	var out []event.Suspect
	add := func(e event.Entity, c *event.Change) {
		ev := Evidence{Suspect: e, Change: c, Onset: onset, Roots: roots, Own: own[e.String()], All: all, Relation: depends, MainRoot: main}
		if c != nil {
			ev.Replaced = f.replacedAt(*c, onset)
		}
		sus := event.Suspect{Entity: e, Change: c}
		for _, sc := range f.scorers {
			if w, why := sc.Score(ev); w != 0 {
				sus.Score += w
				sus.Contributions = append(sus.Contributions, event.Contribution{Scorer: sc.Name(), Weight: round(w), Why: why})
			}
		}
		sus.Score = round(sus.Score)
		sus.Why = suspectText(sus, own[e.String()])
		if sus.Score >= lowScore {
			out = append(out, sus)
		}
	}
	changed := map[string]bool{}
	for i := range s.Changes {
		c := s.Changes[i]
		r := s.Topology.root(c.Entity)
		// A first rollout is no suspect beside the workload itself.
		if c.First || onset.Sub(c.Time) > f.policy.ChangeLookback || c.Time.Sub(onset) > time.Minute || !f.concerns(inc, r) {
			continue
		}
		changed[r.String()] = true
		add(r, &c)
	}
	for _, r := range roots {
		if !changed[r.String()] {
			add(r, nil)
		}
	}
	slices.SortStableFunc(out, func(a, b event.Suspect) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		case a.Change != nil && b.Change != nil:
			return b.Change.Time.Compare(a.Change.Time)
		}
		return a.Entity.Compare(b.Entity)
	})
	for i := range out {
		out[i].Confidence = confidence(out, i)
	}
	return out[:min(len(out), maxSuspects)]
}

// replacedAt is when a later change of the same kind to the same thing took
// the place of a change, up to the onset; zero when none did.
func (f *fold) replacedAt(c event.Change, onset time.Time) time.Time {
	for _, o := range f.State.Changes {
		if o.Entity == c.Entity && o.Kind == c.Kind && o.Time.After(c.Time) && !o.Time.After(onset) {
			return o.Time
		}
	}
	return time.Time{}
}

func confidence(all []event.Suspect, i int) event.Confidence {
	s := all[i]
	lead := s.Score
	for j, o := range all {
		if j != i && o.Entity != s.Entity {
			lead = min(lead, s.Score-o.Score)
		}
	}
	switch {
	case s.Score >= highScore && lead >= clearLead:
		return event.High
	case s.Score >= mediumScore:
		return event.Medium
	}
	return event.Low
}

func suspectText(s event.Suspect, own []event.Anomaly) string {
	if s.Change != nil {
		return fmt.Sprintf("%s of %s at %s: %s", s.Change.Kind, s.Entity, clock(s.Change.Time), s.Change.Summary)
	}
	best := ""
	for _, a := range own {
		if a.Class == event.ClassCause && a.Severity != event.Info {
			best = a.Summary
		}
	}
	if best == "" && len(own) > 0 {
		best = own[0].Summary
	}
	return fmt.Sprintf("%s: %s", s.Entity, best)
}

// concerns says whether a changed thing is close enough to an incident to be
// looked at: it is part of it, runs it, is called by it, or shares its
// namespace.
func (f *fold) concerns(inc *incident, r event.Entity) bool {
	if _, ok := inc.Roots[r.String()]; ok {
		return true
	}
	for _, key := range sortedKeys(inc.Roots) {
		if f.State.Topology.relate(r, inc.Roots[key]) >= sameNamespace {
			return true
		}
	}
	return false
}
