package backtest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/correlator"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectors"
)

// line is a series of a generated history.
type line struct {
	labels map[string]string
	value  func(at time.Time) (float64, bool)
}

// fake answers what a backtest asks from a generated history.
type fake struct {
	*httptest.Server
	lines map[string][]line // by a part of the question
	mu    sync.Mutex
	asked int
	// failing says how a question is answered; 0: as ever.
	failing func(n int, query string) int
	warn    []string
}

func serve(t testing.TB, lines map[string][]line) *fake {
	t.Helper()
	f := &fake{lines: lines}
	f.Server = httptest.NewServer(http.HandlerFunc(f.answer))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) answer(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	query := r.Form.Get("query")
	f.mu.Lock()
	f.asked++
	status := 0
	if f.failing != nil {
		status = f.failing(f.asked, query)
	}
	warn := f.warn
	f.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": "x", "error": "broken, password=hunter2hunter2"})
		return
	}
	number := func(name string) time.Time {
		v, _ := strconv.ParseFloat(r.Form.Get(name), 64)
		return time.UnixMilli(int64(v * 1000)).UTC()
	}
	kind := "vector"
	start, end, step := number("time"), number("time"), time.Second
	if strings.HasSuffix(r.URL.Path, "query_range") {
		seconds, _ := strconv.ParseFloat(r.Form.Get("step"), 64)
		kind, start, end, step = "matrix", number("start"), number("end"), time.Duration(seconds*float64(time.Second))
	}
	result := []any{}
	for _, l := range f.find(query) {
		var values [][2]any
		for at := start; !at.After(end); at = at.Add(step) {
			if v, ok := l.value(at); ok {
				values = append(values, [2]any{float64(at.UnixMilli()) / 1000, strconv.FormatFloat(v, 'g', -1, 64)})
			}
		}
		switch {
		case len(values) == 0:
		case kind == "matrix":
			result = append(result, map[string]any{"metric": l.labels, "values": values})
		default:
			result = append(result, map[string]any{"metric": l.labels, "value": values[0]})
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "warnings": warn, "data": map[string]any{"resultType": kind, "result": result}})
}

// find is what a question is about: the longest part that it holds.
func (f *fake) find(query string) []line {
	if strings.HasPrefix(query, "count by (__name__)") {
		var out []line
		for part, lines := range f.lines {
			if strings.Contains(query, strings.TrimSuffix(part, "[")) && len(lines) > 0 && !strings.ContainsAny(part, " (=") {
				out = append(out, line{map[string]string{"__name__": strings.TrimSuffix(part, "[")}, lines[0].value})
			}
		}
		return out
	}
	best := ""
	for part := range f.lines {
		if strings.Contains(query, part) && len(part) > len(best) {
			best = part
		}
	}
	return f.lines[best]
}

func always(v float64) func(time.Time) (float64, bool) {
	return func(time.Time) (float64, bool) { return v, true }
}

func within(from, to time.Time, v float64) func(time.Time) (float64, bool) {
	return func(at time.Time) (float64, bool) { return v, !at.Before(from) && at.Before(to) }
}

var (
	until = time.Date(2026, 11, 26, 6, 0, 0, 0, time.UTC)
	// bad is when requests of checkout begin to fail.
	bad = until.Add(-2 * time.Hour)
)

// The pods of checkout before and after its rollout.
const (
	oldPod = "checkout-5c6f7d8b9-p2p2p"
	pod    = "checkout-7d4b9c6f5-x2x8q"
)

// rolled is when it was rolled out.
var rolled = bad.Add(-3 * time.Minute)

