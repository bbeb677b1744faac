package logpattern

import (
	"testing"

	"github.com/oncall-copilot/oncall/test/benchmark/logs"
)

// What is remembered of the last line makes no difference to the next.
func TestTheLastTimestampChangesNothing(t *testing.T) {
	var memo timeMemo
	same := func(line string) {
		t.Helper()
		got, level := cut(line, &memo)
		if want, l := Content(line); got != want || level != l {
			t.Errorf("%q after another: got %q %s, want %q %s", line, got, level, want, l)
		}
	}
	programs, err := logs.Programs()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		for _, p := range programs {
			if i < len(p.Lines) {
				same(p.Lines[i].Raw)
			}
		}
	}
	for _, p := range programs {
		for _, l := range p.Lines {
			same(l.Raw)
		}
	}
	for _, s := range logs.Invented() {
		for _, l := range s.Lines(1) {
			same(l.Raw)
		}
	}
	stamps := []string{"2026-03-01 10:00:00", "2026-03-01 9:00:00", "2026-03-01T10:00:00Z", "2026-03-01T10:00:00+02:00", "Mar  1 10:00:00", "10:00:00", "[2026-03-01 10:00:00]", "260301 100000", "20260301 10:00:00"}
	tails := []string{" INFO x", "  INFO x", ",123 INFO x", ",INFO,x,y z", ".5 x", "|x", " | x", " WARN x", " 2026 x", " +0200 x", " Z x", "", " ", "] x", ": x", " AM x", " 203615 x", "\tx", " [a] x"}
	for _, a := range stamps {
		for _, b := range tails {
			for _, c := range tails {
				same(a + b)
				same(a + c)
			}
		}
	}
}
