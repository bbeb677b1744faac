package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube/kubetest"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// serveMonitored is the script command `monitored`: an API server whose cluster
// has a Prometheus, the one at $PROM, behind the Services monitoring/kps-prometheus,
// which its labels tell, and monitoring/metrics, which nothing tells, and a Loki
// whose one pod is not ready. Its kubeconfig is in the file kubeconfig. With the
// argument forbidden it lets nobody forward a port.
func serveMonitored(ts *testscript.TestScript, _ bool, args []string) {
	u, err := url.Parse(ts.Getenv("PROM"))
	ts.Check(err)
	forwards := &kubetest.Forwards{Port: "9095", Target: u.Host}
	type object = map[string]any
	service := func(name, app string, port object) object {
		return object{"metadata": object{"namespace": "monitoring", "name": name, "labels": object{"app": app}}, "spec": object{"selector": object{"app": app}, "ports": []any{port}}}
	}
	services := map[string]object{
		"kps-prometheus": service("kps-prometheus", "kube-prometheus-stack-prometheus", object{"name": "http-web", "port": 9090, "targetPort": "web"}),
		"metrics":        service("metrics", "metrics", object{"name": "http", "port": 80, "targetPort": 9095}),
		"loki":           service("loki", "loki", object{"name": "http-metrics", "port": 3100}),
	}
	pod := func(ready string) object {
		return object{
			"metadata": object{"namespace": "monitoring", "name": "prometheus-0"},
			"spec":     object{"containers": []any{object{"ports": []any{object{"name": "web", "containerPort": 9095}}}}},
			"status":   object{"conditions": []any{object{"type": "Ready", "status": ready}}},
		}
	}
	api := serve(ts, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		reply := func(code int, v object) {
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(v)
		}
		name, ok := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/monitoring/services/")
		switch {
		case ok && services[name] != nil:
			reply(http.StatusOK, services[name])
		case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews") && r.Method == http.MethodPost:
			reply(http.StatusCreated, object{"status": object{"allowed": true}})
		case r.URL.Path == "/api/v1/services":
			list := []any{}
			for _, n := range sortedNames(services) {
				list = append(list, services[n])
			}
			reply(http.StatusOK, object{"apiVersion": "v1", "kind": "ServiceList", "metadata": object{}, "items": list})
		case r.URL.Path == "/api/v1/namespaces/monitoring/pods":
			ready := "True"
			if r.URL.Query().Get("labelSelector") == "app=loki" {
				ready = "False"
			}
			reply(http.StatusOK, object{"apiVersion": "v1", "kind": "PodList", "metadata": object{}, "items": []any{pod(ready)}})
		case strings.HasSuffix(r.URL.Path, "/portforward") && len(args) > 0:
			reply(http.StatusForbidden, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "pods prometheus-0 is forbidden: ann cannot create resource pods/portforward"})
		case strings.HasSuffix(r.URL.Path, "/portforward"):
			forwards.ServeHTTP(w, r)
		default:
			fakeCluster(w, r)
		}
	})
	ts.Check(os.WriteFile(ts.MkAbs("kubeconfig"), fmt.Appendf(nil, kubeconfig, api), 0o600))
}

// scriptAudited is the script command `audited`: it reads the AUDIT stream.
func scriptAudited(ts *testscript.TestScript, _ bool, args []string) {
	h := openBus(ts, args[0], "")
	defer func() { _ = h.Close() }()
	var all []event.Audit
	ts.Check(h.Bus.Read(context.Background(), event.Audits, bus.ReadOptions{}, func(m bus.Message) error {
		if a, ok := m.Data.(event.Audit); ok {
			all = append(all, a)
		}
		return nil
	}))
	for _, a := range all {
		if a.Service == args[1] && (args[2] == "" || a.Operation == args[2]) && strings.Contains(a.Query, args[3]) && a.Target != "" {
			return
		}
	}
	ts.Fatalf("the bus has %d records, and none of %q", len(all), args[1:])
}

// scriptWrote is the script command `wrote`, and scriptAgain the command `again`.
func scriptWrote(ts *testscript.TestScript, _ bool, args []string) { await(ts, args[0], args[1], 1) }

func scriptAgain(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	await(ts, args[0], args[1], n)
}

func await(ts *testscript.TestScript, file, text string, n int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		got, err := os.ReadFile(ts.MkAbs(file))
		if err == nil && strings.Count(string(got), text) >= n {
			return
		}
		if !upstream.Wait(ctx, 20*time.Millisecond) {
			ts.Fatalf("%s has not %d times %q: %v: %s", file, n, text, err, got)
		}
	}
}
