//go:build e2e

package gates

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/test/testbed"
)

const policy = `
analyses:
%s`

// analysis asks one kind of histogram.
func analysis(kind string) string {
	side := func(track string) string {
		sel := `namespace="$namespace", name="$name", track="` + track + `"`
		latency := `sum(increase(native_seconds{` + sel + `}[$window]))`
		if kind == "classic" {
			latency = `sum by (le) (increase(classic_seconds_bucket{` + sel + `}[$window]))`
		}
		return fmt.Sprintf("      errors: 'sum(increase(http_requests_total{%s, code=\"500\"}[$window]))'\n      total: 'sum(increase(http_requests_total{%s}[$window]))'\n      latency: '%s'\n", sel, sel, latency)
	}
	return "  - name: " + kind + "\n    canary:\n" + side("canary") + "    baseline:\n" + side("stable")
}

const objectives = `
objectives:
  - {name: classic, target: 0.99, period: 24h, latency: {histogram: classic_seconds, threshold: 300ms}}
  - {name: one, target: 0.99, period: 24h, latency: {histogram: classic_seconds, threshold: 1}}
  - {name: native, target: 0.99, period: 24h, latency: {histogram: 'native_seconds{name="cart"}', threshold: 300ms, by: [namespace, pod]}}
  - {name: between, target: 0.99, period: 24h, latency: {histogram: classic_seconds, threshold: 200ms}}
  - {name: default, target: 0.995, period: 24h}
`

// world is a program, and a Prometheus that has scraped the service for a while.
type world struct {
	bin, dir, config string
	prom             *testbed.Server
	began            time.Time
}

