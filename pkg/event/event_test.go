package event

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestToken(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"a plain name stays":                       {"shop-eu_1", "shop-eu_1"},
		"an empty name is the cluster":             {"", "_cluster"},
		"a dot is replaced and told apart by hash": {"kube.system", "kube_system_c94d85bb"},
		"the cluster's own token is told apart":    {"_cluster", "_cluster_d1c3a4f1"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Token(tc.in)
			if name == "the cluster's own token is told apart" {
				if got == ClusterToken || !strings.HasPrefix(got, ClusterToken+"_") {
					t.Errorf("Token(%q) = %q, want another token than %q", tc.in, got, ClusterToken)
				}
				return
			}
			if got != tc.want {
				t.Errorf("Token(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
	if Token("a.b") == Token("a_b") || Token("a.b") == Token("a:b") {
		t.Error("two names share a token")
	}
}

func TestWorkloadOfPodStripsWhatControllersAppend(t *testing.T) {
	for pod, want := range map[string]string{
		"checkout-7d4b9c6f5-x2x8q": "checkout",
		"node-exporter-x2x8q":      "node-exporter",
		"backup-28903321-bcdfg":    "backup",
		"postgres-0":               "postgres",
		"my-app-v2":                "my-app-v2",
		"checkout":                 "checkout",
		"redis-master":             "redis-master",
		"":                         "",
	} {
		if got := WorkloadOfPod(pod); got != want {
			t.Errorf("WorkloadOfPod(%q) = %q, want %q", pod, got, want)
		}
	}
}

func TestRevisionOfPodIsWhatPodsOfOneReplicaSetShare(t *testing.T) {
	for pod, want := range map[string]string{"web-7d4b9c6f5-x2x8q": "7d4b9c6f5", "job-28903321-bcdfg": "", "db-0": "", "agent-x2x8q": "", "": ""} {
		if got := RevisionOfPod(pod); got != want {
			t.Errorf("RevisionOfPod(%q) = %q, want %q", pod, got, want)
		}
	}
}

func TestEntityOfLabelsPrefersWhatIsMostPrecise(t *testing.T) {
	for name, tc := range map[string]struct {
		labels map[string]string
		want   string
	}{
		"a workload with its kind":       {map[string]string{"namespace": "shop", "workload": "web", "workload_kind": "Deployment", "pod": "web-1"}, "shop/deployment/web"},
		"a pod without a workload":       {map[string]string{"namespace": "shop", "pod": "web-1", "node": "n1"}, "shop/pod/web-1"},
		"a node":                         {map[string]string{"node": "n1"}, "node/n1"},
		"an explicit entity comes first": {map[string]string{"namespace": "data", "workload": "pg", "oncall_entity": "data/pvc/pg-0"}, "data/persistentvolumeclaim/pg-0"},
		"nothing is the cluster":         {nil, "cluster/cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := LabelsOf(tc.labels).Entity().String(); got != tc.want {
				t.Errorf("Entity(%v) = %s, want %s", tc.labels, got, tc.want)
			}
		})
	}
}

func TestMetricBatchSurvivesTheWire(t *testing.T) {
	labels := LabelsOf(map[string]string{"__name__": "error_ratio", "namespace": "shop", "workload": "checkout", "note": "ünïcode \"quoted\"\n"})
	in := MetricBatch{
		Source: "main", Query: "abcd1234", Partition: Partition("shop", "checkout"), Namespace: "shop", Step: noon, Chunk: 2, Bootstrap: true,
		Series: []Series{{ID: labels.Hash(), Labels: labels, Points: []Point{{T: noon.UnixMilli(), V: 0.25}, {T: noon.UnixMilli() + 1, V: math.Inf(1)}}}},
	}
	out := MetricsRead.Out(in)
	payload, err := out.Payload()
	if err != nil {
		t.Fatal(err)
	}
	got, err := MetricsRead.Decode(Attributes{ID: out.ID, Extensions: out.Extensions}, payload)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Data, in) {
		t.Errorf("got %+v, want %+v", got.Data, in)
	}
	again, _ := out.Payload()
	if string(again) != string(payload) {
		t.Error("the same batch gave other bytes")
	}
}

