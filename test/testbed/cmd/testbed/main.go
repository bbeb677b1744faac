// Command testbed builds the real servers, or brings a whole bed up for a
// person to try things on.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/oncall-copilot/oncall/test/testbed"
)

const usage = `usage: testbed build       build every server that is not in the cache
       testbed up [flags]  start all of them and a shop that runs in the cluster
       testbed path NAME   print the path of a server's program, built if need be
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testbed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("what to do is missing; usage:\n%s", usage)
	}
	switch args[0] {
	case "build":
		return testbed.Build(ctx, os.Stderr)
	case "path":
		if len(args) != 2 {
			return fmt.Errorf("the name of one program is needed; usage:\n%s", usage)
		}
		p, err := testbed.Program(ctx, args[1], os.Stderr)
		if err == nil {
			fmt.Println(p)
		}
		return err
	case "up":
		return up(ctx, args[1:])
	}
	return fmt.Errorf("%q is not known\n%s", args[0], usage)
}

// up starts everything, says where it is, and waits.
func up(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("testbed up", flag.ContinueOnError)
	dir := flags.String("dir", "", "folder of data and logs; default: a temporary one")
	nodes := flags.Int("nodes", 3, "simulated nodes")
	logs := flags.Bool("loki", true, "start Loki")
	alerts := flags.Bool("alertmanager", true, "start Alertmanager")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		tmp, err := os.MkdirTemp("", "oncall-testbed-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(tmp) }()
		*dir = tmp
	}
	b, err := testbed.New(*dir)
	if err != nil {
		return err
	}
	defer b.Close()
	cluster, err := b.StartKubernetes(ctx)
	if err != nil {
		return err
	}
	if err := cluster.AddNodes(ctx, *nodes); err != nil {
		return err
	}
	var loki *testbed.Server
	if *logs {
		if loki, err = b.StartLoki(ctx, testbed.LokiConfig{Patterns: true}); err != nil {
			return err
		}
	}
	shop, err := b.StartShop(ctx, testbed.ShopConfig{Cluster: cluster, Loki: loki, Workloads: []string{"web", "cart", "pay"}})
	if err != nil {
		return err
	}
	ksm, err := b.StartKubeStateMetrics(ctx, cluster.Kubeconfig)
	if err != nil {
		return err
	}
	cfg := testbed.PrometheusConfig{Scrapes: []testbed.Scrape{
		shop.Scrape(),
		{Job: "kube-state-metrics", Targets: []string{ksm.Addr}, Honor: true},
	}, Rules: alertRules}
	var am *testbed.Server
	if *alerts {
		if am, err = b.StartAlertmanager(ctx, testbed.AlertmanagerConfig{}); err != nil {
			return err
		}
		cfg.Alertmanagers = []*testbed.Server{am}
	}
	prom, err := b.StartPrometheus(ctx, cfg)
	if err != nil {
		return err
	}
	say(cluster, prom, loki, am, shop, filepath.Join(b.Dir, "log"))
	<-ctx.Done()
	return nil
}

const alertRules = `groups:
- name: shop
  rules:
  - alert: ShopErrors
    expr: sum by (namespace) (rate(http_requests_total{code=~"5.."}[30s])) / sum by (namespace) (rate(http_requests_total[30s])) > 0.05
    for: 5s
    labels: {severity: page}
    annotations: {summary: "{{ $value | humanizePercentage }} of requests fail"}
`

func say(c *testbed.Cluster, prom, loki, am *testbed.Server, shop *testbed.Shop, logs string) {
	fmt.Printf("kubeconfig    %s\nprometheus    %s\n", c.Kubeconfig, prom.URL)
	flags := "--kubeconfig " + c.Kubeconfig + " --prometheus " + prom.URL
	if loki != nil {
		fmt.Printf("loki          %s\n", loki.URL)
		flags += " --loki " + loki.URL
	}
	if am != nil {
		fmt.Printf("alertmanager  %s\n", am.URL)
	}
	fmt.Printf(`server logs   %s

watch it:
  go run ./cmd/oncall up %s
break it:
  kubectl --kubeconfig %[3]s -n shop patch deploy web -p '{"spec":{"template":{"metadata":{"labels":{"fault":"oom"}}}}}'   # or crashloop, imagepull, unready
  kubectl --kubeconfig %[3]s -n shop rollout undo deploy/web
  curl -X POST 'http://%[4]s/fault?workload=cart&errors=0.3'            # a third of the requests fail; errors=0 heals
  curl -X POST -G 'http://%[4]s/fault' -d workload=pay -d lines=200 --data-urlencode 'log=level=error msg="card processor refused connection"'
stop with Ctrl-C
`, logs, flags, c.Kubeconfig, shop.Addr)
}
