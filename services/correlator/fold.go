package correlator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/owner"
)

// grid is the step of event time at which the fold judges. A fixed grid makes
// the outcome independent of how the partitions' watermarks interleave.
const grid = 5 * time.Second

// fold is the correlator: one deterministic state machine over the ANOMALIES
// stream. Inputs wait until every group's watermark has passed them, and are
// then folded in an order of their own: by time, kind and id.
type fold struct {
	policy     Policy
	policyHash string
	inForce    func() rules         // nil: the rules stay as they are
	heardAt    map[string]time.Time // see Config.Heard
	owners     owner.Policy
	cluster    string
	groups     []string
	grace      time.Duration
	scorers    []Scorer
	late       func() // told of an observation that came too late; may be nil

	State state
}

// state is all that a fold knows; it is what a checkpoint holds.
type state struct {
	Version    int                        `json:"version"`
	Watermarks map[string]time.Time       `json:"watermarks"`        // by group/partition
	Signals    []string                   `json:"signals,omitempty"` // groups that watermarks come of, as the last one says
	Marks      []mark                     `json:"marks,omitempty"`   // what watermarks say beside their time, until it is judged
	First      time.Time                  `json:"first"`             // watermark ever seen
	Released   time.Time                  `json:"released"`          // grid time judged last
	Pending    []input                    `json:"pending"`
	Topology   *topology                  `json:"topology"`
	Changes    []event.Change             `json:"changes"` // of the last hours, oldest first
	Loose      []event.Anomaly            `json:"loose"`   // belong to no incident, yet
	Incidents  map[string]*incident       `json:"incidents"`
	ByAnomaly  map[string]string          `json:"by_anomaly"` // key to incident
	Blind      map[string]event.Blindness `json:"blind"`
	Tests      testCount                  `json:"tests"`
	Claims     map[string]*record         `json:"claims,omitempty"` // of trusted third parties' detectors
	Odd        []odd                      `json:"odd,omitempty"`    // incidents without a symptom, of the last weeks
}

// mark is what a watermark says that holds from its time on.
type mark struct {
	Time      time.Time         `json:"time"`
	Group     string            `json:"group"`
	Partition int               `json:"partition"`
	Tests     int64             `json:"tests,omitempty"`
	Blind     []event.Blindness `json:"blind,omitempty"`
}

// testCount counts hypotheses, for the page budget.
type testCount struct {
	Count int64     `json:"count"`
	Since time.Time `json:"since"`
}

// input is one message that waits for its time.
type input struct {
	Time     time.Time       `json:"time"`
	Heard    time.Time       `json:"heard,omitzero"` // counts from then on; zero: from its time on
	ID       string          `json:"id"`
	Trace    string          `json:"trace,omitempty"` // of the detection
	Anomaly  *event.Anomaly  `json:"anomaly,omitempty"`
	Change   *event.Change   `json:"change,omitempty"`
	Topology *event.Topology `json:"topology,omitempty"`
}

// rank orders inputs of one time: what the cluster is, what was done, what
// came of it.
func (i input) rank() int {
	switch {
	case i.Topology != nil:
		return 0
	case i.Change != nil:
		return 1
	}
	return 2
}

const stateVersion = 1

func newState() state {
	return state{
		Version: stateVersion, Watermarks: map[string]time.Time{}, Topology: newTopology(), Incidents: map[string]*incident{},
		ByAnomaly: map[string]string{}, Blind: map[string]event.Blindness{},
	}
}

var _ bus.Fold = (*fold)(nil)

// Apply folds one message.
func (f *fold) Apply(m bus.Message) ([]event.Outgoing, error) {
	s := &f.State
	switch v := m.Data.(type) {
	case event.Anomaly:
		if f.repeats(v) {
			return nil, nil
		}
		s.Pending = append(s.Pending, input{Time: v.WindowEnd.UTC(), Heard: f.heardAt[m.ID], ID: m.ID, Trace: m.Traceparent, Anomaly: &v})
	case event.Change:
		s.Pending = append(s.Pending, input{Time: f.heard(v.Time, v.Entity), ID: m.ID, Change: &v})
	case event.Topology:
		s.Pending = append(s.Pending, input{Time: f.heard(v.Time, v.Entity), ID: m.ID, Topology: &v})
	case event.Watermark:
		f.reload()
		return f.watermark(v), nil
	}
	return nil, nil
}

// reload takes over the rules in force. Incidents go on under the new ones,
// and each of their revisions says which they were.
func (f *fold) reload() {
	if f.inForce == nil {
		return
	}
	r := f.inForce()
	f.policy, f.owners, f.policyHash = r.policy, r.owners, r.hash
}

