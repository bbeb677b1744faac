package kube

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// answers is a transport that answers one after the other; the last one stays.
type answers struct {
	list []func() *http.Response
	at   []time.Time
}

func (s *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	res := s.list[min(len(s.at), len(s.list)-1)]()
	s.at = append(s.at, time.Now())
	res.Request = r
	return res, nil
}

func said(status int, after string) func() *http.Response {
	return func() *http.Response {
		h := http.Header{"Content-Type": {"application/json"}}
		if after != "" {
			h.Set("Retry-After", after)
		}
		return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: h, Body: io.NopCloser(strings.NewReader(`{"gitVersion":"v1.37.2","items":[]}`))}
	}
}

func TestABusyAPIServerIsAskedAgainAsItSays(t *testing.T) {
	for name, tc := range map[string]struct {
		list  []func() *http.Response
		calls int
		took  time.Duration
		fails bool
	}{
		"one that says when":               {[]func() *http.Response{said(429, "4"), said(200, "")}, 2, 4 * time.Second, false},
		"a balancer that says nothing":     {[]func() *http.Response{said(502, ""), said(503, ""), said(200, "")}, 3, 2 * time.Second, false},
		"one that stays busy":              {[]func() *http.Response{said(429, "1")}, 4, 3 * time.Second, true},
		"one that asks for more than time": {[]func() *http.Response{said(429, "120"), said(200, "")}, 1, 30 * time.Second, true},
		"one that refuses":                 {[]func() *http.Response{said(403, ""), said(200, "")}, 1, 0, true},
		"one that fails":                   {[]func() *http.Response{said(500, ""), said(200, "")}, 1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for kind, read := range map[string]func(*Client) error{
					"get": func(c *Client) error { _, err := c.Version(t.Context()); return err },
					"list": func(c *Client) error {
						return List(t.Context(), c, "/api/v1/pods", nil, func(*corev1.PodList) {})
					},
				} {
					s := &answers{list: tc.list}
					var audits []event.Audit
					c, err := NewForConfig(&rest.Config{Host: "https://api", Transport: s}, Settings{Audit: func(a event.Audit) { audits = append(audits, a) }})
					if err != nil {
						t.Fatal(err)
					}
					began := time.Now()
					err = read(c)
					if (err != nil) != tc.fails || len(s.at) != tc.calls || time.Since(began) != tc.took {
						t.Errorf("%s: %v after %d calls and %s, want %d and %s", kind, err, len(s.at), time.Since(began), tc.calls, tc.took)
					}
					if len(audits) != tc.calls || audits[0].Target != "api" || audits[0].Status == 0 {
						t.Errorf("%s: on record %+v, want every call with its status", kind, audits)
					}
				}
			})
		})
	}
}

func TestAnAnswerThatIsTooLongIsCut(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"items":[`)
		for range 100 {
			_, _ = io.WriteString(w, `{"metadata":{"name":"`+strings.Repeat("x", 100)+`"}},`)
		}
		_, _ = io.WriteString(w, `{}]}`)
	}))
	t.Cleanup(srv.Close)
	c, err := newClient(&rest.Config{Host: srv.URL}, Config{MaxResponseBytes: 4096}, Settings{}, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func() error{
		"get":  func() error { return c.Get(t.Context(), "/api/v1/pods", nil, &struct{}{}) },
		"list": func() error { return List(t.Context(), c, "/api/v1/pods", nil, func(*corev1.PodList) {}) },
		"log":  func() error { _, err := c.Log(t.Context(), "a", "b", nil, 1<<20); return err },
	} {
		err := read()
		if large, ok := errors.AsType[*TooLargeError](err); !ok || large.Limit != 4096 || Reason(err) != "too large: answer is larger than 4096 bytes" {
			t.Errorf("%s: %v (%s), want that it is too large", name, err, Reason(err))
		}
	}
	if b, err := c.Log(t.Context(), "a", "b", nil, 100); err != nil || len(b) != 100 {
		t.Errorf("the first 100 bytes of a log: %d, %v", len(b), err)
	}
}

// execConfig is a kubeconfig whose user is a program, as managed clusters have
// it.
func execConfig(t *testing.T, server *httptest.Server, script string) string {
	t.Helper()
	dir := t.TempDir()
	plugin := filepath.Join(dir, "token-of-the-cloud")
	if err := os.WriteFile(plugin, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config")
	content := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: a
clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}]
contexts: [{name: a, context: {cluster: c, user: u}}]
users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: %q, args: [get-token], interactiveMode: Never, env: [{name: WHO, value: ann}]}}}]
`, server.URL, base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})), plugin)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAnExecPluginOfAKubeconfigGivesTheToken(t *testing.T) {
	var valid atomic.Value
	valid.Store("Bearer ann-get-token-1")
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Authorization") != valid.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"gitVersion":"v1.37.2","status":{"allowed":true}}`)
	}))
	t.Cleanup(srv.Close)
	count := filepath.Join(t.TempDir(), "count")
	file := execConfig(t, srv, `echo x >> `+count+`
printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s-%s-%d"}}' "$WHO" "$1" "$(wc -l < `+count+`)"
`)
	c, err := New(Config{Kubeconfig: file}, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if v, err := c.Version(t.Context()); err != nil || v.GitVersion != "v1.37.2" {
			t.Fatalf("with the plugin's token: %q, %v", v, err)
		}
	}
	// A token that is refused is asked for anew.
	valid.Store("Bearer ann-get-token-2")
	if _, err := c.Version(t.Context()); !Forbidden(err) {
		t.Errorf("with a token that has expired: %v", err)
	}
	if _, err := c.Version(t.Context()); err != nil {
		t.Errorf("with the next token: %v", err)
	}
	valid.Store("Bearer ann-get-token-3")
	r, err := NewReviewer(Config{Kubeconfig: file}, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, _ = r.Allowed(t.Context(), Right{Verb: "list", Resource: "pods"}) // gets the third token
	if ok, _, err := r.Allowed(t.Context(), Right{Verb: "list", Resource: "pods"}); err != nil || !ok {
		t.Errorf("a reviewer with the plugin's token: %t, %v", ok, err)
	}
}

func TestAnExecPluginThatFailsIsNamed(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	file := execConfig(t, srv, "echo not logged in >&2; exit 1\n")
	c, err := New(Config{Kubeconfig: file}, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Version(t.Context()); err == nil || !strings.Contains(Reason(err), "token-of-the-cloud") {
		t.Errorf("got %v, want the plugin's name", err)
	}
}
