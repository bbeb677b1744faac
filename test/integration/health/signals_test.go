//go:build e2e

package health

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// served is how a workload of the test has fared: what it serves a second and
// pod, how much of that fails, and how long it takes.
type served struct {
	rate, errors, latency float64
	// From ago on it is otherwise.
	ago     time.Duration
	lasts   time.Duration // 0: until the end, however late the question comes
	failing float64
	slower  float64 // times
}

// fared are the workloads of the namespace shop, by name. The first three are in
// trouble, and no object shows it.
var fared = map[string]served{
	"failing": {rate: 20, errors: 0.001, latency: 0.08, ago: 6 * time.Minute, failing: 0.3},
	"burning": {rate: 20, errors: 0.001, latency: 0.08, ago: 50 * time.Minute, failing: 0.2},
	"slow":    {rate: 20, latency: 0.08, ago: 20 * time.Minute, slower: 8},
	"well":    {rate: 20, errors: 0.002, latency: 0.08},
	"used":    {rate: 20, errors: 0.01, latency: 0.9},                                                                 // as ever
	"few":     {rate: 0.02, latency: 0.08, ago: 10 * time.Minute, failing: 0.5, slower: 10},                           // nobody calls it
	"faster":  {rate: 20, latency: 0.8, ago: 20 * time.Minute, slower: 0.1},                                           // an improvement
	"busy":    {rate: 20, errors: 0.001, latency: 0.08, ago: 30 * time.Second, lasts: 30 * time.Second, failing: 0.1}, // a moment
	"speaks":  {}, "chatty": {}, "loud": {}, "grows": {}, "filled": {}, "throttled": {}, "tells": {},
}

// volumes are claims by name: their use at first and now, ratios.
var volumes = map[string][2]float64{"filling": {0.5, 0.9}, "full": {0.97, 0.97}, "steady": {0.85, 0.85}, "small": {0.1, 0.3}, "emptied": {0.9, 0.4}}

// wanted are what is to be found, and nothing else.
var wanted = map[string]string{
	"shop/deploy/failing":        "of requests fail",
	"shop/deploy/burning":        "of requests fail",
	"shop/deploy/slow":           "throttled in 60 % of its CPU periods",
	"shop/pvc/filling":           "full in",
	"shop/pvc/full":              "% full",
	"kube-system/deploy/coredns": "of name look-ups fail",
	"shop/deploy/speaks":         "new in its logs",
	"shop/deploy/loud":           "times as many in its logs",

	"shop/deploy/grows":                    "memory is at",
	"shop/deploy/tells":                    "of its notifications by slack fail",
	"node/node-1":                          "of its memory is in use: its kubelet takes",
	"cluster":                              "API server fails 20 % of its requests",
	"kube-system/scrapejob/kube-scheduler": "of its targets cannot be read",
}

// TestWhatNoObjectShowsIsReadFromPrometheusAndLoki runs over hours of real
// telemetry: of a cluster of which every object is well.
func TestWhatNoObjectShowsIsReadFromPrometheusAndLoki(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	bed, cluster := nodes(ctx, t, 2)
	pods := deploy(ctx, t, cluster)
	now := time.Now()
	prom, err := bed.StartPrometheus(ctx, testbed.PrometheusConfig{Backfill: history(t, pods, now)})
	if err != nil {
		t.Fatal(err)
	}
	loki, err := bed.StartLoki(ctx, testbed.LokiConfig{})
	if err != nil {
		t.Fatal(err)
	}
	push(ctx, t, loki, pods, now)
	bin := build(t)
	audit := filepath.Join(t.TempDir(), "audit.jsonl")
	r, _ := examine(ctx, t, bin, cluster.Kubeconfig, "--prometheus", prom.URL, "--loki", loki.URL, "--audit", audit)
	if len(r.NotChecked) > 0 {
		t.Errorf("not checked: %+v", r.NotChecked)
	}
	found := map[string]bool{}
	for _, root := range r.Roots {
		name := check.Name(root.Entity)
		found[name] = true
		t.Logf("%s %s %s", root.Urgency, name, root.Line())
		if want, ok := wanted[name]; !ok || !strings.Contains(root.Line(), want) {
			t.Errorf("%s %s %s: want %q", root.Urgency, name, root.Line(), want)
		}
	}
	for name, want := range wanted {
		if !found[name] {
			t.Errorf("not found: %s %s", name, want)
		}
	}
	asked(t, audit)
	// From far away each request takes a tenth of a second longer.
	far, _ := examine(ctx, t, bin, farAway(t, cluster), "--prometheus", behind(t, prom.URL), "--loki", behind(t, loki.URL))
	if len(far.Roots) < len(wanted) || len(far.NotChecked) > 0 || far.Seconds > maxFar {
		t.Errorf("from far away: %.2f s, %d things, not checked %+v; want all within %.1f s", far.Seconds, len(far.Roots), far.NotChecked, maxFar)
	}
	t.Logf("%.2f s, %.2f s with %v more for each request", r.Seconds, far.Seconds, distance)
	// A namespace in which nothing happens takes at most five lines.
	out, err := exec.CommandContext(ctx, bin, "health", "-n", "calm", "--kubeconfig", cluster.Kubeconfig, "--prometheus", prom.URL, "--loki", loki.URL).Output()
	if n := strings.Count(string(out), "\n"); err != nil || n > 5 || !strings.Contains(string(out), "nothing is broken") {
		t.Errorf("%v, %d lines of a namespace that is well:\n%s", err, n, out)
	}
}

