//go:build e2e

package sources

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// past is what a workload wrote in the three hours up to a time: an error that is
// there all along, one that is new, and two that Loki's miner takes for one, as their
// messages stand last; and how many there are of each from a time on.
func past(now, from time.Time) (values [][2]string, count map[string]int) {
	count = map[string]int{}
	for at := now.Add(-178 * time.Minute).Truncate(time.Second); at.Before(now); at = at.Add(20 * time.Second) {
		add := func(statement, line string) {
			if !at.Before(from) {
				count[statement]++
			}
			values = append(values, [2]string{strconv.FormatInt(at.Add(time.Duration(len(values)%1000)*time.Microsecond).UnixNano(), 10), line})
		}
		add("old", fmt.Sprintf(`level=error msg="upstream timed out" upstream=10.0.0.%d`, at.Unix()%9))
		if at.Second() < 20 {
			add("reset", `level=error msg="cart: connection reset"`)
		}
		if now.Sub(at) < 30*time.Minute {
			add("refused", `level=error msg="cart: connection refused"`)
		}
		if now.Sub(at) < 4*time.Minute {
			for range 5 {
				add("new", `level=error msg="ledger rejected the entry" err="constraint violated"`)
			}
		}
	}
	return values, count
}

// TestWhatAStatementDidBeforeIsTheSameByPatternsAndByLines asks a Loki that mines
// patterns and one that does not for the same statements.
func TestWhatAStatementDidBeforeIsTheSameByPatternsAndByLines(t *testing.T) {
	statements := []loghistory.Statement{
		{Template: "upstream timed out <*>", Lines: []string{`level=error msg="upstream timed out" upstream=10.0.0.4`}},
		{Template: "ledger rejected the entry <*>", Lines: []string{`level=error msg="ledger rejected the entry" err="constraint violated"`}},
		{Template: "cart connection refused", Lines: []string{`level=error msg="cart: connection refused"`}},
	}
	for name, c := range map[string]struct {
		patterns bool
		old      loghistory.Source
		asked    int // for patterns, in two readings
	}{
		"with patterns":    {true, loghistory.Patterns, 2},
		"without patterns": {false, loghistory.Lines, 1},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := bed(t).StartLoki(t.Context(), testbed.LokiConfig{Patterns: c.patterns})
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			// Of lines that are pushed at once with times of hours ago, Loki 3.7.8 has
			// patterns of the last 2 h 41 min alone.
			from := now.Add(-150 * time.Minute).Truncate(time.Minute)
			values, count := past(now, from)
			pod := &shopPod{server: server}
			pod.push(t, values)
			pod.storedLine(t, now.Add(-178*time.Minute), "upstream timed out")
			var mu sync.Mutex
			asked := map[string]int{}
			open := func() *loghistory.Reader {
				up, err := upstream.New(upstream.Config{URL: server.URL, MaxQPS: 100}, upstream.Settings{Source: "loki", Audit: func(a event.Audit) {
					mu.Lock()
					defer mu.Unlock()
					asked[a.Operation]++
				}})
				if err != nil {
					t.Fatal(err)
				}
				return loghistory.New(up, func(s string) string { return s })
			}
			q := loghistory.Question{Selector: `{namespace="shop", pod=~"web-.*"}`, Statements: statements, Start: now.Add(-3 * time.Hour), End: now}
			total := func(h *loghistory.History) int {
				if h == nil {
					return 0
				}
				return int(h.Total(from, now.Add(time.Hour)))
			}
			// Loki hands lines to its miner in batches.
			var got []*loghistory.History
			for deadline := time.Now().Add(time.Minute); ; {
				if got, err = open().Read(t.Context(), q); err != nil {
					t.Fatal(err)
				}
				if got[0] != nil && got[0].Source == c.old && total(got[0]) == count["old"] && got[1] != nil && total(got[1]) == count["new"] && now.Sub(got[1].Known) > 177*time.Minute {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("after a minute Loki knows %+v and %+v of %v", got[0], got[1], count)
				}
				select {
				case <-t.Context().Done():
					t.Fatal(t.Context().Err())
				case <-time.After(200 * time.Millisecond):
				}
			}
			ago := func(h *loghistory.History) float64 { return now.Sub(h.First).Minutes() }
			if m := ago(got[0]); m < 150 || m > 180 || !c.patterns && m < 177 {
				t.Errorf("the old one is there since %.0f minutes, want 178, or nearly by patterns", m)
			}
			if c.patterns && !strings.Contains(got[0].Patterns[0], `msg="upstream timed out" upstream=<_>`) {
				t.Errorf("the old one is by %q of Loki", got[0].Patterns)
			}
			if m := ago(got[1]); got[1].Source != loghistory.Lines || m > 5 {
				t.Errorf("the new one is there since %.0f minutes by %s, want 4 by lines", m, got[1].Source)
			}
			if m := ago(got[2]); got[2].Source != loghistory.Lines || m < 29 || m > 31 || total(got[2]) != count["refused"] {
				t.Errorf("the one that Loki mixes with another is there since %.0f minutes by %s, %d lines; want 30 by lines, %d", m, got[2].Source, total(got[2]), count["refused"])
			}
			clear(asked)
			r := open()
			for range 2 {
				if _, err := r.Read(t.Context(), q); err != nil {
					t.Fatal(err)
				}
			}
			if asked["patterns"] != c.asked {
				t.Errorf("asked for patterns %d times in two readings, want %d", asked["patterns"], c.asked)
			}
		})
	}
}
