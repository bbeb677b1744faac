//go:build e2e

package cost

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/cost"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// build makes the program as a user would.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "oncall")
	if out, err := exec.Command("go", "build", "-o", bin, "../../../cmd/oncall").CombinedOutput(); err != nil {
		t.Fatalf("build oncall: %v\n%s", err, out)
	}
	return bin
}

// shop is a cluster with the workloads of testdata/shop.yaml, and a Prometheus that
// has watched them for some time.
type shop struct {
	bed     *testbed.Bed
	cluster *testbed.Cluster
	prom    *testbed.Server
	bin     string
}

func open(ctx context.Context, t *testing.T) *shop {
	t.Helper()
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Close)
	s := &shop{bed: bed, bin: build(t)}
	if s.cluster, err = bed.StartKubernetes(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.cluster.AddNodes(ctx, 4); err != nil {
		t.Fatal(err)
	}
	manifests, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cluster.Apply(ctx, string(manifests)); err != nil {
		t.Fatal(err)
	}
	crash := testbed.Deployment{Namespace: "shop", Name: "crash", Replicas: 1, Fault: "crashloop"}
	if err := s.cluster.Deploy(ctx, crash); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"over": 3, "right": 2, "spiky": 2, "killed": 2, "scaled": 2, "idle": 2, "throttled": 1, "fresh": 1, "bare": 2, "node-local-dns": 4, "db": 1, "huge": 1, "crash": 1}
	var pods map[string][]string
	if err := s.cluster.Wait(ctx, "all pods", func(ctx context.Context) (bool, error) {
		pods = podsOf(ctx, t, s.cluster, "shop")
		for app, n := range want {
			if len(pods[app]) != n {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	files := blocks(t, uses(pods, now), now.Add(-history), now, interval)
	if s.prom, err = bed.StartPrometheus(ctx, testbed.PrometheusConfig{Backfill: files}); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs oncall cost and gives what it prints.
func (s *shop) run(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	c := exec.CommandContext(ctx, s.bin, append([]string{"cost", "--kubeconfig", s.cluster.Kubeconfig, "--prometheus", s.prom.URL, "--prices", "testdata/prices.yaml"}, args...)...)
	c.Env = append(os.Environ(), "COLUMNS=110")
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("oncall cost %v: %v\n%s", args, err, errs.String())
	}
	return string(out)
}

// costed is what oncall cost -o json writes.
type costed struct {
	cost.Report
	Requests, Queries int
	Seconds           float64
}

// verdict is what is to be said of one workload: the findings' rules, and the
// values of requests and limits that are recommended.
type verdict struct {
	rules  []string
	advice map[string]string // "cpu request": "120m"
	left   string            // a part of why something is left alone
}

var verdicts = map[string]verdict{
	"over":           {rules: []string{"cost_over_requested"}, advice: map[string]string{"cpu request": "120m", "memory request": "232Mi"}},
	"right":          {},
	"spiky":          {rules: []string{"cost_over_requested"}, advice: map[string]string{"cpu request": "900m", "memory request": "1152Mi"}},
	"killed":         {rules: []string{"cost_oom_killed"}, advice: map[string]string{"memory request": "224Mi", "memory limit": "320Mi"}},
	"scaled":         {rules: []string{"cost_over_requested"}, left: "HPA scaled scales it on cpu"},
	"idle":           {rules: []string{"cost_idle", "cost_over_requested"}},
	"throttled":      {rules: []string{"cost_throttled"}, advice: map[string]string{"cpu request": "200m", "cpu limit": "500m"}},
	"fresh":          {rules: []string{"cost_over_requested"}, left: "of history, and it takes 7 d: enough on"},
	"bare":           {rules: []string{"cost_no_requests", "cost_no_limits"}, advice: map[string]string{"cpu request": "50m", "memory request": "72Mi"}},
	"node-local-dns": {rules: []string{"cost_over_requested"}, advice: map[string]string{"cpu request": "50m", "memory request": "64Mi"}},
	// Its requests are its limits: they stay so, with room for what minutes hide.
	"db":   {rules: []string{"cost_over_requested"}, advice: map[string]string{"cpu request": "400m", "cpu limit": "400m", "memory request": "352Mi", "memory limit": "352Mi"}},
	"huge": {rules: []string{"cost_too_large"}},
}

func TestEveryWorkloadIsToldWhatItNeeds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	s := open(ctx, t)
	t.Logf("\n%s", s.run(ctx, t, "-A"))
	var r costed
	if err := json.Unmarshal([]byte(s.run(ctx, t, "-A", "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d requests, %d queries, %.2f s", r.Requests, r.Queries, r.Seconds)
	if len(r.Unchecked) > 0 {
		t.Errorf("not checked: %+v", r.Unchecked)
	}
	if h := r.Window.HistoryHours; h < 24*9-3 || h > 24*9+1 || !r.Window.Enough {
		t.Errorf("history of %.0f h, want nine days", h)
	}
	items := map[string][]cost.Item{}
	for _, i := range slices.Concat(r.Waste, r.Shortages) {
		items[i.Entity.Name] = append(items[i.Entity.Name], i)
	}
	for name, want := range verdicts {
		t.Run(name, func(t *testing.T) { want.check(t, items[name]) })
	}
	if len(items["old-data"]) == 0 || items["old-data"][0].Amount.Money == nil || *items["old-data"][0].Amount.Money != 5 {
		t.Errorf("the released volume: %+v", items["old-data"])
	}
	t.Run("amounts", func(t *testing.T) { amounts(t, &r.Report) })
	t.Run("patches", func(t *testing.T) { s.patches(ctx, t) })
	t.Run("one namespace", func(t *testing.T) {
		out := s.run(ctx, t, "-n", "shop", "--by", "team")
		if !strings.Contains(out, "payments") || !strings.Contains(out, "trade") || !strings.Contains(out, "idle: of the whole cluster") {
			t.Errorf("by team:\n%s", out)
		}
	})
}

func (want verdict) check(t *testing.T, items []cost.Item) {
	t.Helper()
	var rules []string
	advice := map[string]string{}
	left := ""
	for _, i := range items {
		for _, f := range i.Findings {
			if !slices.Contains(rules, f.Rule) {
				rules = append(rules, f.Rule)
			}
			if len(f.Evidence) == 0 {
				t.Errorf("%s has no evidence", f.Title)
			}
		}
		for _, a := range i.Advice {
			advice[a.Resource+" request"] = a.Request.To
			if a.Limit.To != "" {
				advice[a.Resource+" limit"] = a.Limit.To
			}
		}
		for _, l := range i.Left {
			left += l.Why + "\n"
		}
	}
	slices.Sort(rules)
	slices.Sort(want.rules)
	if !slices.Equal(rules, want.rules) {
		t.Errorf("found %v, want %v", rules, want.rules)
	}
	if len(want.advice) > 0 || len(advice) > 0 {
		for k, v := range want.advice {
			if advice[k] != v {
				t.Errorf("%s: %q, want %q; all: %v", k, advice[k], v, advice)
			}
		}
		for k, v := range advice {
			if _, ok := want.advice[k]; !ok && rules[0] != "cost_idle" {
				t.Errorf("%s %s, which is not wanted", k, v)
			}
		}
	}
	if !strings.Contains(left, want.left) {
		t.Errorf("left alone %q, want %q in it", left, want.left)
	}
}

// amounts holds the first line against what was applied and written.
func amounts(t *testing.T, r *cost.Report) {
	t.Helper()
	if r.Allocatable.Cores != 32 || r.Allocatable.GiB != 128 {
		t.Errorf("allocatable %+v, want 32 cores and 128 GiB", r.Allocatable)
	}
	// Three nodes at full price, and one at 40 % of it.
	if m := r.Allocatable.Money; m == nil || *m < 730*(8*0.03+32*0.004)*3.4-1 || *m > 730*(8*0.03+32*0.004)*3.4+1 {
		t.Errorf("allocatable costs %v", r.Allocatable.Money)
	}
	const requested = 3*1 + 2*0.2 + 2*2 + 2*0.1 + 2*1 + 2*0.5 + 0.2 + 1 + 4*0.4 + 1 + 0.1
	if d := r.Requested.Cores - requested; d < -0.001 || d > 0.001 {
		t.Errorf("requested %.3f cores, want %.3f", r.Requested.Cores, float64(requested))
	}
	used := 0.12*2.6 + 0.18*1.8 + 0.05*1.8 + 0.09*1.8 + 0.1*1.8 + 0.001*1.8 + 0.19 + 0.05*1.8 + 0.05*3.4 + 0.2 + 0.02*2/9
	if r.Used == nil || r.Used.Cores < used*0.97 || r.Used.Cores > used*1.03 {
		t.Errorf("used %+v, want %.3f cores: cgroups, sandboxes and second replicas count once", r.Used, used)
	}
	if r.Idle == nil || r.Idle.Cores < 32-requested-0.01 || r.Idle.Cores > 32-requested+0.01 {
		t.Errorf("idle %+v", r.Idle)
	}
}

var patchLine = regexp.MustCompile(`(?m)^kubectl -n (\S+) patch (\S+) (\S+) --type strategic -p '(.*)'$`)

// patches has the API server judge what is printed.
func (s *shop) patches(ctx context.Context, t *testing.T) {
	t.Helper()
	printed := s.run(ctx, t, "--patch", "kubectl")
	t.Logf("\n%s", printed)
	all := patchLine.FindAllStringSubmatch(printed, -1)
	if len(all) < 7 {
		t.Fatalf("%d patches", len(all))
	}
	for _, m := range all {
		if err := s.cluster.TryPatch(ctx, fmt.Sprintf("/apis/apps/v1/namespaces/%s/%ss/%s", m[1], m[2], m[3]), m[4]); err != nil {
			t.Errorf("the API server refuses %s: %v", m[0], err)
		}
	}
	var file struct {
		Kind    string
		Patches []struct{ Patch string }
	}
	if err := yaml.Unmarshal([]byte(s.run(ctx, t, "--patch", "kustomize")), &file); err != nil {
		t.Fatal(err)
	}
	if file.Kind != "Component" || len(file.Patches) != len(all) {
		t.Errorf("%s with %d patches, want %d", file.Kind, len(file.Patches), len(all))
	}
	for _, p := range file.Patches {
		var doc struct {
			Kind     string
			Metadata struct{ Name, Namespace string }
		}
		if err := yaml.Unmarshal([]byte(p.Patch), &doc); err != nil {
			t.Fatal(err)
		}
		var body map[string]any
		if err := yaml.Unmarshal([]byte(p.Patch), &body); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.cluster.TryPatch(ctx, fmt.Sprintf("/apis/apps/v1/namespaces/%s/%ss/%s", doc.Metadata.Namespace, strings.ToLower(doc.Kind), doc.Metadata.Name), string(text)); err != nil {
			t.Errorf("the API server refuses %s: %v", p.Patch, err)
		}
	}
}
