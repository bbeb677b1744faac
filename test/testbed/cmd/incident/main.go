// Command incident makes the recording in examples/incidents again: it starts a
// real control plane, a real node, Prometheus, kube-state-metrics and Loki,
// runs a small shop on the node, rolls out a version of one service that leaks
// with a lower memory limit, rolls it back, and has `oncall record` record it.
//
// It needs Linux, root, containerd and runc, and takes about 36 minutes beside
// the first build of the servers:
//
//	go run ./test/testbed/cmd/incident BUNDLE
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/oncall-copilot/oncall/test/testbed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "incident:", err)
		os.Exit(1)
	}
}

// scene is how long each part takes.
type scene struct {
	start, calm, trouble, recovery time.Duration
	logs                           bool
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("incident", flag.ContinueOnError)
	s := scene{}
	flags.BoolVar(&s.logs, "logs", true, "start Loki; without it the recording has no logs")
	flags.DurationVar(&s.start, "start", 10*time.Minute, "how long the shop runs before the recording begins; it reads all but the first minute of it from history")
	flags.DurationVar(&s.calm, "calm", 3*time.Minute, "how long all stays well while it records")
	flags.DurationVar(&s.trouble, "trouble", 7*time.Minute, "how long from the rollout to the rollback")
	flags.DurationVar(&s.recovery, "recovery", 17*time.Minute, "how long after the rollback")
	dir := flags.String("dir", "", "folder of data and logs; default: a temporary one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("the bundle to write is missing: a folder or a .tar.zst")
	}
	if m := testbed.NodeMissing(); m != "" {
		return errors.New(m)
	}
	if *dir == "" {
		tmp, err := os.MkdirTemp("", "oncall-incident-")
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
	return play(ctx, b, s, flags.Arg(0))
}

func play(ctx context.Context, b *testbed.Bed, s scene, bundle string) error {
	c, err := b.StartKubernetes(ctx)
	if err != nil {
		return err
	}
	node, err := b.StartNode(ctx, c, testbed.NodeConfig{Name: "node-1"})
	if err != nil {
		return err
	}
	ksm, err := b.StartKubeStateMetrics(ctx, c.Kubeconfig)
	if err != nil {
		return err
	}
	prom, err := b.StartPrometheus(ctx, testbed.PrometheusConfig{
		Interval: 5 * time.Second,
		Scrapes:  append(node.Scrapes(), testbed.Scrape{Job: "kube-state-metrics", Targets: []string{ksm.Addr}, Honor: true}),
	})
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, shop(node.Discovery)); err != nil {
		return err
	}
	for _, name := range []string{"catalog", "checkout", "storefront"} {
		if err := c.WaitReady(ctx, "shop", name); err != nil {
			return err
		}
	}
	opened := time.Now()
	say("the shop is open; its first minute is its start, and not recorded")
	var loki *testbed.Server
	if s.logs {
		if loki, err = b.StartLoki(ctx, testbed.LokiConfig{}); err != nil {
			return err
		}
		node.Ship(loki)
	}
	bin := filepath.Join(b.Dir, "oncall")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/oncall").CombinedOutput(); err != nil {
		return fmt.Errorf("build oncall: %w\n%s", err, out)
	}
	if err := pause(ctx, time.Until(opened.Add(s.start))); err != nil {
		return err
	}
	since := time.Since(opened) - time.Minute
	args := []string{
		"record", "--prometheus", prom.URL, "--kubeconfig", c.Kubeconfig, "--cluster", "shop-eu-1", "--step", "15s",
		"--since", since.Truncate(time.Minute).String(), "--for", (s.calm + s.trouble + s.recovery).String(), "--name", "oom-after-rollout", "--summary", summary,
	}
	if loki != nil {
		args = append(args, "--loki", loki.URL)
	}
	say("recording from " + strings.Join(args[1:5], " "))
	record := exec.CommandContext(ctx, bin, append(args, bundle)...)
	record.Stdout, record.Stderr = os.Stdout, os.Stderr
	record.Cancel = func() error { return record.Process.Signal(syscall.SIGTERM) }
	if err := record.Start(); err != nil {
		return err
	}
	if err := pause(ctx, s.calm); err != nil {
		return err
	}
	say("rollout: checkout v412, memory limit 128Mi -> 64Mi")
	if err := c.Apply(ctx, checkout("v412", "64Mi")); err != nil {
		return err
	}
	if err := pause(ctx, s.trouble); err != nil {
		return err
	}
	say("rollback: checkout v411, memory limit 64Mi -> 128Mi")
	if err := c.Apply(ctx, checkout("v411", "128Mi")); err != nil {
		return err
	}
	if err := pause(ctx, s.recovery); err != nil {
		return err
	}
	return record.Wait()
}

const summary = "A rollout that leaks memory and halves the limit: OOMKilled, CrashLoopBackOff, failing orders, rolled back."

func say(what string) {
	fmt.Fprintln(os.Stderr, "incident:", time.Now().UTC().Format(time.TimeOnly), what)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// shop is everything before the rollout.
func shop(registry string) string {
	return `apiVersion: v1
kind: Namespace
metadata: {name: shop}
` + deployment("catalog", "v87", "catalog", 2, "128Mi") + checkout("v411", "128Mi") +
		strings.Replace(deployment("storefront", "v230", "web", 2, "128Mi"), "        resources:",
			fmt.Sprintf("        args: [\"-registry\", %q, \"-rate\", \"20\", \"-calls\", \"checkout,catalog\"]\n        resources:", registry), 1)
}

func checkout(version, memory string) string {
	return deployment("checkout", version, "payments", 3, memory)
}

func deployment(name, version, team string, replicas int, memory string) string {
	return fmt.Sprintf(`---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
  namespace: shop
  labels: {app: %[1]s, team: %[3]s}
spec:
  replicas: %[4]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s, team: %[3]s}}
    spec:
      hostNetwork: true
      automountServiceAccountToken: false
      containers:
      - name: app
        image: localhost/shop/%[1]s:%[2]s
        imagePullPolicy: Never
        resources: {requests: {cpu: 20m, memory: 32Mi}, limits: {memory: %[5]q}}
`, name, version, team, replicas, memory)
}
