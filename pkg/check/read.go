package check

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
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
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/oncall-copilot/oncall/pkg/kube"
)

// listing is one kind of objects and how it is read. Each is listed once, in
// pages, with what the server can leave out left out.
type listing struct {
	group      string // path of group and version: /api/v1; without one: whichever is served
	resource   string // plural, with the group behind it where another group may have the same
	namespaced bool
	// whole kinds are of the cluster, and of no interest to somebody who asks for
	// one namespace.
	whole  bool
	params url.Values
	read   func(ctx context.Context, c *kube.Client, path string, params url.Values, add func(any)) error
}

func (l listing) path(namespace string) string {
	plural, _, _ := strings.Cut(l.resource, ".")
	if l.namespaced && namespace != "" {
		return l.group + "/namespaces/" + namespace + "/" + plural
	}
	return l.group + "/" + plural
}

// typed reads a kind that Kubernetes' own types have. items is the list's field
// of that name.
func typed[L, T any, P interface {
	*L
	runtime.Object
	metav1.ListInterface
}](items func(P) []T) func(context.Context, *kube.Client, string, url.Values, func(any)) error {
	return func(ctx context.Context, c *kube.Client, path string, params url.Values, add func(any)) error {
		return kube.List(ctx, c, path, params, func(page P) {
			for i := range items(page) {
				add(&items(page)[i])
			}
		})
	}
}

// custom reads a kind as decoded JSON. Its items are told their kind.
func custom(kind string) func(context.Context, *kube.Client, string, url.Values, func(any)) error {
	return func(ctx context.Context, c *kube.Client, path string, with url.Values, add func(any)) error {
		params := url.Values{"limit": {"500"}}
		maps.Copy(params, with)
		for {
			var page struct {
				Metadata struct {
					Continue string `json:"continue"`
				} `json:"metadata"`
				Items []Object `json:"items"`
			}
			if err := c.Get(ctx, path, params, &page); err != nil {
				return err
			}
			for _, o := range page.Items {
				o["kind"] = kind
				add(o)
			}
			if page.Metadata.Continue == "" {
				return nil
			}
			params.Set("continue", page.Metadata.Continue)
		}
	}
}

func metadata(kind string) func(context.Context, *kube.Client, string, url.Values, func(any)) error {
	return func(ctx context.Context, c *kube.Client, path string, params url.Values, add func(any)) error {
		return kube.List(ctx, c, path, params, func(page *metav1.PartialObjectMetadataList) {
			for i := range page.Items {
				page.Items[i].Kind = kind
				add(&page.Items[i])
			}
		})
	}
}

