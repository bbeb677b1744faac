//go:build e2e

package backtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/backtest"
	"github.com/oncall-copilot/oncall/test/testbed"
	"github.com/oncall-copilot/oncall/test/testbed/past"
)

// rig is the past of a cluster on real servers.
type rig struct {
	bin, config string
	bad         time.Time // when requests of checkout begin to fail
	rolled      time.Time
}

// build builds the command.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "oncall")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../../../cmd/oncall").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

func start(ctx context.Context, t *testing.T) *rig {
	t.Helper()
	now := time.Now().Truncate(time.Minute)
	r := &rig{bin: build(t), rolled: now.Add(-20 * time.Hour)}
	r.bad = r.rolled.Add(3 * time.Minute)
	at := func(d time.Duration, length time.Duration) past.Span {
		return past.Span{From: r.bad.Add(d), To: r.bad.Add(d + length)}
	}
	critical := func(name string, more ...string) map[string]string {
		m := map[string]string{"alertname": name, "severity": "critical"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	c := past.Cluster{
		Workloads: 6, Pods: 2, Nodes: 2, Scrape: 30 * time.Second, From: now.Add(-60 * time.Hour), To: now,
		Rollouts: []past.Rollout{{Workload: past.Name(0), At: r.rolled, Image: past.Name(0) + ":v412"}},
		Troubles: []past.Trouble{{Span: at(0, 40*time.Minute), Workload: past.Name(0), Failing: 0.4}},
		Alerts: []past.Alert{
			{Span: at(20*time.Minute, 20*time.Minute), Labels: critical("HighErrorRate", "namespace", "shop", "deployment", past.Name(0))},
			{Span: at(-3*time.Hour, 3*time.Minute), Labels: critical("KubeHpaMaxedOut", "namespace", "shop", "horizontalpodautoscaler", past.Name(1))},
			{Span: at(-4*time.Hour, 30*time.Minute), Labels: critical("DiskWillFill", "namespace", "data", "persistentvolumeclaim", "pg-0")},
			{Span: at(10*time.Minute, 20*time.Minute), Labels: map[string]string{"alertname": "KubePodNotReady", "severity": "warning", "namespace": "shop", "deployment": past.Name(0)}},
		},
		Plain: true,
	}
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Close)
	prom, err := bed.StartPrometheus(ctx, testbed.PrometheusConfig{Backfill: blocks(t, c)})
	if err != nil {
		t.Fatal(err)
	}
	loki, err := bed.StartLoki(ctx, testbed.LokiConfig{})
	if err != nil {
		t.Fatal(err)
	}
	r.write(ctx, t, loki)
	r.config = filepath.Join(t.TempDir(), "oncall.yaml")
	text := fmt.Sprintf("cluster: prod-eu-1\ncollector:\n  prometheus: {url: %s, max_query_qps: 200}\n  loki: {url: %s, max_query_qps: 200, kubernetes_events: {selector: '{app=\"event-exporter\"}'}}\n", prom.URL, loki.URL)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// blocks writes a past as OpenMetrics, a file for each block.
func blocks(t *testing.T, c past.Cluster) []string {
	t.Helper()
	dir := t.TempDir()
	w := past.NewWriter(c)
	var files []string
	for _, s := range c.Stretches(testbed.BackfillBlock) {
		name := filepath.Join(dir, fmt.Sprintf("%d.om", s.From.Unix()))
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Write(f, s.From, s.To), f.Close()); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	return files
}

// write has Loki hold lines of a pod, and what an exporter made of events. They
// are of the last hours: what is older Loki reads from where it has put it, which
// takes it a while.
func (r *rig) write(ctx context.Context, t *testing.T, loki *testbed.Server) {
	t.Helper()
	nano := func(at time.Time) string { return strconv.FormatInt(at.UnixNano(), 10) }
	var lines, events [][2]string
	for n := range 600 {
		at := time.Now().Add(time.Duration(n)*10*time.Second - 2*time.Hour)
		lines = append(lines, [2]string{nano(at), fmt.Sprintf("level=info msg=\"order %d taken\" took=12ms", n)})
	}
	for n := range 8 {
		at := time.Now().Add(time.Duration(n)*3*time.Minute - 2*time.Hour)
		e := map[string]any{
			"metadata":       map[string]any{"name": fmt.Sprintf("%s.%d", past.Name(2), n), "namespace": "shop", "uid": fmt.Sprintf("u%d", n), "resourceVersion": strconv.Itoa(100 + n)},
			"involvedObject": map[string]any{"kind": "Pod", "namespace": "shop", "name": past.Name(2) + "-7d4b9c6f5-x2x8q"},
			"reason":         "BackOff", "type": "Warning", "message": "Back-off restarting failed container", "lastTimestamp": at.UTC().Format(time.RFC3339), "count": 1,
		}
		text, _ := json.Marshal(e)
		events = append(events, [2]string{nano(at), string(text)})
	}
	body, _ := json.Marshal(map[string]any{"streams": []any{
		map[string]any{"stream": map[string]string{"namespace": "shop", "pod": past.Name(1) + "-7d4b9c6f5-x2x8q"}, "values": lines},
		map[string]any{"stream": map[string]string{"app": "event-exporter"}, "values": events},
	}})
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
	if said, _ := io.ReadAll(res.Body); res.StatusCode/100 != 2 {
		t.Fatalf("loki: %d: %s", res.StatusCode, said)
	}
}

// command is a backtest of the last day and a half.
func (r *rig) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, r.bin, append([]string{"backtest", "--config", r.config, "--since", "36h", "-o", "json"}, args...)...)
}