// behind is a server behind a long line.
func behind(t *testing.T, address string) string {
	t.Helper()
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(distance): // the line, not a wait of the test
			proxy.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// asked holds the queries of one examination against their documented bounds.
func asked(t *testing.T, audit string) {
	t.Helper()
	b, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for line := range strings.Lines(string(b)) {
		var a struct{ Source string }
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		n[a.Source]++
	}
	t.Logf("queries by source: %v", n)
	if n["prometheus"] == 0 || n["prometheus"] > 32 || n["loki"] == 0 || n["loki"] > 26 {
		t.Errorf("%v queries, want at most 32 of Prometheus and 26 of Loki", n)
	}
}

// deploy makes the workloads, and gives their pods by workload.
func deploy(ctx context.Context, t *testing.T, c *testbed.Cluster) map[string][]string {
	t.Helper()
	manifests := "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: calm}\n"
	places := map[string]string{"calm": "calm", "coredns": "kube-system"}
	for name := range fared {
		places[name] = "shop"
	}
	for name, ns := range places {
		manifests += testbed.Deployment{Namespace: ns, Name: name}.YAML()
	}
	if err := c.Apply(ctx, manifests); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for name, ns := range places {
		if err := c.WaitReady(ctx, ns, name); err != nil {
			t.Fatal(err)
		}
		var list struct {
			Items []struct{ Metadata struct{ Name string } }
		}
		if err := c.Get(ctx, "/api/v1/namespaces/"+ns+"/pods?labelSelector=app%3D"+name, &list); err != nil {
			t.Fatal(err)
		}
		for _, p := range list.Items {
			out[name] = append(out[name], p.Metadata.Name)
		}
	}
	// Pods warm up for ten minutes before their latency means anything: these have
	// been there for an hour, and so say their statuses.
	since := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	for name, ns := range places {
		for _, p := range out[name] {
			if err := c.Patch(ctx, "/api/v1/namespaces/"+ns+"/pods/"+p+"/status", fmt.Sprintf(`{"status":{"startTime":%q}}`, since)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// history writes four hours and a half of metrics, and ten minutes to come.
func history(t *testing.T, pods map[string][]string, now time.Time) []string {
	t.Helper()
	const each = 15 * time.Second
	const span = testbed.BackfillBlock
	random := rand.New(rand.NewPCG(1, 2))
	from, to := now.Add(-270*time.Minute).Truncate(each), now.Add(6*time.Minute)
	parts := map[int64]*bytes.Buffer{}
	line := func(at time.Time, name, labels string, v float64) {
		k := at.Unix() / int64(span.Seconds())
		if parts[k] == nil {
			parts[k] = &bytes.Buffer{}
		}
		fmt.Fprintf(parts[k], "%s{%s} %s %d\n", name, labels, strconv.FormatFloat(v, 'f', -1, 64), at.Unix())
	}
	bounds := []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, math.Inf(1)}
	for name, w := range fared {
		for _, p := range pods[name] {
			labels := fmt.Sprintf("namespace=%q,pod=%q", "shop", p)
			good, bad := 0.0, 0.0
			slow := make([]float64, len(bounds))
			for at := from; at.Before(to) && w.rate > 0; at = at.Add(each) {
				failing, latency := w.errors, w.latency
				if began := now.Add(-w.ago); w.ago > 0 && at.After(began) && (w.lasts == 0 || at.Before(began.Add(w.lasts))) {
					if w.failing > 0 {
						failing = w.failing
					}
					if w.slower > 0 {
						latency *= w.slower
					}
				}
				n := math.Round(w.rate * each.Seconds() * (0.9 + 0.2*random.Float64()))
				f := math.Round(n * failing * (0.8 + 0.4*random.Float64()))
				good, bad = good+n-f, bad+f
				line(at, "http_requests_total", labels+`,code="200"`, good)
				line(at, "http_requests_total", labels+`,code="500"`, bad)
				for i, b := range bounds {
					// Exponential latencies.
					slow[i] += n * (1 - math.Exp(-b/latency*2.3*(0.95+0.1*random.Float64())))
					le := strconv.FormatFloat(b, 'g', -1, 64)
					if math.IsInf(b, 1) {
						le = "+Inf"
					}
					line(at, "http_request_duration_seconds_bucket", labels+`,le="`+le+`"`, math.Round(slow[i]))
				}
			}
		}
	}
	for name, use := range volumes {
		labels := fmt.Sprintf("namespace=%q,persistentvolumeclaim=%q", "shop", name)
		for at := from; at.Before(to); at = at.Add(each) {
			u := use[0] + (use[1]-use[0])*float64(at.Sub(from))/float64(now.Sub(from))
			if name == "emptied" && at.Before(now.Add(-time.Hour)) {
				u = use[0]
			}
			u = min(u+0.001*random.Float64(), 1)
			line(at, "kubelet_volume_stats_capacity_bytes", labels, 1e11)
			line(at, "kubelet_volume_stats_available_bytes", labels, math.Round(1e11*(1-u)))
		}
	}
	for _, p := range pods["coredns"] {
		labels := fmt.Sprintf("namespace=%q,pod=%q", "kube-system", p)
		good, bad, none := 0.0, 0.0, 0.0
		for at := from; at.Before(to); at = at.Add(each) {
			n := math.Round(300 * (0.9 + 0.2*random.Float64()))
			none += n // names that search lists make up
			if at.After(now.Add(-15 * time.Minute)) {
				bad += math.Round(0.3 * n)
				good += n - math.Round(0.3*n)
			} else {
				good += n
			}
			line(at, "coredns_dns_responses_total", labels+`,rcode="NOERROR"`, good)
			line(at, "coredns_dns_responses_total", labels+`,rcode="NXDOMAIN"`, none)
			line(at, "coredns_dns_responses_total", labels+`,rcode="SERVFAIL"`, bad)
		}
	}
	beyondBounds(pods, line, from, to, now, each)
	var files []string
	dir := t.TempDir()
	for k, b := range parts {
		// The samples of a metric stand together.
		lines := slices.SortedStableFunc(strings.Lines(b.String()), func(a, b string) int {
			x, _, _ := strings.Cut(a, "{")
			y, _, _ := strings.Cut(b, "{")
			return strings.Compare(x, y)
		})
		name := filepath.Join(dir, fmt.Sprint(k))
		if err := os.WriteFile(name, []byte(strings.Join(lines, "")+"# EOF\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	return files
}

// push writes the logs: of three hours, a line every twenty seconds and pod, and
// in the last minutes what is new, what is loud, and what is as ever.
func push(ctx context.Context, t *testing.T, loki *testbed.Server, pods map[string][]string, now time.Time) {
	t.Helper()
	type stream struct {
		Stream map[string]string `json:"stream"`
		Values [][2]string       `json:"values"`
	}
	var all []stream
	for name, list := range pods {
		ns := "shop"
		if name == "calm" || name == "coredns" {
			ns = map[string]string{"calm": "calm", "coredns": "kube-system"}[name]
		}
		for _, p := range list {
			s := stream{Stream: map[string]string{"namespace": ns, "pod": p, "container": "app"}}
			n := 0
			say := func(at time.Time, format string, args ...any) {
				s.Values = append(s.Values, [2]string{strconv.FormatInt(at.UnixNano(), 10), fmt.Sprintf(format, args...)})
			}
			for at := now.Add(-3 * time.Hour); at.Before(now.Add(-time.Second)); at = at.Add(20 * time.Second) {
				n++
				say(at, "level=info msg=\"request served\" id=%d", n)
				if n%9 == 0 {
					say(at.Add(time.Millisecond), "level=error msg=\"card was declined by the bank\" id=%d", n)
				}
				late := at.After(now.Add(-8 * time.Minute))
				if late && name == "speaks" {
					say(at.Add(2*time.Millisecond), "level=error msg=\"lease of the ledger was lost\" id=%d", n)
				}
				for i := range 12 {
					if name == "chatty" || late && name == "loud" {
						say(at.Add(time.Duration(3+i)*time.Millisecond), "level=error msg=\"card was declined by the bank\" id=%d", n*100+i)
					}
				}
			}
			all = append(all, s)
		}
	}
	body, err := json.Marshal(map[string]any{"streams": all})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, loki.URL+"/loki/api/v1/push", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := loki.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusNoContent {
		why, _ := bufio.NewReader(res.Body).ReadString('\n')
		t.Fatalf("push to Loki: %s: %s", res.Status, why)
	}
	lines := 0
	for _, s := range all {
		lines += len(s.Values)
	}
	kept(ctx, t, loki, lines)
}

// kept waits until Loki shows every line.
func kept(ctx context.Context, t *testing.T, loki *testbed.Server, lines int) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var a struct {
			Data struct{ Result []struct{ Value [2]any } }
		}
		res, err := loki.Client.Get(loki.URL + "/loki/api/v1/query?query=" + url.QueryEscape(`sum(count_over_time({namespace=~".+"}[4h]))`))
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(res.Body).Decode(&a)
		_ = res.Body.Close()
		if err == nil && len(a.Data.Result) == 1 && a.Data.Result[0].Value[1] == strconv.Itoa(lines) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("Loki shows %v of %d lines", a.Data.Result, lines)
		case <-tick.C:
		}
	}
}
