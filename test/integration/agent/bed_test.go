//go:build e2e

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/test/testbed"
)

// before is how long the shop has been watched when a test begins.
const before = 50 * time.Minute

// bed is a cluster with a shop in it, and what measures it.
type bed struct {
	cluster *testbed.Cluster
	shop    *testbed.Shop
	bin     string
	sources []string // flags that name them
}

// start brings a shop of web and cart up, with its past.
func start(ctx context.Context, t *testing.T) *bed {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := testbed.New(t.TempDir())
	must(err)
	t.Cleanup(b.Close)
	x := &bed{bin: filepath.Join(t.TempDir(), "oncall")}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", x.bin, "../../../cmd/oncall").CombinedOutput(); err != nil {
		t.Fatalf("build oncall: %v\n%s", err, out)
	}
	x.cluster, err = b.StartKubernetes(ctx)
	must(err)
	must(x.cluster.AddNodes(ctx, 3))
	loki, err := b.StartLoki(ctx, testbed.LokiConfig{})
	must(err)
	x.shop, err = b.StartShop(ctx, testbed.ShopConfig{Cluster: x.cluster, Loki: loki, Workloads: []string{"web", "cart"}})
	must(err)
	since := time.Now().Add(-before)
	history, err := x.shop.History(ctx, since)
	must(err)
	must(x.shop.Remember(ctx, since))
	prom, err := b.StartPrometheus(ctx, testbed.PrometheusConfig{Scrapes: []testbed.Scrape{x.shop.Scrape()}, History: []map[string][]string{history}})
	must(err)
	scraped(ctx, t, prom)
	x.sources = []string{"--kubeconfig", x.cluster.Kubeconfig, "--prometheus", prom.URL, "--loki", loki.URL}
	return x
}

// scraped waits until a Prometheus has scraped once.
func scraped(ctx context.Context, t *testing.T, prom *testbed.Server) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var a struct{ Data struct{ Result []any } }
		res, err := prom.Client.Get(prom.URL + "/api/v1/query?query=up")
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(res.Body).Decode(&a)
		_ = res.Body.Close()
		if err == nil && len(a.Data.Result) > 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("Prometheus has scraped nothing")
		case <-tick.C:
		}
	}
}

// run runs the program, and gives what it printed.
func (b *bed) run(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	c := exec.CommandContext(ctx, b.bin, append(args, b.sources...)...)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("oncall %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

// until runs the program again and again until what it prints is as wanted.
func until[T any](ctx context.Context, t *testing.T, b *bed, what string, args []string, lacks func(T) string) T {
	t.Helper()
	for {
		out := b.run(ctx, t, append(args, "-o", "json")...)
		var v T
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatalf("oncall %s: %v\n%.500s", strings.Join(args, " "), err, out)
		}
		last := lacks(v)
		if last == "" {
			return v
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %s (%v)\n%.4000s", what, last, errors.Join(ctx.Err(), context.Cause(ctx)), out)
		case <-time.After(2 * time.Second): // between two looks, and not for something
		}
	}
}
