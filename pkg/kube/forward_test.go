package kube

import (
	"context"
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

	"k8s.io/client-go/rest"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube/kubetest"
)

// forwardServer is an API server with Services of the namespace monitoring,
// whose one ready pod forwards port 9095 to an address.
func forwardServer(t *testing.T, f *kubetest.Forwards) *httptest.Server {
	t.Helper()
	const selector = `"selector":{"app":"prom"}`
	services := map[string]string{
		"prom":     `{"metadata":{"namespace":"monitoring","name":"prom"},"spec":{` + selector + `,"ports":[{"name":"http-web","port":9090,"targetPort":"web"},{"name":"dns","port":53,"protocol":"UDP"}]}}`,
		"mimir":    `{"metadata":{"namespace":"monitoring","name":"mimir","labels":{"app.kubernetes.io/name":"mimir","app.kubernetes.io/component":"gateway"}},"spec":{` + selector + `,"ports":[{"name":"http-metrics","port":80,"targetPort":9095}]}}`,
		"safe":     `{"metadata":{"namespace":"monitoring","name":"safe"},"spec":{` + selector + `,"ports":[{"name":"https","port":9091,"targetPort":"sidecar"}]}}`,
		"bare":     `{"metadata":{"namespace":"monitoring","name":"bare"},"spec":{"ports":[{"port":9090}]}}`,
		"other":    `{"metadata":{"namespace":"monitoring","name":"other"},"spec":{` + selector + `,"ports":[{"port":9090,"targetPort":"nope"}]}}`,
		"sleeping": `{"metadata":{"namespace":"monitoring","name":"sleeping"},"spec":{"selector":{"app":"sleeping"},"ports":[{"port":9090}]}}`,
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		parts := strings.Split(r.URL.Path, "/")
		last := parts[len(parts)-1]
		switch {
		case strings.Contains(r.URL.Path, "/services/"):
			if s, ok := services[last]; ok {
				_, _ = io.WriteString(w, s)
				return
			}
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":404,"reason":"NotFound","message":"services \"nope\" not found"}`)
		case r.URL.Query().Get("labelSelector") == "app=sleeping":
			_, _ = io.WriteString(w, `{"items":[{"metadata":{"name":"s-0"}}]}`)
		case last == "pods":
			_, _ = io.WriteString(w, `{"items":[{"metadata":{"name":"prom-0"},"status":{"conditions":[{"type":"Ready","status":"False"}]}},
				{"metadata":{"name":"prom-1"},"spec":{"containers":[{"ports":[{"name":"web","containerPort":9095}]}],"initContainers":[{"ports":[{"name":"sidecar","containerPort":9095}]}]},"status":{"conditions":[{"type":"Ready","status":"True"}]}}]}`)
		case strings.HasSuffix(r.URL.Path, "/pods/prom-1/portforward"):
			f.ServeHTTP(w, r)
		default:
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

// forwarder is one on a server, with the record of what it asked.
func forwarder(t *testing.T, api string) (*Forwarder, func() []event.Audit) {
	t.Helper()
	var mu sync.Mutex
	var got []event.Audit
	set := Settings{Service: "cli", Audit: func(a event.Audit) { mu.Lock(); got = append(got, a); mu.Unlock() }}
	set.defaults()
	rc := &rest.Config{Host: api}
	c, err := NewForConfig(rc, set)
	if err != nil {
		t.Fatal(err)
	}
	return &Forwarder{c, rc, set}, func() []event.Audit { mu.Lock(); defer mu.Unlock(); return got }
}

// ask reads through a forwarding.
func ask(address string) (string, error) {
	h := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := h.Get(address)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func TestAForwardingReachesAReadyPodAndComesBack(t *testing.T) {
	prom := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode("ready " + r.URL.Path) }))
	t.Cleanup(prom.Close)
	s := &kubetest.Forwards{Port: "9095", Target: prom.Listener.Addr().String()}
	f, audits := forwarder(t, forwardServer(t, s).URL)
	opening, opened := context.WithCancel(t.Context())
	fw, err := f.Forward(opening, Target{Namespace: "monitoring", Service: "prom", Port: "http-web"})
	if err != nil {
		t.Fatal(err)
	}
	opened() // the context bounds the opening alone
	if host, _, _ := net.SplitHostPort(fw.Local); host != "127.0.0.1" || fw.Port != "9090" || fw.Scheme != "http" || fw.URL() != "http://"+fw.Local {
		t.Errorf("forwarding %+v at %s, want one on loopback alone, to port 9090", fw.Target, fw.URL())
	}
	if got, err := ask(fw.URL() + "/x"); err != nil || !strings.Contains(got, "ready /x") {
		t.Fatalf("through the forwarding: %q, %v", got, err)
	}
	var last event.Audit
	for _, a := range audits() {
		if strings.HasSuffix(a.Query, "/portforward") {
			last = a
		}
	}
	if last.Operation != "create" || last.Query != "/api/v1/namespaces/monitoring/pods/prom-1/portforward" || last.Status != http.StatusSwitchingProtocols || last.Error != "" || !strings.HasPrefix(last.Target, "127.0.0.1:") {
		t.Errorf("on record: %+v, want the create of a pod's portforward", last)
	}
	s.Cut()
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err := ask(fw.URL()); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("after the connection was cut: %v", err)
		}
	}
	fw.Stop()
	if _, err := ask(fw.URL()); err == nil {
		t.Error("still forwards after Stop")
	}
}

func TestAForwardingSpeaksAsTheServiceSays(t *testing.T) {
	s := &kubetest.Forwards{Port: "9095", Target: "127.0.0.1:1"}
	f, _ := forwarder(t, forwardServer(t, s).URL)
	for name, c := range map[string]struct {
		target            Target
		url, name, source string // of the URL: what stands around the address
	}{
		"a port that is called https":  {Target{Namespace: "monitoring", Service: "safe", Port: "9091"}, "https://%s", "safe.monitoring.svc", ""},
		"https that is asked for":      {Target{Namespace: "monitoring", Service: "prom", Port: "9090", Scheme: "https"}, "https://%s", "prom.monitoring.svc", ""},
		"a prefix that labels tell":    {Target{Namespace: "monitoring", Service: "mimir", Port: "80"}, "http://%s/prometheus", "mimir.monitoring.svc", "prometheus"},
		"a prefix that is asked for":   {Target{Namespace: "monitoring", Service: "mimir", Port: "80", Path: "/p"}, "http://%s/p", "mimir.monitoring.svc", "prometheus"},
		"a port that a sidecar serves": {Target{Namespace: "monitoring", Service: "safe", Port: "https"}, "https://%s", "safe.monitoring.svc", ""},
	} {
		t.Run(name, func(t *testing.T) {
			fw, err := f.Forward(t.Context(), c.target)
			if err != nil {
				t.Fatal(err)
			}
			defer fw.Stop()
			if want := fmt.Sprintf(c.url, fw.Local); fw.URL() != want || fw.ServerName() != c.name || fw.Source != c.source {
				t.Errorf("%s for %s (%s), want %s for %s (%s)", fw.URL(), fw.ServerName(), fw.Source, want, c.name, c.source)
			}
		})
	}
}

func TestAForwardingThatCannotBeSaysWhy(t *testing.T) {
	f, _ := forwarder(t, forwardServer(t, &kubetest.Forwards{}).URL)
	for name, c := range map[string]struct{ service, port, want string }{
		"another port":                  {"prom", "1", "it has no port 1; its ports are 9090 (http-web), 53 (dns)"},
		"a port of UDP":                 {"prom", "53", "its port 53 is UDP, which cannot be forwarded"},
		"no such service":               {"nope", "9090", "not found"},
		"a service without pods":        {"bare", "9090", "it selects no pods"},
		"no pod that is ready":          {"sleeping", "9090", "none of its 1 pods is ready"},
		"a port that no pod goes by":    {"other", "9090", "none of its 1 ready pods has a port called nope"},
		"a target that is no name here": {"../secrets", "9090", "Secrets are never read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Forward(t.Context(), Target{Namespace: "monitoring", Service: c.service, Port: c.port})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A server that is silent must not hold a command for ever.
func TestAnOpeningEndsWithItsContext(t *testing.T) {
	block, dialled := make(chan struct{}), make(chan struct{})
	var once sync.Once
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.Contains(r.URL.Path, "/services/"):
			_, _ = io.WriteString(w, `{"spec":{"selector":{"a":"b"},"ports":[{"port":9090}]}}`)
		case strings.HasSuffix(r.URL.Path, "/pods"):
			_, _ = io.WriteString(w, `{"items":[{"metadata":{"name":"p"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}]}`)
		default:
			once.Do(func() { close(dialled) })
			<-block
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(block) })
	f, _ := forwarder(t, srv.URL)
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := make(chan error, 1) // it ends before it is read
	go func() {
		_, err := f.Forward(ctx, Target{Namespace: "m", Service: "s", Port: "9090"})
		asked <- err
	}()
	<-dialled
	cancel(fmt.Errorf("not found in 8s"))
	if err := <-asked; err == nil || !strings.Contains(err.Error(), "not found in 8s") {
		t.Errorf("got %v, want the cause of the end", err)
	}
}
