package prometheus

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Entities is policies/entities.yaml: which labels of the sources name what.
type Entities struct {
	// Namespace, Pod, Node, Container, PVC and Workload are the labels that hold
	// each, best first.
	Namespace []string `yaml:"namespace"`
	Pod       []string `yaml:"pod"`
	Node      []string `yaml:"node"`
	Container []string `yaml:"container"`
	PVC       []string `yaml:"pvc"`
	Workload  []string `yaml:"workload"`
	// WorkloadKinds are labels whose value is a workload of the kind they stand
	// for: deployment: Deployment.
	WorkloadKinds map[string]string `yaml:"workload_kinds"`
	// Suffixes are cut from workload names: what a mesh or an ingress appends.
	Suffixes []string `yaml:"suffixes"`
	// Cluster labels are dropped: one collector watches one cluster.
	Drop []string `yaml:"drop"`
}

// Validate checks the fields.
func (e *Entities) Validate() error {
	if len(e.Namespace) == 0 || len(e.Pod) == 0 || len(e.Workload) == 0 {
		return &policy.FieldError{Problem: "names no label for namespace, pod or workload", Fix: "copy the built-in policies/entities.yaml and add to it"}
	}
	return nil
}

// LoadEntities reads policies/entities.yaml.
func LoadEntities(store *policy.Store) (Entities, error) {
	var e Entities
	b, _ := store.File("entities.yaml")
	return e, policy.Decode("policies/entities.yaml", b, &e)
}

// owners knows the workload of each pod, as kube-state-metrics tells it.
type owners map[string]owner // by namespace/pod

type owner struct{ kind, name string }

// makeOwners joins the owners of pods with the owners of ReplicaSets and Jobs.
func makeOwners(pods, replicaSets, jobs model.Vector) owners {
	above := map[string]owner{}
	for _, s := range replicaSets {
		above[key(s.Metric, "ReplicaSet", "replicaset")] = owner{string(s.Metric["owner_kind"]), string(s.Metric["owner_name"])}
	}
	for _, s := range jobs {
		above[key(s.Metric, "Job", "job_name")] = owner{string(s.Metric["owner_kind"]), string(s.Metric["owner_name"])}
	}
	out := owners{}
	for _, s := range pods {
		o := owner{string(s.Metric["owner_kind"]), string(s.Metric["owner_name"])}
		if up, ok := above[string(s.Metric["namespace"])+"/"+o.kind+"/"+o.name]; ok && up.kind != "" && up.kind != "<none>" {
			o = up
		}
		if o.kind != "" && o.kind != "<none>" && o.kind != "Node" {
			out[string(s.Metric["namespace"])+"/"+string(s.Metric["pod"])] = o
		}
	}
	return out
}

func key(m model.Metric, kind string, label model.LabelName) string {
	return string(m["namespace"]) + "/" + kind + "/" + string(m[label])
}

// labels are the labels a series is published with: those that say what it is
// about, and those of the source that tell series of one entity apart.
func (e *Entities) labels(m model.Metric, q boundQuery, own owners) (event.Labels, bool) {
	used := map[model.LabelName]bool{model.MetricNameLabel: true}
	pick := func(names []string) string {
		value := ""
		for _, n := range names {
			if v := string(m[model.LabelName(n)]); v != "" {
				used[model.LabelName(n)] = true
				value = cmp.Or(value, v)
			}
		}
		return value
	}
	ns, pod, node := pick(e.Namespace), pick(e.Pod), pick(e.Node)
	workload, kind := "", ""
	for _, label := range sortedKeys(e.WorkloadKinds) {
		if v := string(m[model.LabelName(label)]); v != "" && workload == "" {
			workload, kind = v, e.WorkloadKinds[label]
			used[model.LabelName(label)] = true
		}
	}
	if workload == "" {
		workload = pick(e.Workload)
		kind = string(m["workload_kind"])
		for _, s := range e.Suffixes {
			workload = strings.TrimSuffix(workload, s)
		}
	}
	out := map[string]string{
		event.LabelName: q.Signal, event.LabelFamily: q.family, event.LabelUnit: q.Unit, event.LabelClass: string(q.Class),
	}
	switch q.Entity {
	case "workload":
		if workload == "" && pod != "" {
			workload = event.WorkloadOfPod(pod)
		}
		if o, ok := own[ns+"/"+pod]; ok && pod != "" {
			workload, kind = o.name, o.kind
		}
		if workload == "" {
			return nil, false
		}
		out[event.LabelNamespace], out[event.LabelWorkload], out[event.LabelKind] = ns, workload, kind
		pod, node = "", ""
	case "pod":
		if pod == "" {
			return nil, false
		}
		out[event.LabelNamespace], out[event.LabelPod] = ns, pod
		if o, ok := own[ns+"/"+pod]; ok {
			out[event.LabelWorkload], out[event.LabelKind] = o.name, o.kind
		}
	case "node":
		if node == "" {
			return nil, false
		}
		out[event.LabelNode] = strings.TrimSuffix(node, ":9100")
	case "pvc":
		pvc := pick(e.PVC)
		if pvc == "" {
			return nil, false
		}
		out[event.LabelNamespace] = ns
		out[event.LabelEntity] = ns + "/PersistentVolumeClaim/" + pvc
	case "namespace":
		if ns == "" {
			return nil, false
		}
		out[event.LabelNamespace] = ns
	}
	if c := pick(e.Container); c != "" && q.Entity == "pod" {
		out[event.LabelContainer] = c
	}
	for _, d := range e.Drop {
		used[model.LabelName(d)] = true
	}
	for _, list := range [][]string{e.Namespace, e.Pod, e.Node, e.Container, e.PVC, e.Workload} {
		for _, n := range list {
			used[model.LabelName(n)] = true
		}
	}
	used["workload_kind"] = true
	for name, v := range m {
		if !used[name] && v != "" {
			out[string(name)] = string(v)
		}
	}
	for k, v := range out {
		if v == "" {
			delete(out, k)
		}
	}
	return event.LabelsOf(out), true
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