// heard is when a change or a topology counts: at its own time, or, when it
// was learnt of later, as soon as it was. What its own partition has passed
// decides and not what has been judged so far, which depends on how the other
// partitions are doing.
func (f *fold) heard(t time.Time, e event.Entity) time.Time {
	return maxTime(t.UTC(), f.State.Watermarks[key("events", event.PartitionOf(e))])
}

// repeats says whether an observation was folded before: a detector that
// begins again from an old checkpoint says everything again, and the server
// knows the ids for an hour only. An observation always comes before the
// watermark of its window, so one that is older than what has been judged, by
// more than groups are waited for, is a repeat or of no use any more.
func (f *fold) repeats(a event.Anomaly) bool {
	s := &f.State
	if inc := s.Incidents[s.ByAnomaly[a.Key]]; inc != nil {
		known, ok := inc.Anomalies[a.Key]
		if ok && !a.WindowEnd.After(known.WindowEnd) {
			return true
		}
	}
	if s.Released.IsZero() || a.Foreign || a.WindowEnd.After(s.Released.Add(-f.grace)) {
		return false
	}
	if f.late != nil {
		f.late()
	}
	return true
}

func key(group string, partition int) string { return group + "/" + event.PartitionToken(partition) }

// watermark takes in a watermark and judges every grid time that it completes.
func (f *fold) watermark(w event.Watermark) []event.Outgoing {
	s := &f.State
	if !f.note(w) {
		return nil
	}
	if w.Partition == 0 || w.HypothesesTested > 0 {
		s.Marks = append(s.Marks, mark{w.Time.UTC(), w.Group, w.Partition, w.HypothesesTested, w.Blind})
	}
	limit := f.complete()
	if limit.IsZero() {
		return nil
	}
	if s.Released.IsZero() {
		s.Released = s.First.Add(-f.policy.Lookback).Truncate(grid)
		s.Tests.Since = s.First
	}
	var out []event.Outgoing
	for {
		next := s.Released.Add(grid)
		if next.After(limit) {
			return out
		}
		if f.idle() {
			// Nothing can happen before the next input: go there at once.
			next = limit.Truncate(grid)
			if t, ok := f.earliest(); ok && t.Before(next) {
				next = maxTime(s.Released.Add(grid), t.Truncate(grid))
			}
		}
		s.Released = next
		out = append(out, f.judge(next)...)
	}
}

// note remembers how far a partition of a group has come; false for a repeat.
func (f *fold) note(w event.Watermark) bool {
	s := &f.State
	k := key(w.Group, w.Partition)
	old, seen := s.Watermarks[k]
	if seen && !w.Time.After(old) {
		return false
	}
	if !seen && s.Released.IsZero() && (s.First.IsZero() || w.Time.Before(s.First)) {
		s.First = w.Time.UTC()
	}
	if w.Signals != nil {
		s.Signals = w.Signals
	}
	s.Watermarks[k] = w.Time.UTC()
	return true
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// unheard is how long, in event time, a group is waited for that was never
// heard of and that nobody says there is.
const unheard = 2 * time.Minute

// wedged is how far, in event time, a partition may be behind the others of its
// group before it is no longer waited for. A partition that is taken over is
// behind for seconds, which are many minutes of event time while history is
// caught up on; a longer stop is a fault, and must not stop everybody's pages.
const wedged = 2 * time.Hour

// complete is the time up to which every group has spoken; zero while one of
// them has not begun. Within a group every partition is waited for, since a
// partition that is behind is being taken over. A group that is behind another
// by more than the grace is not: a slow log store must not hold back a page.
func (f *fold) complete() time.Time {
	s := &f.State
	groups := f.groups
	if s.Signals != nil {
		groups = s.Signals
	}
	newest := time.Time{}
	for _, w := range s.Watermarks {
		newest = maxTime(newest, w)
	}
	limit := newest
	for _, g := range groups {
		low, high := newest, time.Time{}
		seen := 0
		for p := range event.Partitions {
			if w, ok := s.Watermarks[key(g, p)]; ok {
				seen++
				high = maxTime(high, w)
				if w.Before(low) {
					low = w
				}
			}
		}
		patience := f.grace
		if seen < event.Partitions {
			low, high = time.Time{}, time.Time{}
			if seen == 0 && s.Signals == nil {
				patience = unheard
			}
		}
		if newest.Sub(maxTime(high, s.First)) > patience || high.Sub(low) > wedged {
			continue
		}
		if low.Before(limit) {
			limit = low
		}
	}
	return limit
}

// pass lets what watermarks said up to now take effect. Which sources are
// blind is what the first partition's say; every partition carries the same.
// A later watermark of the same group that does not name a source says that
// it can be read again.
func (f *fold) pass(now time.Time) {
	s := &f.State
	slices.SortStableFunc(s.Marks, func(a, b mark) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Group, b.Group), cmp.Compare(a.Partition, b.Partition))
	})
	n := 0
	for n < len(s.Marks) && !s.Marks[n].Time.After(now) {
		w := s.Marks[n]
		n++
		s.Tests.Count += w.Tests
		if w.Partition != 0 {
			continue
		}
		for k := range s.Blind {
			if group, source, _ := strings.Cut(k, "/"); group == w.Group && !slices.ContainsFunc(w.Blind, func(b event.Blindness) bool { return b.Source == source }) {
				delete(s.Blind, k)
			}
		}
		for _, b := range w.Blind {
			s.Blind[w.Group+"/"+b.Source] = b
		}
	}
	s.Marks = slices.Delete(s.Marks, 0, n)
}