var listings = []listing{
	{"/api/v1", "pods", true, false, url.Values{"fieldSelector": {"status.phase!=Succeeded"}}, typed(func(l *corev1.PodList) []corev1.Pod { return l.Items })},
	{"/api/v1", "events", true, false, url.Values{"fieldSelector": {"type!=Normal"}}, typed(func(l *corev1.EventList) []corev1.Event { return l.Items })},
	// That a node was not ready is no warning to Kubernetes.
	{"/api/v1", "events", true, true, url.Values{"fieldSelector": {"type=Normal,reason=NodeNotReady"}}, typed(func(l *corev1.EventList) []corev1.Event { return l.Items })},
	{"/api/v1", "nodes", false, false, nil, typed(func(l *corev1.NodeList) []corev1.Node { return l.Items })},
	// By these kubelets say every ten seconds what time it is for them.
	{"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease", "leases", false, true, nil, custom("Lease")},
	// And by these controllers say every two that they work.
	{"/apis/coordination.k8s.io/v1/namespaces/kube-system", "leases", false, true, nil, custom("Lease")},
	{"/api/v1", "namespaces", false, true, nil, typed(func(l *corev1.NamespaceList) []corev1.Namespace { return l.Items })},
	{"/apis/apps/v1", "deployments", true, false, nil, typed(func(l *appsv1.DeploymentList) []appsv1.Deployment { return l.Items })},
	{"/apis/apps/v1", "replicasets", true, false, nil, metadata("ReplicaSet")},
	{"/apis/apps/v1", "statefulsets", true, false, nil, typed(func(l *appsv1.StatefulSetList) []appsv1.StatefulSet { return l.Items })},
	{"/apis/apps/v1", "daemonsets", true, false, nil, typed(func(l *appsv1.DaemonSetList) []appsv1.DaemonSet { return l.Items })},
	{"/apis/batch/v1", "jobs", true, false, nil, typed(func(l *batchv1.JobList) []batchv1.Job { return l.Items })},
	{"/apis/batch/v1", "cronjobs", true, false, nil, typed(func(l *batchv1.CronJobList) []batchv1.CronJob { return l.Items })},
	{"/apis/autoscaling/v2", "horizontalpodautoscalers", true, false, nil, typed(func(l *autoscalingv2.HorizontalPodAutoscalerList) []autoscalingv2.HorizontalPodAutoscaler {
		return l.Items
	})},
	{"/apis/policy/v1", "poddisruptionbudgets", true, false, nil, typed(func(l *policyv1.PodDisruptionBudgetList) []policyv1.PodDisruptionBudget { return l.Items })},
	{"/api/v1", "services", true, false, nil, typed(func(l *corev1.ServiceList) []corev1.Service { return l.Items })},
	{"/apis/discovery.k8s.io/v1", "endpointslices", true, false, nil, typed(func(l *discoveryv1.EndpointSliceList) []discoveryv1.EndpointSlice { return l.Items })},
	{"/apis/networking.k8s.io/v1", "ingresses", true, false, nil, typed(func(l *networkingv1.IngressList) []networkingv1.Ingress { return l.Items })},
	{"/apis/networking.k8s.io/v1", "ingressclasses", false, false, nil, typed(func(l *networkingv1.IngressClassList) []networkingv1.IngressClass { return l.Items })},
	{"/apis/networking.k8s.io/v1", "networkpolicies", true, false, nil, typed(func(l *networkingv1.NetworkPolicyList) []networkingv1.NetworkPolicy { return l.Items })},
	{"/api/v1", "persistentvolumeclaims", true, false, nil, typed(func(l *corev1.PersistentVolumeClaimList) []corev1.PersistentVolumeClaim { return l.Items })},
	{"/api/v1", "persistentvolumes", false, true, nil, typed(func(l *corev1.PersistentVolumeList) []corev1.PersistentVolume { return l.Items })},
	{"/apis/storage.k8s.io/v1", "storageclasses", false, false, nil, typed(func(l *storagev1.StorageClassList) []storagev1.StorageClass { return l.Items })},
	{"/api/v1", "resourcequotas", true, false, nil, typed(func(l *corev1.ResourceQuotaList) []corev1.ResourceQuota { return l.Items })},
	{"/api/v1", "configmaps", true, false, nil, metadata("ConfigMap")},
	{"/api/v1", "serviceaccounts", true, false, nil, metadata("ServiceAccount")},
	{"/apis/scheduling.k8s.io/v1", "priorityclasses", false, false, nil, metadata("PriorityClass")},
	{"/apis/node.k8s.io/v1", "runtimeclasses", false, false, nil, metadata("RuntimeClass")},
	{"/apis/admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", false, true, nil, typed(func(l *admissionv1.ValidatingWebhookConfigurationList) []admissionv1.ValidatingWebhookConfiguration {
		return l.Items
	})},
	{"/apis/admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", false, true, nil, typed(func(l *admissionv1.MutatingWebhookConfigurationList) []admissionv1.MutatingWebhookConfiguration {
		return l.Items
	})},
	{"/apis/apiregistration.k8s.io/v1", "apiservices", false, true, nil, custom("APIService")},
	{"/apis/gateway.networking.k8s.io/v1", "gatewayclasses", false, true, nil, custom("GatewayClass")},
	{"/apis/gateway.networking.k8s.io/v1", "gateways", true, false, nil, custom("Gateway")},
	{"/apis/gateway.networking.k8s.io/v1", "httproutes", true, false, nil, custom("HTTPRoute")},
	{"/apis/gateway.networking.k8s.io/v1", "grpcroutes", true, false, nil, custom("GRPCRoute")},
	{"/apis/cert-manager.io/v1", "certificates", true, false, nil, custom("Certificate")},
	{"/apis/keda.sh/v1alpha1", "scaledobjects", true, false, nil, custom("ScaledObject")},
}

// further kinds are read for whoever names them to [Read] or [ReadSome].
var further = []listing{
	{"/api/v1", "limitranges", true, false, nil, typed(func(l *corev1.LimitRangeList) []corev1.LimitRange { return l.Items })},
	{"/apis/autoscaling.k8s.io/v1", "verticalpodautoscalers", true, false, nil, custom("VerticalPodAutoscaler")},
	{"/apis/rbac.authorization.k8s.io/v1", "roles", true, false, nil, typed(func(l *rbacv1.RoleList) []rbacv1.Role { return l.Items })},
	{"/apis/rbac.authorization.k8s.io/v1", "clusterroles", false, false, nil, typed(func(l *rbacv1.ClusterRoleList) []rbacv1.ClusterRole { return l.Items })},
	{"/apis/rbac.authorization.k8s.io/v1", "rolebindings", true, false, nil, typed(func(l *rbacv1.RoleBindingList) []rbacv1.RoleBinding { return l.Items })},
	{"/apis/wgpolicyk8s.io", "policyreports.wgpolicyk8s.io", true, false, nil, custom("PolicyReport")},
	{"/apis/wgpolicyk8s.io", "clusterpolicyreports.wgpolicyk8s.io", false, true, nil, custom("ClusterPolicyReport")},
	{"/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", false, true, nil, typed(func(l *rbacv1.ClusterRoleBindingList) []rbacv1.ClusterRoleBinding { return l.Items })},
}

