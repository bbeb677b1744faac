package budget

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/slo"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// prometheus gives every query a constant value at every step, and counts the
// steps it is asked for.
func prometheus(t *testing.T, value func(query string) string) (*promql.Client, *[]int) {
	t.Helper()
	var asked []int
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		from, _ := strconv.ParseFloat(r.Form.Get("start"), 64)
		to, _ := strconv.ParseFloat(r.Form.Get("end"), 64)
		step, _ := strconv.ParseFloat(r.Form.Get("step"), 64)
		var values [][2]any
		for at := from; at <= to; at += step {
			values = append(values, [2]any{at, value(r.Form.Get("query"))})
		}
		asked = append(asked, len(values))
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{
			"resultType": "matrix", "result": []any{map[string]any{"metric": map[string]string{"__name__": r.Form.Get("query")}, "values": values}},
		}})
	}))
	t.Cleanup(srv.Close)
	up, err := upstream.New(upstream.Config{URL: srv.URL}, upstream.Settings{Service: "test", Source: "prometheus"})
	if err != nil {
		t.Fatal(err)
	}
	return promql.New(up), &asked
}

var (
	web  = slo.Objective{Name: "web", Target: 0.99, Period: 720 * time.Hour, MinRequests: 30}
	noon = time.Date(2026, 3, 1, 12, 0, 42, 0, time.UTC)
)

func TestTheWholePeriodIsRead(t *testing.T) {
	for _, c := range []struct {
		window   time.Duration
		requests float64
		asked    []int // for each of the two queries
	}{
		{5 * time.Minute, 10 * 720 * 3600, []int{8640}},
		{time.Minute, 10 * 720 * 3600, []int{10000, 10000, 10000, 10000, 3200}},
	} {
		client, asked := prometheus(t, func(q string) string {
			if q == "errors" {
				return "0.2"
			}
			return "10"
		})
		all, err := Read(t.Context(), client, Queries{Errors: "errors", Total: "all", Window: c.window}, web, slo.DefaultWindows(), noon)
		if err != nil {
			t.Fatal(err)
		}
		s := all[0]
		if len(all) != 1 || s.Requests < c.requests*0.995 || s.Requests > c.requests*1.001 || s.BurnRate["1h"] < 1.99 || s.BurnRate["1h"] > 2.01 || *s.BudgetRemaining > -0.99 || s.Verdict != slo.Ticket || s.Since == nil || s.At.Sub(*s.Since) < 6*time.Hour {
			t.Errorf("%s: got %+v", c.window, s)
		}
		if len(*asked) != 2*len(c.asked) || (*asked)[0] != c.asked[0] || (*asked)[len(c.asked)-1] != c.asked[len(c.asked)-1] {
			t.Errorf("%s: asked for %v steps, want twice %v", c.window, *asked, c.asked)
		}
	}
}

func TestIncreasesAreCounts(t *testing.T) {
	client, _ := prometheus(t, func(q string) string {
		if strings.Contains(q, "errors") {
			return "0"
		}
		return "300"
	})
	q := Queries{Errors: "increase(errors[5m])", Total: "increase(all[5m])", Window: 5 * time.Minute}
	all, err := Read(t.Context(), client, q, web, slo.DefaultWindows(), noon)
	if err != nil || all[0].Requests < 300*8640*0.995 || all[0].Requests > 300*8640*1.001 {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestMatchersAreAdded(t *testing.T) {
	for labels, want := range map[string]string{"": `{le="1"}`, "{}": `{le="1"}`, `{a="b"}`: `{a="b", le="1"}`, `{a="b",}`: `{a="b", le="1"}`} {
		if got := with(labels, `le="1"`); got != want {
			t.Errorf("%q: got %s, want %s", labels, got, want)
		}
	}
}

func FuzzLatencySelector(f *testing.F) {
	for _, s := range []string{`h`, `h_bucket{a="b"}`, `h{a="}"}`, `{a="b"}`, `h{`, ``, `sum(h)`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m := metric.FindStringSubmatch(strings.TrimSpace(s)); m != nil && (m[1] == "" || m[2] != "" && !strings.HasPrefix(m[2], "{")) {
			t.Errorf("%q: %q", s, m)
		}
	})
}
