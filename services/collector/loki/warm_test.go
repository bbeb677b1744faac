package loki

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// untilClosed are the batches of the past that a source gives before the first
// window that it closes.
func untilClosed(t *testing.T, s *Source, cursor []byte) (chosen, minutes []event.LogBatch, position []byte) {
	t.Helper()
	got := start(t, s, cursor)
	for {
		e := receive(t, got)
		for _, o := range e.Events {
			b := o.Data().(event.LogBatch)
			switch {
			case b.Chosen && b.Bootstrap:
				chosen = append(chosen, b)
			case b.Bootstrap:
				minutes = append(minutes, b)
			}
			if b.Bootstrap && !e.Closed.IsZero() {
				t.Errorf("history of %s came with the window that ends at %s", b.Start, e.Closed)
			}
		}
		if !e.Closed.IsZero() {
			return chosen, minutes, e.Cursor
		}
	}
}

// soon has windows read at once.
func soon(cfg *Config) {
	cfg.Tail.Off, cfg.MaxQPS, cfg.Window, cfg.Delay = true, 1000, time.Second, time.Millisecond
}

// wrote has the server hold a line each ten seconds of the last so many hours.
func wrote(srv *server, hours int, more string) {
	for at := time.Now().Add(-time.Duration(hours) * time.Hour).Truncate(time.Minute); at.Before(time.Now()); at = at.Add(10 * time.Second) {
		srv.lines = append(srv.lines, Entry{Time: at, Labels: map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}, Line: fmt.Sprintf("level=error msg=tick n=%d %s", at.Unix(), more)})
	}
}

func TestTheFirstStartReadsWhatWasSaidBefore(t *testing.T) {
	old, _ := json.Marshal(cursor{End: time.Now().Add(-10 * time.Second).Truncate(time.Second), Words: "of another miner"})
	for name, c := range map[string]struct {
		cursor []byte
		more   int // words of each line
		change func(*Config)
		want   bool
	}{
		"when nothing is stored":                       {nil, 0, nil, true},
		"when what is stored is of another miner":      {old, 0, nil, true},
		"not when it was read":                         {After(time.Now().Add(-10 * time.Second).Truncate(time.Second)), 0, nil, false},
		"not when it is off":                           {nil, 0, func(c *Config) { c.WarmStart.Off = true }, false},
		"and a part of it when it is more than budget": {nil, 40, func(c *Config) { c.BytesPerDay = 1 << 20 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t)
			wrote(srv, 3, strings.Repeat("and so on ", c.more))
			s := newTestSource(t, srv.URL, func(cfg *Config) {
				soon(cfg)
				cfg.WarmStart.History = 3 * time.Hour
				if c.change != nil {
					c.change(cfg)
				}
			})
			chosen, minutes, position := untilClosed(t, s, c.cursor)
			var cur cursor
			if err := json.Unmarshal(position, &cur); err != nil || cur.Words != logpattern.Version {
				t.Errorf("cursor %s: %v, want the version of the miner", position, err)
			}
			if !c.want {
				if len(chosen)+len(minutes) != 0 {
					t.Errorf("%d batches of the past", len(chosen)+len(minutes))
				}
				return
			}
			if strings.Contains(name, "budget") {
				size := 0
				for _, b := range append(chosen, minutes...) {
					for _, l := range b.Streams[0].Lines {
						size += len(l.Text)
					}
				}
				if most := historyShare * (1 << 20) * 1.2; size == 0 || float64(size) > most {
					t.Errorf("%d bytes of the past, want some and at most %.0f", size, most)
				}
				return
			}
			if len(chosen) < 2 || len(minutes) < 11 || len(minutes) > 13 {
				t.Fatalf("%d hours and %d minutes of the last three hours, want 2 or 3 and 4 in an hour", len(chosen), len(minutes))
			}
			for i, b := range minutes {
				if b.End.Sub(b.Start) != time.Minute || b.Start.Minute()%15 != 0 || b.SampledRate != 1 || len(b.Streams[0].Lines) != 6 || i > 0 && !b.Start.After(minutes[i-1].Start) {
					t.Errorf("minute %s-%s: rate %d, %d lines", b.Start, b.End, b.SampledRate, len(b.Streams[0].Lines))
				}
			}
			srv.mu.Lock()
			defer srv.mu.Unlock()
			if !strings.HasSuffix(srv.asked[1], s.cfg.Tail.Filter) || strings.Contains(srv.asked[len(chosen)+len(minutes)], s.cfg.Tail.Filter) {
				t.Errorf("asked %q and at last %q, want what sounds like trouble and then everything", srv.asked[1], srv.asked[len(chosen)+len(minutes)])
			}
		})
	}
}

func TestAnAnswerAboutThePastThatIsFullStandsForItsMinute(t *testing.T) {
	srv := serve(t)
	from := time.Now().Add(-30 * time.Minute).Truncate(time.Minute)
	for i := range 600 {
		srv.lines = append(srv.lines, Entry{Time: from.Add(time.Duration(i) * 100 * time.Millisecond), Labels: map[string]string{"namespace": "shop", "pod": "web-0"}, Line: fmt.Sprint("line ", i)})
	}
	s := newTestSource(t, srv.URL, func(cfg *Config) { cfg.Tail.Off, cfg.Limit = true, 100 })
	streams, n, err := s.few(t.Context(), s.query, from, from.Add(time.Minute))
	if err != nil || n != 100 {
		t.Fatalf("%d lines: %v", n, err)
	}
	out, size := s.ofPast(s.query, streams, n, from, time.Minute, false)
	if len(out) != 1 || size == 0 {
		t.Fatalf("%d batches of %d bytes", len(out), size)
	}
	if b := out[0].Data().(event.LogBatch); b.SampledRate != 6 {
		t.Errorf("a hundred lines of six hundred stand for %d each, want 6", b.SampledRate)
	}
}

func TestALokiThatTellsNothingOfThePastIsReadFromNowOn(t *testing.T) {
	srv := serve(t)
	wrote(srv, 1, "")
	srv.fail = func(n int) int {
		if n > 1 && n < 1+historyTries+1 {
			return http.StatusBadGateway
		}
		return 0
	}
	s := newTestSource(t, srv.URL, soon)
	chosen, minutes, _ := untilClosed(t, s, nil)
	if len(chosen)+len(minutes) != 0 {
		t.Errorf("%d batches of what was not told", len(chosen)+len(minutes))
	}
}

func TestAWarmStartIsValidated(t *testing.T) {
	for field, change := range map[string]func(*WarmStart){
		"warm_start.history":          func(w *WarmStart) { w.History = time.Minute },
		"warm_start.minutes_per_hour": func(w *WarmStart) { w.MinutesPerHour = 7 },
		"warm_start.patience":         func(w *WarmStart) { w.Patience = time.Hour },
	} {
		cfg := Config{}
		cfg.URL = "http://127.0.0.1:3100"
		cfg.Fill()
		if err := cfg.Validate(""); err != nil {
			t.Fatal(err)
		}
		change(&cfg.WarmStart)
		if err := cfg.Validate("loki."); err == nil || !strings.Contains(err.Error(), "loki."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
