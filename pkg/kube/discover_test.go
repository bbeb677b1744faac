package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/httpstream"      //nolint:staticcheck // what client-go itself still speaks and returns
	"k8s.io/apimachinery/pkg/util/httpstream/spdy" //nolint:staticcheck // what client-go itself still speaks and returns
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

// forwardServer is an API server that forwards to one address by SPDY, as one
// from before websockets does.
type forwardServer struct {
	mu    sync.Mutex
	conns []httpstream.Connection
}

func (s *forwardServer) serve(t *testing.T, target string) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/services/prom"):
			_, _ = io.WriteString(w, `{"spec":{"selector":{"app":"prom"},"ports":[{"port":9090,"targetPort":"web"}]}}`)
		case strings.HasSuffix(r.URL.Path, "/pods"):
			_, _ = io.WriteString(w, `{"items":[{"metadata":{"name":"prom-0"},"status":{"conditions":[{"type":"Ready","status":"False"}]}},
				{"metadata":{"name":"prom-1"},"spec":{"containers":[{"ports":[{"name":"web","containerPort":9095}]}]},"status":{"conditions":[{"type":"Ready","status":"True"}]}}]}`)
		case strings.HasSuffix(r.URL.Path, "/pods/prom-1/portforward") && strings.EqualFold(r.Header.Get("Upgrade"), "SPDY/3.1"):
			s.forward(w, r, target)
		default:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{}`)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

func (s *forwardServer) forward(w http.ResponseWriter, r *http.Request, target string) {
	if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
		return
	}
	streams := make(chan httpstream.Stream, 16)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(st httpstream.Stream, replied <-chan struct{}) error {
		streams <- st
		return nil
	})
	if conn == nil {
		return
	}
	s.mu.Lock()
	s.conns = append(s.conns, conn)
	s.mu.Unlock()
	for {
		select {
		case <-conn.CloseChan():
			return
		case st := <-streams:
			if st.Headers().Get("streamType") == "error" {
				_ = st.Close()
				continue
			}
			if st.Headers().Get("port") != "9095" {
				_ = st.Reset()
				continue
			}
			go func() {
				up, err := net.Dial("tcp", target)
				if err != nil {
					_ = st.Reset()
					return
				}
				go func() { _, _ = io.Copy(up, st); _ = up.(*net.TCPConn).CloseWrite() }()
				_, _ = io.Copy(st, up)
				_ = st.Close()
			}()
		}
	}
}

func (s *forwardServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

func TestPortForwardReachesAReadyPodAndComesBack(t *testing.T) {
	prom := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode("ready") }))
	t.Cleanup(prom.Close)
	s := &forwardServer{}
	api := s.serve(t, prom.Listener.Addr().String())
	rc := &rest.Config{Host: api.URL}
	c, err := NewForConfig(rc, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	var set Settings
	set.defaults()
	f := &Forwarder{c, rc, set}
	fw, err := f.Forward(t.Context(), Target{Namespace: "monitoring", Service: "prom", Port: "9090"})
	if err != nil {
		t.Fatal(err)
	}
	local := fw.Local
	if host, _, _ := net.SplitHostPort(local); host != "127.0.0.1" {
		t.Errorf("listens on %s, want loopback alone", local)
	}
	get := func() error {
		h := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := h.Get("http://" + local)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		if err == nil && !strings.Contains(string(body), "ready") {
			err = fmt.Errorf("body %q", body)
		}
		return err
	}
	if err := get(); err != nil {
		t.Fatalf("through the forwarding: %v", err)
	}
	s.cut()
	for deadline := time.Now().Add(15 * time.Second); ; {
		if err := get(); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("after the connection was cut: %v", err)
		}
	}
	fw.Stop()
	if err := get(); err == nil {
		t.Error("still forwards after stop")
	}
}
