package notifier

import (
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
)

// maxLabel is the length of the longest name in Kubernetes.
const maxLabel = 253

// Severities by priority, as kube-prometheus writes them.
var severities = map[event.Priority]string{event.P1: "critical", event.P2: "critical", event.P3: "warning", event.P4: "info"}

// nameLabels are the labels by which kube-state-metrics, and so people's
// silences, know the objects of a kind.
var nameLabels = map[string]string{
	"Pod": "pod", "Node": "node", "Deployment": "deployment", "StatefulSet": "statefulset", "DaemonSet": "daemonset",
	"ReplicaSet": "replicaset", "Job": "job_name", "CronJob": "cronjob", "Service": "service", "Ingress": "ingress",
	"PersistentVolumeClaim": "persistentvolumeclaim", "HorizontalPodAutoscaler": "horizontalpodautoscaler",
}

// tags opens none where a label is shown: no name has these characters.
var tags = strings.NewReplacer("<", "‹", ">", "›")

// Labels are the labels by which silences and Alertmanager's routes know an
// incident.
func Labels(r event.Report) map[string]string {
	m := map[string]string{
		"alertname": "OncallIncident", "oncall_incident": r.Incident, "severity": severities[r.Priority],
		"kind": r.Entity.Kind, "name": r.Entity.Name, "cluster": r.Cluster, "namespace": r.Entity.Namespace, "team": r.Owner.Team,
	}
	if r.Entity.Kind == channelKind {
		m["alertname"] = "OncallChannelRefused"
	}
	if l, ok := nameLabels[r.Entity.Kind]; ok {
		m[l] = r.Entity.Name
	}
	for k, v := range m {
		if v = Clip(strings.TrimSpace(tags.Replace(render.Plain(v))), maxLabel); v == "" {
			delete(m, k) // an empty label is none
			continue
		}
		m[k] = v
	}
	return m
}
