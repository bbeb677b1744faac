package collector

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func step(n int) time.Time { return noon.Add(time.Duration(n) * 15 * time.Second) }

// at is a moment of clocks that agree.
func at(t time.Time) moment { return moment{t, t} }

func TestEveryClosedStepGetsItsTickHoweverManyAreDueAtOnce(t *testing.T) {
	p := newProgress(time.Minute, at(noon))
	p.expect(event.Metrics, "a")
	p.expect(event.Metrics, "b")
	for n := 1; n <= 4; n++ {
		p.record("a", Emission{Stream: event.Metrics, Closed: step(n), Cursor: []byte{byte(n)}, Skipped: n % 2}, at(noon))
	}
	if due := p.due(at(noon)); len(due) != 0 {
		t.Fatalf("ticks %v before every source has closed something", due)
	}
	p.record("b", Emission{Stream: event.Metrics, Closed: step(3)}, at(noon))
	ticks := p.due(at(noon))[event.Metrics]
	if len(ticks) != 3 {
		t.Fatalf("%d ticks, want one for each of the steps that both have passed: %+v", len(ticks), ticks)
	}
	for i, tick := range ticks {
		if !tick.Watermark.Equal(step(i+1)) || tick.Skipped != (i+1)%2 || len(tick.Signals) != 1 || tick.Signals[0] != "metrics" {
			t.Errorf("tick %d = %+v", i, tick)
		}
	}
}

func TestACursorIsStoredAfterTheTickThatCoversIt(t *testing.T) {
	p := newProgress(time.Minute, at(noon))
	p.expect(event.Metrics, "a")
	if c := p.record("a", Emission{Stream: event.Metrics, Cursor: []byte("first")}, at(noon)); string(c) != "first" {
		t.Errorf("a cursor that no tick is to come for = %q, want it at once", c)
	}
	for n := 1; n <= 2; n++ {
		if c := p.record("a", Emission{Stream: event.Metrics, Closed: step(n), Cursor: []byte{byte(n)}}, at(noon)); c != nil {
			t.Errorf("cursor %v stored before its tick", c)
		}
	}
	p.record("a", Emission{Stream: event.Metrics, Cursor: []byte("later")}, at(noon))
	ticks := p.due(at(noon))[event.Metrics]
	for i, want := range []string{"\x01", "later"} {
		got := p.done(event.Metrics, ticks[i])
		if len(got) != 1 || string(got[0].cursor) != want {
			t.Errorf("after tick %d: cursors %q, want %q", i, got, want)
		}
	}
	if due := p.due(at(noon)); len(due) != 0 {
		t.Errorf("ticks %v are due again", due)
	}
}

func TestATickNamesABlindSourceOnlyFromWhenItWasBlind(t *testing.T) {
	p := newProgress(time.Minute, at(noon))
	p.expect(event.Logs, "loki")
	p.record("loki", Emission{Stream: event.Logs, Closed: step(1)}, at(noon))
	p.record("loki", Emission{Stream: event.Logs, Blind: &event.Blindness{Source: "loki", Since: step(2)}}, at(noon))
	if ticks := p.due(at(noon))[event.Logs]; len(ticks) != 1 || ticks[0].Blind != nil {
		t.Errorf("ticks %+v, want one that is not blind: everything up to it was read", ticks)
	}
	later := noon.Add(5 * time.Minute)
	ticks := p.due(at(later))[event.Logs]
	if n := len(ticks); n == 0 || len(ticks[n-1].Blind) != 1 || ticks[n-1].Blind[0].Source != "loki" {
		t.Errorf("ticks %+v after the patience, want the last to name loki", ticks)
	}
}
