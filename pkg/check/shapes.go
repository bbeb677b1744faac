package check

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// shape is what a workload would make pods of.
type shape struct {
	root   event.Entity
	labels labels.Set
	want   int
	done   bool // it makes pods that end
}

// shaping are the resources of [Cluster.shapes].
var shaping = []string{"deployments", "statefulsets", "daemonsets", "jobs", "cronjobs"}

// shaped says whether shapes are all there are. Else the pods that are missing
// may be of a workload that was not read, and is scaled to zero.
func (c *Cluster) shaped() bool {
	return !slices.ContainsFunc(shaping, func(r string) bool { return !c.Read(r) })
}

// shapes are those of the workloads of a namespace, or with "" of all.
func (c *Cluster) shapes(namespace string) []shape {
	var out []shape
	add := func(kind string, m metav1.Object, t *corev1.PodTemplateSpec, want int, done bool) {
		if namespace == "" || m.GetNamespace() == namespace {
			out = append(out, shape{entity(kind, m), t.Labels, want, done})
		}
	}
	for _, o := range c.Deployments {
		add("Deployment", o, &o.Spec.Template, wanted(o.Spec.Replicas), false)
	}
	for _, o := range c.StatefulSets {
		add("StatefulSet", o, &o.Spec.Template, wanted(o.Spec.Replicas), false)
	}
	for _, o := range c.DaemonSets {
		add("DaemonSet", o, &o.Spec.Template, int(o.Status.DesiredNumberScheduled), false)
	}
	for _, o := range c.Jobs {
		add("Job", o, &o.Spec.Template, 0, true)
	}
	for _, o := range c.CronJobs {
		add("CronJob", o, &o.Spec.JobTemplate.Spec.Template, 0, true)
	}
	return out
}
