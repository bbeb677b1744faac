package correlator

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// busy is an outage of one workload in small steps of time, and what a third
// party says of it at the time that it likes.
func busy(r *rand.Rand) *story {
	s := &story{}
	checkout := deploy("checkout")
	s.topology(checkout, "n1")
	s.watermarks(at(-2 * time.Minute))
	var open []event.Anomaly
	for step := range 40 {
		now := at(time.Duration(step) * 30 * time.Second)
		switch step {
		case 4:
			s.change(event.Rollout, checkout, now, "image v411 -> v412")
		case 8:
			open = append(open, s.anomaly("burn_rate", checkout, event.ClassSymptom, event.Critical, now, now, "12 % of requests fail"))
		case 12:
			open = append(open, s.anomaly("level_shift", checkout, event.ClassAmbient, event.Warning, now, now, "cpu low"))
		case 30:
			for _, a := range open {
				s.end(a, now)
			}
		}
		s.watermarks(now)
	}
	for i := range 30 {
		seen := at(time.Duration(r.IntN(20*60)) * time.Second)
		a := event.Anomaly{
			Detector: "theirs", ConfigHash: "1", Series: event.SeriesHash(event.HashStrings(fmt.Sprint(i))), Entity: checkout, Signal: "theirs", Foreign: true,
			Class: event.ClassSymptom, Severity: event.Warning, Onset: seen.Add(-time.Minute), WindowEnd: seen, TailProb: 1e-9, Summary: fmt.Sprint("odd ", i),
		}
		a.Key = event.AnomalyKey(a.Detector, a.Series, a.Onset)
		o := event.AnomalyDetected.Out(a)
		m := bus.Message{Data: o.Data()}
		m.ID = o.ID
		s.msgs = slices.Insert(s.msgs, r.IntN(len(s.msgs)+1), m)
	}
	return s
}

// TestWhatIsHeardAtItsRecordedTimeChangesNothing feeds what a third party said
// before everything else, with when it was come to, as a replay does.
func TestWhatIsHeardAtItsRecordedTimeChangesNothing(t *testing.T) {
	found := func(f *fold, msgs []bus.Message) string {
		t.Helper()
		f.policy.TrustedDetectors = []string{"theirs"}
		b, err := json.Marshal(run(t, f, msgs))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	differ := 0
	for seed := range uint64(8) {
		s := busy(rand.New(rand.NewPCG(seed, 1)))
		live := found(newTestFold(t), s.msgs)
		clock, err := NewClock(Config{Groups: []string{"metrics", "events"}, Grace: 2 * time.Minute}, nil)
		if err != nil {
			t.Fatal(err)
		}
		heard := map[string]time.Time{}
		var theirs, ours []bus.Message
		for _, m := range s.msgs {
			switch v := m.Data.(type) {
			case event.Watermark:
				clock.Pass(v)
			case event.Anomaly:
				if v.Foreign {
					heard[m.ID] = clock.Next()
					theirs = append(theirs, m)
					continue
				}
			}
			ours = append(ours, m)
		}
		f := newTestFold(t)
		f.heardAt = heard
		if got := found(f, slices.Concat(theirs, ours)); got != live {
			t.Errorf("seed %d: the incidents differ from those of the run that heard of it late", seed)
		}
		if found(newTestFold(t), slices.Concat(theirs, ours)) != live {
			differ++
		}
	}
	if differ == 0 {
		t.Error("when a third party is heard of makes no difference in any of these stories, so they show nothing")
	}
}

func TestAClockGoesOnFromACheckpoint(t *testing.T) {
	s := busy(rand.New(rand.NewPCG(1, 1)))
	f := newTestFold(t)
	half := len(s.msgs) / 2
	run(t, f, s.msgs[:half])
	state, err := f.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	clock, err := NewClock(Config{Groups: f.groups, Grace: f.grace}, state)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range s.msgs[half:] {
		run(t, f, []bus.Message{m})
		if w, ok := m.Data.(event.Watermark); ok {
			clock.Pass(w)
		}
		if got, want := clock.Next(), f.State.Released.Add(grid); !got.Equal(want) {
			t.Fatalf("message %d: the clock says %v is next, the fold has %v", i, got, want)
		}
	}
	if _, err := NewClock(DefaultConfig(), []byte(`{"version": 99}`)); err == nil {
		t.Error("a checkpoint of another version is taken")
	}
}