// listsAtOnce bounds how many lists are under way, so that an API server far
// away costs little waiting and a busy one little work.
const listsAtOnce = 6

// Read lists what the checks look at, in one namespace or, with "", in all, and
// the resources named, such as [ForHygiene]. A kind that may not be read is noted;
// that nothing could be read is an error.
func Read(ctx context.Context, client *kube.Client, namespace string, now time.Time, also ...string) (*Cluster, error) {
	all := append(slices.Clone(listings), foreignListings()...)
	for _, l := range further {
		if slices.Contains(also, l.resource) {
			all = append(all, l)
		}
	}
	c, err := readKinds(ctx, client, all, namespace, now)
	if err != nil {
		return nil, err
	}
	c.Now = c.Now.Add(-client.Clock().Skew()) // ages are of the server's clock
	// Asked when nothing else is under way, so that it is not our own lists that
	// are slow.
	if s, err := client.Serving(ctx); err == nil {
		c.Serving = &s
	}
	return c, nil
}

// ReadSome is [Read] of the resources named, by their plurals, and of no other.
func ReadSome(ctx context.Context, client *kube.Client, namespace string, now time.Time, resources ...string) (*Cluster, error) {
	var some []listing
	for _, l := range slices.Concat(listings, further) {
		if slices.Contains(resources, l.resource) {
			some = append(some, l)
		}
	}
	return readKinds(ctx, client, some, namespace, now)
}