// idle says that no timer runs.
func (f *fold) idle() bool {
	return len(f.State.Incidents) == 0 && len(f.State.Loose) == 0 && len(f.State.Blind) == 0
}

func (f *fold) earliest() (time.Time, bool) {
	var t time.Time
	for _, i := range f.State.Pending {
		if at := maxTime(i.Time, i.Heard); t.IsZero() || at.Before(t) {
			t = at
		}
	}
	for _, m := range f.State.Marks {
		if len(m.Blind) > 0 && (t.IsZero() || m.Time.Before(t)) {
			t = m.Time
		}
	}
	return t, !t.IsZero()
}

// judge folds what happened up to a grid time, then lets timers run.
func (f *fold) judge(now time.Time) []event.Outgoing {
	s := &f.State
	f.pass(now)
	var due, later []input
	for _, i := range s.Pending {
		if i.Time.After(now) || i.Heard.After(now) {
			later = append(later, i)
		} else {
			due = append(due, i)
		}
	}
	s.Pending = later
	slices.SortFunc(due, func(a, b input) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.rank(), b.rank()), strings.Compare(a.ID, b.ID))
	})
	for i, in := range due {
		if i > 0 && in.ID == due[i-1].ID {
			continue // the same message twice, outside the server's window
		}
		switch {
		case in.Topology != nil:
			s.Topology.put(*in.Topology)
		case in.Change != nil:
			f.change(*in.Change)
		case in.Anomaly != nil:
			f.anomaly(f.trust(*in.Anomaly, now), now)
			f.trace(in)
		}
	}
	f.blindness(now)
	return f.publish(now)
}

// trace lets an incident go on in the trace of the first anomaly in it that has
// one.
func (f *fold) trace(in input) {
	if inc := f.State.Incidents[f.State.ByAnomaly[in.Anomaly.Key]]; inc != nil && inc.Trace == "" {
		inc.Trace = in.Trace
	}
}

// maxChanges bounds the changes that are remembered.
const maxChanges = 4096

func (f *fold) change(c event.Change) {
	s := &f.State
	if slices.ContainsFunc(s.Changes, func(o event.Change) bool {
		return o.Entity == c.Entity && o.Kind == c.Kind && o.Revision == c.Revision
	}) {
		return
	}
	s.Changes = append(s.Changes, c)
	cut := c.Time.Add(-2 * f.policy.ChangeLookback)
	s.Changes = slices.DeleteFunc(s.Changes, func(o event.Change) bool { return o.Time.Before(cut) })
	if n := len(s.Changes) - maxChanges; n > 0 {
		s.Changes = slices.Delete(s.Changes, 0, n)
	}
}

// whole makes the maps that are not there, and says what is missing elsewhere.
func (s *state) whole() error {
	for id, inc := range s.Incidents {
		if inc == nil || inc.Anomalies == nil || inc.Roots == nil || inc.Spaces == nil {
			return fmt.Errorf("incidents: %s is empty", id)
		}
	}
	for name, r := range s.Claims {
		if r == nil {
			return fmt.Errorf("claims: %s is empty", name)
		}
	}
	empty := newState()
	if s.Watermarks == nil {
		s.Watermarks = empty.Watermarks
	}
	if s.Incidents == nil {
		s.Incidents = empty.Incidents
	}
	if s.ByAnomaly == nil {
		s.ByAnomaly = empty.ByAnomaly
	}
	if s.Blind == nil {
		s.Blind = empty.Blind
	}
	return nil
}

// MarshalBinary writes the state as JSON, which sorts its maps: the same state
// gives the same bytes.
func (f *fold) MarshalBinary() ([]byte, error) { return json.Marshal(&f.State) }

// UnmarshalBinary reads what MarshalBinary wrote.
func (f *fold) UnmarshalBinary(b []byte) error {
	s := newState()
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("correlator state: %w", err)
	}
	if s.Version != stateVersion {
		return fmt.Errorf("correlator state: version %d is not %d", s.Version, stateVersion)
	}
	if s.Topology == nil || s.Topology.Workloads == nil {
		s.Topology = newTopology()
	}
	if err := s.whole(); err != nil {
		return fmt.Errorf("correlator state: %w", err)
	}
	f.State = s
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
