package main

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/backtest"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// fakePast is a Prometheus that holds some hours of shop/web, of which nothing is
// odd, and for which somebody was paged an hour ago.
func fakePast(now time.Time) http.HandlerFunc {
	began := now.Add(-12 * time.Hour)
	pod := map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}
	return func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		query := r.Form.Get("query")
		number := func(name string) float64 { v, _ := strconv.ParseFloat(r.Form.Get(name), 64); return v }
		metric, from, to, value := pod, began, now.Add(time.Hour), ""
		switch {
		case strings.HasPrefix(query, "count(up)"):
			metric, value = map[string]string{}, "1"
		case strings.HasPrefix(query, "count by (__name__)") && strings.Contains(query, "http_requests_total"):
			metric, value = map[string]string{"__name__": "http_requests_total"}, "1"
		case strings.HasPrefix(query, "ALERTS"):
			metric = map[string]string{"__name__": "ALERTS", "alertstate": "firing", "alertname": "SlowWeb", "severity": "critical", "namespace": "shop", "deployment": "web"}
			from, to, value = now.Add(-time.Hour), now.Add(-50*time.Minute), "1"
		case strings.Contains(query, "code=~"):
			value = "0.1"
		case strings.Contains(query, "rate(http_requests_total"):
			value = "50"
		}
		ranged := strings.HasSuffix(r.URL.Path, "query_range")
		result := []any{}
		switch {
		case value == "":
		case ranged:
			var values [][2]any
			for t := number("start"); t <= number("end"); t += number("step") {
				if at := time.Unix(int64(t), 0); at.After(from) && at.Before(to) {
					values = append(values, [2]any{t, value})
				}
			}
			if len(values) > 0 {
				result = append(result, map[string]any{"metric": metric, "values": values})
			}
		default:
			result = append(result, map[string]any{"metric": metric, "value": [2]any{number("time"), value}})
		}
		answer(w, map[string]any{"resultType": map[bool]string{true: "matrix", false: "vector"}[ranged], "result": result})
	}
}

// fortnight is a backtest of two weeks.
func fortnight() *backtest.Result {
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 11, day, hour, minute, 0, 0, time.UTC) }
	lead := 360.0
	end, over := at(21, 3, 9), at(21, 3, 20)
	checkout := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "checkout"}
	firing := func(name string, e event.Entity, start time.Time, why backtest.Why, because string) backtest.Firing {
		return backtest.Firing{Alert: name, Severity: "critical", Entity: e, Labels: map[string]string{"alertname": name}, Start: start, End: &end, Why: why, Because: because}
	}
	hpa := event.Entity{Namespace: "shop", Kind: "HorizontalPodAutoscaler", Name: "web"}
	return &backtest.Result{
		Cluster: "prod-eu-1", Headline: "In 14 d: 1 page of ours, 4 of yours.", Asked: "14 d", Since: at(12, 9, 0), Until: at(26, 9, 0), Step: "30s",
		Yours: backtest.Yours{Pages: 4, PerWeek: 2, Groups: 3, Only: 3, Others: 12},
		Ours:  backtest.Ours{Pages: 1, PerWeek: 0.5, P1: 1, Incidents: 1, Tickets: 2, Digest: 9, Held: 3, Budget: 1},
		Same:  backtest.Same{Firings: 1, Incidents: 1, LeadSeconds: &lead},
		Incidents: []backtest.Incident{{
			ID: "9kdaaaaaaaaaa", Priority: event.P1, Entity: checkout, Symptom: "12 % of requests fail\x1b[31m", Onset: at(21, 2, 51), Paged: []time.Time{at(21, 2, 54)}, Resolved: &over,
			Cause: "rollout of shop/deployment/checkout at 02:48: image v411 -> v412", Confidence: event.High, Firings: []int{0}, LeadSeconds: &lead,
		}},
		Firings: []backtest.Firing{
			firing("HighErrorRate", checkout, at(21, 3, 0), "", ""),
			firing("KubeHpaMaxedOut", hpa, at(13, 4, 0), backtest.BelowThreshold, "nothing odd in cpu_usage"),
			firing("KubeHpaMaxedOut", hpa, at(14, 4, 0), backtest.BelowThreshold, "nothing odd in cpu_usage"),
			firing("DiskWillFill", event.Entity{Namespace: "data", Kind: "PersistentVolumeClaim", Name: "pg-0"}, at(15, 4, 0), backtest.NotWatched, "no query of policies/queries gives a series of data/pvc/pg-0"),
		},
		Missing: []backtest.Missing{{What: "logs", Why: "no Loki is named, configured or found", Fix: "--loki URL"}},
		Read:    backtest.Read{From: at(11, 9, 0), Series: 900, Samples: 38_000_000, Changes: 61, Requests: 3000}, Seconds: 300,
	}
}

func TestABacktestIsToldOnOneScreenTheBottomLineFirst(t *testing.T) {
	var b bytes.Buffer
	if err := printBacktest(&options{out: &b, output: "table"}, fortnight(), "backtest.html"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	if lines[0] != "In 14 d: 1 page of ours, 4 of yours." {
		t.Errorf("the first line is %q", lines[0])
	}
	if len(lines) > 40 || slices.ContainsFunc(lines, func(l string) bool { return len(l) > 100 }) {
		t.Errorf("%d lines:\n%s", len(lines), &b)
	}
	for _, want := range []string{
		"prod-eu-1, 2026-11-12 09:00 to 2026-11-26 09:00 UTC, after 1 d of learning",
		"pages                      4        1", "  same trouble             1        1   6 m earlier (median)", "  only one side            3        0",
		"11-21 02:54  P1  shop/deploy/checkout for 29 m: 12 % of requests fail", "6 m earlier than yours at 11-21 03:00: HighErrorRate", "likely (high): rollout",
		"2  KubeHpaMaxedOut: watched, not odd enough", "(and 1 more)", "1  DiskWillFill: not watched", "logs: no Loki", "graphs: backtest.html",
	} {
		if !strings.Contains(b.String(), want) && !strings.Contains(strings.Join(strings.Fields(b.String()), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("it does not say %q:\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("what others wrote reaches the terminal")
	}
	b.Reset()
	if err := printBacktest(&options{out: &b, output: "markdown"}, fortnight(), ""); err != nil || !strings.Contains(b.String(), "| pages | 4 | 1 |") || !strings.HasPrefix(b.String(), "# In 14 d") {
		t.Errorf("%v\n%s", err, &b)
	}
}

func TestManyEpisodesAreCutWithWhereTheRestIs(t *testing.T) {
	x := fortnight()
	for i := range 30 {
		one := x.Incidents[0]
		one.ID = fmt.Sprint(i)
		x.Incidents = append(x.Incidents, one)
		f := x.Firings[1]
		f.Alert = fmt.Sprintf("Alert%d", i)
		x.Firings = append(x.Firings, f)
	}
	var b bytes.Buffer
	if err := printBacktest(&options{out: &b, output: "table"}, x, ""); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"and 19 more: -o json, --html FILE", "and 24 more alerts: -o json, --html FILE"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &b)
		}
	}
}
