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

// prometheus gives every query a value at every step, none if it is "", and counts
// the steps it is asked for.
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
			if v := value(r.Form.Get("query")); v != "" {
				values = append(values, [2]any{at, v})
			}
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

// A number of errors that is none is not none: the step is left out, and said.
func TestErrorsThatAreNoNumberAreNotTakenForWell(t *testing.T) {
	for name, c := range map[string]struct {
		errors func(n int) string // of the n-th step
		told   bool
		want   slo.Verdict
		says   string
	}{
		"they are numbers":               {func(int) string { return "0" }, false, slo.OK, ""},
		"the last hour has none":         {func(n int) string { return either(n > 8620, "NaN", "0") }, false, slo.NoData, "errors has no number at 20 of 8640 times with requests"},
		"a day in the past has none":     {func(n int) string { return either(n > 1000 && n < 1289, "+Inf", "0") }, false, slo.OK, "errors has no number at 288 of 8640"},
		"there is no series of it":       {func(n int) string { return either(n > 8620, "", "0") }, false, slo.OK, ""},
		"a histogram tells it always":    {func(n int) string { return either(n > 8620, "", "0") }, true, slo.NoData, "errors has no number at 20 of 8640"},
		"a difference is a hair below 0": {func(int) string { return "-1e-15" }, false, slo.OK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			client, _ := prometheus(t, func(q string) string {
				if q == "all" {
					return "10"
				}
				n++
				return c.errors(n)
			})
			all, err := Read(t.Context(), client, Queries{Errors: "errors", Total: "all", Window: 5 * time.Minute, Told: c.told, ErrorsName: "errors"}, web, slo.DefaultWindows(), noon)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(all[0].Reasons, "; ")
			if all[0].Verdict != c.want || !strings.Contains(got, c.says) || strings.Contains(got, "no traffic") {
				t.Errorf("got %s %q, want %s %q", all[0].Verdict, got, c.want, c.says)
			}
		})
	}
}

func either(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

func TestARangeThatIsNotTheWindowIsSaid(t *testing.T) {
	for q, want := range map[Queries]string{
		{Errors: "rate(e[5m])", Total: "rate(t[5m])", Window: 5 * time.Minute}:                           "",
		{Errors: "rate(e[300s])", Total: "job:t:rate5m", Window: 5 * time.Minute}:                        "",
		{Errors: "rate(e[5m])", Total: "rate(t[1h])", Window: 5 * time.Minute, TotalName: "--tot"}:       "--tot: is over [1h], and is read every 5m; write [5m], or --window-minutes 60",
		{Errors: "sum(rate(e[1m]))", Total: "rate(t[1m])", Window: 5 * time.Minute, ErrorsName: "--err"}: "--err: is over [1m], and is read every 5m; write [5m], or --window-minutes 1",
	} {
		if got := q.Ranges(); got != want {
			t.Errorf("%s / %s: got %q, want %q", q.Errors, q.Total, got, want)
		}
	}
}
