package correlator

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return noon.Add(d) }

func deploy(name string) event.Entity {
	return event.Entity{Namespace: "shop", Kind: "Deployment", Name: name}
}

func newTestFold(t testing.TB) *fold {
	t.Helper()
	s, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	p, err := LoadPolicy(s)
	if err != nil {
		t.Fatal(err)
	}
	o, err := owner.Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return &fold{policy: p, policyHash: s.Hash(), owners: o, cluster: "test", groups: []string{"metrics", "events"}, grace: 2 * time.Minute, scorers: Scorers(), State: newState()}
}

// story is a stream of messages in event time, as the fold is given them and
// as they are published.
type story struct {
	msgs []bus.Message
	outs []event.Outgoing
}

func (s *story) add(o event.Outgoing) {
	m := bus.Message{Sequence: uint64(len(s.msgs) + 1), Data: o.Data()}
	m.ID = o.ID
	s.msgs, s.outs = append(s.msgs, m), append(s.outs, o)
}

func (s *story) anomaly(detector string, e event.Entity, class event.SignalClass, sev event.Severity, onset, seen time.Time, summary string) event.Anomaly {
	a := event.Anomaly{
		Detector: detector, ConfigHash: "1", Series: event.SeriesHash(event.HashStrings(e.String(), detector)), Entity: e, Signal: detector,
		Class: class, Severity: sev, Onset: onset, WindowEnd: seen, TailProb: 1e-6, Summary: summary, Evidence: []event.EvidenceRef{{Source: map[event.SignalClass]string{event.ClassSymptom: "prometheus"}[class]}},
	}
	a.Key = event.AnomalyKey(a.Detector, a.Series, onset)
	s.add(event.AnomalyDetected.Out(a))
	return a
}

func (s *story) end(a event.Anomaly, when time.Time) {
	a.Ended, a.WindowEnd = &when, when
	s.add(event.AnomalyEnded.Out(a))
}

func (s *story) change(kind event.ChangeKind, e event.Entity, when time.Time, summary string) {
	c := event.Change{Kind: kind, Entity: e, Time: when, Summary: summary, Revision: fmt.Sprint(when.Unix())}
	s.add(event.ContextChange.Out(c))
}

func (s *story) topology(e event.Entity, node string, calls ...event.Entity) {
	tp := event.Topology{Entity: e, Version: "1", Time: at(-time.Hour), Pods: []event.Placement{{Pod: e.Name + "-7d4b9c6f5-x2x8q", Node: node}}, Calls: calls}
	s.add(event.ContextTopology.Out(tp))
}

func (s *story) watermarks(to time.Time, blind ...event.Blindness) {
	for p := range event.Partitions {
		for _, g := range []string{"metrics", "events"} {
			w := event.Watermark{Group: g, Partition: p, Time: to, HypothesesTested: 10, Blind: blind}
			s.add(event.WatermarkPassed.Out(w))
		}
	}
}

