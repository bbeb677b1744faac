package cost_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/cost"
	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/redact"
)

var update = flag.Bool("update", false, "write the golden files")

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

var kinds = map[string]func() any{
	"Pod": func() any { return new(corev1.Pod) }, "Node": func() any { return new(corev1.Node) }, "Namespace": func() any { return new(corev1.Namespace) },
	"Deployment": func() any { return new(appsv1.Deployment) }, "StatefulSet": func() any { return new(appsv1.StatefulSet) }, "DaemonSet": func() any { return new(appsv1.DaemonSet) },
	"CronJob": func() any { return new(batchv1.CronJob) }, "Job": func() any { return new(batchv1.Job) }, "ReplicaSet": func() any { return new(metav1.PartialObjectMetadata) },
	"HorizontalPodAutoscaler": func() any { return new(autoscalingv2.HorizontalPodAutoscaler) }, "LimitRange": func() any { return new(corev1.LimitRange) },
	"Service": func() any { return new(corev1.Service) }, "EndpointSlice": func() any { return new(discoveryv1.EndpointSlice) },
	"PersistentVolumeClaim": func() any { return new(corev1.PersistentVolumeClaim) }, "PersistentVolume": func() any { return new(corev1.PersistentVolume) },
}

var ages = regexp.MustCompile(`\bago\((\w+)\)`)

// world is a file of testdata: objects, and the use of containers.
type world struct {
	objects []any
	usage   *cost.Usage
	unread  []check.Unread
}

// use is how a container fared, in a file.
type use struct {
	Key                            string // namespace/name of pods/container
	P95, P99, Max, Mean, Throttled float64
	MemoryMax, MemoryMean          string
	HistoryDays                    float64
	Days                           int
	SeenHours                      float64
	OOMDaysAgo                     []int
	OOMLimit                       string
}

func bytesOf(t *testing.T, s string) float64 {
	t.Helper()
	if s == "" {
		return math.NaN()
	}
	var q struct {
		Q metav1.Duration
		V corev1.ResourceList
	}
	if err := yaml.Unmarshal([]byte("V: {memory: "+s+"}"), &q); err != nil {
		t.Fatal(err)
	}
	m := q.V["memory"]
	return m.AsApproximateFloat64()
}

func load(t *testing.T, file string) world {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := ages.ReplaceAllStringFunc(string(b), func(s string) string {
		d, err := time.ParseDuration(ages.FindStringSubmatch(s)[1])
		if err != nil {
			t.Fatal(err)
		}
		return `"` + noon.Add(-d).Format(time.RFC3339) + `"`
	})
	var w world
	for i, doc := range strings.Split(text, "\n---\n") {
		var head struct{ Kind string }
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		switch head.Kind {
		case "":
		case "Use":
			w.use(t, doc)
		case "Unread":
			var u struct{ Resource, Why string }
			if err := yaml.Unmarshal([]byte(doc), &u); err != nil {
				t.Fatal(err)
			}
			w.unread = append(w.unread, check.Unread{Resource: u.Resource, Why: u.Why})
		case "VerticalPodAutoscaler":
			var o check.Object
			if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
				t.Fatal(err)
			}
			w.objects = append(w.objects, o)
		default:
			if kinds[head.Kind] == nil {
				t.Fatalf("document %d: kind %s", i, head.Kind)
			}
			o := kinds[head.Kind]()
			if err := yaml.UnmarshalStrict([]byte(doc), o); err != nil && !strings.Contains(err.Error(), "unknown field") {
				t.Fatalf("document %d, %s: %v", i, head.Kind, err)
			}
			w.objects = append(w.objects, o)
		}
	}
	return w
}

