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

// grace is how long, in event time, an expected group that has said nothing,
// or has fallen silent, is waited for.
const grace = 2 * time.Minute

// fold is the correlator: one deterministic state machine over the ANOMALIES
// stream. Inputs wait until every group's watermark has passed them, and are
// then folded in an order of their own: by time, kind and id.
type fold struct {
	policy     Policy
	policyHash string
	owners     owner.Policy
	cluster    string
	groups     []string
	scorers    []Scorer

	State state
}

// state is all that a fold knows; it is what a checkpoint holds.
type state struct {
	Version    int                        `json:"version"`
	Watermarks map[string]time.Time       `json:"watermarks"` // by group/partition
	First      time.Time                  `json:"first"`      // watermark ever seen
	Released   time.Time                  `json:"released"`   // grid time judged last
	Pending    []input                    `json:"pending"`
	Topology   *topology                  `json:"topology"`
	Changes    []event.Change             `json:"changes"` // of the last hours, oldest first
	Loose      []event.Anomaly            `json:"loose"`   // belong to no incident, yet
	Incidents  map[string]*incident       `json:"incidents"`
	ByAnomaly  map[string]string          `json:"by_anomaly"` // key to incident
	Blind      map[string]event.Blindness `json:"blind"`
	Tests      testCount                  `json:"tests"`
}

// testCount counts hypotheses, for the page budget.
type testCount struct {
	Count int64     `json:"count"`
	Since time.Time `json:"since"`
}

// input is one message that waits for its time.
type input struct {
	Time     time.Time       `json:"time"`
	ID       string          `json:"id"`
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
		v.Foreign = v.Foreign && !slices.Contains(f.policy.TrustedDetectors, v.Detector)
		s.Pending = append(s.Pending, input{Time: v.WindowEnd.UTC(), ID: m.ID, Anomaly: &v})
	case event.Change:
		s.Pending = append(s.Pending, input{Time: v.Time.UTC(), ID: m.ID, Change: &v})
	case event.Topology:
		s.Pending = append(s.Pending, input{Time: v.Time.UTC(), ID: m.ID, Topology: &v})
	case event.Watermark:
		return f.watermark(v), nil
	}
	return nil, nil
}

// watermark takes in a watermark and judges every grid time that it completes.
func (f *fold) watermark(w event.Watermark) []event.Outgoing {
	s := &f.State
	key := fmt.Sprintf("%s/%02d", w.Group, w.Partition)
	if !w.Time.After(s.Watermarks[key]) {
		return nil // a repeat
	}
	s.Watermarks[key] = w.Time.UTC()
	if s.First.IsZero() {
		s.First = w.Time.UTC()
		s.Released = w.Time.UTC().Add(-f.policy.Lookback).Truncate(grid)
		s.Tests.Since = w.Time.UTC()
	}
	s.Tests.Count += w.HypothesesTested
	f.see(w)
	var out []event.Outgoing
	for limit := f.complete(); ; {
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

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// complete is the time up to which every group has spoken. A partition that
// has been silent for the grace, in event time, is not waited for.
func (f *fold) complete() time.Time {
	s := &f.State
	newest := time.Time{}
	for _, w := range s.Watermarks {
		newest = maxTime(newest, w)
	}
	limit := newest
	for _, g := range f.groups {
		for p := range event.Partitions {
			w, seen := s.Watermarks[fmt.Sprintf("%s/%02d", g, p)]
			if !seen {
				w = s.First
			}
			if w.Before(newest.Add(-grace)) {
				continue
			}
			if w.Before(limit) {
				limit = w
			}
		}
	}
	return limit
}

// see notes which sources are blind. A later watermark of the same group that
// does not name a source says that it can be read again.
func (f *fold) see(w event.Watermark) {
	if w.Partition != 0 {
		return // every partition carries the same
	}
	s := &f.State
	for key := range s.Blind {
		if group, source, _ := strings.Cut(key, "/"); group == w.Group && !slices.ContainsFunc(w.Blind, func(b event.Blindness) bool { return b.Source == source }) {
			delete(s.Blind, key)
		}
	}
	for _, b := range w.Blind {
		s.Blind[w.Group+"/"+b.Source] = b
	}
}

// idle says that no timer runs.
func (f *fold) idle() bool {
	return len(f.State.Incidents) == 0 && len(f.State.Loose) == 0 && len(f.State.Blind) == 0
}

func (f *fold) earliest() (time.Time, bool) {
	var t time.Time
	for _, i := range f.State.Pending {
		if t.IsZero() || i.Time.Before(t) {
			t = i.Time
		}
	}
	return t, !t.IsZero()
}

// judge folds what happened up to a grid time, then lets timers run.
func (f *fold) judge(now time.Time) []event.Outgoing {
	s := &f.State
	var due, later []input
	for _, i := range s.Pending {
		if i.Time.After(now) {
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
			f.anomaly(*in.Anomaly, now)
		}
	}
	f.blindness(now)
	return f.publish(now)
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
