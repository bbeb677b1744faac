// Package survey puts together what one look at a cluster found: the reports of
// a pass over the recent past, and what an examination of the cluster's objects
// shows. There is one entry for each thing that somebody would have to mend,
// whoever found it, and one list of evidence that all of them cite.
package survey

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// Result is what was found, ready to be printed.
type Result struct {
	Cluster   string            `json:"cluster"`
	Namespace string            `json:"namespace,omitempty"` // the only one that was looked at
	Time      time.Time         `json:"time"`
	Since     time.Time         `json:"since"`             // what began or went on after it is told
	Learnt    time.Time         `json:"learnt,omitzero"`   // what is normal was learnt from here on
	Until     time.Time         `json:"until"`             // telemetry is read up to here
	TLDR      string            `json:"tldr"`              // at most three sentences; "" when nothing is wrong
	Things    []Thing           `json:"things"`            // what is wrong now, worst first
	Odd       []Oddity          `json:"odd,omitempty"`     // abnormal, and nobody feels it
	Over      int               `json:"over,omitempty"`    // incidents that came and went meanwhile
	Changes   []event.Change    `json:"recent_changes"`    // newest first
	Checks    []event.Check     `json:"next_checks"`       // they only read
	Rollback  []event.Check     `json:"rollback"`          // changes something; for a human to decide
	Status    string            `json:"status_draft"`      // for stakeholders
	Normal    []string          `json:"checked,omitempty"` // looked at, and normal
	NotLooked []check.Unchecked `json:"not_looked_at"`     // and why
	Evidence  []event.Evidence  `json:"evidence"`          // that the entries cite
	Hygiene   int               `json:"hygiene"`           // things that are merely untidy
	Read      Read              `json:"read"`
	Seconds   float64           `json:"seconds"`
}

// Read is how much was looked at.
type Read struct {
	Series int `json:"series"`
	Lines  int `json:"log_lines"`
	Events int `json:"events"`
	Pods   int `json:"pods"`
	Nodes  int `json:"nodes"`
}

// Thing is one thing that is wrong.
type Thing struct {
	Entity   event.Entity    `json:"entity"`
	Incident string          `json:"incident,omitempty"` // of the pass; "" for what its objects alone show
	Priority event.Priority  `json:"priority,omitempty"` // of the incident
	Urgency  event.Urgency   `json:"urgency"`
	Owner    event.Owner     `json:"owner"`
	Since    time.Time       `json:"since,omitzero"`
	Line     string          `json:"line"` // how it is, for how long, and why
	TLDR     string          `json:"tldr,omitempty"`
	Causes   []event.Cause   `json:"causes"` // best first; empty: none stands out
	Findings []event.Finding `json:"findings"`
	Runbooks []event.Runbook `json:"runbooks,omitempty"`
	Links    []event.Link    `json:"links,omitempty"`
	Alerts   []string        `json:"alerts,omitempty"`

	checks, rollback []event.Check
	status           string
	touched          []event.Entity
}

// Oddity is what is abnormal and no trouble.
type Oddity struct {
	Entity   event.Entity `json:"entity"`
	Incident string       `json:"incident"`
	Since    time.Time    `json:"since"`
	Title    string       `json:"title"`
}

// Incident is an incident of the pass that goes on, with its report.
type Incident struct {
	event.Incident
	Report event.Report
}

// Found is what [Make] puts together.
type Found struct {
	Incidents []Incident // those that somebody may feel
	Odd       []event.Incident
	Health    *check.Result // nil when no cluster could be examined
	Changes   []event.Change
	// Draft writes the report of what the objects alone show, as of an incident;
	// false when there is none.
	Draft func(event.Incident) (event.Report, bool)
}

// maxDrafted bounds how many things that the objects alone show are looked at
// closely; the rest is told in a line each.
const maxDrafted = 4

