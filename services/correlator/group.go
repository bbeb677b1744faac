package correlator

import (
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// incident is an incident as the fold keeps it.
type incident struct {
	Published event.Incident           `json:"published"` // the last revision
	Root      event.Entity             `json:"root"`
	Onset     time.Time                `json:"onset"`
	Opened    time.Time                `json:"opened"`
	Anomalies map[string]event.Anomaly `json:"anomalies"`
	Roots     map[string]event.Entity  `json:"roots"`  // workloads and nodes touched
	Spaces    map[string]bool          `json:"spaces"` // their namespaces
	Seen      int                      `json:"seen"`   // anomalies ever taken in
	Calm      time.Time                `json:"calm"`   // since when nothing in it goes on; zero while something does
	Flaps     int                      `json:"flaps"`
	Closed    *time.Time               `json:"closed,omitempty"` // resolved; kept for reopening
	MergedTo  string                   `json:"merged_to,omitempty"`
	Trace     string                   `json:"trace,omitempty"` // W3C traceparent of the anomaly it began with
	Storm     bool                     `json:"storm,omitempty"` // many incidents joined because they opened together
	Blind     bool                     `json:"blind,omitempty"` // a notice that a source cannot be read
}

// newIncident makes an incident that nobody has heard of yet.
func newIncident(id string, root event.Entity, onset, now time.Time) *incident {
	inc := &incident{Root: root, Onset: onset.UTC(), Opened: now, Anomalies: map[string]event.Anomaly{}, Roots: map[string]event.Entity{}, Spaces: map[string]bool{}}
	inc.Published.ID = id
	return inc
}

func (inc *incident) touch(root event.Entity) {
	inc.Roots[root.String()] = root
	if root.Namespace != "" {
		inc.Spaces[root.Namespace] = true
	}
}

// Bounds of the fold's memory.
const (
	maxKept     = 1000 // anomalies of one incident
	maxLoose    = 5000 // anomalies without an incident
	maxInEvent  = 100  // anomalies in one published incident
	maxTimeline = 60
)

// joins is how closely in time two onsets must lie for a relation to count.
func joins(r relation) time.Duration {
	switch r {
	case same:
		return 24 * time.Hour // while the incident is open, it is its incident
	case placed:
		return 20 * time.Minute
	case neighbours:
		return 10 * time.Minute
	case sameNode:
		return 5 * time.Minute
	case sameNamespace:
		return 2 * time.Minute
	}
	return 0
}

// context says whether an anomaly can only accompany: it opens nothing and
// keeps nothing open.
func isContext(a event.Anomaly) bool {
	return a.Foreign || a.Severity == event.Info || a.Class == event.ClassAmbient
}

// anomaly takes in one observation.
func (f *fold) anomaly(a event.Anomaly, now time.Time) {
	s := &f.State
	if id, ok := s.ByAnomaly[a.Key]; ok {
		if inc := s.Incidents[id]; inc != nil && inc.Closed == nil {
			f.keep(inc, a)
			return
		}
	}
	if a.Ended != nil {
		f.endLoose(a)
		return
	}
	root := s.Topology.root(a.Entity)
	best, how := f.find(root, a)
	switch {
	case best != nil:
		f.keep(best, a)
		if how >= neighbours {
			f.mergeInto(best, root, a, now)
		}
	case isContext(a):
		f.loosen(a)
	default:
		f.open(root, a, now)
	}
}

// find is the open incident that an anomaly belongs to: the closest relation,
// then the oldest.
func (f *fold) find(root event.Entity, a event.Anomaly) (*incident, relation) {
	var best *incident
	how := unrelated
	for _, id := range f.openIDs() {
		inc := f.State.Incidents[id]
		if inc.Blind {
			continue
		}
		r := f.relation(inc, root, a)
		if r > how || r == how && r != unrelated && inc.Onset.Before(best.Onset) {
			best, how = inc, r
		}
	}
	return best, how
}

// relation is the closest relation of a root to what an incident touches, if
// it also happened near enough in time.
func (f *fold) relation(inc *incident, root event.Entity, a event.Anomaly) relation {
	t := f.State.Topology
	in := func(key string, r relation) bool {
		_, ok := inc.Roots[key]
		return ok && near(inc.Onset, a.Onset, joins(r))
	}
	if _, ok := inc.Roots[root.String()]; ok {
		return same
	}
	if alias := t.aliases(root); slices.ContainsFunc(alias, func(k string) bool { _, ok := inc.Roots[k]; return ok }) {
		return same
	}
	if root.Kind == "Node" && slices.ContainsFunc(t.on(root.Name), func(w string) bool { return in(w, placed) }) {
		return placed
	}
	if slices.ContainsFunc(t.nodesOf(root), func(n string) bool { return in("node/"+n, placed) }) {
		return placed
	}
	if slices.ContainsFunc(t.linked(root), func(w string) bool { return in(w, neighbours) }) {
		return neighbours
	}
	// A namespace is a weak tie: enough between two troubles that begin
	// together, not for what is merely odd.
	if !isContext(a) && (inc.Storm || root.Namespace != "" && inc.Spaces[root.Namespace]) && near(inc.Onset, a.Onset, joins(sameNamespace)) {
		return sameNamespace
	}
	return unrelated
}

// openIDs lists open incidents, oldest first.
func (f *fold) openIDs() []string {
	var ids []string
	for id, inc := range f.State.Incidents {
		if inc.Closed == nil {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		x, y := f.State.Incidents[a], f.State.Incidents[b]
		if c := x.Onset.Compare(y.Onset); c != 0 {
			return c
		}
		return compareStrings(a, b)
	})
	return ids
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// keep adds or updates an anomaly of an incident.
func (f *fold) keep(inc *incident, a event.Anomaly) {
	_, known := inc.Anomalies[a.Key]
	if !known {
		inc.Seen++
		if len(inc.Anomalies) >= maxKept {
			return
		}
	}
	inc.Anomalies[a.Key] = a
	f.State.ByAnomaly[a.Key] = inc.Published.ID
	root := f.State.Topology.root(a.Entity)
	if !isContext(a) || len(inc.Roots) == 0 {
		inc.touch(root)
	}
	if !isContext(a) && a.Onset.Before(inc.Onset) && a.Ended == nil {
		inc.Onset = a.Onset
	}
}

// loosen remembers an anomaly that belongs to no incident yet.
func (f *fold) loosen(a event.Anomaly) {
	s := &f.State
	for i, o := range s.Loose {
		if o.Key == a.Key {
			s.Loose[i] = a
			return
		}
	}
	s.Loose = append(s.Loose, a)
	if n := len(s.Loose) - maxLoose; n > 0 {
		s.Loose = slices.Delete(s.Loose, 0, n)
	}
}

func (f *fold) endLoose(a event.Anomaly) {
	for i, o := range f.State.Loose {
		if o.Key == a.Key {
			f.State.Loose[i] = a
		}
	}
}

// open begins an incident, or reopens the one that the same thing had lately.
func (f *fold) open(root event.Entity, a event.Anomaly, now time.Time) {
	s := &f.State
	for _, id := range sortedKeys(s.Incidents) {
		inc := s.Incidents[id]
		if inc.Closed == nil || inc.MergedTo != "" || inc.Blind || now.Sub(*inc.Closed) > f.policy.Reopen {
			continue
		}
		if _, ok := inc.Roots[root.String()]; ok {
			inc.Closed, inc.Calm = nil, time.Time{}
			inc.Flaps++
			inc.Anomalies = map[string]event.Anomaly{}
			f.keep(inc, a)
			return
		}
	}
	id := event.IncidentID(root, a.Detector, a.Onset)
	if _, taken := s.Incidents[id]; taken {
		id = event.IncidentID(root, a.Key, a.Onset)
	}
	inc := newIncident(id, root, a.Onset, now)
	s.Incidents[id] = inc
	f.keep(inc, a)
	f.gather(inc)
	f.storm(now)
}

// gather takes loose anomalies of the look-back into a new incident.
func (f *fold) gather(inc *incident) {
	s := &f.State
	s.Loose = slices.DeleteFunc(s.Loose, func(a event.Anomaly) bool {
		if inc.Onset.Sub(a.WindowEnd) > f.policy.Lookback {
			return false
		}
		if f.relation(inc, s.Topology.root(a.Entity), a) == unrelated {
			return false
		}
		f.keep(inc, a)
		return true
	})
}

// mergeInto joins other incidents that a new anomaly shows to be part of the
// same trouble: the node that all of them run on, the service all of them
// call. The oldest survives.
func (f *fold) mergeInto(inc *incident, root event.Entity, a event.Anomaly, now time.Time) {
	for _, id := range f.openIDs() {
		other := f.State.Incidents[id]
		if other == inc || other.Blind || f.relation(other, root, a) < neighbours {
			continue
		}
		into, from := inc, other
		if other.Onset.Before(inc.Onset) {
			into, from = other, inc
		}
		f.merge(into, from, now)
		inc = into
	}
}

func (f *fold) merge(into, from *incident, now time.Time) {
	for _, key := range sortedKeys(from.Anomalies) {
		f.keep(into, from.Anomalies[key])
	}
	for _, r := range from.Roots {
		into.touch(r)
	}
	from.MergedTo = into.Published.ID
	from.Closed = &now
	from.Anomalies = map[string]event.Anomaly{}
}

// storm joins incidents that opened together and have no relation that is
// known: so many at once have one cause more likely than many.
func (f *fold) storm(now time.Time) {
	var young []*incident
	for _, id := range f.openIDs() {
		inc := f.State.Incidents[id]
		if !inc.Blind && now.Sub(inc.Opened) <= 2*time.Minute {
			young = append(young, inc)
		}
	}
	if len(young) < f.policy.Storm {
		return
	}
	young[0].Storm = true
	for _, inc := range young[1:] {
		f.merge(young[0], inc, now)
	}
}

// blindAfter is how long a source may be away before it is worth a notice.
const blindAfter = 2 * time.Minute

// blindness opens one notice for a source that cannot be read, and closes it.
// Being blind is not an outage: nothing else follows from it.
func (f *fold) blindness(now time.Time) {
	s := &f.State
	blind := map[string]event.Blindness{}
	for _, key := range sortedKeys(s.Blind) {
		b := s.Blind[key]
		if old, ok := blind[b.Source]; !ok || b.Since.Before(old.Since) {
			blind[b.Source] = b
		}
	}
	for _, source := range sortedKeys(blind) {
		b := blind[source]
		e := event.Entity{Kind: "Source", Name: source}
		id := event.IncidentID(e, "blind", b.Since)
		if _, ok := s.Incidents[id]; ok || now.Sub(b.Since) < blindAfter || f.noticed(source) {
			continue
		}
		inc := newIncident(id, e, b.Since, now)
		inc.Blind = true
		inc.touch(e)
		inc.Published.Blind = []event.Blindness{b}
		s.Incidents[id] = inc
	}
	for _, id := range f.openIDs() {
		inc := s.Incidents[id]
		if _, still := blind[inc.Root.Name]; inc.Blind && !still {
			inc.Closed = &now
		}
	}
}

func (f *fold) noticed(source string) bool {
	for _, inc := range f.State.Incidents {
		if inc.Blind && inc.Closed == nil && inc.Root.Name == source {
			return true
		}
	}
	return false
}

// blindNow lists the blind sources, for incidents that miss their data.
func (f *fold) blindNow() []event.Blindness {
	var out []event.Blindness
	for _, key := range sortedKeys(f.State.Blind) {
		b := f.State.Blind[key]
		if !slices.ContainsFunc(out, func(o event.Blindness) bool { return o.Source == b.Source }) {
			out = append(out, b)
		}
	}
	return out
}

// sourceOf is the kind of source that an anomaly rests on, for independence:
// two metrics agree more easily than a metric and a log.
func sourceOf(a event.Anomaly) string {
	if len(a.Evidence) > 0 && a.Evidence[0].Source != "" {
		return a.Evidence[0].Source
	}
	return "detector " + a.Detector
}

func clock(t time.Time) string { return t.UTC().Format("15:04") }

func blindTitle(b event.Blindness) string {
	return fmt.Sprintf("blind: %s cannot be read since %s: %s", b.Source, clock(b.Since), b.Reason)
}
