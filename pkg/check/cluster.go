package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// Cluster is what was read of a cluster at one moment. A kind that could not be
// read is in Unread, and its list is empty; a kind that the cluster does not
// have is neither.
type Cluster struct {
	Now       time.Time // of the reading; ages count from it
	Namespace string    // the only one that was read, or "" for all
	Version   string    // of the API server; "" when it did not say
	Built     time.Time // of the API server's program; zero when it did not say

	Nodes              []*corev1.Node
	Namespaces         []*corev1.Namespace
	Pods               []*corev1.Pod // without those that succeeded
	Deployments        []*appsv1.Deployment
	StatefulSets       []*appsv1.StatefulSet
	DaemonSets         []*appsv1.DaemonSet
	Jobs               []*batchv1.Job
	CronJobs           []*batchv1.CronJob
	HPAs               []*autoscalingv2.HorizontalPodAutoscaler
	PDBs               []*policyv1.PodDisruptionBudget
	Services           []*corev1.Service
	EndpointSlices     []*discoveryv1.EndpointSlice
	Ingresses          []*networkingv1.Ingress
	IngressClasses     []*networkingv1.IngressClass
	NetworkPolicies    []*networkingv1.NetworkPolicy
	PVCs               []*corev1.PersistentVolumeClaim
	PVs                []*corev1.PersistentVolume
	StorageClasses     []*storagev1.StorageClass
	Quotas             []*corev1.ResourceQuota
	ValidatingWebhooks []*admissionv1.ValidatingWebhookConfiguration
	MutatingWebhooks   []*admissionv1.MutatingWebhookConfiguration
	Events             []event.KubeEvent // warnings, newest last
	APIServices        []Object
	Leases             []Object // of kubelets and of controllers
	Gateways           []Object // and GatewayClasses, HTTPRoutes, GRPCRoutes of gateway.networking.k8s.io
	Certificates       []Object // of cert-manager.io
	Scalers            []Object // ScaledObjects and ScaledJobs of keda.sh
	Foreign            []Object // of other controllers: see foreigns
	ReplicaSets        []*metav1.PartialObjectMetadata
	ConfigMaps         []*metav1.PartialObjectMetadata // names alone: what is in them is never read
	ServiceAccounts    []*metav1.PartialObjectMetadata
	PriorityClasses    []*metav1.PartialObjectMetadata
	RuntimeClasses     []*metav1.PartialObjectMetadata

	// These are read for whoever names them.
	Roles               []*rbacv1.Role
	ClusterRoles        []*rbacv1.ClusterRole
	RoleBindings        []*rbacv1.RoleBinding
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
	Reports             []Object // PolicyReports and ClusterPolicyReports of wgpolicyk8s.io

	// Only [ReadSome] reads these.
	LimitRanges []*corev1.LimitRange
	VPAs        []Object // VerticalPodAutoscalers of autoscaling.k8s.io

	Policy  Policy        // what a team has agreed upon; zero: nothing
	Serving *kube.Serving // how the API server itself is; nil when it was not asked
	Signals *Signals      // what was measured beside the objects; nil when nothing was

	Unread   []Unread
	read     map[string]bool // resources that could be read
	dataless map[string]bool // ConfigMaps that hold nothing, by namespace/name
	strings  map[string]bool // what the specs of Foreign say, as far as it may be a name

	unreadLogs []unreadLog // of an examination

	index
}

// Object is a custom resource as decoded JSON.
type Object = map[string]any

// Unread is a kind of objects that could not be listed.
type Unread struct {
	Resource string `json:"resource"` // plural, as in kubectl get
	Why      string `json:"why"`
}

// Read says whether a kind of objects, by its plural, could be listed. Where it
// could not, its absence means nothing.
func (c *Cluster) Read(resource string) bool { return c.read[resource] }

// index finds what belongs together. It is made once, after reading.
type index struct {
	node        map[string]*corev1.Node
	controller  map[kube.Ref]kube.Ref
	pods        map[event.Entity][]*corev1.Pod // by root
	byNamespace map[string][]*corev1.Pod
	events      map[event.Entity][]event.KubeEvent // by the object they are about
	names       map[string]map[string]bool         // resource → namespace/name
	rollouts    map[kube.Ref]*metav1.PartialObjectMetadata
	deadNodes   map[string]bool
	endpoints   map[string][]*discoveryv1.EndpointSlice // by namespace/service
}