// Make puts together what was found. Result's other fields are the caller's.
func Make(f Found, now time.Time) *Result {
	r := &Result{Time: now.UTC().Truncate(time.Second), Things: []Thing{}, Changes: []event.Change{}, Checks: []event.Check{}, Rollback: []event.Check{}, NotLooked: []check.Unchecked{}, Evidence: []event.Evidence{}}
	m := &maker{r: r, ids: map[string]string{}}
	for _, i := range f.Incidents {
		m.incident(i)
	}
	for _, i := range f.Odd {
		r.Odd = append(r.Odd, Oddity{bare(i.Entity), i.ID, i.Onset, strings.TrimPrefix(i.Title, i.Entity.String()+": ")})
	}
	if h := f.Health; h != nil {
		m.health(f, h, now)
	}
	slices.SortStableFunc(r.Things, worse)
	m.changes(f.Changes)
	m.sum()
	return r
}

// bare is an entity as the cluster's objects name it.
func bare(e event.Entity) event.Entity {
	e.Cluster = ""
	return e
}

// same says whether two names mean one thing: metrics may know a workload by its
// name alone.
func same(a, b event.Entity) bool {
	a, b = bare(a), bare(b)
	if a.Kind == "Workload" || b.Kind == "Workload" {
		a.Kind, b.Kind = "", ""
	}
	return a == b
}

// worse orders things: what pages, what is broken, what will be.
func worse(a, b Thing) int {
	rank := func(t Thing) int {
		switch {
		case t.Priority == event.P1:
			return 0
		case t.Priority == event.P2:
			return 1
		case t.Urgency == event.Broken && t.Incident == "":
			return 2
		case t.Priority == event.P3:
			return 3
		}
		return 4
	}
	return cmp.Or(rank(a)-rank(b), a.Since.Compare(b.Since))
}

type maker struct {
	r   *Result
	ids map[string]string // of evidence, by what it is
}

// cite moves evidence into the one list, and gives the ids that its citations
// become.
func (m *maker) cite(all []event.Evidence) func([]string) []string {
	ids := map[string]string{}
	by := map[string]event.Evidence{}
	for _, e := range all {
		by[e.ID] = e
	}
	return func(old []string) []string {
		out := []string{}
		for _, id := range old {
			e, ok := by[id]
			if !ok {
				continue
			}
			if ids[id] == "" {
				key := e.Source + "\x00" + e.Query + "\x00" + e.Digest
				if m.ids[key] == "" {
					e.ID, e.Values = fmt.Sprintf("E%d", len(m.r.Evidence)+1), nil
					m.ids[key] = e.ID
					m.r.Evidence = append(m.r.Evidence, e)
				}
				ids[id] = m.ids[key]
			}
			if !slices.Contains(out, ids[id]) {
				out = append(out, ids[id])
			}
		}
		return out
	}
}

// take gives a thing what its report says.
func (m *maker) take(t *Thing, r event.Report) {
	again := m.cite(r.Evidence)
	t.TLDR, t.Runbooks, t.Links, t.Alerts = r.TLDR, r.Runbooks, r.Links, r.Alerts
	t.checks, t.rollback, t.status = r.Checks, r.Rollback, r.Status
	for _, c := range r.Causes {
		c.Evidence = again(c.Evidence)
		t.Causes = append(t.Causes, c)
	}
	for _, f := range r.Findings {
		f.Evidence = again(f.Evidence)
		t.Findings = append(t.Findings, f)
	}
	for _, c := range r.Checked {
		if !slices.Contains(m.r.Normal, c) {
			m.r.Normal = append(m.r.Normal, c)
		}
	}
	for _, u := range r.Unknown {
		what, why, _ := strings.Cut(u, ": ")
		m.notLooked(check.Unchecked{What: what, Why: why})
	}
}

func (m *maker) notLooked(u check.Unchecked) {
	if !slices.Contains(m.r.NotLooked, u) {
		m.r.NotLooked = append(m.r.NotLooked, u)
	}
}

// headline is the symptom up to what explains it, and since when it is so.
func headline(i event.Incident) string {
	s, _, _ := strings.Cut(strings.TrimPrefix(cmp.Or(i.Symptom, i.Title), i.Entity.String()+": "), ";")
	return s + " since " + i.Onset.UTC().Format("15:04")
}

