package gate

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/canary"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// answers are JSON results by query, as a Prometheus gives them.
type answers map[string]string

// number is one series without labels.
func number(v string) string { return `[{"metric":{},"value":[1772333460,"` + v + `"]}]` }

// classic is a histogram of the buckets 0.1, 0.25, 0.5, 1 and +Inf.
func classicSeries(labels string, counts ...string) string {
	var out []string
	for i, le := range []string{"0.1", "0.25", "0.5", "1", "+Inf"} {
		out = append(out, `{"metric":{`+labels+`"le":"`+le+`"},"value":[1772333460,"`+counts[i]+`"]}`)
	}
	return "[" + strings.Join(out, ",") + "]"
}

func prometheus(t *testing.T, a answers) *promql.Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		kind := "vector"
		if strings.HasSuffix(r.URL.Path, "query_range") {
			kind = "matrix"
		}
		result, ok := a[r.Form.Get("query")]
		if !ok {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"status":"error","errorType":"bad_data","error":"1:5: parse error: unexpected `+r.Form.Get("query")+`"}`)
			return
		}
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"`+kind+`","result":`+result+`}}`)
	}))
	t.Cleanup(srv.Close)
	return connect(t, srv.URL)
}

func connect(t *testing.T, url string) *promql.Client {
	t.Helper()
	up, err := upstream.New(upstream.Config{URL: url}, upstream.Settings{Service: "test", Source: "prometheus"})
	if err != nil {
		t.Fatal(err)
	}
	return promql.New(up)
}

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	web  = Canary{Namespace: "shop", Name: "web", Start: noon.Add(-10 * time.Minute)}
)

func analysis() canary.Analysis {
	q := func(side string) canary.Queries {
		return canary.Queries{Errors: side + "_errors[$window]", Total: side + "_total[$window]"}
	}
	return canary.Analysis{Name: "http", Canary: q("c"), Baseline: q("b")}
}

// healthy answers both sides with traffic enough.
func healthy() answers {
	return answers{
		"c_errors[600s]": number("50"), "c_total[600s]": number("10000"), "b_errors[600s]": number("500"), "b_total[600s]": number("100000"),
		"c_hist[600s]": classicSeries("", "7000", "9000", "9700", "9990", "10000"), "b_hist[600s]": classicSeries("", "70000", "90000", "97000", "99900", "100000"),
	}
}