func run(t testing.TB, f *fold, msgs []bus.Message) []event.Incident {
	t.Helper()
	var out []event.Incident
	for _, m := range msgs {
		os, err := f.Apply(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range os {
			out = append(out, o.Data().(event.Incident))
		}
	}
	return out
}

// oom is a rollout that lowers a memory limit, OOM kills, errors for users, an
// undo and the recovery.
func oom() *story {
	s := &story{}
	checkout := deploy("checkout")
	s.topology(checkout, "n1")
	s.topology(deploy("web"), "n2", checkout)
	s.watermarks(at(-2 * time.Minute))
	s.change(event.Rollout, checkout, at(0), "image v411 -> v412, memory limit 512Mi -> 256Mi")
	kill := s.anomaly("event_surge", event.Entity{Namespace: "shop", Kind: "Pod", Name: "checkout-7d4b9c6f5-x2x8q"}, event.ClassCause, event.Critical, at(2*time.Minute), at(2*time.Minute), "OOMKilled 6 of 6 pods")
	burn := s.anomaly("burn_rate", checkout, event.ClassSymptom, event.Critical, at(3*time.Minute), at(4*time.Minute), "12 % of requests fail")
	cpu := s.anomaly("level_shift", deploy("web"), event.ClassAmbient, event.Warning, at(3*time.Minute), at(4*time.Minute), "cpu low")
	s.watermarks(at(5 * time.Minute))
	s.end(kill, at(12*time.Minute))
	s.end(burn, at(14*time.Minute))
	s.end(cpu, at(14*time.Minute))
	s.watermarks(at(30 * time.Minute))
	return s
}

func TestARolloutThatKillsPodsIsOneIncidentWithTheRolloutAsCause(t *testing.T) {
	got := run(t, newTestFold(t), oom().msgs)
	if len(got) < 2 {
		t.Fatalf("%d revisions, want at least opened and resolved", len(got))
	}
	ids := map[string]bool{}
	var worst event.Incident
	for _, i := range got {
		ids[i.ID] = true
		if worst.ID == "" || i.Priority.Worse(worst.Priority) {
			worst = i
		}
	}
	if len(ids) != 1 {
		t.Errorf("%d incidents, want 1", len(ids))
	}
	if worst.Priority != event.P1 || worst.Entity != deploy("checkout") || worst.Symptom != "12 % of requests fail" {
		t.Errorf("worst revision is %s on %s with %q", worst.Priority, worst.Entity, worst.Symptom)
	}
	if len(worst.Suspects) == 0 || worst.Suspects[0].Change == nil || worst.Suspects[0].Confidence != event.High {
		t.Errorf("suspects %+v, want the rollout, high", worst.Suspects)
	} else {
		sum := 0.0
		for _, c := range worst.Suspects[0].Contributions {
			sum += c.Weight
		}
		if d := sum - worst.Suspects[0].Score; d > 0.05 || d < -0.05 {
			t.Errorf("contributions add up to %.2f, score is %.2f", sum, worst.Suspects[0].Score)
		}
	}
	last := got[len(got)-1]
	if last.State != event.Resolved || !last.ResolvedAt.Equal(at(19*time.Minute)) {
		t.Errorf("last revision %s at %v, want resolved five minutes after the last end", last.State, last.ResolvedAt)
	}
}

// fingerprint is the outcome as bytes.
func fingerprint(t testing.TB, is []event.Incident) string {
	t.Helper()
	b, err := json.Marshal(is)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheOutcomeDoesNotDependOnInterleavingRepeatsOrRestarts(t *testing.T) {
	story := oom()
	want := fingerprint(t, run(t, newTestFold(t), story.msgs))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 25 {
		// Watermarks of one round may come in any order among themselves, and
		// anomalies anywhere before the watermarks that pass them.
		msgs := slices.Clone(story.msgs)
		for from := 0; from < len(msgs); {
			to := from
			for to < len(msgs) && isMark(msgs[to]) == isMark(msgs[from]) {
				to++
			}
			r.Shuffle(to-from, func(a, b int) { msgs[from+a], msgs[from+b] = msgs[from+b], msgs[from+a] })
			from = to
		}
		if fingerprint(t, run(t, newTestFold(t), msgs)) != want {
			t.Errorf("shuffle %d gave other incidents", i)
		}
	}
	for i := range 25 {
		msgs := slices.Clone(story.msgs)
		cut := r.IntN(len(msgs))
		f := newTestFold(t)
		got := run(t, f, msgs[:cut])
		state, _ := f.MarshalBinary()
		g := newTestFold(t)
		if err := g.UnmarshalBinary(state); err != nil {
			t.Fatal(err)
		}
		back := max(0, cut-40)
		got = append(got, run(t, g, slices.Concat(msgs[back:cut], msgs[cut:]))...)
		if fingerprint(t, got) != want {
			t.Errorf("run %d: cut at %d with %d messages repeated gave other incidents", i, cut, cut-back)
		}
	}
}

func isMark(m bus.Message) bool { _, ok := m.Data.(event.Watermark); return ok }

func TestADeadNodeIsOneIncident(t *testing.T) {
	s := &story{}
	for i := range 30 {
		s.topology(deploy(fmt.Sprintf("w%02d", i)), "n1")
	}
	s.watermarks(at(0))
	for i := range 30 {
		s.anomaly("availability", deploy(fmt.Sprintf("w%02d", i)), event.ClassSymptom, event.Warning, at(time.Minute), at(90*time.Second), "0 of 1 ready")
	}
	s.anomaly("node", event.Entity{Kind: "Node", Name: "n1"}, event.ClassCause, event.Critical, at(50*time.Second), at(95*time.Second), "node NotReady: kubelet silent")
	s.watermarks(at(5 * time.Minute))
	f := newTestFold(t)
	got := run(t, f, s.msgs)
	if open := f.openIDs(); len(open) != 1 {
		t.Fatalf("%d open incidents, want 1", len(open))
	}
	last := got[len(got)-1]
	if len(last.Suspects) == 0 || last.Suspects[0].Entity.Name != "n1" {
		t.Errorf("suspects %+v, want the node first", last.Suspects)
	}
}

func TestBeingBlindIsOneNoticeAndNoOutage(t *testing.T) {
	s := &story{}
	s.watermarks(at(0))
	b := event.Blindness{Source: "main", Since: at(time.Minute), Reason: "unreachable: connection refused"}
	for i := 1; i < 20; i++ {
		s.watermarks(at(time.Duration(i)*time.Minute), b)
	}
	s.watermarks(at(21 * time.Minute))
	got := run(t, newTestFold(t), s.msgs)
	if len(got) != 2 || got[0].State != event.Open || got[1].State != event.Resolved || got[0].Priority.Pages() {
		t.Fatalf("got %d revisions, want one notice opened and resolved", len(got))
	}
	if !strings.Contains(got[0].Title, "blind: main cannot be read since 12:01") {
		t.Errorf("title %q", got[0].Title)
	}
}

func TestOddThingsAloneNeverPage(t *testing.T) {
	s := &story{}
	s.watermarks(at(0))
	for i := range 200 {
		when := at(time.Duration(i) * time.Minute)
		a := s.anomaly("level_shift", deploy(fmt.Sprintf("w%d", i%17)), event.ClassAmbient, event.Critical, when, when, "odd")
		s.end(a, when.Add(2*time.Minute))
		s.watermarks(when)
	}
	for _, i := range run(t, newTestFold(t), s.msgs) {
		t.Errorf("incident %s %s", i.Priority, i.Title)
	}
}

func TestAStormIsOneIncidentInBoundedMemory(t *testing.T) {
	s := &story{}
	s.watermarks(at(0))
	for i := range 10_000 {
		e := event.Entity{Namespace: fmt.Sprintf("ns%d", i%500), Kind: "Deployment", Name: fmt.Sprintf("w%d", i%2000)}
		s.anomaly(fmt.Sprintf("d%d", i%5), e, event.ClassSymptom, event.Warning, at(time.Minute), at(time.Minute+time.Duration(i%60)*time.Second), "odd")
	}
	s.watermarks(at(5 * time.Minute))
	f := newTestFold(t)
	got := run(t, f, s.msgs)
	if n := len(f.openIDs()); n != 1 {
		t.Errorf("%d open incidents, want 1", n)
	}
	last := got[len(got)-1]
	if len(last.Anomalies) > maxInEvent || last.Dropped == 0 {
		t.Errorf("%d anomalies in the event, %d dropped", len(last.Anomalies), last.Dropped)
	}
	b, _ := f.MarshalBinary()
	if len(b) > 8<<20 {
		t.Errorf("state of %d MiB", len(b)>>20)
	}
}

func TestARolloutThatAnotherHasReplacedIsNoLikelyCause(t *testing.T) {
	s := &story{}
	web := deploy("web")
	s.topology(web, "n1")
	s.watermarks(at(-2 * time.Minute))
	s.change(event.Rollout, web, at(0), "image v1 -> v2")
	s.change(event.Rollout, web, at(2*time.Minute), "image v2 -> v3")
	s.anomaly("event_surge", web, event.ClassCause, event.Critical, at(3*time.Minute), at(3*time.Minute), "OOMKilled x2")
	s.watermarks(at(5 * time.Minute))
	got := run(t, newTestFold(t), s.msgs)
	if len(got) == 0 || len(got[0].Suspects) == 0 || got[0].Suspects[0].Change == nil || got[0].Suspects[0].Change.Summary != "image v2 -> v3" {
		t.Fatalf("got %+v, want the last rollout as first suspect", got)
	}
	for _, c := range got[0].Suspects[1:] {
		if c.Confidence == event.High {
			t.Errorf("%s is suspected with high confidence too", c.Why)
		}
	}
}
