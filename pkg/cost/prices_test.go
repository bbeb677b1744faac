package cost_test

import (
	"math"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/cost"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
)

func TestAWrongPriceFileSaysWhereAndWhatToWrite(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"a negative price":        {"cpu_core_hour: -1\nmemory_gib_hour: 1\n", "p.yaml:1: cpu_core_hour: -1 is not a price; write 0.031, or leave it out"},
		"no number":               {"cpu_core_hour: .nan\nmemory_gib_hour: 1\n", "p.yaml:1: cpu_core_hour: .nan is no number to reckon with"},
		"a month's price an hour": {"cpu_core_hour: 0.03\nmemory_gib_hour: 4000\n", "p.yaml:2: memory_gib_hour: 4000 is above 1000"},
		"one of two":              {"currency: EUR\ncpu_core_hour: 0.03\n", "p.yaml:1: memory_gib_hour: is missing beside cpu_core_hour; write both"},
		"a discount of 60":        {"nodes:\n  - match: {a: b}\n    discount: 60\n", "p.yaml:3: nodes[0].discount: 60 is not a share between 0 and 1; write 0.6"},
		"nodes of which nothing":  {"nodes:\n  - match: {a: b}\n", "p.yaml:2: nodes[0].match: is all there is; write cpu_core_hour"},
		"nodes without labels":    {"nodes:\n  - discount: 0.5\n", "p.yaml:2: nodes[0].match: is missing"},
		"an unknown field":        {"cpu: 1\n", "p.yaml:1: cpu: unknown field"},
		"words":                   {"cpu_core_hour: cheap\n", "p.yaml:1: cannot unmarshal"},
		"no currency":             {"currency: euros and cents\n", "p.yaml:1: currency: \"euros and cents\" is not a currency; write EUR"},
		"a class":                 {"storage_classes:\n  gp3: -2\n", "p.yaml:2: storage_classes.gp3: -2 is not a price"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cost.ParsePrices("p.yaml", []byte(tc.in))
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestANodeCostsWhatItsLabelsSay(t *testing.T) {
	p, err := cost.ParsePrices("p.yaml", []byte(`
cpu_core_hour: 0.04
memory_gib_hour: 0.004
nodes:
  - match: {type: big}
    cpu_core_hour: 0.03
  - match: {spot: "true"}
    discount: 0.5
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		labels map[string]string
		want   cost.Rate
	}{
		"no labels":           {nil, cost.Rate{CPUCoreHour: 0.04, MemoryGiBHour: 0.004}},
		"a type":              {map[string]string{"type": "big"}, cost.Rate{CPUCoreHour: 0.03, MemoryGiBHour: 0.004}},
		"a type that is spot": {map[string]string{"type": "big", "spot": "true"}, cost.Rate{CPUCoreHour: 0.015, MemoryGiBHour: 0.002}},
	} {
		t.Run(name, func(t *testing.T) {
			got := p.Of(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: tc.labels}})
			if math.Abs(got.CPUCoreHour-tc.want.CPUCoreHour) > 1e-12 || math.Abs(got.MemoryGiBHour-tc.want.MemoryGiBHour) > 1e-12 {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestThePolicyThatShipsNamesNoPrices(t *testing.T) {
	s, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	p, err := cost.LoadPrices(s)
	if err != nil || p.Known() {
		t.Errorf("%+v, %v", p, err)
	}
	// What it shows as an example is one.
	b, _ := s.File(cost.PriceFile)
	var example []string
	for _, l := range strings.Split(string(b), "\n") {
		if l, ok := strings.CutPrefix(l, "# "); ok && strings.Contains(l, ":") && !strings.HasPrefix(l, "A node") {
			example = append(example, l)
		}
	}
	e, err := policy.NewStore(fstest.MapFS{cost.PriceFile: {Data: []byte(strings.Join(example, "\n"))}})
	if err != nil {
		t.Fatal(err)
	}
	if p, err = cost.LoadPrices(e); err != nil || !p.Known() || p.Currency != "USD" || len(p.Nodes) != 2 {
		t.Errorf("the example: %+v, %v\n%s", p, err, strings.Join(example, "\n"))
	}
}

func TestOpenCostKnowsThePriceOfEachNode(t *testing.T) {
	body, err := os.ReadFile("testdata/opencost.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string][]byte{"a set": body, "a list of sets": []byte(strings.Replace(strings.Replace(string(body), `"data": {`, `"data": [{`, 1), "\n  }\n}", "\n  }]\n}", 1))} {
		t.Run(name, func(t *testing.T) {
			p, err := cost.OpenCostPrices(answer, "USD")
			if err != nil {
				t.Fatal(err)
			}
			n := p.Of(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}})
			if math.Abs(n.CPUCoreHour-0.02) > 1e-9 || math.Abs(n.MemoryGiBHour-0.003) > 1e-9 {
				t.Errorf("node-1 %+v, want 0.02 and 0.003: a discount of a half", n)
			}
			other := p.Of(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "new"}})
			if math.Abs(other.CPUCoreHour-0.03) > 1e-9 {
				t.Errorf("an unknown node %+v, want the mean of the others, 0.03", other)
			}
			if math.Abs(p.StorageGiBMonth-0.05) > 1e-9 || math.Abs(p.LoadBalancerHour-0.025) > 1e-9 || !p.Known() {
				t.Errorf("%+v", p)
			}
		})
	}
	for name, bad := range map[string]string{
		"no JSON": "<html>", "an error": `{"code":500,"message":"no such window"}`, "no nodes": `{"code":200,"data":{}}`, "something else": `{"code":200,"data":"x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := cost.OpenCostPrices([]byte(bad), ""); err == nil || !strings.HasPrefix(err.Error(), "opencost: ") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzParsePrices(f *testing.F) {
	f.Add([]byte("currency: EUR\ncpu_core_hour: 0.03\nmemory_gib_hour: 0.004\nnodes: [{match: {a: b}, discount: 0.5}]\n"))
	f.Add([]byte("nodes:\n  - cpu_core_hour: .inf\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := cost.ParsePrices("p", b)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		r := p.Of(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}})
		for _, v := range []float64{r.CPUCoreHour, r.MemoryGiBHour} {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				t.Errorf("a node costs %v", v)
			}
		}
	})
}

func FuzzOpenCostPrices(f *testing.F) {
	body, err := os.ReadFile("testdata/opencost.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"data":[{"a":{"type":"Node","properties":{"name":"n"},"cpuCoreHours":1e-300,"ramByteHours":1,"cpuCost":1e300}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := cost.OpenCostPrices(b, "")
		if err != nil {
			return
		}
		for _, v := range []float64{p.CPUCoreHour, p.MemoryGiBHour, p.StorageGiBMonth, p.LoadBalancerHour} {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				t.Errorf("a price of %v", v)
			}
		}
	})
}
