package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/cost"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// costExample is a report with something of everything in it. Names and texts are
// hostile, as those of a cluster may be.
func costExample() *costed {
	money, used, p95 := 12.5, cost.Amount{Cores: 1, GiB: 2}, 0.1
	web := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	amount := cost.Amount{Cores: 3, GiB: 4, Money: &money}
	finding := event.Finding{ID: "1", Rule: "cost_over_requested", Entity: web, Urgency: event.Hygiene, Severity: event.Info, Title: "=cmd|' /C calc'!A0 \x1b[31mred", Confidence: event.High, Evidence: []string{"E1"}}
	return &costed{Report: &cost.Report{
		Cluster: "prod-eu-1", Currency: "EUR", PricedBy: "prices.yaml", Pods: 3, Nodes: 2, Workloads: 1, Allocatable: amount, Requested: amount, Used: &used, Idle: &used, Unused: &amount,
		Window:    cost.Window{Days: 14, HistoryHours: 336, Enough: true},
		Changes:   cost.Changes{Workloads: 1, Frees: amount},
		Waste:     []cost.Item{{Entity: web, Team: "=trade", Amount: amount, Title: finding.Title, Risk: cost.Risk{Level: "low", Why: "it fits"}, Findings: []event.Finding{finding}, Advice: []cost.Advice{{Container: "app", Resource: "cpu", Request: cost.Change{From: "1", To: "120m"}, Saves: amount, Why: "highest use"}}}},
		Shortages: []cost.Item{}, Teams: []cost.Team{{Team: "=trade", Workloads: 1, Requested: amount, Used: &used, Waste: amount}}, LeftAlone: []cost.Left{},
		Measured: []cost.Usages{{Entity: web, Team: "=trade", Pods: 3, Requested: amount, Containers: []cost.Measured{{Container: "app", CPURequest: 1, CPUP95: &p95}}}},
		Evidence: []event.Evidence{}, Unchecked: []check.Unchecked{{What: "limitranges", Why: "forbidden"}},
	}}
}

func costExamples() []any { return []any{costExample()} }

// What a cluster says cannot become a formula of a spreadsheet, nor an escape
// sequence of a terminal.
func TestHostileTextInCostIsInert(t *testing.T) {
	for _, format := range []string{"table", "markdown", csvFormat} {
		for _, by := range []string{"", "team"} {
			var b bytes.Buffer
			o := &options{out: io.Writer(&b), output: format}
			example := costExample()
			if err := example.print(o, &costFlags{by: by}, io.Discard); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(b.String(), "\x1b") {
				t.Errorf("%s by %q has an escape sequence: %q", format, by, b.String())
			}
			if format != csvFormat {
				continue
			}
			rows, err := csv.NewReader(&b).ReadAll()
			if err != nil || len(rows) < 2 {
				t.Fatalf("%v: %v", err, rows)
			}
			for _, r := range rows {
				for _, c := range r {
					if _, err := strconv.ParseFloat(c, 64); err != nil && c != "" && strings.ContainsRune("=+-@", rune(c[0])) {
						t.Errorf("cell %q begins a formula", c)
					}
				}
			}
		}
	}
}

// usagePrometheus is the script command `usage DAYS [WHAT]`: a Prometheus that has
// watched shop/over, shop/right and shop/killed for so many days. WHAT is nan,
// cgroups (no label container), clusters (series of two), or refuses (it takes no
// query for more than one day).
func usagePrometheus(ts *testscript.TestScript, _ bool, args []string) {
	days, err := strconv.ParseFloat(args[0], 64)
	ts.Check(err)
	what := ""
	if len(args) > 1 {
		what = args[1]
	}
	ts.Setenv("PROM", serve(ts, func(w http.ResponseWriter, r *http.Request) { answerUsage(w, r, days, what) }))
}

// used are the values of a measure, found by a part of its query, of the
// workloads over, right and killed.
var used = []struct {
	part   string
	values [3]float64
}{
	{"quantile_over_time(0.95", [3]float64{0.1, 0.15, 0.05}},
	{"quantile_over_time(0.99", [3]float64{0.11, 0.17, 0.06}},
	{"max_over_time(rate(", [3]float64{0.12, 0.18, 0.09}},
	{"/ 86400", [3]float64{0.2, 0.14, 0.05}},
	{"/ 24", [3]float64{400 << 20, 200 << 20, 180 << 20}},
	{"count_over_time", [3]float64{24, 24, 24}},
	{"last_terminated_reason", [3]float64{math.NaN(), math.NaN(), 1}},
	{"container_spec_memory_limit_bytes", [3]float64{1 << 30, 320 << 20, 256 << 20}},
	{"max_over_time(container_memory", [3]float64{200 << 20, 215 << 20, 190 << 20}},
}

func answerUsage(w http.ResponseWriter, r *http.Request, days float64, what string) {
	_ = r.ParseForm()
	query := r.Form.Get("query")
	result := []any{}
	if !strings.HasSuffix(r.URL.Path, "query_range") {
		one := func(labels map[string]string, v string) {
			result = append(result, map[string]any{"metric": labels, "value": [2]any{time.Now().Unix(), v}})
		}
		switch {
		case what == "cgroups" && strings.Contains(query, `container!=""`), what == "silent":
		case strings.HasPrefix(query, "quantile(0.5"):
			one(nil, "120")
		case what == "clusters":
			one(map[string]string{"cluster": "eu-1"}, "3")
			one(map[string]string{"cluster": "us-1"}, "3")
		default:
			one(map[string]string{}, "3")
		}
		answer(w, map[string]any{"resultType": "vector", "result": result})
		return
	}
	start, _ := strconv.ParseFloat(r.Form.Get("start"), 64)
	end, _ := strconv.ParseFloat(r.Form.Get("end"), 64)
	if what == "refuses" && end > start {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory in query execution"}`)
		return
	}
	for _, m := range used {
		if !strings.Contains(query, m.part) {
			continue
		}
		for i, name := range []string{"over", "right", "killed"} {
			var values [][2]any
			for at := start; at <= end; at += 86400 {
				ago := (float64(time.Now().Unix()) - at) / 86400
				if math.IsNaN(m.values[i]) || ago > days || name == "killed" && strings.Contains(m.part, "terminated") && int(ago+0.1) != 3 {
					continue
				}
				text := fmt.Sprint(m.values[i])
				if what == "nan" {
					text = "NaN"
				} else if m.part == "count_over_time" {
					text = fmt.Sprint(math.Min(24, math.Floor(24*(days-ago)+0.5)))
				}
				values = append(values, [2]any{at, text})
			}
			if len(values) > 0 {
				result = append(result, map[string]any{"metric": map[string]string{"namespace": "shop", "workload": name, "container": "app"}, "values": values})
			}
		}
		break
	}
	answer(w, map[string]any{"resultType": "matrix", "result": result})
}

// serveOpenCost is the script command `opencost PATH [page]`: an OpenCost that has
// one of the paths of its API alone, or a page in its place. Its address is in $OPENCOST.
func serveOpenCost(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("OPENCOST", serve(ts, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != args[0]:
			http.NotFound(w, r)
		case len(args) > 1:
			_, _ = io.WriteString(w, "<html>sign in</html>")
		default:
			_, _ = io.WriteString(w, `{"code":200,"data":[{"n1":{"type":"Node","properties":{"name":"n1","node":"n1"},"cpuCoreHours":96,"ramByteHours":412316860416,"cpuCost":2.88,"ramCost":1.152}}]}`)
		}
	}))
}
