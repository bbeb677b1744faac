package prometheus

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector"
)

func builtin(t testing.TB) *policy.Store {
	t.Helper()
	s, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newTestSource(t testing.TB, store *policy.Store, url string, change func(*Config)) *Source {
	t.Helper()
	cfg := Config{}
	cfg.URL, cfg.MaxQPS, cfg.WarmStart.Off = url, 10_000, true
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, collector.Env{
		Log: slog.New(slog.DiscardHandler), Metrics: prom.NewRegistry(), Policies: store, Now: time.Now,
		Redact: redact.New(redact.Options{Key: []byte("0123456789abcdef")}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sample is one sample of an answer.
type sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

// server answers instant queries with what a function says.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []string
	n      int
	answer func(query string, at float64) []sample
	// failing says how the n-th request fails: 0 not, -1 cut JSON, -2 hang, else a status.
	failing func(n int) int
	warn    []string
}

func serve(t testing.TB, answer func(query string, at float64) []sample) *server {
	s := &server{answer: answer}
	hang := make(chan struct{})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "query_range") {
			http.NotFound(w, r) // see history for one that knows ranges
			return
		}
		_ = r.ParseForm()
		query := r.Form.Get("query")
		at, _ := strconv.ParseFloat(r.Form.Get("time"), 64)
		s.mu.Lock()
		s.n++
		s.asked = append(s.asked, query)
		how := 0
		if s.failing != nil {
			how = s.failing(s.n)
		}
		warn := s.warn
		s.mu.Unlock()
		switch {
		case how == -2:
			select {
			case <-hang:
			case <-r.Context().Done():
			}
			return
		case how > 0:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(how)
			_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": "x", "error": "broken, password=hunter2hunter2"})
			return
		}
		result := s.answer(query, at)
		if result == nil {
			result = []sample{}
		}
		b, _ := json.Marshal(map[string]any{"status": "success", "warnings": warn, "data": map[string]any{"resultType": "vector", "result": result}})
		if how == -1 {
			b = b[:len(b)/2]
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(func() { close(hang); s.Close() })
	return s
}

func one(at, v float64, labels ...string) sample {
	m := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		m[labels[i]] = labels[i+1]
	}
	return sample{m, [2]any{at, fmt.Sprint(v)}}
}

// guards answers the probe with metrics.
func guards(query string, at float64, metrics ...string) (out []sample, ok bool) {
	if !strings.HasPrefix(query, "count by (__name__)") {
		return nil, false
	}
	for _, m := range metrics {
		if strings.Contains(query, m) {
			out = append(out, one(at, 1, "__name__", m))
		}
	}
	return out, true
}

func values(batches []event.MetricBatch) map[string]float64 {
	out := map[string]float64{}
	for _, b := range batches {
		for _, s := range b.Series {
			out[s.Labels.Get(event.LabelFamily)+" "+s.Labels.Get(event.LabelName)+" "+s.Labels.Entity().String()] = s.Points[0].V
		}
	}
	return out
}

func read(t *testing.T, s *Source, at time.Time) []event.MetricBatch {
	t.Helper()
	events, err := s.read(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	var out []event.MetricBatch
	for _, e := range events {
		out = append(out, e.Data().(event.MetricBatch))
	}
	return out
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestAStepNeverSendsMoreThanItsBudgetWhateverIsThere(t *testing.T) {
	families, err := LoadFamilies(builtin(t))
	if err != nil {
		t.Fatal(err)
	}
	present := map[string]bool{}
	for _, f := range families {
		present[f.Guard] = true
	}
	all := active(families, present)
	kept, left := within(all, MaxQueries)
	sent := len(slices.DeleteFunc(slices.Clone(kept), func(q boundQuery) bool { return q.Ratio != nil }))
	t.Logf("%d families, %d queries sent at most", len(families), sent)
	if left != 0 || sent > MaxQueries {
		t.Errorf("with every exporter there, %d queries are sent and %d left out", sent, left)
	}
	var many []boundQuery
	for i := range 100 {
		many = append(many, boundQuery{Query: Query{Signal: fmt.Sprint(i), Expr: "up"}})
	}
	if kept, left := within(many, MaxQueries); len(kept) != MaxQueries || left != 40 {
		t.Errorf("of 100 queries %d are kept, %d left out", len(kept), left)
	}
}

func TestFamiliesAreAskedOnlyWhereTheirMetricIs(t *testing.T) {
	s := serve(t, func(query string, at float64) []sample {
		out, _ := guards(query, at, "node_cpu_seconds_total")
		return out
	})
	read(t, newTestSource(t, builtin(t), s.URL, nil), noon)
	for _, q := range s.asked {
		if !strings.Contains(q, "node_") && !strings.Contains(q, "__name__") {
			t.Errorf("asked %s", q)
		}
	}
	if n := len(slices.DeleteFunc(slices.Clone(s.asked), func(q string) bool { return strings.Contains(q, "__name__") })); n != 3 {
		t.Errorf("%d queries beside the probe, want three signals of nodes", n)
	}
}

func TestAnExporterThatComesUpLaterIsFoundSoonAndCheaply(t *testing.T) {
	start := time.Unix(1_772_000_000, 0).Truncate(30 * time.Second)
	there := []string{"kube_pod_owner", "node_cpu_seconds_total"}
	probes := 0
	srv := serve(t, func(query string, at float64) []sample {
		if strings.HasPrefix(query, "count by (__name__)") {
			probes++
		}
		if out, ok := guards(query, at, there...); ok {
			return out
		}
		return nil
	})
	s := newTestSource(t, builtin(t), srv.URL, nil)
	has := func(family string) bool {
		return slices.ContainsFunc(s.queries, func(q boundQuery) bool { return q.family == family })
	}
	var asked []time.Duration // steps at which it was looked
	step := func(after time.Duration) {
		t.Helper()
		n := probes
		if _, err := s.read(t.Context(), start.Add(after)); err != nil {
			t.Fatal(err)
		}
		if probes > n {
			asked = append(asked, after)
		}
	}
	for after := time.Duration(0); after <= 10*time.Minute; after += 30 * time.Second {
		step(after)
	}
	if want := []time.Duration{0, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute}; !slices.Equal(asked, want) {
		t.Errorf("looked at %v, want %v", asked, want)
	}
	// One more, and what follows it.
	there, asked = append(there, "http_requests_total"), nil
	for after := 10*time.Minute + 30*time.Second; !has("http_requests_total"); after += 30 * time.Second {
		if after > 15*time.Minute {
			t.Fatal("http_requests_total was not found within five minutes")
		}
		step(after)
	}
	at := asked[len(asked)-1]
	there, asked = append(there, "traefik_service_requests_total"), nil
	step(at + 30*time.Second)
	if !has("traefik") {
		t.Error("what came up right after another was not found at the next step")
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	n := 0
	for _, q := range srv.asked {
		if strings.Contains(q, "(kube_pod_owner)") {
			n++
		}
	}
	if n > 5 {
		t.Errorf("owners were asked for %d times: a look at what is there asks for more than that", n)
	}
}

func TestAWorkloadsSignalComesFromTheBestFamilyThatHasIt(t *testing.T) {
	s := serve(t, func(query string, at float64) []sample {
		if out, ok := guards(query, at, "istio_requests_total", "http_requests_total"); ok {
			return out
		}
		errs := strings.Contains(query, "5..")
		switch {
		case strings.Contains(query, "_bucket"):
			return nil
		case strings.Contains(query, "istio_requests_total"):
			if errs {
				return []sample{one(at, 5, "destination_workload_namespace", "shop", "destination_workload", "web")}
			}
			return []sample{one(at, 50, "destination_workload_namespace", "shop", "destination_workload", "web")}
		case strings.Contains(query, "http_requests_total"):
			v := 40.0
			if errs {
				v = 4
			}
			return []sample{one(at, v, "namespace", "shop", "pod", "web-7d4b9c6f5-x2x8q"), one(at, v, "namespace", "shop", "pod", "legacy-0")}
		}
		return nil
	})
	got := values(read(t, newTestSource(t, builtin(t), s.URL, nil), noon))
	want := map[string]float64{
		"istio request_rate shop/workload/web": 50, "istio error_rate shop/workload/web": 5, "istio error_ratio shop/workload/web": 0.1,
		"http_requests_total request_rate shop/workload/legacy": 40, "http_requests_total error_rate shop/workload/legacy": 4, "http_requests_total error_ratio shop/workload/legacy": 0.1,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestPodsAreJoinedToWhatOwnsThem(t *testing.T) {
	s := serve(t, func(query string, at float64) []sample {
		if out, ok := guards(query, at, "kube_pod_owner", "container_memory_working_set_bytes"); ok {
			return out
		}
		switch {
		case strings.Contains(query, "kube_pod_owner"):
			return []sample{
				one(at, 1, "namespace", "shop", "pod", "web-7d4b9c6f5-x2x8q", "owner_kind", "ReplicaSet", "owner_name", "web-7d4b9c6f5"),
				one(at, 1, "namespace", "shop", "pod", "web-7d4b9c6f5-zzzzz", "owner_kind", "ReplicaSet", "owner_name", "web-7d4b9c6f5"),
				one(at, 1, "namespace", "shop", "pod", "db-0", "owner_kind", "StatefulSet", "owner_name", "db"),
				one(at, 1, "namespace", "shop", "pod", "static-n1", "owner_kind", "Node", "owner_name", "n1"),
				one(at, 1, "namespace", "shop", "pod", "report-123-abcde", "owner_kind", "Job", "owner_name", "report-123"),
			}
		case strings.Contains(query, "kube_replicaset_owner"):
			return []sample{one(at, 1, "namespace", "shop", "replicaset", "web-7d4b9c6f5", "owner_kind", "Deployment", "owner_name", "web")}
		case strings.Contains(query, "kube_job_owner"):
			return []sample{one(at, 1, "namespace", "shop", "job_name", "report-123", "owner_kind", "CronJob", "owner_name", "report")}
		case strings.HasPrefix(query, "sum by (namespace, pod) (container_memory_working_set_bytes"):
			return []sample{
				one(at, 10, "namespace", "shop", "pod", "web-7d4b9c6f5-x2x8q"), one(at, 20, "namespace", "shop", "pod", "web-7d4b9c6f5-zzzzz"), one(at, 3, "namespace", "shop", "pod", "db-0"),
				one(at, 4, "namespace", "shop", "pod", "static-n1"), one(at, 5, "namespace", "shop", "pod", "report-123-abcde"),
			}
		}
		return nil
	})
	got := values(read(t, newTestSource(t, builtin(t), s.URL, nil), noon))
	want := map[string]float64{
		"cadvisor memory_usage shop/deployment/web": 30, "cadvisor memory_usage shop/statefulset/db": 3,
		"cadvisor memory_usage shop/workload/static-n1": 4, "cadvisor memory_usage shop/cronjob/report": 5,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// requests is a server of http_requests_total whose values depend on the step alone.
func requests(t testing.TB) *server {
	return serve(t, func(query string, at float64) []sample {
		if out, ok := guards(query, at, "http_requests_total"); ok {
			return out
		}
		if strings.Contains(query, "_bucket") {
			return []sample{one(at, 0.2, "namespace", "shop", "pod", "web-0")}
		}
		return []sample{one(at, float64(int(at)%7)+1, "namespace", "shop", "pod", "web-0")}
	})
}

func TestPathPrefixesAndExtraMatchersReachEveryQuery(t *testing.T) {
	s := requests(t)
	inner := s.Config.Handler
	var outside []string
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/prometheus/api/v1/") {
			outside = append(outside, r.URL.Path)
		}
		inner.ServeHTTP(w, r)
	})
	src := newTestSource(t, builtin(t), s.URL+"/prometheus/", func(c *Config) { c.ExtraMatchers = `cluster="eu"` })
	if got := values(read(t, src, noon)); len(got) == 0 || outside != nil {
		t.Errorf("read %v, and asked outside of the prefix: %v", got, outside)
	}
	for _, q := range s.asked {
		if strings.Count(q, `cluster="eu"`) != strings.Count(q, "http_requests_total{")+strings.Count(q, "http_request_duration_seconds_bucket{")+strings.Count(q, "{__name__") {
			t.Errorf("asked %s", q)
		}
	}
}

func TestSeriesAreAddedInOneOrderWhateverTheAnswers(t *testing.T) {
	src := newTestSource(t, builtin(t), "http://prometheus", nil)
	q := boundQuery{family: "f", Query: Query{Signal: "s", Entity: "workload", Aggregate: "sum"}}
	var v model.Vector
	for i := range 50 {
		v = append(v, &model.Sample{Metric: model.Metric{"namespace": "shop", "workload": "web", "shard": "x", "pod": model.LabelValue(fmt.Sprintf("web-%d", i))}, Value: model.SampleValue(0.1 * float64(i))})
	}
	known := map[model.Fingerprint]mapping{}
	a := src.series(known, q, keyOf(v), noon)
	slices.Reverse(v)
	b := src.series(known, q, keyOf(v), noon)
	if len(a) != 1 || fmt.Sprint(a) != fmt.Sprint(b) || a[0].Labels.Get("shard") != "x" || a[0].Labels.Get("pod") != "" {
		t.Errorf("%v and %v", a, b)
	}
}

func TestCatalogueErrorsNameFileAndField(t *testing.T) {
	family := func(s string) string {
		return "family: f\nguard: up\nqueries:\n  - {signal: a, expr: up, entity: node, class: cause}\n" + s
	}
	for want, text := range map[string]string{
		"queries[0].expr":                  "family: f\nguard: up\nqueries: [{signal: a, entity: node, class: cause}]",
		"queries[0].aggregate":             "family: f\nguard: up\nqueries: [{signal: a, expr: up, entity: workload, class: cause}]",
		"guard: a b":                       "family: f\nguard: a b",
		"names nobody, which is no family": family("unless: [nobody]"),
		"unknown_field":                    family("unknown_field: 1"),
	} {
		store, err := policy.NewStore(policies.FS, fstest.MapFS{"queries/mine.yaml": {Data: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LoadFamilies(store); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "policies/queries") {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// BenchmarkPoll reads one step of 10,000 series.
func BenchmarkPoll(b *testing.B) {
	const series = 10_000
	answers := map[string][]byte{}
	s := serve(b, func(query string, at float64) []sample {
		out, _ := guards(query, at, "container_memory_working_set_bytes", "http_requests_total")
		return out
	})
	inner := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		query := r.Form.Get("query")
		if strings.HasPrefix(query, "count by (__name__)") {
			inner.ServeHTTP(w, r)
			return
		}
		s.mu.Lock()
		body := answers[query]
		if body == nil {
			var result []sample
			for i := range series / 7 { // seven queries of the two families are sent
				result = append(result, one(float64(noon.Unix()), float64(i), "namespace", fmt.Sprintf("ns-%d", i%50), "pod", fmt.Sprintf("app%d-7d4b9c6f5-x2x8q", i)))
			}
			body, _ = json.Marshal(map[string]any{"status": "success", "data": map[string]any{"resultType": "vector", "result": result}})
			answers[query] = body
		}
		s.mu.Unlock()
		_, _ = w.Write(body)
	})
	src := newTestSource(b, builtin(b), s.URL, nil)
	at, read := noon, 0
	for b.Loop() {
		at = at.Add(30 * time.Second)
		events, err := src.read(b.Context(), at)
		if err != nil {
			b.Fatal(err)
		}
		read = 0
		for _, e := range events {
			read += len(e.Data().(event.MetricBatch).Series)
		}
	}
	b.ReportMetric(float64(read), "series/poll")
}
