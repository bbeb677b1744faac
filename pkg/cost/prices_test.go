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
		"no JSON": "{", "an error": `{"code":500,"message":"no such window"}`, "no nodes": `{"code":200,"data":{}}`, "something else": `{"code":200,"data":"x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := cost.OpenCostPrices([]byte(bad), ""); err == nil || !strings.HasPrefix(err.Error(), "opencost: ") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestHostileAnswersOfOpenCostMakeNoPrices reads answers of its documented shapes
// with what no price is.
func TestHostileAnswersOfOpenCostMakeNoPrices(t *testing.T) {
	node := func(name, cpu string) string {
		return `"` + name + `": {"type": "Node", "properties": {"name": "` + name + `", "node": "` + name + `"}, "cpuCoreHours": 96, "ramByteHours": 412316860416, "cpuCost": ` + cpu + `, "ramCost": 1.152, "discount": null}`
	}
	set := func(nodes ...string) string { return `{"code":200,"data":[{` + strings.Join(nodes, ",") + `}]}` }
	for name, tc := range map[string]struct {
		body string
		want float64 // of a core on n1, an hour
		err  string
	}{
		"a price of each":               {body: set(node("n1", "2.88"), node("n2", "2.88")), want: 0.03},
		"null is no cost":               {body: set(node("n1", "null"), node("n2", "2.88")), want: 0},
		"a huge one is no price":        {body: set(node("n1", "1e300"), node("n2", "2.88")), want: 0.03},
		"less than nothing is none":     {body: set(node("n1", "-5"), node("n2", "2.88")), want: 0.03},
		"what is idle is no node":       {body: set(node("__idle__", "900"), node("n2", "2.88")), want: 0.03},
		"no node has a price":           {body: set(node("n1", "1e300")), err: "knows no nodes with a price"},
		"NaN is no JSON":                {body: set(node("n1", "NaN")), err: "answer: invalid character 'N'"},
		"a number beyond all":           {body: set(node("n1", "1e999")), err: "answer: data is neither"},
		"a page of a proxy":             {body: "\n<!DOCTYPE html><html>login</html>", err: "answered with a page, and not with JSON; is it the address of its API"},
		"nothing":                       {body: "", err: "answer: unexpected end of JSON input"},
		"no data":                       {body: `{"code":200,"data":null}`, err: "knows no nodes"},
		"a list of nothing":             {body: `{"code":200,"data":[null]}`, err: "knows no nodes"},
		"a failure with status 200":     {body: `{"code":400,"message":"window is missing"}`, err: "answered 400: window is missing"},
		"text where a number should be": {body: set(node("n1", `"free"`)), err: "answer: data is neither"},
	} {
		t.Run(name, func(t *testing.T) {
			for what, read := range map[string]func([]byte, string) (cost.Prices, error){"assets": cost.OpenCostPrices, "allocations": cost.OpenCostAllocations} {
				if what == "assets" && strings.Contains(name, "idle") {
					continue // assets know no such thing
				}
				p, err := read([]byte(tc.body), "USD")
				if tc.err != "" {
					if err == nil || !strings.HasPrefix(err.Error(), "opencost: "+tc.err) {
						t.Errorf("%s: got %v, want %s", what, err, tc.err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if got := p.Of(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}).CPUCoreHour; math.Abs(got-tc.want) > 1e-9 {
					t.Errorf("%s: a core of n1 costs %v, want %v", what, got, tc.want)
				}
			}
		})
	}
}

func FuzzOpenCost(f *testing.F) {
	f.Add([]byte(`{"code":200,"data":[{"n1":{"type":"Node","properties":{"name":"n1"},"cpuCoreHours":1,"ramByteHours":1073741824,"cpuCost":1,"ramCost":1}}]}`))
	f.Add([]byte(`{"data":{"d":{"type":"Disk","byteHours":1e-320,"totalCost":1e308}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, read := range []func([]byte, string) (cost.Prices, error){cost.OpenCostPrices, cost.OpenCostAllocations} {
			p, err := read(b, "USD")
			if err != nil {
				continue
			}
			for _, v := range []float64{p.CPUCoreHour, p.MemoryGiBHour, p.StorageGiBMonth, p.LoadBalancerHour} {
				if !(v >= 0 && v <= 1e6) {
					t.Errorf("a price is %v", v)
				}
			}
		}
	})
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
