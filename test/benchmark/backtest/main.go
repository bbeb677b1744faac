// Command backtest measures oncall backtest: it writes days of a cluster's past
// into a Prometheus of its own, and judges them as a user would.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/test/testbed"
	"github.com/oncall-copilot/oncall/test/testbed/past"
)

func main() {
	var m measure
	flag.IntVar(&m.pods, "pods", 300, "pods, five to a workload")
	flag.IntVar(&m.days, "days", 14, "`days` that are judged, after one to learn from")
	flag.DurationVar(&m.scrape, "scrape", 30*time.Second, "scrape interval")
	flag.StringVar(&m.dir, "dir", "", "`directory` for the data, which is used again if it is there; default: a temporary one")
	flag.BoolVar(&m.serve, "serve", false, "only serve the data, until it is stopped")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := m.run(ctx, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "backtest:", err)
		os.Exit(1)
	}
}

// measure is what is measured.
type measure struct {
	pods, days int
	scrape     time.Duration
	dir        string
	serve      bool
}

// perWorkload is how many pods a workload has.
const perWorkload = 5

// cluster is the past: a bad rollout, which was paged for, and pages for nothing.
func (m *measure) cluster(now time.Time) past.Cluster {
	to := now.Truncate(time.Minute)
	from := to.Add(-time.Duration(m.days+1) * 24 * time.Hour)
	c := past.Cluster{Workloads: max(1, m.pods/perWorkload), Pods: perWorkload, Nodes: max(1, m.pods/15), Scrape: m.scrape, From: from, To: to}
	bad := to.Add(-36 * time.Hour)
	c.Rollouts = []past.Rollout{{Workload: past.Name(0), At: bad, Image: past.Name(0) + ":v412"}}
	c.Troubles = []past.Trouble{{Span: past.Span{From: bad.Add(3 * time.Minute), To: bad.Add(40 * time.Minute)}, Workload: past.Name(0), Failing: 0.3}}
	alert := func(at time.Time, length time.Duration, labels map[string]string) {
		c.Alerts = append(c.Alerts, past.Alert{Span: past.Span{From: at, To: at.Add(length)}, Labels: labels})
	}
	alert(bad.Add(12*time.Minute), 30*time.Minute, map[string]string{"alertname": "HighErrorRate", "severity": "critical", "namespace": "shop", "deployment": past.Name(0)})
	for n := range m.days {
		at := to.Add(-time.Duration(n)*24*time.Hour - 5*time.Hour)
		alert(at, 4*time.Minute, map[string]string{"alertname": "KubeHpaMaxedOut", "severity": "critical", "namespace": "shop", "horizontalpodautoscaler": past.Name(1)})
	}
	return c
}

func (m *measure) run(ctx context.Context, args []string) error {
	if m.dir == "" {
		dir, err := os.MkdirTemp("", "oncall-past-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		m.dir = dir
	}
	data := filepath.Join(m.dir, "data")
	if _, err := os.Stat(data); errors.Is(err, os.ErrNotExist) {
		if err := m.write(ctx, data); err != nil {
			return err
		}
	}
	serving, stop := context.WithCancel(ctx)
	address, wait, err := m.start(serving, data)
	if err != nil {
		stop()
		return err
	}
	defer func() { stop(); _ = wait() }()
	fmt.Printf("prometheus: %s\n", address)
	if m.serve {
		<-ctx.Done()
		return nil
	}
	oncall := filepath.Join(m.dir, "oncall")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", oncall, "./cmd/oncall").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	c := exec.CommandContext(ctx, oncall, append([]string{"backtest", "--since", fmt.Sprintf("%dd", m.days), "--prometheus", address, "--loki", "none"}, args...)...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	began := time.Now()
	if err := c.Run(); err != nil {
		return err
	}
	fmt.Printf("\n%d pods, %d d after 1 d: %s, of which %s of CPU; %d MiB at most\n", m.pods, m.days, time.Since(began).Round(time.Second),
		(c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Round(time.Second), peak(c.ProcessState)>>20)
	return nil
}

// write makes the blocks of the past, one file of text after the other: all of
// them at once are larger than most disks.
func (m *measure) write(ctx context.Context, data string) error {
	promtool, err := testbed.Program(ctx, "promtool", os.Stderr)
	if err != nil {
		return err
	}
	c := m.cluster(time.Now())
	w := past.NewWriter(c)
	fmt.Printf("writing %d series of %s\n", w.Series(), c.To.Sub(c.From))
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(m.dir, "past.om")
	for _, one := range c.Stretches(testbed.BackfillBlock) {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		if err := errors.Join(w.Write(f, one.From, one.To), f.Close()); err != nil {
			return err
		}
		out, err := exec.CommandContext(ctx, promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", "--max-block-duration="+testbed.BackfillBlock.String(), file, data).CombinedOutput()
		if err != nil {
			return fmt.Errorf("promtool: %w\n%s", err, out)
		}
	}
	return os.Remove(file)
}

// start runs a Prometheus over the data, until ctx is done.
func (m *measure) start(ctx context.Context, data string) (address string, wait func() error, err error) {
	bin, err := testbed.Program(ctx, "prometheus", os.Stderr)
	if err != nil {
		return "", nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	listen := l.Addr().String()
	_ = l.Close()
	config := filepath.Join(m.dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o644); err != nil {
		return "", nil, err
	}
	c := exec.CommandContext(ctx, bin, "--config.file="+config, "--storage.tsdb.path="+data, "--storage.tsdb.retention.time=1y", "--web.listen-address="+listen, "--log.level=error")
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return "", nil, err
	}
	address = "http://" + listen
	for try := 0; ; try++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/-/ready", nil)
		if err != nil {
			return "", nil, err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return address, c.Wait, nil
			}
		}
		if try == 600 {
			return "", nil, errors.New("prometheus does not become ready")
		}
		if !upstream.Wait(ctx, 100*time.Millisecond) {
			return "", nil, ctx.Err()
		}
	}
}
