package main

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// fakeRequests is a Prometheus with http_requests_total of three workloads: web
// fails by a tenth for an hour two days ago, api never, broken by a quarter always,
// and idle serves nothing. It has ten days, and refuses more than a day at a time.
// Of a hundred requests of web 95 take at most 100 ms and 99.5 at most 250 ms, of
// api nearly all at most 100 ms, and of broken half take longer than any bound; below
// the path /native the histogram is a native one.
func fakeRequests(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	query := r.Form.Get("query")
	if strings.HasPrefix(query, "count by (__name__)") {
		// Nothing is scraped at this moment.
		if at, _ := strconv.ParseFloat(r.Form.Get("time"), 64); strings.HasPrefix(r.URL.Path, "/down") && float64(time.Now().Unix())-at < 3600 {
			answer(w, map[string]any{"resultType": "vector", "result": []any{}})
			return
		}
		answer(w, map[string]any{"resultType": "vector", "result": []any{
			map[string]any{"metric": map[string]string{"__name__": "http_requests_total"}, "value": [2]any{time.Now().Unix(), "1"}},
		}})
		return
	}
	if strings.Contains(query, "increase(") {
		native := strings.HasPrefix(r.URL.Path, "/native")
		result := []any{}
		for pod, within := range map[string]func(float64) float64{
			"web-7d4b9c6f5-x2x8q": func(le float64) float64 {
				switch {
				case le >= 0.25:
					return 0.995
				case le >= 0.1:
					return 0.95
				}
				return 0
			},
			"api-5b9c7d6f8-k4k2z":    func(le float64) float64 { return map[bool]float64{true: 0.999}[le >= 0.1] },
			"idle-5b9c7d6f8-k4k2z":   func(float64) float64 { return 0 },
			"broken-5b9c7d6f8-k4k2z": func(float64) float64 { return 0.5 },
		} {
			all := 50.0 * 24 * 3600
			if strings.HasPrefix(pod, "idle") {
				all = 0
			}
			add := func(n float64, le string) {
				labels := map[string]string{"namespace": "shop", "pod": pod}
				if le != "" {
					labels["le"] = le
				}
				result = append(result, map[string]any{"metric": labels, "value": [2]any{time.Now().Unix(), fmt.Sprint(n)}})
			}
			switch m := regexp.MustCompile(`fraction\(0, ([0-9.]+),`).FindStringSubmatch(query); {
			case strings.Contains(query, "_bucket") == native:
			case !native:
				for _, le := range []string{"0.1", "0.25", "0.5"} {
					bound, _ := strconv.ParseFloat(le, 64)
					add(all*within(bound), le)
				}
				add(all, "+Inf")
			case m != nil:
				bound, _ := strconv.ParseFloat(m[1], 64)
				add(all*within(bound), "")
			default:
				add(all, "")
			}
		}
		answer(w, map[string]any{"resultType": "vector", "result": result})
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
