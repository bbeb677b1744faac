package kube

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// recorder is an API server that remembers what reached it.
type recorder struct {
	*httptest.Server
	mu  sync.Mutex
	got []string
}

func newRecorder(t *testing.T, answer string) *recorder {
	t.Helper()
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.got = append(r.got, req.Method+" "+req.URL.Path)
		r.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(r.Close)
	return r
}

func TestNoVerbButGetReachesTheCluster(t *testing.T) {
	srv := newRecorder(t, `{}`)
	c, err := NewForConfig(&rest.Config{Host: srv.URL}, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	typed, err := c.REST(corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	pod := &corev1.Pod{}
	pods := func(r *rest.Request) *rest.Request { return r.Namespace("shop").Resource("pods") }
	for name, send := range map[string]func() error{
		"post": func() error { return pods(typed.Post()).Body(pod).Do(ctx).Error() },
		"put":  func() error { return pods(typed.Put()).Name("a").Body(pod).Do(ctx).Error() },
		"patch": func() error {
			return pods(typed.Patch(types.MergePatchType)).Name("a").Body([]byte(`{}`)).Do(ctx).Error()
		},
		"delete": func() error { return pods(typed.Delete()).Name("a").Do(ctx).Error() },
		"raw post": func() error {
			_, err := c.http.Post(srv.URL+"/api/v1/namespaces/shop/pods", "application/json", strings.NewReader("{}"))
			return err
		},
		"get of a secret":      func() error { return c.Get(ctx, "/api/v1/namespaces/shop/secrets/db", nil, &struct{}{}) },
		"list of secrets":      func() error { return c.Get(ctx, "/api/v1/secrets", nil, &struct{}{}) },
		"exec":                 func() error { return c.Get(ctx, "/api/v1/namespaces/shop/pods/a/exec", nil, &struct{}{}) },
		"portforward":          func() error { return c.Get(ctx, "/api/v1/namespaces/shop/pods/a/portforward", nil, &struct{}{}) },
		"proxy of a pod":       func() error { return c.Get(ctx, "/api/v1/namespaces/shop/pods/a/proxy/x", nil, &struct{}{}) },
		"proxy of a node":      func() error { return c.Get(ctx, "/api/v1/nodes/n/proxy/configz", nil, &struct{}{}) },
		"deprecated watch":     func() error { return c.Get(ctx, "/api/v1/watch/secrets", nil, &struct{}{}) },
		"dots around a secret": func() error { return c.Get(ctx, "/api/v1/namespaces/shop/pods/../secrets/db", nil, &struct{}{}) },
		"escaped slash": func() error {
			_, err := c.http.Get(srv.URL + "/api/v1/namespaces/shop%2Fsecrets")
			return err
		},
		"something else":          func() error { return c.Get(ctx, "/logs/kube-apiserver.log", nil, &struct{}{}) },
		"a secret of a namespace": func() error { return typed.Get().Namespace("shop").Resource("secrets").Name("db").Do(ctx).Error() },
	} {
		t.Run(name, func(t *testing.T) {
			if err := send(); err == nil {
				t.Error("was sent")
			}
		})
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for _, got := range srv.got {
		// A client may clean a path before it sends it; what matters is what arrives.
		if !strings.HasPrefix(got, "GET ") || strings.Contains(got, "secrets") {
			t.Errorf("reached the cluster: %s", got)
		}
	}
}

func TestTheGuardSaysWhatItRefused(t *testing.T) {
	srv := newRecorder(t, `{}`)
	c, err := NewForConfig(&rest.Config{Host: srv.URL + "/k8s/clusters/c-1"}, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.http.Post(srv.URL+"/k8s/clusters/c-1/api/v1/namespaces/shop/pods", "", nil)
	refused, ok := errors.AsType[*RefusedError](err)
	if !ok || refused.Method != "POST" || refused.Path != "/api/v1/namespaces/shop/pods" {
		t.Fatalf("err = %v, want a RefusedError without the prefix", err)
	}
	if err := c.Get(t.Context(), "/api/v1/namespaces/shop/pods/a/log", nil, &struct{}{}); err != nil {
		t.Errorf("a pod's log behind a prefix: %v", err)
	}
}

func TestEveryCallIsAudited(t *testing.T) {
	srv := newRecorder(t, `{"items":[]}`)
	var got []event.Audit
	c, err := NewForConfig(&rest.Config{Host: srv.URL}, Settings{Service: "collector", Name: "prod", Audit: func(a event.Audit) { got = append(got, a) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/pods", "/api/v1/namespaces/shop/pods/a"} {
		if err := c.Get(context.Background(), path, nil, &struct{}{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 2 || got[0].Operation != "list" || got[1].Operation != "get" || got[1].Query != "/api/v1/namespaces/shop/pods/a" || got[0].Bytes != 12 || got[0].Instance != "prod" {
		t.Errorf("audits = %+v", got)
	}
}

func TestAReviewerAsksForRightsAndNothingElse(t *testing.T) {
	for path, want := range map[string]bool{
		"POST " + reviewPath:                   true,
		"GET " + reviewPath:                    false,
		"POST /api/v1/namespaces/shop/pods":    false,
		"DELETE " + reviewPath:                 false,
		"GET /api/v1/namespaces/shop/secrets/": false,
	} {
		method, p, _ := strings.Cut(path, " ")
		if got := reviewOnly(method, p, false) == ""; got != want {
			t.Errorf("%s permitted = %t, want %t", path, got, want)
		}
	}
	srv := newRecorder(t, `{"status":{"allowed":true,"reason":"RBAC"}}`)
	c, err := newClient(&rest.Config{Host: srv.URL}, Config{}, Settings{}, reviewOnly)
	if err != nil {
		t.Fatal(err)
	}
	ok, reason, err := (&Reviewer{c}).Allowed(t.Context(), Right{Verb: "list", Resource: "pods"})
	if err != nil || !ok || reason != "RBAC" {
		t.Errorf("allowed = %t, %q, %v", ok, reason, err)
	}
}

func TestNeededRightsNeverNameSecretsOrWrites(t *testing.T) {
	for _, r := range Needed() {
		if r.Resource == "secrets" || strings.Contains(r.String(), "*") || r.Verb != "get" && r.Verb != "list" && r.Verb != "watch" {
			t.Errorf("needed: %s", r)
		}
	}
}

func FuzzReadOnly(f *testing.F) {
	for _, p := range []string{"/api/v1/pods", "/api/v1/namespaces/a/secrets/b", "/apis/apps/v1/deployments", "/api/v1/namespaces/a/pods/b/exec", "//api/v1/secrets", "/api/v1/secrets/"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if readOnly(http.MethodGet, path, false) != "" {
			return
		}
		parts := strings.Split(strings.Trim(path, "/"), "/")
		// Where the API server would find the resource.
		if len(parts) >= 3 && parts[0] == "api" && (parts[2] == "secrets" || len(parts) >= 5 && parts[2] == "namespaces" && parts[4] == "secrets") {
			t.Errorf("permitted %q", path)
		}
	})
}
