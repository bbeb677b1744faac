package kubernetes

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// Topology is sent again after this long, although nothing changed, so that it
// outlives the stream's retention.
const topologyRefresh = 24 * time.Hour

// maxPlacements bounds the pods of one topology.
const maxPlacements = 1000

// topologies are the new versions of what changed since the last call.
func (w *world) topologies(now time.Time) []event.Topology {
	for entity, s := range w.topology {
		if now.Sub(s.At) > topologyRefresh {
			if e, ok := event.ParseEntity(entity); ok {
				w.dirty[kube.Ref{Namespace: e.Namespace, Kind: e.Kind, Name: e.Name}] = true
			}
		}
	}
	var out []event.Topology
	for _, ref := range slices.SortedFunc(maps.Keys(w.dirty), func(a, b kube.Ref) int { return a.Entity().Compare(b.Entity()) }) {
		if ref == (kube.Ref{}) {
			continue
		}
		t := w.topologyOf(ref)
		last, known := w.topology[t.Entity.String()]
		if t.Deleted && !known || known && last.Version == t.Version && now.Sub(last.At) <= topologyRefresh {
			continue
		}
		t.Time = now.UTC()
		if t.Deleted {
			delete(w.topology, t.Entity.String())
		} else {
			w.topology[t.Entity.String()] = sent{t.Version, t.Time}
		}
		out = append(out, t)
	}
	clear(w.dirty)
	return out
}

func (w *world) topologyOf(ref kube.Ref) event.Topology {
	t := event.Topology{Entity: ref.Entity(), Calls: w.calls[ref.Entity()]}
	if ref.Kind == "Node" {
		n := w.nodes[ref.Name]
		if n == nil {
			t.Deleted = true
		} else {
			t.Hosts, t.Labels, t.Desired = n.hosts, w.redacted(n.labels), 1
			if n.conditions["Ready"].status == "True" {
				t.Ready = 1
			}
		}
		t.Version = version(t)
		return t
	}
	if ref.Kind == "Namespace" {
		t.Labels = w.redacted(w.namespaces[ref.Name])
		t.Deleted = len(t.Labels) == 0
		t.Version = version(t)
		return t
	}
	wl, pods := w.workloads[ref], w.byRoot[ref]
	if wl == nil && len(pods) == 0 {
		t.Deleted = true
		t.Version = version(t)
		return t
	}
	services := map[string]bool{}
	var labels map[string]string
	for _, key := range slices.Sorted(maps.Keys(pods)) {
		p := pods[key]
		if p.over {
			continue
		}
		if len(t.Pods) < maxPlacements {
			t.Pods = append(t.Pods, event.Placement{Pod: p.name, Node: p.node, Via: via(p, ref)})
		}
		if p.ready {
			t.Ready++
		}
		labels = p.labels
		for name, selector := range w.services[p.namespace] {
			if selects(selector, p.labels) {
				services[name] = true
			}
		}
	}
	t.Services = slices.Sorted(maps.Keys(services))
	if wl != nil {
		t.Desired, t.Labels = wl.desired, w.redacted(wl.labels)
		if wl.scalable || ref.Kind == "DaemonSet" {
			t.Ready = wl.ready
		}
	} else {
		t.Desired = len(t.Pods)
		own := map[string]string{}
		for _, k := range w.cfg.OwnershipLabels {
			if v, ok := labels[k]; ok {
				own[k] = v
			}
		}
		t.Labels = w.redacted(own)
	}
	for _, name := range w.reads(ref) {
		if c, ok := w.configs[ref.Namespace+"/"+name]; ok {
			t.ConfigIDs = append(t.ConfigIDs, name+":"+c.hash)
		}
	}
	t.Version = version(t)
	return t
}

func via(p *pod, root kube.Ref) string {
	if p.via == root {
		return ""
	}
	return p.via.Name
}

func selects(selector, labels map[string]string) bool {
	if len(selector) == 0 {
		return false
	}
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func (w *world) redacted(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	out := make(map[string]string, len(labels))
	for k, v := range labels {
		// What its name says of a value, too: token=…
		if masked, ok := strings.CutPrefix(w.redact(k+"="+v), k+"="); ok {
			v = masked
		}
		out[k] = w.redact(v)
	}
	return out
}

// version is a hash of everything in a topology but its time and itself.
func version(t event.Topology) string {
	t.Version, t.Time = "", time.Time{}
	b, err := json.Marshal(t)
	if err != nil {
		panic("kubernetes: topology cannot be written: " + err.Error()) // it has nothing JSON has no word for
	}
	return fmt.Sprintf("%016x", event.HashStrings(string(b)))
}

// workloadOf is the workload behind what an event is about; zero when it is
// none's.
func (w *world) workloadOf(ref event.KubeRef) event.Entity {
	at := kube.Ref{Namespace: ref.Namespace, Kind: ref.Kind, Name: ref.Name}
	switch ref.Kind {
	case "Pod":
		key := ref.Namespace + "/" + ref.Name
		if p := w.pods[key]; p != nil && p.root != (kube.Ref{}) {
			return named(p.root)
		}
		if t, ok := w.gone[key]; ok {
			return named(t.root)
		}
		guess := event.WorkloadOfPod(ref.Name)
		for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "Rollout"} {
			at := kube.Ref{Namespace: ref.Namespace, Kind: kind, Name: guess}
			if _, ok := w.workloads[at]; ok {
				return at.Entity()
			}
		}
		return event.Entity{}
	case "HorizontalPodAutoscaler":
		if a := w.autoscalers[ref.Namespace+"/"+ref.Name]; a != nil {
			return a.target.Entity()
		}
		return event.Entity{}
	case "ReplicaSet", "Job":
		if root := w.root(at, nil); root != at {
			return root.Entity()
		}
		if ref.Kind == "ReplicaSet" {
			if i := strings.LastIndexByte(ref.Name, '-'); i > 0 {
				up := kube.Ref{Namespace: ref.Namespace, Kind: "Deployment", Name: ref.Name[:i]}
				if _, ok := w.workloads[up]; ok {
					return up.Entity()
				}
			}
		}
		return at.Entity()
	case "Deployment", "StatefulSet", "DaemonSet", "CronJob", "Rollout":
		return at.Entity()
	}
	return event.Entity{}
}

// named is a root as an entity, unless it is a pod that nobody owns.
func named(r kube.Ref) event.Entity {
	if r.Kind == "Pod" {
		return event.Entity{}
	}
	return r.Entity()
}
