package prometheus

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// told is a series of an answer: at is when a range has it, zero for instants.
type told struct {
	labels map[string]string
	value  float64
	at     time.Time
}

// exporter answers what begins with, or holds, a part of a question.
func exporter(t *testing.T, answers map[string][]told) *Source {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		query := r.Form.Get("query")
		best := ""
		for part := range answers {
			if strings.Contains(query, part) && len(part) > len(best) {
				best = part
			}
		}
		at, _ := strconv.ParseFloat(r.Form.Get("time"), 64)
		ranged := strings.HasSuffix(r.URL.Path, "query_range")
		result := []any{}
		for _, a := range answers[best] {
			value := strconv.FormatFloat(a.value, 'g', -1, 64)
			switch {
			case ranged && !a.at.IsZero():
				result = append(result, map[string]any{"metric": a.labels, "values": [][2]any{{float64(a.at.Unix()), value}}})
			case !ranged && a.at.IsZero():
				result = append(result, map[string]any{"metric": a.labels, "value": [2]any{at, value}})
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": map[bool]string{true: "matrix", false: "vector"}[ranged], "result": result}})
	}))
	t.Cleanup(s.Close)
	return newTestSource(t, builtin(t), s.URL, nil)
}

func of(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func TestPastChangesAreToldFromWhatKubeStateMetricsKept(t *testing.T) {
	to := noon
	from := noon.Add(-12 * time.Hour)
	mid := noon.Add(-6 * time.Hour)
	web := of("namespace", "shop", "deployment", "web")
	rs := func(name string) map[string]string { return of("namespace", "shop", "replicaset", name) }
	owned := []told{
		{of("namespace", "shop", "replicaset", "web-old", "owner_kind", "Deployment", "owner_name", "web"), 1, time.Time{}},
		{of("namespace", "shop", "replicaset", "web-new", "owner_kind", "Deployment", "owner_name", "web"), 1, time.Time{}},
	}
	pods := map[string][]told{
		"kube_replicaset_owner": owned,
		"kube_pod_owner": {
			{of("namespace", "shop", "pod", "web-new-a", "owner_kind", "ReplicaSet", "owner_name", "web-new"), 1, time.Time{}},
			{of("namespace", "data", "pod", "pg-0", "owner_kind", "StatefulSet", "owner_name", "pg"), 1, time.Time{}},
		},
		`kube_pod_owner{owner_kind="ReplicaSet"}`: {
			{of("namespace", "shop", "pod", "web-new-a", "owner_name", "web-new"), 1, time.Time{}},
		},
		"kube_pod_container_info": {
			{of("namespace", "shop", "pod", "web-new-a", "container", "main", "image", "registry/web:v2"), 1, time.Time{}},
			{of("namespace", "data", "pod", "pg-0", "container", "pg", "image_spec", "pg:17", "image", "sha256:abc"), 1, time.Time{}},
		},
	}
	moved := func(metric string, labels map[string]string, old, fresh float64) map[string][]told {
		return map[string][]told{
			"(" + metric + ") != ":          {{labels, fresh, mid}},
			"(" + metric + " offset 1m) !=": {{labels, old, mid}},
		}
	}
	for name, tc := range map[string]struct {
		answers []map[string][]told
		want    string
	}{
		"a ReplicaSet that was made": {
			[]map[string][]told{{"kube_replicaset_created": {{rs("web-new"), float64(mid.Unix()), time.Time{}}}}},
			"rollout shop/deployment/web 06:00 image registry/web:v1 -> registry/web:v2 [web-new]",
		},
		"a ReplicaSet that came back from nothing": {
			[]map[string][]told{moved("kube_replicaset_spec_replicas", rs("web-old"), 0, 3)},
			"rollout shop/deployment/web 06:00 pod template changed [web-old-1795500000]",
		},
		"a ReplicaSet that only grew": {
			[]map[string][]told{moved("kube_replicaset_spec_replicas", rs("web-old"), 2, 3)}, "",
		},
		"replicas of a Deployment": {
			[]map[string][]told{moved("kube_deployment_spec_replicas", web, 3, 5)},
			"scale shop/deployment/web 06:00 replicas 3 -> 5 [r5-1795500000]",
		},
		"a StatefulSet's template": {
			[]map[string][]told{moved("kube_statefulset_metadata_generation", of("namespace", "data", "statefulset", "pg"), 4, 5)},
			"rollout data/statefulset/pg 06:00 image pg:16 -> pg:17 [g5]",
		},
		"a StatefulSet's replicas, which its generation counts too": {
			[]map[string][]told{
				moved("kube_statefulset_metadata_generation", of("namespace", "data", "statefulset", "pg"), 4, 5),
				moved("kube_statefulset_replicas", of("namespace", "data", "statefulset", "pg"), 1, 2),
			},
			"scale data/statefulset/pg 06:00 replicas 1 -> 2 [r2-1795500000]",
		},
		"a Deployment's generation, where no ReplicaSet is exported": {
			[]map[string][]told{moved("kube_deployment_metadata_generation", web, 7, 8), {"kube_replicaset_owner": nil}},
			"rollout shop/deployment/web 06:00 pod template changed [g8]",
		},
		"the bounds of an autoscaler": {
			[]map[string][]told{
				moved("kube_horizontalpodautoscaler_spec_max_replicas", of("namespace", "shop", "horizontalpodautoscaler", "web"), 5, 10),
				{"kube_horizontalpodautoscaler_info": {{of("namespace", "shop", "horizontalpodautoscaler", "web", "scaletargetref_kind", "Deployment", "scaletargetref_name", "web"), 1, time.Time{}}}},
			},
			"autoscaler shop/deployment/web 06:00 autoscaler web: at most 5 -> 10 replicas [web-10-1795500000]",
		},
		"a node that was cordoned": {
			[]map[string][]told{moved("kube_node_spec_unschedulable", of("node", "node-1"), 0, 1)},
			"node node/node-1 06:00 cordoned [cordoned-1795500000]",
		},
		"nothing at all": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			answers := map[string][]told{}
			for _, m := range append([]map[string][]told{pods}, tc.answers...) {
				for k, v := range m {
					answers[k] = v
				}
			}
			d := &Deployed{Images: map[string]map[string]string{"shop/deployment/web": {"main": "registry/web:v1"}, "data/statefulset/pg": {"pg": "pg:16"}}}
			changes, err := exporter(t, answers).PastChanges(t.Context(), from, to, d, 0)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range changes {
				got = append(got, fmt.Sprintf("%s %s %s %s [%s]", c.Kind, c.Entity, c.Time.Format("15:04"), c.Summary, c.Revision))
			}
			if strings.Join(got, "; ") != tc.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "; "), tc.want)
			}
			if _, ok := answers["kube_replicaset_owner"]; ok && answers["kube_replicaset_owner"] != nil && d.Images["shop/deployment/web"]["main"] != "registry/web:v2" {
				t.Errorf("remembered %v", d.Images)
			}
		})
	}
}

func TestPastTopologySaysWhoRanWhere(t *testing.T) {
	s := exporter(t, map[string][]told{
		"kube_pod_owner":        {{of("namespace", "shop", "pod", "web-new-a", "owner_kind", "ReplicaSet", "owner_name", "web-new"), 1, time.Time{}}},
		"kube_replicaset_owner": {{of("namespace", "shop", "replicaset", "web-new", "owner_kind", "Deployment", "owner_name", "web"), 1, time.Time{}}},
		"kube_pod_info": {
			{of("namespace", "shop", "pod", "web-new-a", "node", "node-1"), 1, time.Time{}},
			{of("namespace", "shop", "pod", "nobodys", "node", "node-1"), 1, time.Time{}},
		},
	})
	got, err := s.PastTopology(t.Context(), noon, 0)
	want := event.Topology{Entity: event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}, Pods: []event.Placement{{Pod: "web-new-a", Node: "node-1"}}}
	if err != nil || len(got) != 1 || got[0].Entity != want.Entity || len(got[0].Pods) != 1 || got[0].Pods[0] != want.Pods[0] || got[0].Version == "" || !got[0].Time.Equal(noon) {
		t.Errorf("%+v, %v", got, err)
	}
}
