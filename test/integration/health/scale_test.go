//go:build e2e

package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/test/testbed"
)

// What an examination of five thousand pods may take.
const (
	scalePods   = 5000
	maxRequests = 60
	maxMemory   = 300 << 20
	maxSeconds  = 3.0 // on a machine that does nothing else; see slow
	distance    = 100 * time.Millisecond
	maxFar      = 6.0
)

// result is what the test reads of -o json.
type result struct {
	Pods       int                          `json:"pods"`
	Requests   int                          `json:"requests"`
	Seconds    float64                      `json:"seconds"`
	Roots      []root                       `json:"roots"`
	NotChecked []struct{ What, Why string } `json:"not_checked"`
}

// unread are the objects that were not checked; there is nothing here that
// measures, and KWOK keeps no logs.
func (r result) unread() (out []string) {
	for _, u := range r.NotChecked {
		if !strings.HasPrefix(u.What, "latency") && !strings.HasPrefix(u.What, "last lines") {
			out = append(out, u.What+": "+u.Why)
		}
	}
	return out
}

// build makes the program as a user would.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "oncall")
	if out, err := exec.Command("go", "build", "-o", bin, "../../../cmd/oncall").CombinedOutput(); err != nil {
		t.Fatalf("build oncall: %v\n%s", err, out)
	}
	return bin
}

// examine runs oncall health, and says how much memory it took at most.
func examine(ctx context.Context, t *testing.T, bin, kubeconfig string, args ...string) (result, int64) {
	t.Helper()
	c := exec.CommandContext(ctx, bin, append([]string{"health", "-o", "json", "--kubeconfig", kubeconfig}, args...)...)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("oncall health: %v\n%s", err, errs.String())
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("oncall health -o json: %v\n%.500s", err, out)
	}
	return r, c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
}

// nodes starts a cluster of so many nodes.
func nodes(ctx context.Context, t *testing.T, n int) (*testbed.Bed, *testbed.Cluster) {
	t.Helper()
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Close)
	cluster, err := bed.StartKubernetes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.AddNodes(ctx, n); err != nil {
		t.Fatal(err)
	}
	return bed, cluster
}

// TestFiveThousandPodsAreExaminedInSeconds also asks from far away: each
// request takes a tenth of a second longer.
func TestFiveThousandPodsAreExaminedInSeconds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	_, cluster := nodes(ctx, t, scalePods/100)
	// In waves: what may take long is then one wave, on a slow machine too.
	const each, wave = 50, 10
	for from := 0; from < scalePods/each; from += wave {
		manifests := "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
		for i := from; i < from+wave; i++ {
			manifests += testbed.Deployment{Namespace: "shop", Name: fmt.Sprintf("app-%d", i), Replicas: each, CPU: "10m"}.YAML()
		}
		if err := cluster.Apply(ctx, manifests); err != nil {
			t.Fatal(err)
		}
		for i := from; i < from+wave; i++ {
			if err := cluster.WaitReady(ctx, "shop", fmt.Sprintf("app-%d", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	bin := build(t)
	near, memory := examine(ctx, t, bin, cluster.Kubeconfig)
	for range 2 { // the best of three: other tests are running
		again, m := examine(ctx, t, bin, cluster.Kubeconfig)
		near.Seconds, memory = min(near.Seconds, again.Seconds), max(memory, m)
	}
	far, _ := examine(ctx, t, bin, farAway(t, cluster))
	t.Logf("%d pods: %d requests, %.2f s, %.2f s with %v more for each request, %d MiB", near.Pods, near.Requests, near.Seconds, far.Seconds, distance, memory>>20)
	if near.Pods < scalePods || len(near.unread()) > 0 {
		t.Errorf("%d pods seen, want %d; not checked: %+v", near.Pods, scalePods, near.unread())
	}
	if len(near.Roots) > 0 {
		t.Errorf("a healthy cluster, and found: %+v", near.Roots)
	}
	if near.Requests > maxRequests {
		t.Errorf("%d requests, want at most %d", near.Requests, maxRequests)
	}
	if memory > maxMemory {
		t.Errorf("%d MiB in use at most, want %d", memory>>20, maxMemory>>20)
	}
	if near.Seconds > maxSeconds {
		t.Errorf("%.2f s, want at most %.1f", near.Seconds, maxSeconds)
	}
	if far.Seconds > maxFar {
		t.Errorf("%.2f s from far away, want at most %.1f", far.Seconds, maxFar)
	}
}

// farAway is the kubeconfig of the same cluster behind a long line.
func farAway(t *testing.T, c *testbed.Cluster) string {
	t.Helper()
	ca, err := os.ReadFile(c.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	to, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 16}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(distance): // the line, not a wait of the test
			proxy.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	own, err := os.ReadFile(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(own), fmt.Sprintf("server: %q, certificate-authority: %q", c.URL, c.CAFile), fmt.Sprintf("server: %q, insecure-skip-tls-verify: true", s.URL), 1)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
