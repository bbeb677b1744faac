package check

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// The methods here answer questions about one thing of what was read, for those
// who look at it closer than the checks do.

// Root is the workload that somebody would have to mend for a thing: what is at
// the top of its owners, or the thing itself.
func (c *Cluster) Root(e event.Entity) event.Entity { return c.rootOf(e) }

// RootOfPod is the root of a pod, whether or not it was read with the cluster.
func (c *Cluster) RootOfPod(p *corev1.Pod) event.Entity { return c.root(p) }

// PodsOf are the pods of a workload, by name. A pod that belongs to nothing is
// its own.
func (c *Cluster) PodsOf(root event.Entity) []*corev1.Pod { return c.pods[root] }

// Node is a node that was read, or nil.
func (c *Cluster) Node(name string) *corev1.Node { return c.node[name] }

// Replicas are how many pods of a workload are ready, and how many there should
// be.
func (c *Cluster) Replicas(root event.Entity) (ready, want int) {
	return c.replicas(root, c.pods[root])
}

// Trouble says in a few words what is wrong with a pod, and since when; ok is
// false when nothing is, or when it is its node's trouble.
func (c *Cluster) Trouble(p *corev1.Pod) (what string, since time.Time, ok bool) {
	t, ok := c.troubleOf(p)
	return t.what, t.since, ok
}

// Workload is the object of a workload that was read, and the selector of its
// pods; nil when it was not read, or has none.
func (c *Cluster) Workload(e event.Entity) (metav1.Object, *metav1.LabelSelector) {
	switch o := c.object(e).(type) {
	case *appsv1.Deployment:
		return o, o.Spec.Selector
	case *appsv1.StatefulSet:
		return o, o.Spec.Selector
	case *appsv1.DaemonSet:
		return o, o.Spec.Selector
	case *batchv1.Job:
		return o, o.Spec.Selector
	case *batchv1.CronJob:
		return o, nil
	case *corev1.Pod:
		return o, nil
	}
	return nil, nil
}

// Age is a span of time as lines for people have it: 45s, 12m, 3h10m, 9d.
func Age(d time.Duration) string { return span(d) }

// Assemble is a cluster of objects that were read elsewhere, such as from a file.
// resources are the plurals of the kinds that count as read.
func Assemble(now time.Time, namespace string, objects []any, resources ...string) *Cluster {
	c := &Cluster{Now: now, Namespace: namespace, read: map[string]bool{}}
	for _, o := range objects {
		c.add(o)
	}
	for _, r := range resources {
		c.read[r] = true
	}
	c.prepare()
	return c
}
