package kubernetes

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/oncall-copilot/oncall/pkg/kube"
)

// resource is one kind of objects that is watched.
type resource struct {
	plural     string
	gv         schema.GroupVersion
	object     runtime.Object
	namespaced bool
	// without says what is missing when it may not be read.
	without string
}

var (
	core = corev1.SchemeGroupVersion
	apps = appsv1.SchemeGroupVersion
)

var resources = []*resource{
	{"events", core, &corev1.Event{}, true, "no events"},
	{"pods", core, &corev1.Pod{}, true, "no placement of pods, workloads of events are guessed"},
	{"nodes", core, &corev1.Node{}, false, "no changes of nodes"},
	{"namespaces", core, &corev1.Namespace{}, false, "no owners of namespaces from their labels"},
	{"services", core, &corev1.Service{}, true, "no services in topology"},
	{"configmaps", core, &corev1.ConfigMap{}, true, "no changes of configuration"},
	{"deployments", apps, &appsv1.Deployment{}, true, "no owners and scaling of Deployments"},
	{"replicasets", apps, &appsv1.ReplicaSet{}, true, "no rollouts of Deployments"},
	{"statefulsets", apps, &appsv1.StatefulSet{}, true, "no owners and scaling of StatefulSets"},
	{"daemonsets", apps, &appsv1.DaemonSet{}, true, "no owners of DaemonSets"},
	{"controllerrevisions", apps, &appsv1.ControllerRevision{}, true, "no rollouts of StatefulSets and DaemonSets"},
	{"jobs", batchv1.SchemeGroupVersion, &batchv1.Job{}, true, "pods of CronJobs count as those of their Jobs"},
	{"cronjobs", batchv1.SchemeGroupVersion, &batchv1.CronJob{}, true, "no owners of CronJobs"},
	{"horizontalpodautoscalers", autoscalingv2.SchemeGroupVersion, &autoscalingv2.HorizontalPodAutoscaler{}, true, "no changes of autoscalers"},
}

// trim takes out of an object, in place, what is not used, as it comes from
// the wire: five thousand pods are large, and what is used of them is small.
func trim(obj runtime.Object) {
	if meta.IsListType(obj) {
		_ = meta.EachListItem(obj, func(o runtime.Object) error { trim(o); return nil })
		return
	}
	o, err := meta.Accessor(obj)
	if err != nil {
		return
	}
	o.SetManagedFields(lastEdit(o.GetManagedFields()))
	a := o.GetAnnotations()
	delete(a, "kubectl.kubernetes.io/last-applied-configuration")
	switch o := obj.(type) {
	case *corev1.Pod:
		o.Annotations = nil
		o.Spec = corev1.PodSpec{NodeName: o.Spec.NodeName}
		o.Status = corev1.PodStatus{Phase: o.Status.Phase, Conditions: slices.DeleteFunc(o.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type != corev1.PodReady && c.Type != corev1.DisruptionTarget
		}), InitContainerStatuses: kills(o.Status.InitContainerStatuses), ContainerStatuses: courses(o.Status.ContainerStatuses)}
	case *corev1.Node:
		o.Annotations = nil
		o.Status = corev1.NodeStatus{Conditions: o.Status.Conditions}
	case *corev1.Service:
		o.Status = corev1.ServiceStatus{}
	case *corev1.ConfigMap:
		o.Data = map[string]string{hashKey: kube.ConfigHash(o.Data, o.BinaryData)}
		o.BinaryData = nil
	case *appsv1.Deployment:
		o.Spec.Template = corev1.PodTemplateSpec{}
	case *appsv1.StatefulSet:
		o.Spec.Template = corev1.PodTemplateSpec{}
		o.Spec.VolumeClaimTemplates = nil
	case *appsv1.DaemonSet:
		o.Spec.Template = corev1.PodTemplateSpec{}
	case *batchv1.Job:
		o.Spec.Template = corev1.PodTemplateSpec{}
	case *batchv1.CronJob:
		o.Spec.JobTemplate = batchv1.JobTemplateSpec{}
	case *autoscalingv2.HorizontalPodAutoscaler:
		o.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
	}
}

// hashKey holds a ConfigMap's hash in place of its data.
const hashKey = "#"

// lastEdit keeps of an object's managers the last one that changed what is
// wanted, as opposed to what is.
func lastEdit(all []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	var last *metav1.ManagedFieldsEntry
	for i := range all {
		m := &all[i]
		if m.Subresource == "status" || m.Time == nil {
			continue
		}
		if last == nil || last.Time.Before(m.Time) {
			last = m
		}
	}
	if last == nil {
		return nil
	}
	return []metav1.ManagedFieldsEntry{{Manager: last.Manager, Time: last.Time, Subresource: last.Subresource}}
}

// leaderElection says whether a ConfigMap is a lock and no configuration.
func leaderElection(o *corev1.ConfigMap) bool {
	for k := range o.Annotations {
		if strings.Contains(k, "leader") {
			return true
		}
	}
	return o.Name == "kube-root-ca.crt"
}