func (r *rig) result(t *testing.T, c *exec.Cmd) backtest.Result {
	t.Helper()
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("oncall backtest: %v\n%s", err, errs.String())
	}
	var x backtest.Result
	if err := json.Unmarshal(out, &x); err != nil {
		t.Fatal(err)
	}
	x.Seconds = 0
	return x
}

func TestABacktestOfRealServers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	r := start(ctx, t)
	page := filepath.Join(t.TempDir(), "backtest.html")
	x := r.result(t, r.command(ctx, "--html", page))
	t.Logf("%s; read %+v", x.Headline, x.Read)
	t.Run("the rollout's incident would have paged, earlier than theirs", func(t *testing.T) {
		i := slices.IndexFunc(x.Incidents, func(i backtest.Incident) bool { return i.Entity.Name == past.Name(0) })
		if i < 0 {
			t.Fatalf("incidents %+v", x.Incidents)
		}
		one := x.Incidents[i]
		if at := one.Paged[0]; at.Before(r.bad) || at.After(r.bad.Add(20*time.Minute)) {
			t.Errorf("paged at %s, requests fail since %s", at, r.bad)
		}
		if !strings.Contains(one.Cause, "v411 -> "+past.Name(0)+":v412") {
			t.Errorf("cause %q", one.Cause)
		}
		if one.LeadSeconds == nil || *one.LeadSeconds <= 0 || len(one.Firings) != 1 || len(one.Beside) != 1 {
			t.Errorf("beside it stand %v and %v", one.Firings, one.Beside)
		}
		if x.Ours.Pages != len(one.Paged) {
			t.Errorf("%d pages of ours, want this one alone: %+v", x.Ours.Pages, x.Incidents)
		}
	})
	t.Run("each of theirs has its reason", func(t *testing.T) {
		want := map[string]backtest.Why{"HighErrorRate": "", "KubeHpaMaxedOut": backtest.BelowThreshold, "DiskWillFill": backtest.NotWatched}
		for _, f := range x.Firings {
			if w, ok := want[f.Alert]; !ok || f.Why != w {
				t.Errorf("%s: %q (%s), want %q", f.Alert, f.Why, f.Because, w)
			}
			delete(want, f.Alert)
		}
		if len(want) > 0 || x.Yours.Others != 1 {
			t.Errorf("missing %v; %+v", want, x.Yours)
		}
	})
	t.Run("changes, lines and events of the past were read", func(t *testing.T) {
		if x.Read.Changes != 1 || x.Read.Lines != 600 || x.Read.Events != 8 || x.Read.Series == 0 || x.Cluster != "prod-eu-1" {
			t.Errorf("read %+v of %s", x.Read, x.Cluster)
		}
		if slices.ContainsFunc(x.Missing, func(m backtest.Missing) bool {
			return m.What == "logs" || m.What == "Kubernetes events" || m.What == "metrics"
		}) {
			t.Errorf("missing %+v", x.Missing)
		}
	})
	t.Run("the page has graphs", func(t *testing.T) {
		b, err := os.ReadFile(page)
		if err != nil || bytes.Count(b, []byte("<svg")) < 2 || bytes.Contains(b, []byte("<script")) {
			t.Errorf("%d graphs, %v", bytes.Count(b, []byte("<svg")), err)
		}
	})
	t.Run("one that was interrupted goes on, and ends alike", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		c := r.command(ctx, "--resume", dir)
		var notes bytes.Buffer
		c.Stderr = &notes
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := os.Stat(filepath.Join(dir, backtest.StateFile)); err == nil {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatal("no slice was finished")
			}
		}
		if err := c.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err == nil || c.ProcessState.ExitCode() != 130 || !strings.Contains(notes.String(), "--resume "+dir) {
			t.Fatalf("interrupted: %v\n%s", err, &notes)
		}
		got := r.result(t, r.command(ctx, "--resume", dir))
		// It was begun a little later than the other, and ends as much later.
		if len(got.Incidents) != len(x.Incidents) || len(got.Firings) != len(x.Firings) || got.Read.Changes != x.Read.Changes || got.Read.Lines != x.Read.Lines {
			t.Errorf("got %+v\nwant %+v", got, x)
		}
		for i := range got.Incidents {
			if !slices.EqualFunc(got.Incidents[i].Paged, x.Incidents[i].Paged, time.Time.Equal) || got.Incidents[i].Entity != x.Incidents[i].Entity {
				t.Errorf("incident %+v, want %+v", got.Incidents[i], x.Incidents[i])
			}
		}
	})
}
