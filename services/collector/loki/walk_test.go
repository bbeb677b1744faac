package loki

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// past is a Loki that holds a line every so often, in two streams.
func past(t *testing.T, from time.Time, every, length time.Duration, limit int) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_ = r.ParseForm()
		bound := func(name string) time.Time {
			n, _ := strconv.ParseInt(r.Form.Get(name), 10, 64)
			return time.Unix(0, n)
		}
		values := map[string][][2]string{}
		n := 0
		for i := 0; time.Duration(i)*every < length && n < limit; i++ {
			at := from.Add(time.Duration(i) * every)
			if at.Before(bound("start")) || !at.Before(bound("end")) {
				continue
			}
			pod := "web-7d4b9c6f5-x2x8" + strconv.Itoa(4+i%2)
			values[pod] = append(values[pod], [2]string{strconv.FormatInt(at.UnixNano(), 10), fmt.Sprintf("line %d", i)})
			n++
		}
		result := []any{}
		for pod, v := range values {
			result = append(result, map[string]any{"stream": map[string]string{"namespace": "shop", "pod": pod}, "values": v})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": "streams", "result": result}})
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestAWalkGivesEveryWindowOnceAndAsksForManyWhereLinesAreFew(t *testing.T) {
	from := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	const length = 2 * time.Hour
	for name, tc := range map[string]struct {
		every time.Duration
		most  int64 // questions
	}{
		"a line a minute":  {time.Minute, 15},
		"many in a window": {2 * time.Second, 900},
	} {
		t.Run(name, func(t *testing.T) {
			url, asked := past(t, from, tc.every, length, 20)
			cfg := Config{Window: time.Minute, Limit: 20}
			cfg.URL, cfg.MaxQPS = url, 100_000
			s, events, err := NewHistory(cfg, env())
			if err != nil || events != nil {
				t.Fatal(events, err)
			}
			lines, windows := 0, 0
			err = s.Walk(t.Context(), from, from.Add(length), time.Minute, func(end time.Time, out []event.Outgoing) error {
				if want := from.Add(time.Duration(windows+1) * time.Minute); !end.Equal(want) {
					t.Fatalf("window %d ends at %s, want %s", windows, end, want)
				}
				windows++
				for _, o := range out {
					b := o.Data().(event.LogBatch)
					if !b.End.Equal(end) || b.End.Sub(b.Start) != time.Minute {
						t.Fatalf("a batch of %s to %s in the window that ends at %s", b.Start, b.End, end)
					}
					for _, st := range b.Streams {
						lines += len(st.Lines)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if want := int(length / tc.every); lines != want || windows != 120 {
				t.Errorf("%d lines in %d windows, want %d in 120", lines, windows, want)
			}
			if n := asked.Load(); n > tc.most {
				t.Errorf("%d questions, want at most %d", n, tc.most)
			}
		})
	}
}

func TestAWalkOfALokiThatStaysAwayEndsWithItsError(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer s.Close()
	cfg := Config{}
	cfg.URL = s.URL
	lines, _, err := NewHistory(cfg, env())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	err = lines.Walk(t.Context(), at, at.Add(time.Hour), time.Millisecond, func(time.Time, []event.Outgoing) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "read 2026-11-25T00:00:00Z") || !strings.Contains(err.Error(), "502") {
		t.Errorf("got %v, want what could not be read, and why", err)
	}
}
