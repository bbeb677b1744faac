package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// served is a kind that the API server of health's script has.
type served struct{ resource, version, kind string }

// servedKinds are found by the kind of an object in the script's file.
var servedKinds = []served{
	{"pods", "v1", "Pod"},
	{"events", "v1", "Event"},
	{"nodes", "v1", "Node"},
	{"namespaces", "v1", "Namespace"},
	{"services", "v1", "Service"},
	{"persistentvolumeclaims", "v1", "PersistentVolumeClaim"},
	{"persistentvolumes", "v1", "PersistentVolume"},
	{"resourcequotas", "v1", "ResourceQuota"},
	{"deployments", "apps/v1", "Deployment"},
	{"statefulsets", "apps/v1", "StatefulSet"},
	{"daemonsets", "apps/v1", "DaemonSet"},
	{"jobs", "batch/v1", "Job"},
	{"cronjobs", "batch/v1", "CronJob"},
	{"replicasets", "apps/v1", "ReplicaSet"},
	{"configmaps", "v1", "ConfigMap"},
	{"serviceaccounts", "v1", "ServiceAccount"},
	{"horizontalpodautoscalers", "autoscaling/v2", "HorizontalPodAutoscaler"},
	{"poddisruptionbudgets", "policy/v1", "PodDisruptionBudget"},
	{"networkpolicies", "networking.k8s.io/v1", "NetworkPolicy"},
	{"clusterroles", "rbac.authorization.k8s.io/v1", "ClusterRole"},
}

// serveObjects is the script command `objects FILE [RESOURCE…]`: an API server
// that holds the objects of a file, in which AGO(5m) stands for a time, and
// forbids the resources, or all of them. Its kubeconfig is in the file kubeconfig. An object of
// kind Log is the log of a container: its name is pod/container, with /previous
// behind it for the one before.
func serveObjects(ts *testscript.TestScript, _ bool, args []string) {
	now := time.Now()
	text := ts.ReadFile(args[0])
	for {
		before, rest, ok := strings.Cut(text, "AGO(")
		if !ok {
			break
		}
		span, after, _ := strings.Cut(rest, ")")
		d, err := time.ParseDuration(span)
		ts.Check(err)
		text = before + now.Add(-d).UTC().Format(time.RFC3339) + after
	}
	lists := map[string][]map[string]any{}
	logs := map[string]string{}
	for doc := range strings.SplitSeq(text, "\n---\n") {
		var o map[string]any
		ts.Check(yaml.Unmarshal([]byte(doc), &o))
		if o["kind"] == "Log" {
			logs[o["name"].(string)] = o["text"].(string)
			continue
		}
		i := slices.IndexFunc(servedKinds, func(s served) bool { return s.kind == o["kind"] })
		if i < 0 {
			ts.Fatalf("kind %v is not served", o["kind"])
		}
		lists[servedKinds[i].resource] = append(lists[servedKinds[i].resource], o)
	}
	forbidden := args[1:]
	url := serve(ts, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		reply := func(code int, v map[string]any) {
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(v)
		}
		status := func(code int, reason, message string) {
			reply(code, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
		}
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		resource := parts[len(parts)-1]
		namespace := ""
		if i := slices.Index(parts, "namespaces"); i >= 0 && i+1 < len(parts) {
			namespace = parts[i+1]
			if i+2 == len(parts) { // the namespace itself
				if !slices.ContainsFunc(lists["namespaces"], func(o map[string]any) bool { return o["metadata"].(map[string]any)["name"] == namespace }) {
					status(http.StatusNotFound, "NotFound", "no such namespace")
					return
				}
				reply(http.StatusOK, map[string]any{"kind": "Namespace", "apiVersion": "v1"})
				return
			}
		}
		if n := len(parts); n > 3 && parts[n-1] == "log" {
			name := parts[n-2] + "/" + r.URL.Query().Get("container")
			if r.URL.Query().Get("previous") != "" {
				name += "/previous"
			}
			text, ok := logs[name]
			switch {
			case slices.Contains(forbidden, "pods/log"):
				status(http.StatusForbidden, "Forbidden", `pods "x" is forbidden: User "ann" cannot get resource "pods/log"`)
			case !ok:
				status(http.StatusBadRequest, "BadRequest", "previous terminated container not found")
			default:
				_, _ = fmt.Fprint(w, text)
			}
			return
		}
		if i := slices.Index(parts, "services"); i >= 0 && i+2 == len(parts) { // one of them
			for _, o := range lists["services"] {
				if meta := o["metadata"].(map[string]any); meta["namespace"] == namespace && meta["name"] == resource {
					reply(http.StatusOK, o)
					return
				}
			}
		}
		i := slices.IndexFunc(servedKinds, func(s served) bool { return s.resource == resource })
		version, kind := "", ""
		if i >= 0 {
			if version, kind = servedKinds[i].version, servedKinds[i].kind; strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadataList") {
				version, kind = "meta.k8s.io/v1", "PartialObjectMetadata"
			}
		}
		switch {
		case r.URL.Path == "/version":
			reply(http.StatusOK, map[string]any{"gitVersion": "v1.36.0"})
		case slices.Contains(forbidden, resource) || slices.Contains(forbidden, "all"):
			status(http.StatusForbidden, "Forbidden", resource+` is forbidden: User "ann" cannot list resource "`+resource+`"`)
		case i < 0 || r.URL.Query().Get("fieldSelector") == "type=Normal,reason=NodeNotReady":
			status(http.StatusNotFound, "NotFound", "the server could not find the requested resource")
		default:
			items := []map[string]any{}
			for _, o := range lists[resource] {
				meta := o["metadata"].(map[string]any)
				if (namespace == "" || meta["namespace"] == namespace) && (resource != "pods" || selected(meta, r.URL.Query().Get("labelSelector"))) {
					items = append(items, o)
				}
			}
			reply(http.StatusOK, map[string]any{"kind": kind + "List", "apiVersion": version, "metadata": map[string]any{}, "items": items})
		}
	})
	ts.Check(os.WriteFile(ts.MkAbs("kubeconfig"), fmt.Appendf(nil, kubeconfig, url), 0o600))
}

// selected says whether a selector fits the labels of an object.
func selected(meta map[string]any, selector string) bool {
	sel, err := labels.Parse(selector)
	own := labels.Set{}
	of, _ := meta["labels"].(map[string]any)
	for k, v := range of {
		own[k] = fmt.Sprint(v)
	}
	return err == nil && sel.Matches(own)
}
