package backtest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
)

const (
	// near is how far apart in time two sides' trouble may be and still be the
	// same: alerts wait out their own for, and end by their own windows.
	near = 15 * time.Minute
	// grouped is how long Alertmanager, as it is usually configured, adds to a
	// notification before it sends another.
	grouped = 5 * time.Minute
	// brief is what is over before anybody could have opened a laptop.
	brief = 5 * time.Minute
)

// By what the trouble of both sides is the same.
const (
	sameThing     = "thing"
	sameNamespace = "namespace"
)

// matcher compares the two sides.
type matcher struct {
	h            *harvest
	since, until time.Time
	pages        func(Firing) bool
	incidents    []*tracked
	places       [][]place            // of each of them
	oddities     map[string][]*oddity // by place, in the order of their beginnings
}

// sort makes what is looked up for every firing.
func (m *matcher) sort() {
	m.incidents = m.h.sorted()
	m.places = make([][]place, len(m.incidents))
	for i, t := range m.incidents {
		for _, e := range t.Related {
			if p := placeOf(e); !slices.Contains(m.places[i], p) {
				m.places[i] = append(m.places[i], p)
			}
		}
	}
	m.oddities = map[string][]*oddity{}
	for _, o := range m.h.Odd {
		m.oddities[o.Place] = append(m.oddities[o.Place], o)
	}
	for _, list := range m.oddities {
		slices.SortFunc(list, func(a, b *oddity) int { return cmp.Or(a.Onset.Compare(b.Onset), strings.Compare(a.Summary, b.Summary)) })
	}
}

// both lays the two sides beside each other.
func (m *matcher) both(firings []Firing) ([]Incident, []Firing, Ours, Yours, Same) {
	m.sort()
	var theirs []Firing
	var ours Ours
	yours := Yours{OnlyWhy: map[Why]int{}}
	number := map[string]int{} // of those that paged, from 1
	told := []Incident{}
	for _, t := range m.incidents {
		if m.count(&ours, t) {
			i := t.Incident
			i.curves, i.Firings = t.Curves, []int{}
			if i.Changes == nil {
				i.Changes = []event.Change{}
			}
			told = append(told, i)
			number[i.ID] = len(told)
		}
	}
	var same Same
	for _, f := range firings {
		if f.Start.Before(m.since) || !f.Start.Before(m.until) {
			continue
		}
		t, how := m.find(f)
		if !m.pages(f) {
			yours.Others++
			if t != nil && number[t.Incident.ID] > 0 {
				i := &told[number[t.Incident.ID]-1]
				if name := f.Alert + " (" + cmp.Or(f.Severity, "no severity") + ")"; !slices.Contains(i.Beside, name) {
					i.Beside = append(i.Beside, name)
				}
			}
			continue
		}
		if t != nil {
			f.Incident, f.Same = t.Incident.ID, how
		}
		if t != nil && number[t.Incident.ID] > 0 {
			i := &told[number[t.Incident.ID]-1]
			i.Firings = append(i.Firings, len(theirs))
			same.Firings++
		} else {
			f.Why, f.Because = m.why(f, t)
			f.curves = m.curvesOf(f)
			yours.Only++
			yours.OnlyWhy[f.Why]++
		}
		theirs = append(theirs, f)
	}
	yours.Pages = len(theirs)
	yours.Groups = groups(theirs)
	weeks := m.until.Sub(m.since).Hours() / (7 * 24)
	if weeks > 0 {
		yours.PerWeek, ours.PerWeek = rounded(float64(yours.Pages)/weeks), rounded(float64(ours.Pages)/weeks)
	}
	var leads []float64
	for n := range told {
		i := &told[n]
		if len(i.Firings) == 0 {
			ours.Only++
			continue
		}
		same.Incidents++
		lead := theirs[i.Firings[0]].Start.Sub(i.Paged[0]).Seconds()
		i.LeadSeconds = &lead
		leads = append(leads, lead)
	}
	if len(leads) > 0 {
		slices.Sort(leads)
		middle := (leads[(len(leads)-1)/2] + leads[len(leads)/2]) / 2
		same.LeadSeconds = &middle
	}
	if theirs == nil {
		theirs = []Firing{}
	}
	return told, theirs, ours, yours, same
}

// count counts an incident, and says whether it paged in the time that is judged.
func (m *matcher) count(ours *Ours, t *tracked) bool {
	i := &t.Incident
	i.Paged = slices.DeleteFunc(slices.Clone(i.Paged), func(at time.Time) bool { return at.Before(m.since) || at.After(m.until) })
	switch {
	case len(i.Paged) > 0:
		ours.Pages += len(i.Paged)
		ours.Incidents++
		if i.Priority == event.P1 {
			ours.P1++
		} else {
			ours.P2++
		}
		return true
	case i.Onset.Before(m.since) || i.Priority.Pages():
		// It paged before, or belongs to what was learnt from.
	case i.Priority == event.P3:
		ours.Tickets++
	default:
		ours.Digest++
		if t.Held != "" {
			ours.Held++
		}
	}
	return false
}

