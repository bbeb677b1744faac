// Package entities reads from the labels of a source what they speak of, by
// policies/entities.yaml: every source has its own names for a namespace, a pod
// and a workload.
package entities

import (
	"cmp"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Map is policies/entities.yaml: which labels of the sources name what.
type Map struct {
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
	// ObjectKinds are labels whose value is another object of the kind they stand
	// for: job_name: Job. Alerts are about these.
	ObjectKinds map[string]string `yaml:"object_kinds"`
	// Exporters are parts of the names of what measures others. An alert that
	// carries the pod or job of one is not about it when it names something else.
	Exporters []string `yaml:"exporters"`
	// Suffixes are cut from workload names: what a mesh or an ingress appends.
	Suffixes []string `yaml:"suffixes"`
	// Drop are labels that are no part of a series: one collector watches one
	// cluster, and some labels change with every rescrape.
	Drop []string `yaml:"drop"`

	names func() map[string]bool
}

// Validate checks the fields.
func (m *Map) Validate() error {
	if len(m.Namespace) == 0 || len(m.Pod) == 0 || len(m.Workload) == 0 {
		return &policy.FieldError{Problem: "names no label for namespace, pod or workload", Fix: "copy the built-in policies/entities.yaml and add to it"}
	}
	return nil
}

// Load reads policies/entities.yaml.
func Load(store *policy.Store) (*Map, error) {
	m := &Map{}
	b, _ := store.File("entities.yaml")
	if err := policy.Decode("policies/entities.yaml", b, m); err != nil {
		return nil, err
	}
	m.names = sync.OnceValue(m.collect)
	return m, nil
}

func (m *Map) collect() map[string]bool {
	names := map[string]bool{event.LabelName: true, event.LabelKind: true}
	for _, list := range [][]string{m.Namespace, m.Pod, m.Node, m.Container, m.PVC, m.Workload, m.Drop} {
		for _, n := range list {
			names[n] = true
		}
	}
	for n := range m.WorkloadKinds {
		names[n] = true
	}
	return names
}

// Names says whether a label only says what a series is about, or is dropped:
// it tells no two series of one entity apart.
func (m *Map) Names(label string) bool { return m.names()[label] }

// Speaks says whether a label says what a series is about.
func (m *Map) Speaks(label string) bool {
	return label != event.LabelName && m.Names(label) && !slices.Contains(m.Drop, label)
}

// Subject is what a set of labels speaks of; what they do not say is "".
type Subject struct {
	Namespace, Pod, Node, Container, PVC string
	Workload, Kind                       string // the kind is "" when the labels do not say it
}

// Subject reads labels; get returns the value of one, or "".
func (m *Map) Subject(get func(label string) string) Subject {
	s := Subject{
		Namespace: first(m.Namespace, get), Pod: first(m.Pod, get), Node: host(first(m.Node, get)),
		Container: first(m.Container, get), PVC: first(m.PVC, get),
	}
	if s.Workload, s.Kind = kindOf(m.WorkloadKinds, get); s.Workload != "" {
		return s
	}
	s.Workload, s.Kind = first(m.Workload, get), get(event.LabelKind)
	for _, suffix := range m.Suffixes {
		s.Workload = strings.TrimSuffix(s.Workload, suffix)
	}
	return s
}

func first(labels []string, get func(string) string) string {
	for _, l := range labels {
		if v := get(l); v != "" {
			return v
		}
	}
	return ""
}

func kindOf(kinds map[string]string, get func(string) string) (name, kind string) {
	labels := make([]string, 0, len(kinds))
	for l := range kinds {
		labels = append(labels, l)
	}
	slices.Sort(labels)
	for _, l := range labels {
		if v := get(l); v != "" {
			return v, kinds[l]
		}
	}
	return "", ""
}

// host is an instance without its port.
func host(instance string) string {
	if h, _, err := net.SplitHostPort(instance); err == nil {
		return h
	}
	return instance
}

// Object is what an alert with these labels is about; zero when they name
// nothing of Kubernetes. The labels of whatever measured are taken for the
// subject only when nothing else is named.
func (m *Map) Object(labels map[string]string) event.Entity {
	get := func(l string) string { return labels[l] }
	ns := first(m.Namespace, get)
	in := func(kind, name string) event.Entity { return event.Entity{Namespace: ns, Kind: kind, Name: name} }
	if name, kind := kindOf(m.WorkloadKinds, get); name != "" && ns != "" {
		return in(kind, name)
	}
	if name, kind := kindOf(m.ObjectKinds, get); name != "" && ns != "" {
		return in(kind, name)
	}
	if pvc := first(m.PVC, get); pvc != "" && ns != "" {
		return in("PersistentVolumeClaim", pvc)
	}
	pod := first(m.Pod, get)
	if pod != "" && ns != "" && !m.exporter(pod) {
		return in("Pod", pod)
	}
	// An instance is the node only for what measures nodes.
	for _, l := range m.Node {
		if v := labels[l]; v != "" && (l != "instance" || strings.Contains(labels["job"], "node")) {
			return event.Entity{Kind: "Node", Name: host(v)}
		}
	}
	for _, l := range m.Workload {
		if v := labels[l]; v != "" && ns != "" && !m.exporter(v) {
			return in(cmp.Or(labels[event.LabelKind], "Workload"), v)
		}
	}
	switch {
	case pod != "" && ns != "":
		return in("Pod", pod)
	case ns != "":
		return event.Entity{Kind: "Namespace", Name: ns}
	}
	return event.Entity{}
}

func (m *Map) exporter(name string) bool {
	return slices.ContainsFunc(m.Exporters, func(e string) bool { return strings.Contains(name, e) })
}