func (m *maker) incident(i Incident) {
	t := Thing{
		Entity: bare(i.Entity), Incident: i.ID, Priority: i.Priority, Urgency: event.Broken, Owner: i.Owner, Since: i.Onset,
		Line: headline(i.Incident), Causes: []event.Cause{}, Findings: []event.Finding{},
	}
	m.take(&t, i.Report)
	add := func(e event.Entity) {
		if e = bare(e); !e.IsZero() && !slices.Contains(t.touched, e) {
			t.touched = append(t.touched, e)
		}
	}
	add(i.Entity)
	for _, e := range i.Related {
		add(e)
	}
	for _, s := range i.Suspects {
		add(s.Entity)
	}
	for _, a := range i.Anomalies {
		add(a.Entity)
	}
	m.r.Things = append(m.r.Things, t)
}

// health adds what the objects show: to the incident that it belongs to, or as
// a thing of its own.
func (m *maker) health(f Found, h *check.Result, now time.Time) {
	again := m.cite(h.Evidence)
	drafted := 0
	own := func(root check.Root) {
		t := Thing{Entity: root.Entity, Urgency: root.Urgency, Since: root.Since, Line: root.Line(now), Causes: []event.Cause{}, Findings: []event.Finding{}}
		if f.Draft != nil && drafted < maxDrafted {
			drafted++
			if r, ok := f.Draft(Draftable(root, f.Changes, h.Cluster, now)); ok {
				t.Owner = r.Owner
				m.take(&t, r)
			}
		}
		m.absorb(&t, root, again)
		m.r.Things = append(m.r.Things, t)
	}
	for _, root := range h.Roots {
		if root.Urgency == event.Hygiene {
			m.r.Hygiene++
			continue
		}
		at := slices.IndexFunc(m.r.Things, func(t Thing) bool {
			return t.Incident != "" && slices.ContainsFunc(t.touched, func(e event.Entity) bool { return same(e, root.Entity) })
		})
		if at < 0 {
			own(root)
			continue
		}
		t := &m.r.Things[at]
		if same(t.Entity, root.Entity) {
			m.absorb(t, root, again)
			if !strings.Contains(t.Line, root.State) {
				t.Line += "; " + root.Line(now)
			}
			continue
		}
		// The incident holds more than what it is named for. A workload that is
		// broken itself has to be mended, whatever fails beside it; anything else is
		// a part of the trouble.
		apart := root.Urgency == event.Broken && slices.Contains(workloads, root.Entity.Kind) && slices.Contains(workloads, t.Entity.Kind)
		if !apart {
			m.absorb(t, root, again)
			t.Line += "; " + check.Name(root.Entity) + " " + root.Line(now)
		}
		if i := Draftable(root, f.Changes, h.Cluster, now); len(i.Suspects) > 0 {
			c := i.Suspects[0].Change
			t.Causes = append(t.Causes, event.Cause{
				Text:   fmt.Sprintf("rollout of %s at %s (%s), and then %s", check.Name(root.Entity), c.Time.UTC().Format("15:04"), c.Summary, root.State),
				Entity: root.Entity, Confidence: event.Medium, Evidence: again(root.Findings[0].Evidence),
			})
			slices.SortStableFunc(t.Causes, func(a, b event.Cause) int { return sure(b) - sure(a) })
		}
		if apart {
			own(root)
		}
	}
	for _, u := range h.NotChecked {
		m.notLooked(u)
	}
}

// workloads are the kinds that somebody mends each for itself.
var workloads = []string{"Workload", "Deployment", "StatefulSet", "DaemonSet", "Rollout", "Job", "CronJob"}

func sure(c event.Cause) int {
	return map[event.Confidence]int{event.High: 3, event.Medium: 2, event.Low: 1}[c.Confidence]
}

// absorb adds the findings of a root that are not said yet.
func (m *maker) absorb(t *Thing, root check.Root, again func([]string) []string) {
	for _, f := range root.Findings {
		said := slices.ContainsFunc(t.Findings, func(o event.Finding) bool {
			return same(o.Entity, f.Entity) && (o.Rule == f.Rule || o.Title == f.Title || f.Title == root.State && check.Restates(o.Rule))
		})
		if said || f.Urgency == event.Hygiene {
			continue
		}
		f.Evidence = again(f.Evidence)
		t.Findings = append(t.Findings, f)
		if f.Cause && len(t.Causes) == 0 {
			t.Causes = append(t.Causes, event.Cause{Text: f.Title, Entity: f.Entity, Confidence: f.Confidence, Evidence: f.Evidence})
		}
		t.checks = append(t.checks, f.Checks...)
		t.rollback = append(t.rollback, f.Rollback...)
	}
}

