package entities

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
)

func builtin(t testing.TB) *Map {
	t.Helper()
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Load(store)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestObjectIsWhatAnAlertIsAbout(t *testing.T) {
	m := builtin(t)
	in := func(kind, name string) event.Entity { return event.Entity{Namespace: "shop", Kind: kind, Name: name} }
	for name, tc := range map[string]struct {
		labels map[string]string
		want   event.Entity
	}{
		"a deployment, not the pod of kube-state-metrics": {
			map[string]string{"namespace": "shop", "deployment": "checkout", "pod": "kps-kube-state-metrics-7d4b9c6f5-x2x8q", "job": "kube-state-metrics", "instance": "10.0.0.9:8080"}, in("Deployment", "checkout"),
		},
		"a pod": {
			map[string]string{"namespace": "shop", "pod": "checkout-7d4b9c6f5-x2x8q", "container": "app", "job": "kube-state-metrics", "service": "kps-kube-state-metrics"}, in("Pod", "checkout-7d4b9c6f5-x2x8q"),
		},
		"a pod before the node it runs on": {
			map[string]string{"namespace": "shop", "pod": "checkout-0", "node": "n1"}, in("Pod", "checkout-0"),
		},
		"kube-state-metrics itself": {
			map[string]string{"namespace": "shop", "pod": "kps-kube-state-metrics-7d4b9c6f5-x2x8q", "container": "kube-state-metrics"}, in("Pod", "kps-kube-state-metrics-7d4b9c6f5-x2x8q"),
		},
		"a node, by kube-state-metrics": {
			map[string]string{"namespace": "monitoring", "node": "n1", "pod": "kps-kube-state-metrics-0", "job": "kube-state-metrics"}, event.Entity{Kind: "Node", Name: "n1"},
		},
		"a node, by node-exporter's instance": {
			map[string]string{"namespace": "monitoring", "instance": "n1:9100", "pod": "kps-node-exporter-x2x8q", "job": "node-exporter", "mountpoint": "/"}, event.Entity{Kind: "Node", Name: "n1"},
		},
		"a claim": {
			map[string]string{"namespace": "shop", "persistentvolumeclaim": "pg-0", "node": "n1", "job": "kubelet"}, in("PersistentVolumeClaim", "pg-0"),
		},
		"a job": {
			map[string]string{"namespace": "shop", "job_name": "report-28903321", "job": "kube-state-metrics"}, in("Job", "report-28903321"),
		},
		"a quota": {
			map[string]string{"namespace": "shop", "resourcequota": "compute", "resource": "cpu"}, in("ResourceQuota", "compute"),
		},
		"a target that is down": {
			map[string]string{"namespace": "shop", "job": "checkout", "service": "checkout"}, in("Workload", "checkout"),
		},
		"a mesh's workload": {
			map[string]string{"destination_workload_namespace": "shop", "destination_workload": "checkout"}, in("Workload", "checkout"),
		},
		"a namespace": {map[string]string{"namespace": "shop"}, event.Entity{Kind: "Namespace", Name: "shop"}},
		"the label the metric had wins over the scraper's": {
			map[string]string{"namespace": "monitoring", "exported_namespace": "shop", "exported_pod": "db-0", "pod": "pg-exporter-0"}, in("Pod", "db-0"),
		},
		"nothing of Kubernetes": {map[string]string{"alertname": "SiteDown", "instance": "https://shop.example", "job": "blackbox"}, event.Entity{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := m.Object(tc.labels); got != tc.want {
				t.Errorf("Object(%v) = %v, want %v", tc.labels, got, tc.want)
			}
		})
	}
}

func TestSubjectReadsEveryNamingOfTheSameThing(t *testing.T) {
	m := builtin(t)
	for name, tc := range map[string]struct {
		labels map[string]string
		want   Subject
	}{
		"Prometheus Operator":     {map[string]string{"namespace": "shop", "pod": "web-0", "container": "app"}, Subject{Namespace: "shop", Pod: "web-0", Container: "app"}},
		"OpenTelemetry":           {map[string]string{"k8s_namespace_name": "shop", "k8s_deployment_name": "web", "service_name": "web-api"}, Subject{Namespace: "shop", Workload: "web", Kind: "Deployment"}},
		"Istio":                   {map[string]string{"destination_workload_namespace": "shop", "destination_workload": "web-canary"}, Subject{Namespace: "shop", Workload: "web"}},
		"a node with its port":    {map[string]string{"instance": "10.0.0.1:9100"}, Subject{Node: "10.0.0.1"}},
		"an IPv6 node":            {map[string]string{"instance": "[fd00::1]:9100"}, Subject{Node: "fd00::1"}},
		"a workload we named":     {map[string]string{"namespace": "shop", "workload": "web", "workload_kind": "Rollout"}, Subject{Namespace: "shop", Workload: "web", Kind: "Rollout"}},
		"nothing that is known":   {map[string]string{"le": "0.1"}, Subject{}},
		"a volume of the kubelet": {map[string]string{"namespace": "data", "persistentvolumeclaim": "pg-0", "node": "n1"}, Subject{Namespace: "data", PVC: "pg-0", Node: "n1"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := m.Subject(func(l string) string { return tc.labels[l] }); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
	for label, want := range map[string]bool{"pod": true, "deployment": true, "uid": true, "__name__": true, "le": false, "mountpoint": false} {
		if m.Names(label) != want {
			t.Errorf("Names(%s) = %v, want %v", label, !want, want)
		}
	}
}

func TestAMapThatNamesNoPodIsRefused(t *testing.T) {
	store, err := policy.NewStore(fstest.MapFS{"entities.yaml": {Data: []byte("namespace: [ns]\nworkload: [app]\n")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(store); err == nil || !strings.Contains(err.Error(), "policies/entities.yaml") {
		t.Errorf("got %v, want an error that names the file", err)
	}
}