func ofPod(more ...string) map[string]string {
	m := map[string]string{"namespace": "shop", "pod": pod}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

// shop is a history of four hours: checkout's requests fail after a rollout, for
// forty minutes, and the user was paged for it and for other things.
func shop() map[string][]line {
	failing := func(at time.Time) (float64, bool) {
		noise := 0.01 * float64(at.Unix()/60%5)
		if !at.Before(bad) && at.Before(bad.Add(40*time.Minute)) {
			return 40 + noise, true
		}
		return 0.02 + noise/10, true
	}
	begun := func(at time.Time) (float64, bool) { return 1, at.After(until.Add(-5 * time.Hour)) }
	alert := func(name, severity string, from, to time.Time, more ...string) line {
		m := map[string]string{"__name__": "ALERTS", "alertstate": "firing", "alertname": name, "severity": severity}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return line{m, within(from, to, 1)}
	}
	old := bad.Add(-30 * time.Minute)
	return map[string][]line{
		"up":                             {{map[string]string{"job": "x"}, begun}},
		"http_requests_total":            {{ofPod(), func(at time.Time) (float64, bool) { return 100 + float64(at.Unix()/60%7), true }}},
		`http_requests_total{code=~"5..`: {{ofPod(), failing}},
		"kube_pod_info":                  {{ofPod("node", "node-1"), always(1)}},
		"kube_pod_owner": {
			{map[string]string{"namespace": "shop", "pod": oldPod, "owner_kind": "ReplicaSet", "owner_name": "checkout-5c6f7d8b9"}, within(time.Time{}, rolled, 1)},
			{ofPod("owner_kind", "ReplicaSet", "owner_name", "checkout-7d4b9c6f5"), within(rolled, until.Add(time.Hour), 1)},
		},
		"kube_replicaset_owner": {
			{map[string]string{"namespace": "shop", "replicaset": "checkout-5c6f7d8b9", "owner_kind": "Deployment", "owner_name": "checkout"}, always(1)},
			{map[string]string{"namespace": "shop", "replicaset": "checkout-7d4b9c6f5", "owner_kind": "Deployment", "owner_name": "checkout"}, within(rolled, until.Add(time.Hour), 1)},
		},
		"kube_replicaset_created": {{map[string]string{"namespace": "shop", "replicaset": "checkout-7d4b9c6f5"}, created(rolled)}},
		"kube_pod_container_info": {
			{map[string]string{"namespace": "shop", "pod": oldPod, "container": "main", "image": "checkout:v411"}, within(time.Time{}, rolled, 1)},
			{ofPod("container", "main", "image", "checkout:v412"), within(rolled, until.Add(time.Hour), 1)},
		},
		"ALERTS": {
			alert("HighErrorRate", "critical", bad.Add(10*time.Minute), bad.Add(40*time.Minute), "namespace", "shop", "deployment", "checkout"),
			alert("KubePodCrashLooping", "warning", bad.Add(10*time.Minute), bad.Add(20*time.Minute), "namespace", "shop", "pod", pod),
			alert("DiskFull", "page", old, old.Add(30*time.Minute), "namespace", "data", "persistentvolumeclaim", "pg-0"),
			alert("Latency", "page", old, old.Add(3*time.Minute), "namespace", "shop", "deployment", "checkout"),
			alert("Deadpool", "critical", old, old.Add(time.Hour)),
			alert("Watchdog", "none", old.Add(-3*time.Hour), until),
		},
		// A question about none of these is answered by nothing.
		"kube_replicaset_spec_replicas": {}, "kube_deployment_metadata_generation": {}, "kube_deployment_spec_replicas": {},
	}
}

// created is kube_replicaset_created as it is asked: only of the stretch in which
// the time is.
func created(at time.Time) func(time.Time) (float64, bool) {
	return func(asked time.Time) (float64, bool) {
		return float64(at.Unix()), !asked.Before(at) && asked.Sub(at) <= time.Hour
	}
}

// options are those of a run over a fake.
func options(t testing.TB, f *fake) Options {
	t.Helper()
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	p := prometheus.Config{Step: 2 * time.Minute}
	p.URL, p.MaxQPS = f.URL, 100_000
	c := detector.DefaultConfig()
	info, _ := detector.Builtin.Lookup("alert")
	alerts, err := c.Section(info)
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Prometheus: p, Detector: c, Correlator: correlator.DefaultConfig(), Alerts: alerts.(detectors.AlertConfig), Policies: store, Cluster: "prod",
		Now: until.Add(10 * time.Second), Since: 3 * time.Hour, Learn: time.Hour, Dir: t.TempDir(), Patience: time.Millisecond, Slice: time.Hour,
	}
}