func (w *world) use(t *testing.T, doc string) {
	t.Helper()
	var f struct {
		HistoryDays float64
		Uses        []use
	}
	if err := yaml.UnmarshalStrict([]byte(strings.Replace(doc, "kind: Use\n", "", 1)), &f); err != nil {
		t.Fatal(err)
	}
	days := func(d float64) time.Duration { return time.Duration(d * float64(cost.Day)) }
	u := &cost.Usage{
		Start: noon.Add(-14 * cost.Day), End: noon, Days: 14, History: days(f.HistoryDays), RateWindow: 5 * time.Minute, Interval: 30 * time.Second,
		Uses: map[cost.Key]*cost.Use{}, Queries: map[string]string{"cpu_p95": "CPU", "memory_max": "MEMORY"}, Missing: map[string]string{},
	}
	for _, x := range f.Uses {
		p := strings.Split(x.Key, "/")
		h := x.HistoryDays
		if h == 0 {
			h = f.HistoryDays
		}
		c := &cost.Use{
			P95: x.P95, P99: x.P99, MaxCPU: x.Max, MeanCPU: x.Mean, Throttled: math.NaN(), MaxMemory: bytesOf(t, x.MemoryMax), MeanMemory: bytesOf(t, x.MemoryMean),
			History: days(h), Days: x.Days, Seen: time.Duration(x.SeenHours * float64(time.Hour)), OOMLimit: bytesOf(t, x.OOMLimit),
		}
		if x.Throttled > 0 {
			c.Throttled = x.Throttled
		}
		if c.Seen == 0 {
			c.Seen, c.Days = c.History, int(h)
		}
		for _, ago := range x.OOMDaysAgo {
			c.OOMDays = append(c.OOMDays, noon.Add(-time.Duration(ago)*cost.Day))
		}
		u.Uses[cost.Key{Namespace: p[0], Workload: p[1], Container: p[2]}] = c
	}
	w.usage = u
}

func (w *world) report(t *testing.T, namespace string) *cost.Report {
	t.Helper()
	prices, err := cost.ParsePrices("prices.yaml", []byte("currency: EUR\ncpu_core_hour: 0.03\nmemory_gib_hour: 0.004\nstorage_gib_month: 0.05\nload_balancer_hour: 0.02\nnodes: [{match: {spot: \"true\"}, discount: 0.5}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return w.priced(namespace, prices)
}

func (w *world) priced(namespace string, prices cost.Prices) *cost.Report {
	c := check.Assemble(noon, namespace, w.objects, cost.Resources()...)
	c.Unread = w.unread
	return cost.Examine(c, cost.Options{
		Prices: prices, Usage: w.usage, Days: 14, Owners: owner.Policy{Labels: []string{"team"}}, Redact: redact.New(redact.Options{}),
	})
}

// TestReports fails when what is said of the objects of a file is not what its
// golden file says. Run with -update to write them, and read the difference.
func TestReports(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".yaml")
		t.Run(name, func(t *testing.T) {
			w := load(t, f)
			namespace := ""
			if strings.HasPrefix(name, "one_") {
				namespace = "shop"
			}
			r := w.report(t, namespace)
			cited := map[string]bool{}
			for _, e := range r.Evidence {
				cited[e.ID] = true
			}
			for _, i := range slices.Concat(r.Waste, r.Shortages) {
				for _, f := range i.Findings {
					if len(f.Evidence) == 0 || !cited[f.Evidence[0]] || len(f.Checks) == 0 {
						t.Errorf("%s %s: evidence %v, checks %v", i.Entity, f.Title, f.Evidence, f.Checks)
					}
				}
			}
			r.Evidence = nil // the golden file is read by people
			for _, list := range [][]cost.Item{r.Waste, r.Shortages} {
				for i := range list {
					for j := range list[i].Findings {
						f := &list[i].Findings[j]
						f.ID, f.Evidence, f.Checks = "", nil, nil
					}
				}
			}
			r.Measured = nil
			kubectl, err := cost.Kubectl(r.Patches(), "")
			if err != nil {
				t.Fatal(err)
			}
			kustomize, err := cost.Kustomize(r.Patches())
			if err != nil {
				t.Fatal(err)
			}
			report, err := json.MarshalIndent(r, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got := string(report) + "\n\n" + kubectl + "\n" + kustomize
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || !bytes.Equal([]byte(got), want) {
				t.Errorf("%s differs (%v); run go test ./pkg/cost -update and read the difference. got:\n%s", golden, err, got)
			}
		})
	}
}
