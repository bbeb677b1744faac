package kube

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

func svc(ns, name string, labels string, ports string) string {
	return fmt.Sprintf(`{"metadata":{"namespace":%q,"name":%q,"labels":%s},"spec":{"clusterIP":"10.0.0.1","selector":{"a":"b"},"ports":[%s]}}`, ns, name, labels, ports)
}

func TestDiscoverKnowsTheLabelsOfTheCharts(t *testing.T) {
	const web, http9090, loki = `{"name":"http-web","port":9090}`, `{"name":"http","port":9090}`, `{"name":"http-metrics","port":3100}`
	srv := newRecorder(t, `{"items":[`+strings.Join([]string{
		svc("monitoring", "kps-prometheus", `{"app":"kube-prometheus-stack-prometheus"}`, web),
		svc("monitoring", "prometheus-operated", `{"operated-prometheus":"true"}`, web),
		svc("monitoring", "kps-alertmanager", `{"app":"kube-prometheus-stack-alertmanager"}`, `{"name":"http-web","port":9093}`),
		svc("monitoring", "kps-operator", `{"app":"kube-prometheus-stack-operator"}`, `{"name":"https","port":443}`),
		svc("thanos", "query-frontend", `{"app.kubernetes.io/name":"thanos","app.kubernetes.io/component":"query-frontend"}`, http9090),
		svc("mimir", "mimir-gateway", `{"app.kubernetes.io/name":"mimir","app.kubernetes.io/component":"gateway"}`, `{"name":"http-metrics","port":80}`),
		svc("logs", "loki", `{"app.kubernetes.io/name":"loki"}`, loki),
		svc("logs", "loki-gateway", `{"app.kubernetes.io/name":"loki","app.kubernetes.io/component":"gateway"}`, `{"name":"http-metrics","port":80}`),
		svc("logs", "loki-canary", `{"app.kubernetes.io/name":"loki","app.kubernetes.io/component":"canary"}`, loki),
		svc("logs", "loki-memberlist", `{"app.kubernetes.io/name":"loki"}`, `{"name":"tcp","port":7946}`),
		svc("shop", "checkout", `{"app":"checkout"}`, `{"name":"http","port":80}`),
	}, ",")+`]}`)
	c, err := NewForConfig(&rest.Config{Host: srv.URL}, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	found, err := Discover(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, fmt.Sprintf("%s %s:%d%s", f.Source, f, f.Port, f.Path))
	}
	want := []string{
		"prometheus prometheus monitoring/kps-prometheus:9090", "prometheus thanos thanos/query-frontend:9090", "prometheus mimir mimir/mimir-gateway:80/prometheus",
		"prometheus prometheus monitoring/prometheus-operated:9090", "loki loki logs/loki-gateway:80", "loki loki logs/loki:3100", "alertmanager alertmanager monitoring/kps-alertmanager:9093",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got, want := found[0].Host(), "kps-prometheus.monitoring.svc:9090"; got != want {
		t.Errorf("pods reach it as %s, want %s", got, want)
	}
}
