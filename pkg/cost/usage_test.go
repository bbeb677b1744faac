package cost_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/cost"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

func TestPodsAreFoundByWhatControllersCallThem(t *testing.T) {
	for pod, want := range map[string]string{
		"web-7d4b9c6f5-x2x8q":                 "web",
		"web-canary-7d4b9c6f5-x2x8q":          "web-canary",
		"db-0":                                "db",
		"db-12":                               "db",
		"node-local-dns-x2x8q":                "node-local-dns",
		"nightly-29380000-x2x8q":              "nightly",
		"import-x2x8q":                        "import",
		"worker-2-x2x8q":                      "worker-2",
		"lonely":                              "lonely",
		"etcd-ip-10-0-3-7.eu-west-1.internal": "etcd-ip-10-0-3-7.eu-west-1.internal",
		"prometheus-k8s-0":                    "prometheus-k8s",
		"web-5f86c8d9b4-24567":                "web", // a suffix of digits alone
		strings.Repeat("a", 40) + "-6d4b9c7f58-q7zvk": strings.Repeat("a", 40),
	} {
		if got := cost.WorkloadKey(pod); got != want {
			t.Errorf("%s belongs to %s, want %s", pod, got, want)
		}
	}
}

// fake is a Prometheus that answers a query by the first of parts that it has.
type fake struct {
	mu      sync.Mutex
	series  int
	each    string // readings an hour
	asked   []string
	spans   map[string]int                  // days asked for at once, at most, by part
	answers map[string]func(day int) string // value of shop/web/app by part; "" for none
	refuse  int                             // days at once
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	q := r.Form.Get("query")
	f.mu.Lock()
	f.asked = append(f.asked, q)
	f.mu.Unlock()
	reply := func(kind string, result []any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": kind, "result": result}})
	}
	if !strings.HasSuffix(r.URL.Path, "query_range") {
		v := strconv.Itoa(f.series)
		if strings.HasPrefix(q, "quantile(0.5") {
			v = f.each
		}
		reply("vector", []any{map[string]any{"metric": map[string]string{}, "value": [2]any{1, v}}})
		return
	}
	start, _ := strconv.ParseFloat(r.Form.Get("start"), 64)
	end, _ := strconv.ParseFloat(r.Form.Get("end"), 64)
	days := int(math.Round((end-start)/86400)) + 1
	if f.refuse > 0 && days > f.refuse {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = w.Write([]byte(`{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory in query execution"}`))
		return
	}
	for part, value := range f.answers {
		if !strings.Contains(q, part) {
			continue
		}
		f.mu.Lock()
		f.spans[part] = max(f.spans[part], days)
		f.mu.Unlock()
		var values [][2]any
		for at := start; at <= end; at += 86400 {
			day := 13 - int(math.Round((float64(noon.Unix())-at)/86400))
			if v := value(day); v != "" {
				values = append(values, [2]any{at, v})
			}
		}
		if len(values) > 0 {
			reply("matrix", []any{map[string]any{"metric": map[string]string{"namespace": "shop", "workload": "web", "container": "app"}, "values": values}})
			return
		}
	}
	reply("matrix", []any{})
}

func (f *fake) ask(t *testing.T) (*cost.Usage, error) {
	t.Helper()
	f.spans = map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(s.Close)
	c := upstream.Config{URL: s.URL, MaxQPS: 1000}
	c.Fill("prometheus")
	up, err := upstream.New(c, upstream.Settings{Service: "test", Source: "prometheus"})
	if err != nil {
		t.Fatal(err)
	}
	return cost.ReadUsage(t.Context(), promql.New(up), cost.Question{Days: 14, Now: noon})
}

func always(v string) func(int) string { return func(int) string { return v } }

// fullDays are hours with data: all of every day.
var fullDays = always("24")

func TestUsageIsTheHighestOfAllDays(t *testing.T) {
	f := &fake{series: 10, each: "120", answers: map[string]func(int) string{
		"quantile_over_time(0.95": func(day int) string { return fmt.Sprint(0.1 + 0.01*float64(day)) },
		"max_over_time(rate(":     func(day int) string { return []string{"0.5", "NaN", "+Inf", "-3"}[min(day, 3)] },
		"container_memory_working_set_bytes{container!=\"\",container!=\"POD\"}[1d]": always("1000"),
		"/ 86400":                        always("2"),
		"count_over_time((max":           fullDays,
		"cfs_throttled":                  func(day int) string { return map[int]string{4: "0.3"}[day] },
		"kube_pod_container_status_last": func(day int) string { return map[int]string{9: "1"}[day] },
		"container_spec_memory_limit":    func(day int) string { return strconv.Itoa(1000 + day) },
	}}
	u, err := f.ask(t)
	if err != nil {
		t.Fatal(err)
	}
	got := u.Uses[cost.Key{Namespace: "shop", Workload: "web", Container: "app"}]
	if got == nil {
		t.Fatalf("uses %v", u.Uses)
	}
	if math.Abs(got.P95-0.23) > 1e-9 || got.MaxCPU != 0.5 || got.MaxMemory != 1000 || got.MeanCPU != 2 || got.Throttled != 0.3 || !math.IsNaN(got.P99) {
		t.Errorf("%+v", got)
	}
	if u.History != 14*cost.Day || got.History != 14*cost.Day || u.Interval != 30*time.Second || u.RateWindow != 5*time.Minute {
		t.Errorf("history %s of %s, read every %s", got.History, u.History, u.Interval)
	}
	if len(got.OOMDays) != 1 || !got.OOMDays[0].Equal(noon.Add(-4*cost.Day)) || got.OOMLimit != 1009 {
		t.Errorf("killed on %v at %v, want on the tenth day at its limit", got.OOMDays, got.OOMLimit)
	}
	for part, days := range f.spans {
		if days != 14 {
			t.Errorf("%s: %d days at once, though ten containers are few", part, days)
		}
	}
	if n := int(u.Asked()); n != len(f.asked) || n > 14 {
		t.Errorf("%d queries counted, %d asked", n, len(f.asked))
	}
}