// prepare builds the index and puts everything in order, so that a reading
// gives the same findings however its answers came in.
func (c *Cluster) prepare() {
	c.index = index{
		node: map[string]*corev1.Node{}, controller: map[kube.Ref]kube.Ref{}, pods: map[event.Entity][]*corev1.Pod{}, byNamespace: map[string][]*corev1.Pod{},
		events: map[event.Entity][]event.KubeEvent{}, names: map[string]map[string]bool{}, rollouts: map[kube.Ref]*metav1.PartialObjectMetadata{},
		deadNodes: map[string]bool{}, endpoints: map[string][]*discoveryv1.EndpointSlice{},
	}
	sortNamed(c.Nodes)
	sortNamed(c.Namespaces)
	sortNamed(c.Pods)
	sortNamed(c.Deployments)
	sortNamed(c.StatefulSets)
	sortNamed(c.DaemonSets)
	sortNamed(c.Jobs)
	sortNamed(c.CronJobs)
	sortNamed(c.HPAs)
	sortNamed(c.PDBs)
	sortNamed(c.Services)
	sortNamed(c.EndpointSlices)
	sortNamed(c.Ingresses)
	sortNamed(c.NetworkPolicies)
	sortNamed(c.PVCs)
	sortNamed(c.PVs)
	sortNamed(c.Quotas)
	sortNamed(c.Roles)
	sortNamed(c.ClusterRoles)
	sortNamed(c.RoleBindings)
	sortNamed(c.ClusterRoleBindings)
	slices.SortStableFunc(c.Events, func(a, b event.KubeEvent) int {
		return cmp.Or(a.Time().Compare(b.Time()), strings.Compare(a.Metadata.UID, b.Metadata.UID))
	})
	slices.SortStableFunc(c.Foreign, func(a, b Object) int { return strings.Compare(entityOf(a).String(), entityOf(b).String()) })
	slices.SortFunc(c.Unread, func(a, b Unread) int { return strings.Compare(a.Resource, b.Resource) })

	for _, n := range c.Nodes {
		c.node[n.Name] = n
		if _, ready := condition(n.Status.Conditions, corev1.NodeReady); !ready {
			c.deadNodes[n.Name] = true
		}
	}
	name := func(resource string, m metav1.Object) {
		if c.names[resource] == nil {
			c.names[resource] = map[string]bool{}
		}
		c.names[resource][m.GetNamespace()+"/"+m.GetName()] = true
	}
	own := func(kind string, m metav1.Object) {
		if up, ok := kube.Controller(m.GetNamespace(), m.GetOwnerReferences()); ok {
			c.controller[kube.Ref{Namespace: m.GetNamespace(), Kind: kind, Name: m.GetName()}] = up
		}
	}
	for _, o := range c.ReplicaSets {
		own("ReplicaSet", o)
		up, ok := kube.Controller(o.Namespace, o.OwnerReferences)
		if !ok {
			continue
		}
		if last := c.rollouts[up]; last == nil || last.CreationTimestamp.Before(&o.CreationTimestamp) {
			c.rollouts[up] = o
		}
	}
	for _, o := range c.Jobs {
		own("Job", o)
	}
	for _, o := range c.ConfigMaps {
		name("configmaps", o)
	}
	for _, o := range c.ServiceAccounts {
		name("serviceaccounts", o)
	}
	for _, o := range c.PriorityClasses {
		name("priorityclasses", o)
	}
	for _, o := range c.RuntimeClasses {
		name("runtimeclasses", o)
	}
	for _, o := range c.Roles {
		name("roles", o)
	}
	for _, o := range c.ClusterRoles {
		name("clusterroles", o)
	}
	for _, o := range c.Services {
		name("services", o)
	}
	for _, o := range c.PVCs {
		name("persistentvolumeclaims", o)
	}
	for _, o := range c.StorageClasses {
		name("storageclasses", o)
	}
	for _, o := range c.IngressClasses {
		name("ingressclasses", o)
	}
	for _, o := range c.Deployments {
		name("deployments", o)
	}
	for _, o := range c.StatefulSets {
		name("statefulsets", o)
	}
	for _, s := range c.EndpointSlices {
		key := s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]
		c.endpoints[key] = append(c.endpoints[key], s)
	}
	for _, p := range c.Pods {
		root := c.root(p)
		c.pods[root] = append(c.pods[root], p)
		c.byNamespace[p.Namespace] = append(c.byNamespace[p.Namespace], p)
	}
	for _, e := range c.Events {
		c.events[e.Entity()] = append(c.events[e.Entity()], e)
	}
}

