package reasoner

import (
	"testing"
	"testing/fstest"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	shipped "github.com/oncall-copilot/oncall/policies"
)

func TestTheQueryBehindAnAnomalyIsOneThatPrometheusUnderstands(t *testing.T) {
	store, err := policy.NewStore(shipped.FS, fstest.MapFS{"slo.yaml": {Data: []byte(
		`objectives: [{name: pay, target: 0.999, errors: "sum by (namespace, deployment) (bad)", total: "sum by (namespace, deployment) (all)"}]`)}})
	if err != nil {
		t.Fatal(err)
	}
	q, err := loadQueries(store)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		family, signal string
		entity         event.Entity
		want           string
	}{
		"pods are those of the workload": {
			"http_requests_total", "request_rate",
			event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"},
			`sum by (namespace, pod) (rate(http_requests_total{namespace="shop",pod=~"web-.*"}[5m]))`,
		},
		"a mesh has its own names": {
			"istio", "request_rate",
			event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"},
			`sum by (destination_workload_namespace, destination_workload) (rate(istio_requests_total{reporter=~"destination|waypoint", destination_workload_namespace="shop",destination_workload="web"}[5m]))`,
		},
		"a node has no namespace": {
			"kube_state_metrics", "node_ready",
			event.Entity{Kind: "Node", Name: "n1"},
			`max by (node) (kube_node_status_condition{condition="Ready",status="true", node="n1"})`,
		},
		"an objective is shown by its own queries": {
			"slo_pay", "slo_errors",
			event.Entity{Namespace: "shop", Kind: "Deployment", Name: "pay"},
			`(sum by (namespace, deployment) (bad{namespace="shop",deployment="pay"})) / (sum by (namespace, deployment) (all{namespace="shop",deployment="pay"}))`,
		},
		"a signal that is in no family stays as it is": {"mine", "odd", event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}, "odd{}"},
	} {
		t.Run(name, func(t *testing.T) {
			inc := event.Incident{Anomalies: []event.Anomaly{{
				Entity: c.entity, Labels: map[string]string{event.LabelFamily: c.family, event.LabelName: c.signal},
				Evidence: []event.EvidenceRef{{Source: "prometheus", Query: "odd{}"}},
			}}}
			if got := q.written(inc).Anomalies[0].Evidence[0].Query; got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if inc.Anomalies[0].Evidence[0].Query != "odd{}" {
				t.Error("the incident itself was changed")
			}
		})
	}
}
