package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

var deletionChecks = []Info{{
	Name: "deletions",
	Doc: "Claims, volumes, Services, Ingresses, workloads, nodes, Gateways and the like that are being deleted for more than five minutes, with the finalizer that waits and, of a claim, the pod that uses it. " +
		"Not: pods and namespaces, which have checks of their own, or what is in a namespace that is being deleted.",
	Run: deletions,
}}

// deletions tells of what was deleted and has not gone.
func deletions(c *Cluster, found func(Problem)) {
	look := func(kind string, o metav1.Object) {
		at := o.GetDeletionTimestamp()
		if at == nil || c.age(*at) <= terminating {
			return
		}
		e := entity(kind, o)
		waits := o.GetFinalizers()
		p := Problem{
			Entity: e, Root: e, State: true, Urgency: event.Soon, Since: at.Time, Title: "Terminating", Brief: "it waits for its finalizer " + list(waits, 3),
			Seen: []string{fmt.Sprintf("deletionTimestamp %s, finalizers %s", at.UTC().Format("15:04:05"), strings.Join(waits, ", "))}, Next: []event.Check{describe(e, "its finalizers and events")},
		}
		switch {
		case len(waits) == 0:
			p.Brief = "and no finalizer holds it"
		case kind == "PersistentVolumeClaim" && slices.Contains(waits, "kubernetes.io/pvc-protection"):
			if pods := c.mounts(o.GetNamespace(), o.GetName()); len(pods) > 0 {
				p.Brief = fmt.Sprintf("pod %s still uses it; when that ends, the claim and its data go", pods[0].Name)
				p.Next = append(p.Next, event.Check{Why: "what uses it", Command: kubectl(o.GetNamespace(), "get pod %s -o wide", pods[0].Name)})
			}
		case kind == "PersistentVolume" && slices.Contains(waits, "kubernetes.io/pv-protection"):
			p.Brief = "it is bound; when its claim goes, so does it"
		case slices.Contains(waits, metav1.FinalizerDeleteDependents):
			p.Brief = "it waits for what it owns to go"
		}
		found(p)
	}
	every("PersistentVolumeClaim", c.PVCs, look)
	every("PersistentVolume", c.PVs, look)
	every("Service", c.Services, look)
	every("Ingress", c.Ingresses, look)
	every("NetworkPolicy", c.NetworkPolicies, look)
	every("Deployment", c.Deployments, look)
	every("StatefulSet", c.StatefulSets, look)
	every("DaemonSet", c.DaemonSets, look)
	every("Job", c.Jobs, look)
	every("CronJob", c.CronJobs, look)
	every("Node", c.Nodes, look)
	for _, o := range slices.Concat(c.Gateways, c.Certificates, c.Scalers, c.Foreign) {
		look(text(o, "kind"), metaOf(o))
	}
}

func every[T metav1.Object](kind string, list []T, look func(string, metav1.Object)) {
	for _, o := range list {
		look(kind, o)
	}
}

// metaOf is what a custom resource has in common with every object.
func metaOf(o Object) *metav1.ObjectMeta {
	m := &metav1.ObjectMeta{Namespace: text(o, "metadata", "namespace"), Name: text(o, "metadata", "name")}
	if gone, err := time.Parse(time.RFC3339, text(o, "metadata", "deletionTimestamp")); err == nil {
		m.DeletionTimestamp = &metav1.Time{Time: gone}
	}
	list, _ := at(o, "metadata", "finalizers").([]any)
	for _, f := range list {
		if s, ok := f.(string); ok {
			m.Finalizers = append(m.Finalizers, s)
		}
	}
	return m
}

// mounts are the pods that use a claim.
func (c *Cluster) mounts(namespace, claim string) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range c.byNamespace[namespace] {
		if slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
			return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim
		}) {
			out = append(out, p)
		}
	}
	return out
}
