package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// fakeRequests is a Prometheus with http_requests_total of three workloads: web
// fails by a tenth for an hour two days ago, api never, broken by a quarter always,
// and idle serves nothing. It has ten days, and refuses more than a day at a time.
func fakeRequests(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	query := r.Form.Get("query")
	if strings.HasPrefix(query, "count by (__name__)") {
		answer(w, map[string]any{"resultType": "vector", "result": []any{
			map[string]any{"metric": map[string]string{"__name__": "http_requests_total"}, "value": [2]any{time.Now().Unix(), "1"}},
		}})
		return
	}
	start, _ := strconv.ParseFloat(r.Form.Get("start"), 64)
	end, _ := strconv.ParseFloat(r.Form.Get("end"), 64)
	step, _ := strconv.ParseFloat(r.Form.Get("step"), 64)
	if end-start > 24*3600 || step != 300 {
		malformed(w)
		return
	}
	now := float64(time.Now().Unix())
	failed := strings.Contains(query, "code=~")
	result := []any{}
	for _, pod := range []string{"web-7d4b9c6f5-x2x8q", "web-7d4b9c6f5-b8k2z", "api-5b9c7d6f8-k4k2z", "idle-5b9c7d6f8-k4k2z", "broken-5b9c7d6f8-k4k2z"} {
		var values [][2]any
		for t := start; t <= end; t += step {
			rate, share := 50.0, 0.0
			if t < now-10*24*3600 {
				continue
			}
			switch {
			case strings.HasPrefix(pod, "broken"):
				share = 0.25
			case strings.HasPrefix(pod, "idle"):
				rate = 0
			case strings.HasPrefix(pod, "web") && t > now-49*3600 && t <= now-48*3600:
				share = 0.1
			}
			if failed {
				rate *= share
			}
			values = append(values, [2]any{t, fmt.Sprint(rate)})
		}
		result = append(result, map[string]any{"metric": map[string]string{"namespace": "shop", "pod": pod}, "values": values})
	}
	answer(w, map[string]any{"resultType": "matrix", "result": result})
}
