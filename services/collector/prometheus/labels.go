package prometheus

import (
	"strings"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/entities"
)

// owners knows the workload of each pod, as kube-state-metrics tells it.
//
// A pod that has come since is not in it, and after a rollout that is every pod
// that matters: it belongs to the workload whose name it carries, which has an
// entry of its own.
type owners map[string]owner // by namespace/pod, and by namespace//workload

// add takes in the owner of a pod.
func (o owners) add(namespace, pod string, of owner) {
	o[namespace+"/"+pod] = of
	if other, ok := o[namespace+"//"+of.name]; ok && other.kind != of.kind {
		of.kind = "" // two of one name: the name does not tell
	}
	o[namespace+"//"+of.name] = of
}

type owner struct{ kind, name string }

// ownership is who is asked whose a pod is: Kubernetes itself, where it is
// watched, and then kube-state-metrics. Both name one object, and so a series
// is called the same before and after an exporter comes up.
type ownership struct {
	cluster *collector.Workloads
	metrics owners
}

func (o ownership) ofPod(namespace, pod string) (owner, bool) {
	if e, ok := o.cluster.OfPod(namespace, pod); ok {
		return owner{e.Kind, e.Name}, true
	}
	of, ok := o.metrics[namespace+"/"+pod]
	return of, ok
}

// kind is the kind of a workload by its name; "" when it is not known.
func (o ownership) kind(namespace, name string) string {
	if e, ok := o.cluster.Named(namespace, name); ok {
		return e.Kind
	}
	return o.metrics[namespace+"//"+name].kind
}

// behind is the workload that Traefik calls NAMESPACE-SERVICE-PORT@kubernetes, where
// Service and workload share a name. Both namespaces and names hold dashes, so that
// only who knows the workloads can read it; kind is "" when nobody does.
func (o ownership) behind(service string) (namespace, name, kind string) {
	joined, provider, ok := strings.Cut(service, "@")
	if !ok || !strings.HasPrefix(provider, "kubernetes") {
		return "", "", ""
	}
	for i := range joined {
		if joined[i] != '-' {
			continue
		}
		for namespace, name = joined[:i], joined[i+1:]; name != ""; name = name[:max(0, strings.LastIndexByte(name, '-'))] {
			if kind = o.kind(namespace, name); kind != "" {
				return namespace, name, kind
			}
		}
	}
	return "", "", ""
}

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
			out.add(string(s.Metric["namespace"]), string(s.Metric["pod"]), o)
		}
	}
	return out
}

func key(m model.Metric, kind string, label model.LabelName) string {
	return string(m["namespace"]) + "/" + kind + "/" + string(m[label])
}

// labelsOfPromise are those of a series that an objective is measured by: what it is
// about, as far as the answer says or the objective matches one thing alone. Other
// labels tell nothing apart here; what they do is added up.
func (q boundQuery) labelsOfPromise(s entities.Subject, o owner, own ownership) event.Labels {
	if s.Workload == "" && s.Pod != "" {
		s.Workload = event.WorkloadOfPod(s.Pod)
	}
	if o.name != "" {
		s.Workload, s.Kind = o.name, o.kind
	}
	if s.Workload == "" && (s.Namespace == "" || s.Namespace == q.promise.namespace) {
		s.Namespace, s.Workload = q.promise.namespace, q.promise.workload
	}
	if s.Kind == "" && s.Workload != "" {
		s.Kind = own.kind(s.Namespace, s.Workload)
	}
	out := map[string]string{
		event.LabelName: q.Signal, event.LabelFamily: q.family, event.LabelUnit: q.Unit, event.LabelClass: string(q.Class), event.LabelSLO: q.promise.objective,
	}
	for name, v := range map[string]string{event.LabelNamespace: s.Namespace, event.LabelWorkload: s.Workload, event.LabelKind: s.Kind} {
		if v != "" {
			out[name] = v
		}
	}
	return event.LabelsOf(out)
}

// labels are the labels a series is published with: those that say what it is
// about, and those of the source that tell series of one entity apart. It
// returns false for a series that does not name an entity of the query's kind.
func labels(e *entities.Map, m model.Metric, q boundQuery, own ownership) (event.Labels, bool) {
	s := e.Subject(func(l string) string { return string(m[model.LabelName(l)]) })
	out := map[string]string{
		event.LabelName: q.Signal, event.LabelFamily: q.family, event.LabelUnit: q.Unit, event.LabelClass: string(q.Class),
	}
	var o owner
	owned := false
	if s.Pod != "" {
		o, owned = own.ofPod(s.Namespace, s.Pod)
	}
	missing, of := false, q.Entity
	if of == whatever {
		of = named(s)
	}
	switch of {
	case "workload":
		if s.Workload == "" && s.Pod != "" {
			s.Workload = event.WorkloadOfPod(s.Pod)
		}
		if owned {
			s.Workload, s.Kind = o.name, o.kind
		}
		if ns, name, kind := own.behind(s.Workload); kind != "" {
			s.Namespace, s.Workload, s.Kind = ns, name, kind
		}
		if s.Kind == "" {
			s.Kind = own.kind(s.Namespace, s.Workload)
		}
		missing = s.Workload == ""
		out[event.LabelNamespace], out[event.LabelWorkload], out[event.LabelKind] = s.Namespace, s.Workload, s.Kind
	case "pod":
		missing = s.Pod == ""
		out[event.LabelNamespace], out[event.LabelPod], out[event.LabelContainer] = s.Namespace, s.Pod, s.Container
		if owned {
			out[event.LabelWorkload], out[event.LabelKind] = o.name, o.kind
		}
	case "node":
		missing = s.Node == ""
		out[event.LabelNode] = s.Node
	case "pvc":
		missing = s.PVC == ""
		out[event.LabelNamespace], out[event.LabelEntity] = s.Namespace, s.Namespace+"/PersistentVolumeClaim/"+s.PVC
	case anything:
		return q.labelsOfPromise(s, o, own), true
	case "namespace":
		missing = s.Namespace == ""
		out[event.LabelNamespace] = s.Namespace
	}
	if missing {
		return nil, false
	}
	for name, v := range m {
		if !e.Names(string(name)) {
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
