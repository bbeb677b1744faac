package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestAgentScripts runs every script of testdata/agent. The scripts' own
// commands:
//
//	status N CMD…   CMD ends with exit code N
//	prometheus HOW  a Prometheus with hours of history of shop/web, at $PROM:
//	                failing, well, restless, empty, narrow: failing, and
//	                answers only what is asked of the namespace alone
//	loki            a Loki with a line of shop/web in every window, at $LOKI
//	fill DIR        an incident, at $ID, with its report
//	objects FILE    an API server that holds them
//	model FILE      a model that answers as the file says, in model.yaml
//	private FILE    nobody else may read it
//	json SCHEMA CMD…  what CMD writes is of a schema of schemas/cli
func TestAgentScripts(t *testing.T) {
	runScripts(t, "agent", commands{
		"prometheus": func(ts *testscript.TestScript, _ bool, args []string) { ts.Setenv("PROM", serve(ts, hoursOf(args[0]))) },
		"loki":       func(ts *testscript.TestScript, _ bool, _ []string) { ts.Setenv("LOKI", serve(ts, fakeLoki)) },
		"model":      scriptModel,
	})
}

// hoursOf is a Prometheus that has scraped one workload for hours.
func hoursOf(how string) http.HandlerFunc {
	began := time.Now()
	failing := began.Add(-20 * time.Minute).Unix()
	value := func(query string, at int64) (float64, bool) {
		minute := at / 60
		if how == "narrow" && !strings.HasPrefix(query, "count(up)") && !strings.Contains(query, `namespace="shop"`) {
			return 0, false
		}
		switch {
		case strings.HasPrefix(query, "count(up)"):
			return 1, true
		case how == "empty" || strings.Contains(query, "bucket"):
			return 0, false
		case strings.Contains(query, "code=~"):
			if (how == "failing" || how == "narrow") && at >= failing {
				return 30, true
			}
			return 0, true
		case strings.Contains(query, "http_requests_total"):
			v := 100 + float64(minute*7919%13)
			if how == "restless" && minute%10 == 0 {
				v *= 3 // a job that comes every ten minutes, as it always has
			}
			return v, true
		}
		return 0, false
	}
	return func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		query := r.Form.Get("query")
		number := func(name string) int64 { v, _ := strconv.ParseFloat(r.Form.Get(name), 64); return int64(v) }
		metric := map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}
		text := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
		result, kind := []any{}, "vector"
		at := number("time")
		if at == 0 {
			at = time.Now().Unix()
		}
		switch v, ok := value(query, at); {
		case strings.Contains(query, "count by (__name__)"):
			if how != "empty" && strings.Contains(query, "http_requests_total") && (how != "narrow" || strings.Contains(query, `namespace="shop"`)) {
				result = append(result, map[string]any{"metric": map[string]string{"__name__": "http_requests_total"}, "value": [2]any{at, "1"}})
			}
		case strings.HasSuffix(r.URL.Path, "query_range"):
			kind = "matrix"
			values := [][2]any{}
			for t := number("start"); t <= number("end"); t += max(1, number("step")) {
				if v, ok := value(query, t); ok {
					values = append(values, [2]any{t, text(v)})
				}
			}
			if len(values) > 0 {
				result = append(result, map[string]any{"metric": metric, "values": values})
			}
		case ok:
			result = append(result, map[string]any{"metric": metric, "value": [2]any{at, text(v)}})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": kind, "result": result}})
	}
}