func readKinds(ctx context.Context, client *kube.Client, listings []listing, namespace string, now time.Time) (*Cluster, error) {
	c := &Cluster{Now: now, Namespace: namespace, read: map[string]bool{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed []error
	slots := make(chan struct{}, listsAtOnce)
	groups := &others{asked: make(chan struct{})}
	if slices.ContainsFunc(listings, func(l listing) bool { return l.foreign() != "" }) {
		wg.Go(func() { groups.ask(ctx, client) })
	}
	for _, l := range listings {
		if l.whole && namespace != "" {
			continue
		}
		wg.Go(func() {
			l, served, err := groups.wait(l)
			if !served {
				if err != nil && !kube.NotFound(err) {
					mu.Lock()
					defer mu.Unlock()
					if u := (Unread{"apis", kube.Reason(err)}); !slices.Contains(c.Unread, u) {
						c.Unread = append(c.Unread, u)
					}
				}
				return
			}
			slots <- struct{}{}
			defer func() { <-slots }()
			err = l.read(ctx, client, l.path(namespace), l.params, func(o any) {
				mu.Lock()
				defer mu.Unlock()
				c.add(o)
			})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				c.read[l.resource] = true
			case kube.NotFound(err):
				// The cluster has no such kind.
			default:
				if u := (Unread{l.resource, kube.Reason(err)}); !slices.Contains(c.Unread, u) {
					c.Unread = append(c.Unread, u)
				}
				failed = append(failed, err)
			}
		})
	}
	wg.Go(func() {
		v, err := client.Version(ctx)
		if err != nil {
			return // the lists say what is wrong with the server
		}
		mu.Lock()
		defer mu.Unlock()
		c.Version, c.Built = v.GitVersion, v.Built()
	})
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if len(c.read) == 0 {
		return nil, errors.Join(failed[:min(1, len(failed))]...)
	}
	c.prepare()
	return c, nil
}

// add puts one object where the checks look for it.
func (c *Cluster) add(o any) {
	switch o := o.(type) {
	case *corev1.Pod:
		c.Pods = append(c.Pods, slim(o))
	case *corev1.Event:
		c.Events = append(c.Events, kube.EventOf(o))
	case *corev1.Node:
		c.Nodes = append(c.Nodes, slim(o))
	case *corev1.Namespace:
		c.Namespaces = append(c.Namespaces, slim(o))
	case *appsv1.Deployment:
		c.Deployments = append(c.Deployments, slim(o))
	case *appsv1.StatefulSet:
		c.StatefulSets = append(c.StatefulSets, slim(o))
	case *appsv1.DaemonSet:
		c.DaemonSets = append(c.DaemonSets, slim(o))
	case *batchv1.Job:
		c.Jobs = append(c.Jobs, slim(o))
	case *batchv1.CronJob:
		c.CronJobs = append(c.CronJobs, slim(o))
	case *autoscalingv2.HorizontalPodAutoscaler:
		c.HPAs = append(c.HPAs, slim(o))
	case *policyv1.PodDisruptionBudget:
		c.PDBs = append(c.PDBs, slim(o))
	case *corev1.Service:
		c.Services = append(c.Services, slim(o))
	case *discoveryv1.EndpointSlice:
		c.EndpointSlices = append(c.EndpointSlices, slim(o))
	case *networkingv1.Ingress:
		c.Ingresses = append(c.Ingresses, slim(o))
	case *networkingv1.IngressClass:
		c.IngressClasses = append(c.IngressClasses, slim(o))
	case *networkingv1.NetworkPolicy:
		c.NetworkPolicies = append(c.NetworkPolicies, slim(o))
	case *corev1.PersistentVolumeClaim:
		c.PVCs = append(c.PVCs, slim(o))
	case *corev1.PersistentVolume:
		c.PVs = append(c.PVs, slim(o))
	case *storagev1.StorageClass:
		c.StorageClasses = append(c.StorageClasses, slim(o))
	case *corev1.ResourceQuota:
		c.Quotas = append(c.Quotas, slim(o))
	case *rbacv1.Role:
		c.Roles = append(c.Roles, slim(o))
	case *rbacv1.ClusterRole:
		c.ClusterRoles = append(c.ClusterRoles, slim(o))
	case *rbacv1.RoleBinding:
		c.RoleBindings = append(c.RoleBindings, slim(o))
	case *rbacv1.ClusterRoleBinding:
		c.ClusterRoleBindings = append(c.ClusterRoleBindings, slim(o))
	case *corev1.LimitRange:
		c.LimitRanges = append(c.LimitRanges, slim(o))
	case *admissionv1.ValidatingWebhookConfiguration:
		c.ValidatingWebhooks = append(c.ValidatingWebhooks, slim(o))
	case *admissionv1.MutatingWebhookConfiguration:
		c.MutatingWebhooks = append(c.MutatingWebhooks, slim(o))
	case *metav1.PartialObjectMetadata:
		if o.Kind == "ConfigMap" && dataless(o) {
			if c.dataless == nil {
				c.dataless = map[string]bool{}
			}
			c.dataless[o.Namespace+"/"+o.Name] = true
		}
		o.ManagedFields = nil
		switch o.Kind {
		case "ReplicaSet":
			c.ReplicaSets = append(c.ReplicaSets, o)
		case "ConfigMap":
			c.ConfigMaps = append(c.ConfigMaps, o)
		case "ServiceAccount":
			c.ServiceAccounts = append(c.ServiceAccounts, o)
		case "PriorityClass":
			c.PriorityClasses = append(c.PriorityClasses, o)
		case "RuntimeClass":
			c.RuntimeClasses = append(c.RuntimeClasses, o)
		}
	case Object:
		switch kind := text(o, "kind"); {
		case foreignOf[kind] != nil:
			c.remember(o["spec"])
			c.Foreign = append(c.Foreign, pruned(o))
		case kind == "PolicyReport", kind == "ClusterPolicyReport":
			c.Reports = append(c.Reports, verdicts(o))
		case kind == "Lease":
			c.Leases = append(c.Leases, o)
		case kind == "APIService":
			c.APIServices = append(c.APIServices, o)
		case kind == "Certificate":
			c.Certificates = append(c.Certificates, o)
		case kind == "ScaledObject":
			c.Scalers = append(c.Scalers, o)
		case kind == "VerticalPodAutoscaler":
			c.VPAs = append(c.VPAs, o)
		case kind == "Gateway", kind == "GatewayClass", strings.HasSuffix(kind, "Route"):
			c.Gateways = append(c.Gateways, o)
		}
	}
}

// slim drops what nothing reads and much of a large cluster's memory would be.
// It copies the object, since the page that it came in would stay as a whole.
func slim[T any, P interface {
	*T
	metav1.Object
}](o P) P {
	out := *o
	p := P(&out)
	p.SetManagedFields(nil)
	if a := p.GetAnnotations(); a["kubectl.kubernetes.io/last-applied-configuration"] != "" {
		delete(a, "kubectl.kubernetes.io/last-applied-configuration")
	}
	return p
}