func TestVerdicts(t *testing.T) {
	native := func(n string) string {
		return `[{"metric":{},"histogram":[1772333460,{"count":"` + n + `","sum":"1","buckets":[[0,"0.1","0.2","` + n + `"]]}]}]`
	}
	hist := func(a *canary.Analysis) { a.Canary.Latency, a.Baseline.Latency = "c_hist[$window]", "b_hist[$window]" }
	samples := func(a *canary.Analysis) { a.Canary.Samples, a.Baseline.Samples = "c_gauge", "b_gauge" }
	for name, c := range map[string]struct {
		ask  func(*canary.Analysis)
		with answers
		want canary.Verdict
		says string
	}{
		"as good as the baseline":               {nil, nil, canary.Continue, "canary 99.50 % (9,950 of 10,000)"},
		"ok counts instead of errors":           {func(a *canary.Analysis) { a.Canary.Errors, a.Canary.OK = "", "c_errors[$window]" }, nil, canary.Rollback, "canary 0.50 %"},
		"errors have no series":                 {nil, answers{"c_errors[600s]": "[]"}, canary.Hold, "analysis http: canary.errors: no series; if that means that nothing failed, write (…) or vector(0)"},
		"no series at all":                      {nil, answers{"c_errors[600s]": "[]", "c_total[600s]": "[]", "b_errors[600s]": "[]", "b_total[600s]": "[]"}, canary.Hold, "baseline.total: no series"},
		"NaN":                                   {nil, answers{"b_total[600s]": number("NaN")}, canary.Hold, "baseline.total: NaN"},
		"no traffic":                            {nil, answers{"c_errors[600s]": number("0"), "c_total[600s]": number("0")}, canary.Hold, "the canary has served no request"},
		"a classic histogram as good":           {hist, nil, canary.Continue, "p95: canary"},
		"a classic histogram that is worse":     {hist, answers{"c_hist[600s]": classicSeries("", "5000", "7000", "8000", "9000", "10000")}, canary.Rollback, "p95: canary above 1 s"},
		"a histogram without series":            {hist, answers{"c_hist[600s]": "[]"}, canary.Hold, "canary.latency: no series"},
		"histograms without series":             {hist, answers{"c_hist[600s]": "[]", "b_hist[600s]": "[]"}, canary.Hold, "canary.latency: no series"},
		"native histograms":                     {hist, answers{"c_hist[600s]": native("10000"), "b_hist[600s]": native("10000")}, canary.Continue, "p95: canary 0.195 s, baseline 0.195 s"},
		"an empty native histogram":             {hist, answers{"c_hist[600s]": `[{"metric":{},"histogram":[1772333460,{"count":"0","sum":"0"}]}]`, "b_hist[600s]": native("9")}, canary.Hold, "canary.latency: no traffic"},
		"samples of several series, by time":    {samples, answers{"c_gauge": matrix(1, 8), "b_gauge": matrix(1, 8)}, canary.Continue, "samples: canary 16"},
		"samples that are a hundred times more": {samples, answers{"c_gauge": matrix(100, 8), "b_gauge": matrix(1, 8)}, canary.Rollback, "samples: canary 16"},
		"samples without series":                {samples, answers{"c_gauge": "[]", "b_gauge": matrix(1, 8)}, canary.Hold, "canary.samples: no series"},
	} {
		t.Run(name, func(t *testing.T) {
			all, a := healthy(), analysis()
			for q, r := range c.with {
				all[q] = r
			}
			if c.ask != nil {
				c.ask(&a)
			}
			g := Gate{Prometheus: prometheus(t, all), Policy: canary.Default()}
			got, err := g.Judge(t.Context(), a, web, noon, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.Verdict != c.want || !strings.Contains(strings.Join(got.Reasons, "\n"), c.says) {
				t.Errorf("got %s\n%s\nwant %s, %q", got.Verdict, strings.Join(got.Reasons, "\n"), c.want, c.says)
			}
		})
	}
}

// matrix is two series with n samples each, all of one value.
func matrix(value float64, n int) string {
	type series struct {
		Metric map[string]string `json:"metric"`
		Values [][2]any          `json:"values"`
	}
	out := []series{{Metric: map[string]string{"pod": "a"}}, {Metric: map[string]string{"pod": "b"}}}
	for i := range n {
		for j := range out {
			v, _ := json.Marshal(value)
			out[j].Values = append(out[j].Values, [2]any{1772333000 + 15*i, string(v)})
		}
	}
	b, _ := json.Marshal(out)
	return string(b)
}

func TestAnswersThatCannotBeMeant(t *testing.T) {
	two := `[{"metric":{"pod":"a"},"value":[1,"1"]},{"metric":{"pod":"b"},"value":[1,"2"]}]`
	for name, c := range map[string]struct {
		with answers
		says string
	}{
		"several series":           {answers{"c_total[600s]": two}, `canary.total: gives 2 series, {pod="a"}, {pod="b"}, where one is needed; write sum(c_total[600s])`},
		"labels differ":            {answers{"c_errors[600s]": `[{"metric":{"code":"500"},"value":[1,"1"]}]`}, `canary.errors: labels differ: errors has {code="500"}, total has {}; write sum(…) around both`},
		"more errors than all":     {answers{"c_errors[600s]": number("10001")}, "canary.errors: counts 10001 of 10000 requests; use the same selector"},
		"a histogram for a number": {answers{"c_total[600s]": `[{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"1","2","1"]]}]}]`}, "write histogram_count("},
		"no label le":              {answers{"c_hist[600s]": number("3")}, "{} has no label le, and is no native histogram; write sum by (le) (…)"},
		"two histograms":           {answers{"c_hist[600s]": strings.TrimSuffix(classicSeries(`"pod":"a",`, "1", "1", "1", "1", "1"), "]") + "," + strings.TrimPrefix(classicSeries(`"pod":"b",`, "1", "1", "1", "1", "1"), "[")}, "gives several histograms"},
		"no bucket at infinity":    {answers{"c_hist[600s]": `[{"metric":{"le":"1"},"value":[1,"1"]}]`}, `has no bucket le="+Inf"`},
		"less than nothing":        {answers{"c_total[600s]": number("-5"), "c_errors[600s]": number("-7")}, "canary total: -5 is not between"},
	} {
		t.Run(name, func(t *testing.T) {
			all, a := healthy(), analysis()
			for q, r := range c.with {
				all[q] = r
			}
			a.Canary.Latency, a.Baseline.Latency = "c_hist[$window]", "b_hist[$window]"
			_, err := Gate{Prometheus: prometheus(t, all), Policy: canary.Default()}.Judge(t.Context(), a, web, noon, nil)
			var m *promql.Mismatch
			if !errors.As(err, &m) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

func TestQueriesSpeakOfOneCanary(t *testing.T) {
	got, err := web.fill(`x{ns="$namespace",pod=~"$name-.*"}[$window]`, noon)
	if want := `x{ns="shop",pod=~"web-.*"}[600s]`; err != nil || got != want {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
	if _, err := (Canary{Namespace: "shop", Start: noon}).fill("$name", noon); !errors.Is(err, ErrName) {
		t.Errorf("a name that is not given: %v", err)
	}
	for _, bad := range []string{`web"} or vector(1) #`, "Web", "a b", "-a"} {
		if err := (Canary{Name: bad}).Validate(); err == nil {
			t.Errorf("%q is taken for a name", bad)
		}
	}
}

// server answers for an analysis, with a clock that the test moves.
func server(t *testing.T, p *promql.Client, now *time.Time) *httptest.Server {
	t.Helper()
	policy := canary.Default()
	policy.Analyses = []canary.Analysis{analysis()}
	srv := httptest.NewServer(NewServer(Gate{Prometheus: p, Policy: policy}, slog.New(slog.DiscardHandler), func() time.Time { return *now }))
	t.Cleanup(srv.Close)
	return srv
}

func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// verdicts are answers that lead to each verdict, ten minutes after the first
// question.
func verdicts() map[canary.Verdict]answers {
	hold, bad := healthy(), healthy()
	hold["c_errors[600s]"], hold["c_total[600s]"] = number("0"), number("40")
	bad["c_errors[600s]"] = number("900")
	all := map[canary.Verdict]answers{canary.Continue: healthy(), canary.Hold: hold, canary.Rollback: bad}
	for _, a := range all {
		for _, q := range []string{"c_errors", "c_total", "b_errors", "b_total"} {
			a[q+"[1s]"] = "[]" // at the first question nothing has been counted
		}
	}
	return all
}

// The conditions of an AnalysisTemplate: successCondition result == "continue",
// failureCondition result == "rollback-advised", on jsonPath {$.verdict}; both
// false is Inconclusive.
func TestArgoRollouts(t *testing.T) {
	for want, a := range verdicts() {
		now := noon
		srv := server(t, prometheus(t, a), &now)
		url := srv.URL + "/argo/http?namespace=shop&name=web&revision=7d4b9c6f5"
		for _, step := range []struct {
			after time.Duration
			want  canary.Verdict
		}{{0, canary.Hold}, {10 * time.Minute, want}} {
			now = noon.Add(step.after)
			status, body := call(t, http.MethodGet, url, "")
			var got struct {
				Verdict canary.Verdict `json:"verdict"`
				Reasons []string       `json:"reasons"`
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusOK || got.Verdict != step.want || len(got.Reasons) == 0 {
				t.Errorf("after %s: got %d %s %v, want 200 %s", step.after, status, body, err, step.want)
			}
		}
	}
}

// flaggerPayload is what Flagger's CallWebhook marshals.
const flaggerPayload = `{"name":"web","namespace":"shop","phase":"Progressing","checksum":"85d557f47b","metadata":{"test":"all"}}`

func TestFlagger(t *testing.T) {
	// Flagger takes a status above 202 for a failure.
	for want, a := range verdicts() {
		for hook, ok := range map[string]map[canary.Verdict]bool{
			"confirm-traffic-increase": {canary.Continue: true},
			"confirm-promotion":        {canary.Continue: true},
			"rollback":                 {canary.Rollback: true},
			"rollout":                  {canary.Continue: true, canary.Hold: true},
		} {
			now := noon
			srv := server(t, prometheus(t, a), &now)
			url := srv.URL + "/flagger/" + hook + "/http"
			if status, body := call(t, http.MethodPost, url, flaggerPayload); (status <= 202) != ok[canary.Hold] || !strings.Contains(body, "HOLD") {
				t.Errorf("%s at first: got %d %s", hook, status, body)
			}
			now = noon.Add(10 * time.Minute)
			status, body := call(t, http.MethodPost, url, flaggerPayload)
			if (status <= 202) != ok[want] || status >= 500 || !strings.HasPrefix(body, strings.ToUpper(string(want))) {
				t.Errorf("%s, %s: got %d %s", hook, want, status, body)
			}
		}
	}
}

func TestAnotherRevisionIsAnotherCanary(t *testing.T) {
	var f first
	k := key{"http", "shop", "web"}
	later := func(h int) time.Time { return noon.Add(time.Duration(h) * time.Hour) }
	for _, c := range []struct {
		revision  string
		now, want time.Time
	}{
		{"a", noon, noon}, {"a", later(1), noon}, {"b", later(2), later(2)}, {"b", later(3), later(2)}, {"b", later(40), later(40)},
	} {
		if got := f.asked(k, c.revision, c.now); !got.Equal(c.want) {
			t.Errorf("%s at %s: began %s, want %s", c.revision, c.now, got, c.want)
		}
	}
	for i := range maxCanaries + 5 {
		f.asked(key{name: strings.Repeat("x", i%7) + time.Duration(i).String()}, "", later(41))
	}
	if len(f.seen) > maxCanaries {
		t.Errorf("%d are remembered", len(f.seen))
	}
	if _, ok := f.seen[k]; ok {
		t.Error("not the oldest was forgotten")
	}
}

func TestWhatIsWrongIsNeverApproved(t *testing.T) {
	now := noon
	srv := server(t, prometheus(t, healthy()), &now) // which refuses [1s]
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		says               string
	}{
		"an analysis that is not there":    {"GET", "/argo/nope", "", 404, `analysis "nope" is not in policies/canary.yaml`},
		"a name that is a query":           {"GET", "/argo/http?name=%22%7D", "", 400, "is not a name of Kubernetes"},
		"a query that is wrong":            {"GET", "/argo/http?namespace=shop&name=web", "", 400, "1:5: parse error"},
		"a hook without traffic":           {"POST", "/flagger/pre-rollout/http", flaggerPayload, 404, "no canary traffic"},
		"a payload that is not JSON":       {"POST", "/flagger/rollback/http", "{", 400, "payload: unexpected EOF"},
		"a payload without a name":         {"POST", "/flagger/rollback/http", "{}", 400, "name and namespace"},
		"a payload that is too large":      {"POST", "/flagger/rollback/http", `{"name":"` + strings.Repeat("x", 1<<17), 413, "too large"},
		"flagger by GET":                   {"GET", "/flagger/rollback/http", "", 405, ""},
		"a wrong query is not a rollback":  {"POST", "/flagger/rollback/http", flaggerPayload, 400, "parse error"},
		"a wrong query is not a promotion": {"POST", "/flagger/confirm-promotion/http", flaggerPayload, 400, "parse error"},
	} {
		if status, body := call(t, c.method, srv.URL+c.path, c.body); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: got %d %q, want %d %q", name, status, body, c.status, c.says)
		}
	}
}

// A Prometheus that does not answer holds a canary, and neither approves it nor
// rolls it back.
func TestAPrometheusThatDoesNotAnswerHolds(t *testing.T) {
	now := noon
	srv := server(t, connect(t, "http://127.0.0.1:1"), &now)
	if status, body := call(t, http.MethodGet, srv.URL+"/argo/http?namespace=shop&name=web", ""); status != 200 || !strings.Contains(body, `"verdict": "hold"`) || !strings.Contains(body, "connection refused") {
		t.Errorf("got %d %s", status, body)
	}
	for hook, want := range map[string]int{"confirm-traffic-increase": 409, "rollback": 409, "rollout": 200} {
		if status, body := call(t, http.MethodPost, srv.URL+"/flagger/"+hook+"/http", flaggerPayload); status != want || !strings.Contains(body, "connection refused") {
			t.Errorf("%s: got %d %s, want %d", hook, status, body, want)
		}
	}
}
