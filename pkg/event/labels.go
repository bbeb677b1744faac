package event

import (
	"slices"
	"strconv"
	"strings"
)

// Labels that the collector writes on everything it publishes, beside the
// labels the source had. They are what the entity and the partition are
// computed from, by any reader, without asking anybody.
const (
	LabelName      = "__name__"         // the signal, for example request_errors_per_second
	LabelNamespace = "namespace"        // Kubernetes namespace of the entity
	LabelWorkload  = "workload"         // name of the workload (Deployment, StatefulSet …)
	LabelKind      = "workload_kind"    // kind of the workload as Kubernetes spells it
	LabelPod       = "pod"              // pod name
	LabelNode      = "node"             // node name
	LabelContainer = "container"        // container name
	LabelSource    = "oncall_source"    // configured name of the source
	LabelFamily    = "oncall_family"    // query family in policies/queries, for example istio
	LabelEntity    = "oncall_entity"    // namespace/kind/name, when it is neither workload, pod nor node
	LabelUnit      = "oncall_unit"      // UCUM-like unit: s, By, 1, {request}/s …
	LabelClass     = "oncall_class"     // SignalClass of departures of this signal; absent: the detector's own
	LabelSLO       = "oncall_slo"       // objective of policies/slo.yaml that the series was evaluated for
	LabelDetected  = "oncall_detectors" // comma-separated detectors asked for by the query; absent: the default set
)

// Label is one name and its value.
type Label struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Labels is a set of labels sorted by name; names are unique.
type Labels []Label

// LabelsOf makes Labels of a map.
func LabelsOf(m map[string]string) Labels {
	ls := make(Labels, 0, len(m))
	for k, v := range m {
		ls = append(ls, Label{k, v})
	}
	slices.SortFunc(ls, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return ls
}

// Get is the value of the label called name, or "".
func (ls Labels) Get(name string) string {
	for i := range ls {
		if ls[i].Name == name {
			return ls[i].Value
		}
	}
	return ""
}

// Map copies the labels into a map.
func (ls Labels) Map() map[string]string {
	m := make(map[string]string, len(ls))
	for _, l := range ls {
		m[l.Name] = l.Value
	}
	return m
}

// String writes the labels as a selector: {a="b", c="d"}. Values are quoted as
// Go, PromQL and LogQL do, so that it is safe inside a query.
func (ls Labels) String() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, l := range ls {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(l.Name)
		b.WriteByte('=')
		b.WriteString(strconv.Quote(l.Value))
	}
	b.WriteByte('}')
	return b.String()
}

// Hash identifies the series or stream: XXH64 over names and values.
func (ls Labels) Hash() uint64 {
	var room [512]byte
	h, _ := ls.hash(room[:])
	return h
}

const separator = 0xff

// Entity is the thing the labels speak of: an explicit [LabelEntity], else
// the workload, else the pod, else the node, else the namespace, else the
// cluster as a whole.
func (ls Labels) Entity() Entity {
	var ns, workload, kind, pod, node, explicit string
	for _, l := range ls {
		switch l.Name {
		case LabelNamespace:
			ns = l.Value
		case LabelWorkload:
			workload = l.Value
		case LabelKind:
			kind = l.Value
		case LabelPod:
			pod = l.Value
		case LabelNode:
			node = l.Value
		case LabelEntity:
			explicit = l.Value
		}
	}
	if explicit != "" {
		if e, ok := ParseEntity(explicit); ok {
			return e
		}
	}
	switch {
	case workload != "":
		if kind == "" {
			kind = "Workload"
		}
		return Entity{Namespace: ns, Kind: kind, Name: workload}
	case pod != "":
		return Entity{Namespace: ns, Kind: "Pod", Name: pod}
	case node != "":
		return Entity{Kind: "Node", Name: node}
	case ns != "":
		return Entity{Kind: "Namespace", Name: ns}
	}
	return Entity{Kind: "Cluster", Name: "cluster"}
}

// Workload is the name by which telemetry of one thing is kept together: the
// workload label, else the pod's name less the hash suffixes of its
// controllers, else the node, else "".
func (ls Labels) Workload() string {
	if w := ls.Get(LabelWorkload); w != "" {
		return w
	}
	if p := ls.Get(LabelPod); p != "" {
		return WorkloadOfPod(p)
	}
	if e, ok := ParseEntity(ls.Get(LabelEntity)); ok {
		return e.Name
	}
	return ls.Get(LabelNode)
}

// WorkloadOfPod strips from a pod's name what ReplicaSets, DaemonSets, Jobs
// and StatefulSets append to their own: web-7d4b9c6f5-x2x8q, web-x2x8q,
// job-28903321-abcde and db-0 become web, web, job and db. A name without such
// a suffix is returned whole.
func WorkloadOfPod(pod string) string {
	parts := strings.Split(pod, "-")
	n := len(parts)
	switch {
	case n >= 3 && isSafeSuffix(parts[n-1], 5, 5) && (isSafeSuffix(parts[n-2], 6, 10) || isCronStamp(parts[n-2])):
		n -= 2
	case n >= 2 && isSafeSuffix(parts[n-1], 5, 5):
		n--
	case n >= 2 && isOrdinal(parts[n-1]):
		n--
	}
	return strings.Join(parts[:n], "-")
}

// RevisionOfPod is what of a pod's name is the same for all pods of one ReplicaSet
// and no other of its Deployment: 7d4b9c6f5 of web-7d4b9c6f5-x2x8q. It is empty for
// pods of other controllers, whose names do not tell.
func RevisionOfPod(pod string) string {
	parts := strings.Split(pod, "-")
	if n := len(parts); n >= 3 && isSafeSuffix(parts[n-1], 5, 5) && isSafeSuffix(parts[n-2], 6, 10) {
		return parts[n-2]
	}
	return ""
}

// isSafeSuffix says whether s may come from apimachinery's rand.SafeEncodeString,
// whose alphabet leaves out vowels and the digits 0, 1 and 3, and whose output
// a name that people chose hardly ever looks like.
func isSafeSuffix(s string, least, most int) bool {
	if len(s) < least || len(s) > most {
		return false
	}
	for i := range len(s) {
		if strings.IndexByte("bcdfghjklmnpqrstvwxz2456789", s[i]) < 0 {
			return false
		}
	}
	return true
}

// isCronStamp recognises the minutes since the epoch that a CronJob gives its Jobs.
func isCronStamp(s string) bool { return len(s) == 8 && isOrdinal(s) }

func isOrdinal(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
