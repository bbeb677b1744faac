package event

import (
	"cmp"
	"strings"
)

// Severity is the severity of an anomaly or a finding. Its numbers are those
// of OpenTelemetry's log data model, which the CloudEvents severity extension
// uses too, so that a bigger number is always the worse one.
type Severity string

// The severities, from harmless to worst.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Number is the CloudEvents severitynumber: 9, 13 or 17, and 0 for a value
// that is none of the three.
func (s Severity) Number() int {
	switch s {
	case Info:
		return 9
	case Warning:
		return 13
	case Critical:
		return 17
	}
	return 0
}

// Text is the CloudEvents severitytext: INFO, WARN or ERROR.
func (s Severity) Text() string {
	switch s {
	case Info:
		return "INFO"
	case Warning:
		return "WARN"
	case Critical:
		return "ERROR"
	}
	return ""
}

// Priority is the urgency of an incident. P1 wakes somebody, P2 pages in
// working hours, P3 is a ticket, P4 a line in the daily digest.
type Priority string

// The priorities, most urgent first.
const (
	P1 Priority = "P1"
	P2 Priority = "P2"
	P3 Priority = "P3"
	P4 Priority = "P4"
)

// Pages says whether an incident of this priority interrupts a person.
func (p Priority) Pages() bool { return p == P1 || p == P2 }

// Worse says whether p is more urgent than q.
func (p Priority) Worse(q Priority) bool { return p < q }

// Entity names a thing in a cluster. Kind is written as Kubernetes writes it
// (Deployment, Pod, Node); Namespace is empty for what has none. Cluster is
// empty inside one cluster's own pipeline and set where several meet.
type Entity struct {
	Cluster   string `json:"cluster,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Kind      string `json:"kind"`
	Name      string `json:"name"`
}

// IsZero says whether the entity names nothing.
func (e Entity) IsZero() bool { return e == Entity{} }

// String is the form shown to people and used as CloudEvents subject:
// namespace/kind/name, or kind/name for what has no namespace; the kind is in
// lower case.
func (e Entity) String() string {
	s := strings.ToLower(e.Kind) + "/" + e.Name
	if e.Namespace != "" {
		s = e.Namespace + "/" + s
	}
	return s
}

// ParseEntity reads what String writes. The kind keeps the case it is given
// in, except that the common workload kinds are restored to Kubernetes' own
// spelling. It returns false for anything that is not two or three parts.
func ParseEntity(s string) (Entity, bool) {
	p := strings.Split(s, "/")
	switch {
	case len(p) == 2 && p[0] != "" && p[1] != "":
		return Entity{Kind: kindSpelling(p[0]), Name: p[1]}, true
	case len(p) == 3 && p[0] != "" && p[1] != "" && p[2] != "":
		return Entity{Namespace: p[0], Kind: kindSpelling(p[1]), Name: p[2]}, true
	}
	return Entity{}, false
}

// kindSpellings maps lower-case kinds and kubectl's short names to the
// spelling of Kubernetes' API.
var kindSpellings = map[string]string{
	"pod": "Pod", "po": "Pod", "deployment": "Deployment", "deploy": "Deployment",
	"statefulset": "StatefulSet", "sts": "StatefulSet", "daemonset": "DaemonSet", "ds": "DaemonSet",
	"replicaset": "ReplicaSet", "rs": "ReplicaSet", "job": "Job", "cronjob": "CronJob", "cj": "CronJob",
	"node": "Node", "no": "Node", "namespace": "Namespace", "ns": "Namespace", "service": "Service", "svc": "Service",
	"persistentvolumeclaim": "PersistentVolumeClaim", "pvc": "PersistentVolumeClaim",
	"persistentvolume": "PersistentVolume", "pv": "PersistentVolume",
	"horizontalpodautoscaler": "HorizontalPodAutoscaler", "hpa": "HorizontalPodAutoscaler",
	"ingress": "Ingress", "ing": "Ingress", "configmap": "ConfigMap", "cm": "ConfigMap",
	"cluster": "Cluster", "workload": "Workload", "rollout": "Rollout", "resourcequota": "ResourceQuota",
}

func kindSpelling(k string) string {
	if s, ok := kindSpellings[strings.ToLower(k)]; ok {
		return s
	}
	return k
}

// Compare orders entities by namespace, kind, name and cluster.
func (e Entity) Compare(o Entity) int {
	return cmp.Or(
		strings.Compare(e.Namespace, o.Namespace),
		strings.Compare(e.Kind, o.Kind),
		strings.Compare(e.Name, o.Name),
		strings.Compare(e.Cluster, o.Cluster),
	)
}
