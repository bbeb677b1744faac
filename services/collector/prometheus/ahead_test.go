package prometheus

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
)

// history answers instant and range queries of one workload, whose requests
// come and go; refuse says how a range of so many steps is refused, 0: not.
func history(t *testing.T, refuse func(steps int) int) (url string, asked func() int) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	value := func(query string, at float64) (float64, bool) {
		switch {
		case strings.Contains(query, "code=~"):
			return float64(int(at) % 3), int(at)%4 != 0 // there are gaps
		case strings.Contains(query, "http_requests_total"):
			return 100 + float64(int(at)%7), true
		}
		return 0, false
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		mu.Lock()
		n++
		mu.Unlock()
		query := r.Form.Get("query")
		number := func(name string) float64 { v, _ := strconv.ParseFloat(r.Form.Get(name), 64); return v }
		pod := map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}
		kind, result := "vector", []any{}
		switch v, ok := value(query, number("time")); {
		case strings.Contains(query, "count by (__name__)"):
			result = append(result, map[string]any{"metric": map[string]string{"__name__": "http_requests_total"}, "value": [2]any{number("time"), "1"}})
		case strings.HasSuffix(r.URL.Path, "query_range"):
			kind = "matrix"
			steps := int((number("end")-number("start"))/number("step")) + 1
			if code := refuse(steps); code != 0 {
				w.WriteHeader(code)
				_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": "timeout", "error": "query timed out"})
				return
			}
			values := [][2]any{}
			for at := number("start"); at <= number("end"); at += number("step") {
				if v, ok := value(query, at); ok {
					values = append(values, [2]any{at, strconv.FormatFloat(v, 'g', -1, 64)})
				}
			}
			if len(values) > 0 {
				result = append(result, map[string]any{"metric": pod, "values": values})
			}
		case ok:
			result = append(result, map[string]any{"metric": pod, "value": [2]any{number("time"), strconv.FormatFloat(v, 'g', -1, 64)}})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": kind, "result": result}})
	}))
	t.Cleanup(s.Close)
	return s.URL, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func TestCatchingUpReadsRangesAndEmitsWhatInstantsWould(t *testing.T) {
	start := time.Now().Add(-50 * time.Minute).Truncate(15 * time.Second).UTC()
	const steps = 180
	read := func(url string, alone bool) string {
		s := newTestSource(t, builtin(t), url, func(c *Config) { c.Step, c.Reprobe = 15*time.Second, time.Hour })
		if alone {
			s.past = nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all []event.Outgoing
		n := 0
		_ = s.Run(ctx, After(start), func(_ context.Context, e collector.Emission) error {
			if e.Blind != nil {
				return nil
			}
			if n < steps {
				all = append(all, e.Events...)
			}
			if n++; n == steps {
				cancel()
			}
			return nil
		})
		if n < steps {
			t.Fatalf("only %d of %d steps were read", n, steps)
		}
		var b strings.Builder
		for _, o := range all {
			body, err := json.Marshal(o.Data())
			if err != nil {
				t.Fatal(err)
			}
			b.Write(body)
			b.WriteByte('\n')
		}
		return b.String()
	}
	never := func(int) int { return 0 }
	url, instants := history(t, never)
	want := read(url, true)
	if !strings.Contains(want, "error_ratio") {
		t.Fatalf("the history holds no error ratio: %.300s", want)
	}
	for name, refuse := range map[string]func(int) int{
		"a server that answers":         never,
		"a server that knows no ranges": func(int) int { return http.StatusNotFound },
		"a server for which many are too much": func(steps int) int {
			if steps > 4 {
				return http.StatusServiceUnavailable
			}
			return 0
		},
		"a server that fails one of the queries of a step now and then": func() func(int) int {
			var n atomic.Int64
			return func(int) int {
				if k := n.Add(1); k == 2 || k == 5 { // of some queries, not of all
					return http.StatusServiceUnavailable
				}
				return 0
			}
		}(),
		"a server for which any range is wrong": func(int) int { return http.StatusUnprocessableEntity },
	} {
		t.Run(name, func(t *testing.T) {
			url, asked := history(t, refuse)
			if got := read(url, false); got != want {
				g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
				i := 0
				for i < min(len(g), len(w)) && g[i] == w[i] {
					i++
				}
				t.Errorf("what is emitted differs from what instants give in line %d of %d: %s\nwant %s", i, len(w), g[min(i, len(g)-1)], w[min(i, len(w)-1)])
			}
			if name == "a server that answers" && asked() > instants()/10 {
				t.Errorf("%d requests for %d steps, instants alone take %d", asked(), steps, instants())
			}
		})
	}
}