func TestLogBatchSurvivesTheWire(t *testing.T) {
	labels := LabelsOf(map[string]string{"namespace": "shop", "pod": "checkout-1"})
	in := LogBatch{
		Source: "loki", Query: "q", Partition: 3, Namespace: "shop", Start: noon, End: noon.Add(5 * time.Second), SampledRate: 20,
		Streams: []LogStream{{ID: labels.Hash(), Labels: labels, Lines: []LogLine{{Time: noon.Add(time.Nanosecond), Text: "a \x1b[31mb"}}}},
	}
	out := LogsRead.Out(in)
	payload, err := out.Payload()
	if err != nil {
		t.Fatal(err)
	}
	got, err := LogsRead.Decode(Attributes{ID: out.ID, Extensions: out.Extensions}, payload)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Data, in) {
		t.Errorf("got %+v, want %+v", got.Data, in)
	}
}

func TestABatchThatIsTooLargeIsRefused(t *testing.T) {
	b := MetricBatch{Step: noon, Series: []Series{{Points: make([]Point, MaxBatchSamples+1)}}}
	if _, err := MetricsRead.Out(b).Payload(); err == nil {
		t.Error("a batch of more than MaxBatchSamples was encoded")
	}
}

func TestEveryKindRoutesItsZeroValue(t *testing.T) {
	seen := map[string]string{}
	for _, k := range Kinds() {
		if !MatchSubject(k.Stream.Subjects[0], strings.ReplaceAll(k.Filter(), "*", "x")) && !k.Stream.holds(k.Filter()) {
			t.Errorf("%s: %s is not in stream %s", k.Type, k.Address, k.Stream.Name)
		}
		if other, ok := seen[k.Filter()]; ok && !strings.Contains(k.Type, "anomaly") {
			t.Errorf("%s and %s share the address %s", k.Type, other, k.Address)
		}
		seen[k.Filter()] = k.Type
	}
}

func TestIDsAreFunctionsOfTheData(t *testing.T) {
	a := Anomaly{Detector: "spike", ConfigHash: "1a2b3c4d", Series: "00000000000000ff", WindowEnd: noon, Entity: Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}, Severity: Warning}
	if got, want := AnomalyDetected.Out(a).ID, "a:spike:1a2b3c4d:00000000000000ff:1795521600000"; got != want {
		t.Errorf("id = %s, want %s", got, want)
	}
	if got, want := AnomalyDetected.Subject(a), "anomalies.warning.shop.spike"; got != want {
		t.Errorf("subject = %s, want %s", got, want)
	}
	if got, want := WatermarkPassed.Subject(Watermark{Group: "metrics", Partition: 7, Time: noon}), "watermarks.metrics.07"; got != want {
		t.Errorf("subject = %s, want %s", got, want)
	}
	id := IncidentID(a.Entity, "spike", noon)
	if len(id) != 13 || id != IncidentID(a.Entity, "spike", noon) {
		t.Errorf("incident id %q is not 13 stable characters", id)
	}
}

func FuzzParseLabels(f *testing.F) {
	f.Add(`{a="b", c="d\"e"}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, s string) {
		ls, err := ParseLabels(s)
		if err != nil {
			return
		}
		again, err := ParseLabels(ls.String())
		if err != nil {
			t.Fatalf("%q parses, but %q does not: %v", s, ls.String(), err)
		}
		if !reflect.DeepEqual(again, ls) {
			t.Errorf("%q: %v, then %v", s, ls, again)
		}
	})
}

func FuzzDecode(f *testing.F) {
	out := MetricsRead.Out(MetricBatch{Source: "s", Query: "q", Step: noon})
	payload, _ := out.Payload()
	for _, k := range Kinds() {
		f.Add(k.Type, out.ID, payload)
		f.Add(k.Type, "l:s:q:00:1:0", []byte(`{"entity":{"kind":"Pod"}}`))
	}
	f.Fuzz(func(t *testing.T, typ, id string, payload []byte) {
		k, ok := Lookup(typ)
		if !ok {
			return
		}
		_, _ = k.Decode(Attributes{ID: id, Type: typ}, payload) // must not panic
	})
}

func TestAPartitionHasTwoDigits(t *testing.T) {
	for p := range Partitions {
		if got, want := PartitionToken(p), fmt.Sprintf("%02d", p); got != want {
			t.Errorf("PartitionToken(%d) = %q, want %q", p, got, want)
		}
	}
}
