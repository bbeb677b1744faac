package triage

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
	"github.com/oncall-copilot/oncall/pkg/redact"
)

// witness is a history of the three hours up to noon: so many lines a minute between
// two times, in minutes ago.
func witness(source loghistory.Source, known int, spoke ...[3]int) *loghistory.History {
	h := &loghistory.History{Source: source, Start: noon.Add(-3 * time.Hour), End: noon, Step: time.Minute, Known: noon.Add(-time.Duration(known) * time.Minute), Counts: make([]float64, 180), Query: "{}"}
	for _, s := range spoke {
		for ago := s[0]; ago > s[1]; ago-- {
			at := noon.Add(-time.Duration(ago) * time.Minute)
			if h.Counts[180-ago] = float64(s[2]); h.First.IsZero() || at.Before(h.First) {
				h.First = at
			}
		}
	}
	return h
}

func TestAHistorySaysNoMoreThanItsRangeShows(t *testing.T) {
	for name, c := range map[string]struct {
		h    *loghistory.History
		want string
	}{
		"what is new is so by the lines": {
			witness(loghistory.Lines, 180, [3]int{4, 0, 15}),
			"first at 11:56, 4m ago; none in the 176m before; 60 lines (lines counted in Loki)",
		},
		"patterns do not show that there was none": {
			witness(loghistory.Patterns, 180, [3]int{60, 0, 15}),
			"there since 11:00 at least, 60m ago; 4.41/min before, 15/min in the last 10m (by Loki's patterns)",
		},
		"what was there at the beginning may be older": {
			witness(loghistory.Patterns, 180, [3]int{178, 10, 2}, [3]int{10, 0, 40}),
			"there at 09:02 already, when the last 3h begin; 1.98/min before, 40/min in the last 10m (by Loki's patterns)",
		},
		"logs that begin late prove nothing": {
			witness(loghistory.Lines, 20, [3]int{20, 0, 3}),
			"there at 11:40 already, when its logs in Loki begin; 3/min before, 3/min in the last 10m (lines counted in Loki)",
		},
		"one that has ended": {
			witness(loghistory.Lines, 180, [3]int{60, 50, 6}),
			"first at 11:00, 60m ago; none in the 2h0m before; 0.353/min before, 0/min in the last 10m (lines counted in Loki)",
		},
		"none of it": {
			witness(loghistory.Lines, 180),
			"none since 09:00, when the last 3h begin (lines counted in Loki)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &assembly{g: &gathered{c: &check.Cluster{Now: noon}}, r: &Result{}, ids: map[string]string{}}
			got := a.told(c.h)
			if want := strings.ReplaceAll(c.want, "2h0m", "120m"); got.Text != want {
				t.Errorf("got  %s\nwant %s", got.Text, want)
			}
			if n := len([]rune(got.Sparkline)); n != 26 && n != 30 {
				t.Errorf("a course of %d points: %q", n, got.Sparkline)
			}
			if len(got.Evidence) != 1 || a.r.Evidence[0].Source != "loki" {
				t.Errorf("evidence is %v of %v", got.Evidence, a.r.Evidence)
			}
		})
	}
}

func TestHistoriesAreAskedOfTroubleOnlyAndAtOnce(t *testing.T) {
	root := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	var asked []loghistory.Question
	a := &assembly{
		g: &gathered{c: &check.Cluster{Now: noon}, root: root}, r: &Result{Since: noon.Add(-time.Hour)}, ids: map[string]string{},
		s: Sources{Redact: redact.New(redact.Options{}), History: func(_ context.Context, q loghistory.Question) ([]*loghistory.History, error) {
			asked = append(asked, q)
			return []*loghistory.History{witness(loghistory.Lines, 180, [3]int{4, 0, 15}), nil}, errors.New("password=hunter2 was refused")
		}},
	}
	found := []Pattern{{Template: "a b", Trouble: true, Example: "a b c"}, {Template: "d e", Trouble: true}, {Template: "all is well"}}
	a.histories(t.Context(), found)
	if len(asked) != 1 || len(asked[0].Statements) != 2 {
		t.Fatalf("asked %+v, want one question of two statements", asked)
	}
	if q := asked[0]; q.Selector != `{namespace="shop", pod=~"web-[a-z0-9]+-[a-z0-9]+"}` || q.End.Sub(q.Start) != 3*time.Hour {
		t.Errorf("asked %s over %s", q.Selector, q.End.Sub(q.Start))
	}
	if found[0].History == nil || found[1].History != nil || found[2].History != nil {
		t.Errorf("histories %v %v %v, want that of the first", found[0].History, found[1].History, found[2].History)
	}
	if len(a.r.NotRead) != 1 || strings.Contains(a.r.NotRead[0].Why, "hunter2") {
		t.Errorf("not read: %+v, want why, masked", a.r.NotRead)
	}
}