func TestHistoryIsWhatPrometheusHasOfTheWorkload(t *testing.T) {
	for name, tc := range map[string]struct {
		hours func(day int) string
		want  time.Duration
		first bool // of Prometheus, too
	}{
		"since the third day, at noon": {func(day int) string {
			switch {
			case day < 2:
				return ""
			case day == 2:
				return "12"
			}
			return "24"
		}, 11*cost.Day + 12*time.Hour, true},
		"with two days lost": {func(day int) string {
			if day == 5 || day == 6 {
				return ""
			}
			return "24"
		}, 12 * cost.Day, true},
		"never": {always(""), 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{series: 10, each: "120", answers: map[string]func(int) string{"count_over_time((max": tc.hours}}
			u, err := f.ask(t)
			if err != nil {
				t.Fatal(err)
			}
			if u.History != tc.want {
				t.Errorf("%s of history, want %s", u.History, tc.want)
			}
			if want := noon.Add(max(0, cost.MinHistory-tc.want)); !u.EnoughAt().Equal(want) {
				t.Errorf("enough at %s, want %s", u.EnoughAt(), want)
			}
		})
	}
}

func TestManyContainersAreAskedInParts(t *testing.T) {
	f := &fake{series: 10_000, each: "120", answers: map[string]func(int) string{
		"quantile_over_time(0.95": always("1"), "container_memory_working_set_bytes{container!=\"\",container!=\"POD\"}[1d]": always("1"), "count_over_time((max": fullDays,
	}}
	u, err := f.ask(t)
	if err != nil {
		t.Fatal(err)
	}
	// Ten thousand containers have 2.88 million steps of five minutes a day, and
	// 28.8 million readings.
	if f.spans["quantile_over_time(0.95"] != 1 || f.spans["container_memory_working_set_bytes{container!=\"\",container!=\"POD\"}[1d]"] != 2 {
		t.Errorf("days at once: %v", f.spans)
	}
	if u.Asked() > 100 {
		t.Errorf("%d queries", u.Asked())
	}
}

func TestWhatPrometheusRefusesIsAskedInHalves(t *testing.T) {
	f := &fake{series: 10, each: "120", refuse: 3, answers: map[string]func(int) string{"max_over_time(rate(": always("0.5"), "count_over_time((max": fullDays}}
	u, err := f.ask(t)
	if err != nil {
		t.Fatal(err)
	}
	if u.History != 14*cost.Day || u.Uses[cost.Key{Namespace: "shop", Workload: "web", Container: "app"}].MaxCPU != 0.5 {
		t.Errorf("history %s, %v", u.History, u.Uses)
	}
	if f.spans["count_over_time((max"] > 3 {
		t.Errorf("%v", f.spans)
	}
}

func TestARateSpansFourReadings(t *testing.T) {
	f := &fake{series: 10, each: "12", answers: map[string]func(int) string{"count_over_time((max": fullDays}}
	u, err := f.ask(t)
	if err != nil {
		t.Fatal(err)
	}
	if u.RateWindow != 20*time.Minute {
		t.Errorf("rates over %s for readings every five minutes", u.RateWindow)
	}
	if !regexp.MustCompile(`rate\(container_cpu_usage_seconds_total\{[^}]*\}\[1200s\]\)\[1d:1200s\]`).MatchString(u.Queries["cpu_max"]) || !strings.Contains(u.Queries["memory_mean"], "last_over_time(") {
		t.Errorf("%v", u.Queries)
	}
}

func TestQuantitiesAreRoundedUp(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0001: "10m", 0.1: "100m", 0.1001: "110m", 0.501: "550m", 1.01: "1100m", 10.1: "10500m", 16: "16"} {
		if got := cost.CPU(v); got != want {
			t.Errorf("%g cores are %s, want %s", v, got, want)
		}
	}
	for v, want := range map[float64]string{1: "8Mi", 32: "32Mi", 33: "40Mi", 257: "288Mi", 1025: "1152Mi", 9000: "9Gi"} {
		if got := cost.Memory(v * (1 << 20)); got != want {
			t.Errorf("%g MiB are %s, want %s", v, got, want)
		}
	}
}
