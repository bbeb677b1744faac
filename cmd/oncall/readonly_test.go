package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// taped remembers every request that reaches a server.
type taped struct {
	next http.HandlerFunc

	mu  sync.Mutex
	got []string // METHOD path
	bad []string
}

func (s *taped) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.got = append(s.got, r.Method+" "+r.URL.Path)
	if r.Header.Get("Upgrade") != "" {
		s.bad = append(s.bad, "upgrade "+r.URL.Path)
	}
	s.mu.Unlock()
	s.next(w, r)
}

func (s *taped) saw(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.got, func(g string) bool { return strings.Contains(g, path) })
}

// Every service runs as in oncall up, and is asked everything it can be asked:
// what reaches the cluster is get, list and watch.
func TestWhatTheServicesSendIsReadOnly(t *testing.T) {
	cluster := &taped{next: fakeCluster}
	prometheus := &taped{next: fakePrometheus(time.Now().Add(-10 * time.Minute))}
	loki := &taped{next: fakeLoki}
	alertmanager := &taped{next: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") }}
	address := map[*taped]string{}
	for _, s := range []*taped{cluster, prometheus, loki, alertmanager} {
		srv := httptest.NewServer(s)
		t.Cleanup(srv.Close)
		address[s] = srv.URL
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, fmt.Appendf(nil, kubeconfig, address[cluster]), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &options{}
	var err error
	if o.audits, err = openAudits("", "test", ""); err != nil {
		t.Fatal(err)
	}
	cfg, err := o.load()
	if err != nil {
		t.Fatal(err)
	}
	f := upFlags{
		clusterFlags: clusterFlags{kubeconfig: file}, step: time.Second,
		sourceFlags: sourceFlags{prometheus: address[prometheus], loki: address[loki], alertmanager: address[alertmanager]},
	}
	stop, err := f.sources(t.Context(), o, cfg, func(string, ...any) {})
	defer stop()
	if err != nil {
		t.Fatal(err)
	}
	h, err := pipeline.Open(t.Context(), cfg, pipeline.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1) // read once, below
	go func() { done <- h.Run(ctx, pipeline.Services...) }()
	remote := evidence.NewRemote(h.Bus, 20*time.Second)
	now := time.Now()
	for _, expr := range []string{
		"object deployment shop/web", "object node node-1", "object service shop/web", "object configmap shop/web", "object rollout shop/web",
		"pods shop deployment/web", "events shop deployment/web", "events node/node-1", "logs shop/web-7d4b9c6f5-x2x8q app", "logs shop/web-7d4b9c6f5-x2x8q app previous",
		"object secret shop/web", "object pod shop/../secrets",
	} {
		_, _ = remote.Retrieve(ctx, evidence.Query{Source: evidence.Kubernetes, Expr: expr, Start: now.Add(-time.Hour), End: now}) // what it answers is no matter
	}
	_, _ = remote.Retrieve(ctx, evidence.Query{Source: evidence.Prometheus, Expr: "up", End: now})
	_, _ = remote.Retrieve(ctx, evidence.Query{Source: evidence.Loki, Expr: `{a="b"}`, End: now})
	waiting, ended := context.WithTimeout(ctx, 2*time.Minute)
	defer ended()
	for _, need := range []struct {
		s    *taped
		path string
	}{
		{cluster, "/namespaces/shop/deployments/web"},
		{cluster, "/pods/web-7d4b9c6f5-x2x8q/log"},
		{cluster, "/api/v1/pods"},
		{cluster, "/apis/batch/v1/cronjobs"},
		{prometheus, "/api/v1/query"},
		{loki, "/loki/api/v1/query_range"},
		{alertmanager, "/api/v2/alerts"},
	} {
		for !need.s.saw(need.path) {
			if !upstream.Wait(waiting, 20*time.Millisecond) {
				t.Fatalf("nobody asked for %s", need.path)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	for _, got := range cluster.got {
		if !strings.HasPrefix(got, "GET ") || strings.Contains(got, "secrets") {
			t.Errorf("reached the cluster: %s", got)
		}
	}
	if cluster.bad != nil {
		t.Errorf("connections into the cluster: %v", cluster.bad)
	}
	// Prometheus takes long queries by POST, and only those.
	for _, s := range []*taped{prometheus, loki, alertmanager} {
		for _, got := range s.got {
			if method, path, _ := strings.Cut(got, " "); method != http.MethodGet && (method != http.MethodPost || path != "/api/v1/query" && path != "/api/v1/query_range") {
				t.Errorf("reached a source: %s", got)
			}
		}
	}
	for _, a := range o.audits.kept {
		if a.Operation != "get" && a.Operation != "list" && a.Operation != "watch" {
			t.Errorf("the command itself sent %s %s", a.Operation, a.Query)
		}
	}
}