func sortNamed[T metav1.Object](list []T) {
	slices.SortFunc(list, func(a, b T) int {
		return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
	})
}

// root is what somebody would have to mend for a pod: the workload at the top
// of its owners, or itself.
func (c *Cluster) root(p *corev1.Pod) event.Entity {
	return kube.Root(kube.Ref{Namespace: p.Namespace, Kind: "Pod", Name: p.Name}, func(r kube.Ref) (kube.Ref, bool) {
		if r.Kind == "Pod" {
			return kube.Controller(p.Namespace, p.OwnerReferences)
		}
		if up, ok := c.controller[r]; ok {
			return up, true
		}
		if r.Kind == "ReplicaSet" {
			return kube.ReplicaSetOwner(r, p.Labels)
		}
		return kube.Ref{}, false
	})
}

// rootOf is the root of any object that was read or that an event names.
func (c *Cluster) rootOf(e event.Entity) event.Entity {
	if e.Kind == "Pod" {
		for _, p := range c.byNamespace[e.Namespace] {
			if p.Name == e.Name {
				return c.root(p)
			}
		}
	}
	return kube.Root(kube.Ref{Namespace: e.Namespace, Kind: e.Kind, Name: e.Name}, func(r kube.Ref) (kube.Ref, bool) {
		up, ok := c.controller[r]
		return up, ok
	})
}

// selected are the pods of a namespace that a selector chooses.
func (c *Cluster) selected(namespace string, s labels.Selector) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range c.byNamespace[namespace] {
		if s.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// exists says whether an object of a kind that could be read is there. Where
// the kind could not be read, everything may be.
func (c *Cluster) exists(resource, namespace, name string) bool {
	return !c.Read(resource) || c.names[resource][namespace+"/"+name]
}

// warned are the recent warnings about an object, newest last.
func (c *Cluster) warned(e event.Entity, within time.Duration, reasons ...string) []event.KubeEvent {
	var out []event.KubeEvent
	for _, ev := range c.events[e] {
		if c.Now.Sub(ev.Time()) <= within && (len(reasons) == 0 || slices.Contains(reasons, ev.Reason)) {
			out = append(out, ev)
		}
	}
	return out
}

// age is how long ago something was; zero for a time that is not set.
func (c *Cluster) age(t metav1.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return c.Now.Sub(t.Time)
}

// condition finds a condition by its type, and says whether it is true.
func condition[C any, T ~string](list []C, want T) (found C, holds bool) {
	for i := range list {
		kind, status := conditionOf(any(&list[i]))
		if kind == string(want) {
			return list[i], status == "True"
		}
	}
	return found, false
}

func conditionOf(c any) (kind, status string) {
	switch c := c.(type) {
	case *corev1.NodeCondition:
		return string(c.Type), string(c.Status)
	case *corev1.PodCondition:
		return string(c.Type), string(c.Status)
	case *appsv1.DeploymentCondition:
		return string(c.Type), string(c.Status)
	case *appsv1.StatefulSetCondition:
		return string(c.Type), string(c.Status)
	case *batchv1.JobCondition:
		return string(c.Type), string(c.Status)
	case *autoscalingv2.HorizontalPodAutoscalerCondition:
		return string(c.Type), string(c.Status)
	case *metav1.Condition:
		return c.Type, string(c.Status)
	case *corev1.NamespaceCondition:
		return string(c.Type), string(c.Status)
	}
	panic(fmt.Sprintf("conditionOf: %T is not a condition of Kubernetes", c)) // a mistake of ours, found by the first test
}

func entity(kind string, m metav1.Object) event.Entity {
	return event.Entity{Namespace: m.GetNamespace(), Kind: kind, Name: m.GetName()}
}

// text follows a path to a string in a custom resource; "" where there is none.
func text(o Object, path ...string) string {
	s, _ := at(o, path...).(string)
	return s
}

// at follows a path into a custom resource; nil where it ends early.
func at(o Object, path ...string) any {
	var v any = o
	for _, p := range path {
		m, ok := v.(Object)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

// objects are the elements of a list in a custom resource.
func objects(o Object, path ...string) []Object {
	list, _ := at(o, path...).([]any)
	var out []Object
	for _, e := range list {
		if m, ok := e.(Object); ok {
			out = append(out, m)
		}
	}
	return out
}
