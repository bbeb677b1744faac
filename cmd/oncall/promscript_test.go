package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// malformed answers as Prometheus does when a query cannot be parsed.
func malformed(w http.ResponseWriter) {
	w.WriteHeader(http.StatusBadRequest)
	_, _ = io.WriteString(w, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:8: parse error: unexpected end of input in aggregation"}`)
}

var canaryName = regexp.MustCompile(`name="([a-z]+)"`)

// fakeCanaries is a Prometheus in which a canary fares as it is called.
func fakeCanaries() http.HandlerFunc {
	var slowly atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		query := r.Form.Get("query")
		m := canaryName.FindStringSubmatch(query)
		if m == nil || !regexp.MustCompile(`\[\d+s\]`).MatchString(query) {
			malformed(w)
			return
		}
		failed, total := "50", "10000"
		result := []any{}
		one := func(v string, labels map[string]string) {
			result = append(result, map[string]any{"metric": labels, "value": [2]any{time.Now().Unix(), v}})
		}
		isCanary := strings.Contains(query, `track="canary"`)
		switch m[1] {
		case "bad":
			if isCanary {
				failed = "900"
			}
		case "idle":
			if isCanary {
				failed, total = "0", "0"
			}
		case "nan":
			total = "NaN"
		case "slowly":
			n := 150 * slowly.Add(1)
			failed, total = "0", strconv.FormatInt(n, 10)
		case "several":
			one("1", map[string]string{"pod": "a"})
		case "malformed":
			malformed(w)
			return
		}
		v := total
		if strings.Contains(query, "code=~") {
			v = failed
		}
		if m[1] != "absent" {
			one(v, map[string]string{})
		}
		answer(w, map[string]any{"resultType": "vector", "result": result})
	}
}

// fakeBudgets is a Prometheus whose services, by the label service, serve ten
// requests a second: ok, burning (a tenth fails since two hours), slow (fifteen
// failures in a thousand), few (one request a minute), idle, nan, over (more
// errors than requests), blind (errors that are no number), locked (to nobody), several, other (other labels), silent (no errors
// series).
func fakeBudgets(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	query := r.Form.Get("query")
	m := regexp.MustCompile(`service="([a-z]+)"`).FindStringSubmatch(query)
	if m != nil && m[1] == "locked" {
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	if query == "vector(1)" { // does it answer at all?
		answer(w, map[string]any{"resultType": "vector", "result": []any{map[string]any{"metric": map[string]string{}, "value": [2]any{time.Now().Unix(), "1"}}}})
		return
	}
	if m == nil || strings.Count(query, "(") != strings.Count(query, ")") {
		malformed(w)
		return
	}
	now := time.Now().Unix()
	if strings.HasPrefix(query, "count by (le)") {
		result := []any{}
		for _, le := range []string{"0.1", "0.3", "+Inf"} {
			if m[1] != "native" && m[1] != "absent" {
				result = append(result, map[string]any{"metric": map[string]string{"le": le}, "value": [2]any{now, "1"}})
			}
		}
		answer(w, map[string]any{"resultType": "vector", "result": result})
		return
	}
	if !strings.HasSuffix(r.URL.Path, "query_range") {
		result := []any{}
		if m[1] == "native" {
			result = append(result, map[string]any{"metric": map[string]string{}, "value": [2]any{now, "1"}})
		}
		answer(w, map[string]any{"resultType": "vector", "result": result})
		return
	}
	start, _ := strconv.ParseFloat(r.Form.Get("start"), 64)
	end, _ := strconv.ParseFloat(r.Form.Get("end"), 64)
	step, _ := strconv.ParseFloat(r.Form.Get("step"), 64)
	errors := strings.Contains(query, "code=~") || strings.Contains(query, "_bucket") || strings.Contains(query, "fraction")
	var values [][2]any
	for t := start; t <= end; t += step {
		rate, share := 10.0, 0.0
		switch m[1] {
		case "burning", "native":
			if t > float64(now)-2*3600 {
				share = 0.1
			}
		case "slow":
			share = 0.015
		case "few":
			rate = 1.0 / 60
		case "idle":
			rate = 0
		case "over":
			share = 1.5
		}
		v := rate
		if errors {
			v = rate * share
		}
		text := fmt.Sprint(v)
		if m[1] == "nan" || m[1] == "blind" && errors {
			text = "NaN"
		}
		values = append(values, [2]any{t, text})
	}
	series := func(labels map[string]string) any { return map[string]any{"metric": labels, "values": values} }
	result := []any{series(map[string]string{})}
	switch {
	case m[1] == "several":
		result = []any{series(map[string]string{"pod": "a"}), series(map[string]string{"pod": "b"})}
	case m[1] == "other" && errors:
		result = []any{series(map[string]string{"code": "500"})}
	case m[1] == "absent", m[1] == "silent" && errors:
		result = []any{}
	}
	answer(w, map[string]any{"resultType": "matrix", "result": result})
}

// scriptAnswers is the command answers: it asks the server at $ADDR.
//
//	answers STATUS METHOD PATH TEXT [BODY]
func scriptAnswers(ts *testscript.TestScript, _ bool, args []string) {
	body := ""
	if len(args) > 4 {
		body = args[4]
	}
	req, err := http.NewRequest(args[1], "http://"+ts.Getenv("ADDR")+args[2], strings.NewReader(body))
	ts.Check(err)
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	ts.Check(err)
	if strconv.Itoa(res.StatusCode) != args[0] || !strings.Contains(string(got), args[3]) {
		ts.Fatalf("%s %s answers %d %s, want %s %q", args[1], args[2], res.StatusCode, got, args[0], args[3])
	}
}