// find is ours of the same trouble: what paged before what did not, what is
// about the same thing before what is in the same namespace, and then what is
// nearest in time.
func (m *matcher) find(f Firing) (best *tracked, how string) {
	where := placeOf(f.Entity)
	if where == (place{}) {
		return nil, ""
	}
	end := m.until
	if f.End != nil {
		end = *f.End
	}
	rank := 0
	for n, t := range m.incidents {
		over := m.until
		if t.Incident.Resolved != nil {
			over = *t.Incident.Resolved
		}
		if t.Incident.Onset.After(end.Add(near)) || over.Add(near).Before(f.Start) {
			continue
		}
		r, by := 0, ""
		for _, o := range m.places[n] {
			switch {
			case o == where:
				r, by = 2, sameThing
			case (where.contains(o) || o.contains(where)) && r < 1:
				r, by = 1, sameNamespace
			}
		}
		if r == 0 {
			continue
		}
		if len(t.Incident.Paged) > 0 {
			r += 2
		}
		if r > rank || r == rank && f.Start.Sub(t.begin()).Abs() < f.Start.Sub(best.begin()).Abs() {
			best, how, rank = t, by, r
		}
	}
	return best, how
}

// why says why nothing of ours paged for a firing. t is ours of the same trouble,
// which did not page; nil for none.
func (m *matcher) why(f Firing, t *tracked) (Why, string) {
	where := placeOf(f.Entity)
	if where == (place{}) {
		return NamesNothing, "its labels name no workload, node, volume or namespace, so that it cannot be compared"
	}
	lasted := ""
	if f.End != nil {
		if d := f.End.Sub(f.Start); d < brief {
			lasted = "over after " + Span(max(d, alertStep)) + "; "
		}
	}
	if t != nil {
		what := fmt.Sprintf("incident %s of %s", event.ShortID(t.Incident.ID), check.Name(t.Incident.Entity))
		switch {
		case t.Incident.Priority.Pages():
			return PagedBefore, lasted + what + " had paged before the time that is judged"
		case t.Held != "":
			return HeldByBudget, lasted + what + " was held: " + t.Held
		case t.Incident.Priority == event.P3:
			return BelowPage, lasted + what + " was a ticket, for no user felt it: " + t.Incident.Title
		}
		return BelowPage, lasted + what + " was a line in the digest: " + t.Incident.Title
	}
	for _, g := range m.h.Gaps {
		if g.From.Before(f.Start.Add(near)) && g.To.After(f.Start.Add(-near)) {
			return HistoryMissing, lasted + fmt.Sprintf("there are no metrics from %s to %s", g.From.UTC().Format("15:04"), g.To.UTC().Format("15:04 MST"))
		}
	}
	signals, ever := m.signals(where, f.Start)
	switch {
	case len(signals) == 0 && ever:
		return HistoryMissing, lasted + "it gave no metrics that are read at that time, and did at others"
	case len(signals) == 0:
		return NotWatched, lasted + "no query of policies/queries gives a series of " + check.Name(f.Entity)
	}
	odd := m.odd(where, f)
	if len(odd) > 0 {
		return BelowThreshold, lasted + "odd, and not enough for an incident: " + strings.Join(odd, "; ")
	}
	return BelowThreshold, lasted + "nothing odd in " + some(signals, 4)
}

// signals are those that a place gave at a time; ever says whether it gave any at
// another.
func (m *matcher) signals(where place, at time.Time) (now []string, ever bool) {
	seen := map[string]bool{}
	take := func(w *watched) {
		ever = true
		if !at.Before(w.First.Add(-near)) && !at.After(w.Last.Add(near)) {
			for s := range w.Signals {
				seen[s] = true
			}
		}
	}
	if w := m.h.Watched[where.String()]; w != nil {
		take(w)
	}
	if where.kind == placeNamespace {
		for key, w := range m.h.Watched {
			if strings.HasPrefix(key, "/"+where.namespace+"/") {
				take(w)
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), ever
}

// some are the first of a list, the most telling ones first.
func some(signals []string, most int) string {
	slices.SortStableFunc(signals, func(a, b string) int {
		rank := func(s string) int {
			if i := slices.Index(telling, s); i >= 0 {
				return i
			}
			return len(telling)
		}
		return rank(a) - rank(b)
	})
	text := strings.Join(signals[:min(len(signals), most)], ", ")
	if n := len(signals) - most; n > 0 {
		text += fmt.Sprintf(" and %d more signals", n)
	}
	return text
}

// odd is what was odd of a place at the time of a firing.
func (m *matcher) odd(where place, f Firing) []string {
	end := m.until
	if f.End != nil {
		end = *f.End
	}
	var out []string
	for _, o := range m.oddities[where.String()] {
		if o.Onset.Before(end.Add(near)) && o.Last.After(f.Start.Add(-near)) && len(out) < 3 && !slices.Contains(out, o.Summary) {
			out = append(out, o.Summary)
		}
	}
	return out
}

// telling are the signals that show trouble, best first.
var telling = []string{"error_ratio", "latency_p99", "replicas_ready", "restarts", "memory_limit_ratio", "pvc_used_ratio", "node_disk_ratio", "node_ready", "cpu_usage", "memory_usage"}

// curvesOf are the series that show what a firing is about.
func (m *matcher) curvesOf(f Firing) []curveRef {
	w := m.h.Watched[placeOf(f.Entity).String()]
	if w == nil {
		return nil
	}
	for _, s := range telling {
		if c, ok := w.Signals[s]; ok {
			return []curveRef{c}
		}
	}
	return nil
}

// groups counts notifications: what Alertmanager joins by alertname and namespace.
func groups(all []Firing) int {
	last := map[[2]string]time.Time{}
	n := 0
	for _, f := range all {
		key := [2]string{f.Alert, f.Labels["namespace"]}
		if at, ok := last[key]; !ok || f.Start.Sub(at) > grouped {
			n++
		}
		last[key] = f.Start
	}
	return n
}

func rounded(x float64) float64 { return float64(int(x*10+0.5)) / 10 }
