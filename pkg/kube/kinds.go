package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind is a kind of objects that may be looked up.
type Kind struct {
	Name       string // as Kubernetes spells it
	Path       string // of its API group and version: /api/v1, /apis/apps/v1
	Plural     string
	Namespaced bool
}

var kinds = func() map[string]Kind {
	out := map[string]Kind{}
	for _, k := range []Kind{
		{"Pod", "/api/v1", "pods", true},
		{"Node", "/api/v1", "nodes", false},
		{"Service", "/api/v1", "services", true},
		{"Namespace", "/api/v1", "namespaces", false},
		{"ConfigMap", "/api/v1", "configmaps", true},
		{"PersistentVolumeClaim", "/api/v1", "persistentvolumeclaims", true},
		{"PersistentVolume", "/api/v1", "persistentvolumes", false},
		{"ResourceQuota", "/api/v1", "resourcequotas", true},
		{"LimitRange", "/api/v1", "limitranges", true},
		{"Endpoints", "/api/v1", "endpoints", true},
		{"ServiceAccount", "/api/v1", "serviceaccounts", true},
		{"Event", "/api/v1", "events", true},
		{"Deployment", "/apis/apps/v1", "deployments", true},
		{"ReplicaSet", "/apis/apps/v1", "replicasets", true},
		{"StatefulSet", "/apis/apps/v1", "statefulsets", true},
		{"DaemonSet", "/apis/apps/v1", "daemonsets", true},
		{"Job", "/apis/batch/v1", "jobs", true},
		{"CronJob", "/apis/batch/v1", "cronjobs", true},
		{"HorizontalPodAutoscaler", "/apis/autoscaling/v2", "horizontalpodautoscalers", true},
		{"PodDisruptionBudget", "/apis/policy/v1", "poddisruptionbudgets", true},
		{"EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices", true},
		{"Ingress", "/apis/networking.k8s.io/v1", "ingresses", true},
		{"NetworkPolicy", "/apis/networking.k8s.io/v1", "networkpolicies", true},
		{"StorageClass", "/apis/storage.k8s.io/v1", "storageclasses", false},
	} {
		out[strings.ToLower(k.Name)] = k
	}
	return out
}()

// KindOf finds a kind by its name in any case. The error lists what is known.
func KindOf(name string) (Kind, error) {
	k, ok := kinds[strings.ToLower(name)]
	switch {
	case ok:
		return k, nil
	case strings.EqualFold(name, "secret"):
		return Kind{}, fmt.Errorf("kind %s is never read", name)
	}
	var known []string
	for _, key := range slices.Sorted(maps.Keys(kinds)) {
		known = append(known, kinds[key].Name)
	}
	return Kind{}, fmt.Errorf("kind %q is not one of %s", name, strings.Join(known, ", "))
}

// ListPath is the path of the objects of a namespace; of all of them when
// namespace is empty or the kind has none.
func (k Kind) ListPath(namespace string) string {
	if k.Namespaced && namespace != "" {
		return k.Path + "/namespaces/" + namespace + "/" + k.Plural
	}
	return k.Path + "/" + k.Plural
}

// ObjectPath is the path of one object.
func (k Kind) ObjectPath(namespace, name string) string { return k.ListPath(namespace) + "/" + name }