// before is how long before a trouble a rollout may explain it.
const before = 30 * time.Minute

// Draftable is what the objects show of one thing, as an incident of which a
// report can be drafted.
func Draftable(root check.Root, changes []event.Change, cluster string, now time.Time) event.Incident {
	onset := root.Since
	if onset.IsZero() || onset.After(now) {
		onset = now
	}
	i := event.Incident{
		ID: event.IncidentID(root.Entity, "health", onset), Revision: 1, State: event.Open, Priority: event.P3, Cluster: cluster, Entity: root.Entity, Title: root.State, Symptom: root.State,
		Onset: onset, Opened: onset, Updated: now, Anomalies: []event.Anomaly{}, Related: []event.Entity{root.Entity}, Reason: "opened",
	}
	if root.Urgency == event.Broken && root.Severity == event.Critical {
		i.Priority = event.P2
	}
	for _, c := range changes {
		if !same(c.Entity, root.Entity) {
			continue
		}
		c.Entity = root.Entity
		i.Changes = append(i.Changes, c)
		if d := onset.Sub(c.Time); len(i.Suspects) == 0 && !c.First && c.Kind == event.Rollout && d >= -time.Minute && d <= before {
			i.Suspects = append(i.Suspects, event.Suspect{Entity: root.Entity, Change: &c, Confidence: event.Medium, Why: fmt.Sprintf("rolled out %s before", check.Age(max(0, d)))})
		}
	}
	return i
}

// maxChanges is how many recent changes are told.
const maxChanges = 8

// changes tells those of things in trouble first, then the newest.
func (m *maker) changes(all []event.Change) {
	mine := func(c event.Change) bool {
		return slices.ContainsFunc(m.r.Things, func(t Thing) bool {
			return same(t.Entity, c.Entity) || slices.ContainsFunc(t.touched, func(e event.Entity) bool { return same(e, c.Entity) })
		})
	}
	all = slices.DeleteFunc(slices.Clone(all), func(c event.Change) bool { return c.First && !mine(c) })
	slices.SortStableFunc(all, func(a, b event.Change) int {
		return cmp.Or(cmp.Compare(btoi(mine(b)), btoi(mine(a))), b.Time.Compare(a.Time))
	})
	for _, c := range all[:min(len(all), maxChanges)] {
		c.Entity = bare(c.Entity)
		m.r.Changes = append(m.r.Changes, c)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Bounds of what a person is told to type.
const (
	maxChecks   = 6
	maxRollback = 3
)

// sum says the whole in a few sentences, and what to do next.
func (m *maker) sum() {
	r := m.r
	add := func(to *[]event.Check, c event.Check, most int) {
		if len(*to) < most && !slices.ContainsFunc(*to, func(o event.Check) bool { return o.Command == c.Command }) {
			*to = append(*to, c)
		}
	}
	for n := range maxChecks { // the first of each, then the second
		for _, t := range r.Things {
			if n < len(t.checks) {
				add(&r.Checks, t.checks[n], maxChecks)
			}
		}
	}
	for _, t := range r.Things {
		for _, c := range t.rollback {
			add(&r.Rollback, c, maxRollback)
		}
	}
	if len(r.Things) == 0 {
		return
	}
	first := r.Things[0]
	name := check.Name(first.Entity)
	switch {
	case first.TLDR != "":
		r.TLDR = name + ": " + first.TLDR
	default:
		r.TLDR = name + ": " + strings.TrimRight(first.Line, ".") + "."
	}
	count := map[string]int{}
	for _, t := range r.Things[1:] {
		if t.Urgency == event.Soon {
			count["soon"]++
		} else {
			count["now"]++
		}
	}
	var more []string
	if n := count["now"]; n > 0 {
		more = append(more, fmt.Sprintf("%d more in trouble now", n))
	}
	if n := count["soon"]; n > 0 {
		more = append(more, fmt.Sprintf("%d soon", n))
	}
	if len(more) > 0 {
		r.TLDR += " And " + strings.Join(more, ", ") + "."
	}
	for _, t := range r.Things {
		if t.status != "" {
			r.Status = t.status
			break
		}
	}
}
