package main

import (
	"encoding/json"
	"net/http"
	"strings"
)

// kubeconfig is a file that leads to a server.
const kubeconfig = `apiVersion: v1
kind: Config
current-context: prod-eu-1
contexts: [{name: prod-eu-1, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q}}]
users: [{name: u, user: {}}]
`

// fakeCluster answers lists as an API server would whose cluster has two
// namespaces, and holds watches open.
func fakeCluster(w http.ResponseWriter, r *http.Request) {
	type object = map[string]any
	meta := func(namespace, name string, labels object, owner ...string) object {
		m := object{"namespace": namespace, "name": name, "uid": namespace + name, "resourceVersion": "7", "labels": labels}
		if len(owner) == 2 {
			m["ownerReferences"] = []any{object{"apiVersion": "apps/v1", "kind": owner[0], "name": owner[1], "uid": "u", "controller": true}}
		}
		return m
	}
	workload := func(m object) object {
		return object{"metadata": m, "spec": object{"replicas": 1}, "status": object{"readyReplicas": 1}}
	}
	lists := map[string]struct {
		version, kind string
		items         []any
	}{
		"namespaces": {"v1", "Namespace", []any{object{"metadata": meta("", "shop", object{"team": "trade"})}, object{"metadata": meta("", "lab", nil)}}},
		"deployments": {"apps/v1", "Deployment", []any{
			workload(meta("shop", "checkout", object{"team": "payments"})), workload(meta("shop", "web", nil)), workload(meta("lab", "try", nil)),
		}},
		"replicasets": {"apps/v1", "ReplicaSet", []any{workload(meta("shop", "web-7d4b9c6f5", nil, "Deployment", "web"))}},
		"pods":        {"v1", "Pod", []any{object{"metadata": meta("shop", "web-7d4b9c6f5-x2x8q", nil, "ReplicaSet", "web-7d4b9c6f5")}}},
		"nodes":       {"v1", "Node", []any{object{"metadata": meta("", "node-1", nil)}}},
		"events":      {"v1", "Event", nil}, "services": {"v1", "Service", nil}, "configmaps": {"v1", "ConfigMap", nil},
		"statefulsets": {"apps/v1", "StatefulSet", nil}, "daemonsets": {"apps/v1", "DaemonSet", nil}, "controllerrevisions": {"apps/v1", "ControllerRevision", nil},
		"jobs": {"batch/v1", "Job", nil}, "cronjobs": {"batch/v1", "CronJob", nil}, "horizontalpodautoscalers": {"autoscaling/v2", "HorizontalPodAutoscaler", nil},
	}
	w.Header().Set("Content-Type", "application/json")
	reply := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	q := r.URL.Query()
	list, ok := lists[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
	switch {
	case r.URL.Path == "/version":
		reply(object{"gitVersion": "v1.36.0"})
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		reply(object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": r.URL.Path + " not found"})
	case q.Get("sendInitialEvents") != "":
		w.WriteHeader(http.StatusUnprocessableEntity)
		reply(object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422, "reason": "Invalid"})
	case q.Get("watch") != "":
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	default:
		if list.items == nil {
			list.items = []any{}
		}
		if strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList") {
			list.version, list.kind = "meta.k8s.io/v1", "PartialObjectMetadata"
		}
		reply(object{"apiVersion": list.version, "kind": list.kind + "List", "metadata": object{"resourceVersion": "7"}, "items": list.items})
	}
}