func start(ctx context.Context, t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	w.bin = filepath.Join(w.dir, "oncall")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", w.bin, "../../../cmd/oncall").CombinedOutput(); err != nil {
		t.Fatalf("build oncall: %v\n%s", err, out)
	}
	w.policies(t, "slo.yaml", objectives)
	w.policies(t, "canary.yaml", fmt.Sprintf(policy, analysis("classic")+analysis("native")))
	w.config = filepath.Join(w.dir, "oncall.yaml")
	if err := os.WriteFile(w.config, []byte("policies: "+filepath.Join(w.dir, "policies")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Close)
	w.began = time.Now().Add(-time.Second)
	if w.prom, err = bed.StartPrometheus(ctx, testbed.PrometheusConfig{Scrapes: []testbed.Scrape{{Job: "shop", Targets: []string{serve(t)}, Honor: true, Native: true}}}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) policies(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(w.dir, "policies", name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// run runs a command and gives what it writes and its exit code.
func (w *world) run(ctx context.Context, t *testing.T, args ...string) (out, notes string, code int) {
	t.Helper()
	c := exec.CommandContext(ctx, w.bin, append(args, "--config", w.config, "--prometheus", w.prom.URL)...)
	c.Env = append(os.Environ(), "HOME="+w.dir, "NO_COLOR=1")
	var stdout, stderr strings.Builder
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), c.ProcessState.ExitCode()
}

func TestVerdictsAndBudgetsOfARealPrometheus(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	w := start(ctx, t)

	// From the first scrapes on, which are too few: it holds, and then goes on.
	out, notes, code := w.run(ctx, t, "canary-prom", "--analysis", "native", "-n", "shop", "--name", "web", "--start", w.began.UTC().Format(time.RFC3339), "--watch", "--every", "1s", "--for", "3m")
	if code != 0 || !strings.HasPrefix(out, "CONTINUE\n") || !strings.Contains(notes, "  HOLD") {
		t.Fatalf("watched: exit code %d\n%s\n%s", code, notes, out)
	}
	// A minute of rates.
	if err := wait(ctx, func() bool {
		got, err := w.prom.Query(ctx, `min(count_over_time(http_requests_total[1m])) >= 60`)
		return err == nil && len(got) > 0
	}); err != nil {
		t.Fatal(err)
	}
	t.Run("canaries", func(t *testing.T) { w.canaries(ctx, t) })
	t.Run("budgets", func(t *testing.T) { w.budgets(ctx, t) })
	t.Run("suggestions", func(t *testing.T) { w.suggestions(ctx, t) })
	t.Run("controllers", func(t *testing.T) { w.controllers(ctx, t) })
}

func wait(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func (w *world) canaries(ctx context.Context, t *testing.T) {
	for _, kind := range []string{"classic", "native"} {
		for name, want := range map[string]struct {
			code   int
			reason string
		}{
			"web":  {0, "p95: canary 0.0"},
			"pay":  {1, "success: canary 85.0"},
			"cart": {1, "p95: canary 0."},
			"none": {4, "not measured: analysis " + kind + ": canary.total: no series"},
		} {
			out, notes, code := w.run(ctx, t, "canary-prom", "--analysis", kind, "-n", "shop", "--name", name, "--start", w.began.UTC().Format(time.RFC3339), "-o", "json")
			var r struct {
				Verdict string
				Reasons []string
			}
			if err := json.Unmarshal([]byte(out), &r); err != nil || code != want.code || !strings.Contains(strings.Join(r.Reasons, "\n"), want.reason) {
				t.Errorf("%s %s: exit code %d, %v\n%s\n%s\nwant %d and %q", kind, name, code, err, strings.Join(r.Reasons, "\n"), notes, want.code, want.reason)
			}
			if name != "none" {
				t.Logf("%s %s: %s\n%s", kind, name, r.Verdict, strings.Join(r.Reasons, "\n"))
			}
		}
	}
}

// state is what is read of slo-prom -o json.
type state struct {
	Verdict string
	Within  string
	Reasons []string
	Burn    map[string]float64 `json:"burn_rate"`
	Left    *float64           `json:"budget_remaining"`
	Series  []state
	Labels  map[string]string
}

func (w *world) budgets(ctx context.Context, t *testing.T) {
	ask := func(args ...string) state {
		t.Helper()
		out, notes, code := w.run(ctx, t, append([]string{"slo-prom", "--window-minutes", "1", "-o", "json"}, args...)...)
		var s state
		// Of a minute nothing is concluded.
		if err := json.Unmarshal([]byte(out), &s); err != nil || code != 4 || s.Verdict != "no-data" {
			t.Fatalf("slo-prom %v: exit code %d, %v\n%s", args, code, err, notes)
		}
		return s
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if !(math.Abs(got-want) <= 0.02*want) {
			t.Errorf("%s burns %gx, want %gx", what, got, want)
		}
	}
	// Of all requests 160 in 2,400 take longer, and 64 fail.
	s := ask("--slo", "classic")
	near("classic", s.Burn["5m"], 160./2400/0.01)
	if s.Within != "300ms" {
		t.Errorf("classic: got %+v", s)
	}
	if s = ask("--slo", "one"); s.Burn["5m"] != 0 || len(s.Burn) == 0 {
		t.Errorf("a bound that is written 1.0: got %+v", s)
	}
	s = ask("--slo", "native")
	near("native", s.Burn["5m"], 120./400/0.01)
	if s.Verdict != "no-data" || !strings.Contains(strings.Join(s.Reasons, "\n"), "is known, less than the shortest window") || len(s.Series) != 2 || s.Labels["pod"] != "cart-canary-5b9c7d6f8-k4k2z" {
		t.Errorf("native: got %+v", s)
	}
	near("--err and --tot", ask("--slo-target", "0.995", "--err", `sum(rate(http_requests_total{code="500"}[1m]))`, "--tot", `sum(rate(http_requests_total[1m]))`).Burn["5m"], 65./2400/0.005)
	near("--histogram", ask("--slo-target", "0.99", "--histogram", `classic_seconds_bucket{name="cart"}`, "--threshold", "100ms").Burn["5m"], 128./800/0.01)
	for _, s := range ask("--slo", "default").Series {
		if want := map[string]float64{"pay-canary": 60. / 400 / 0.005, "web-canary": 1. / 400 / 0.005}[s.Labels["workload"]]; want > 0 {
			near("golden signals of "+s.Labels["workload"], s.Burn["5m"], want)
		}
	}
	for what, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"between two bounds":  {[]string{"--slo", "between"}, 2, "objectives[3].latency.threshold: 200ms is no bound of classic_seconds's buckets; write 100ms or 300ms, the nearest"},
		"malformed":           {[]string{"--slo-target", "0.99", "--err", "sum(rate(x[1m])", "--tot", "sum(rate(http_requests_total[1m]))"}, 2, "parse error"},
		"a percentage":        {[]string{"--slo-target", "99.5", "--err", "a", "--tot", "b"}, 2, "write 0.995"},
		"a histogram as such": {[]string{"--slo-target", "0.99", "--err", "sum(rate(native_seconds[1m]))", "--tot", "sum(rate(native_seconds[1m]))"}, 2, "histograms, where numbers are needed"},
		"nothing there":       {[]string{"--slo-target", "0.99", "--err", "sum(rate(nope[1m]))", "--tot", "sum(rate(nope[1m]))"}, 2, "no series in the last"},
		"no traffic":          {[]string{"--slo-target", "0.99", "--err", "0 * sum(rate(http_requests_total[1m]))", "--tot", "0 * sum(rate(http_requests_total[1m]))"}, 4, "no data"},
		"labels that differ":  {[]string{"--slo-target", "0.99", "--err", "sum by (code) (rate(http_requests_total[1m]))", "--tot", "sum by (name) (rate(http_requests_total[1m]))"}, 2, "labels differ"},
	} {
		if _, notes, code := w.run(ctx, t, append([]string{"slo-prom", "--window-minutes", "1"}, c.args...)...); code != c.code || !strings.Contains(notes, c.says) {
			t.Errorf("%s: exit code %d\n%s\nwant %d and %q", what, code, notes, c.code, c.says)
		}
	}
}

// What is suggested is in force when it is put there, and can be asked about.
func (w *world) suggestions(ctx context.Context, t *testing.T) {
	out, notes, code := w.run(ctx, t, "slo", "suggest", "--since", "1h", "--window-minutes", "1")
	if code != 0 || !strings.Contains(out, "# shop/pay-canary kept 8") || !strings.Contains(out, "- name: shop-web-primary\n") || !strings.Contains(out, "latency: {histogram: classic_seconds, threshold: 300ms}") {
		t.Fatalf("exit code %d\n%s\n%s", code, notes, out)
	}
	t.Logf("\n%s", out)
	w.policies(t, "slo.yaml", out)
	if out, notes, code = w.run(ctx, t, "slo-prom", "--window-minutes", "1", "--slo", "shop-web-primary"); code != 4 || !strings.Contains(out, `{namespace="shop", workload="web-primary"}`) {
		t.Errorf("asked about: exit code %d\n%s\n%s", code, notes, out)
	}
	if out, notes, code = w.run(ctx, t, "slo", "suggest", "--since", "1h", "--window-minutes", "1"); code != 0 || strings.Count(out, "- name: shop-web-primary\n") != 1 || strings.Contains(out, "kept 99.75 %") {
		t.Errorf("suggested again: exit code %d\n%s\n%s", code, notes, out)
	}
}

// The payloads are those that the controllers send.
func (w *world) controllers(ctx context.Context, t *testing.T) {
	ctx, cancel := context.WithCancel(ctx)
	c := exec.CommandContext(ctx, w.bin, "serve", "canary", "--listen", "127.0.0.1:0", "--config", w.config, "--prometheus", w.prom.URL)
	c.Env = append(os.Environ(), "HOME="+w.dir)
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = c.Wait() })
	base := ""
	for line := ""; base == ""; {
		b := make([]byte, 1)
		if _, err := stderr.Read(b); err != nil {
			t.Fatalf("oncall serve canary: %v: %s", err, line)
		}
		line += string(b)
		if _, rest, ok := strings.Cut(line, "judged at "); ok && strings.Contains(rest, ";") {
			base, _, _ = strings.Cut(rest, ";")
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	call := func(method, path, body string) (int, string) {
		req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	flagger := func(name string) string {
		return fmt.Sprintf(`{"name":%q,"namespace":"shop","phase":"Progressing","checksum":"85d557f47b","metadata":{"test":"all"}}`, name)
	}
	// Asked for the first time a canary has served nothing yet; later it has.
	for _, x := range []struct {
		method, path, body string
		first, status      int
		says               string
	}{
		{http.MethodGet, "/argo/native?namespace=shop&name=web&revision=7d4b9c6f5", "", 200, 200, `"verdict": "continue"`},
		{http.MethodGet, "/argo/classic?namespace=shop&name=pay&revision=7d4b9c6f5", "", 200, 200, `"verdict": "rollback-advised"`},
		{http.MethodPost, "/flagger/confirm-traffic-increase/classic", flagger("web"), 409, 200, "CONTINUE"},
		{http.MethodPost, "/flagger/rollback/native", flagger("pay"), 409, 200, "ROLLBACK-ADVISED"},
	} {
		if status, body := call(x.method, x.path, x.body); status != x.first || !strings.Contains(strings.ToUpper(body), "HOLD") {
			t.Errorf("%s at first: got %d %s, want %d and hold", x.path, status, body, x.first)
		}
		if err := wait(ctx, func() bool {
			status, body := call(x.method, x.path, x.body)
			return status == x.status && strings.Contains(body, x.says)
		}); err != nil {
			t.Errorf("%s: never %d %s", x.path, x.status, x.says)
		}
	}
}
