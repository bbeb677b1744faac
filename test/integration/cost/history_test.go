//go:build e2e

package cost

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/test/testbed"
)

const (
	mib = 1 << 20
	day = 24 * time.Hour
	// history is how long Prometheus has watched: nine days.
	history = 9 * day
)

// life is how the container app of one pod fared.
type life struct {
	namespace, pod string
	from, to       time.Time
	cpu            func(age time.Duration) float64 // cores
	memory         func(age time.Duration) float64 // bytes
	throttled      float64                         // share of periods; below 0: it has no CPU limit
	killed         bool                            // for lack of memory, halfway
	limit          float64                         // of memory, in bytes
	// lean has only what cAdvisor says of the container itself.
	lean bool
}

func steady(v float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return v }
}

// starting is high for ten minutes, and low ever after.
func starting(high, low float64) func(time.Duration) float64 {
	return func(age time.Duration) float64 {
		if age < 10*time.Minute {
			return high
		}
		return low
	}
}

// uses are how the workloads of testdata/shop.yaml fared, by name. Every pod
// that is there now was there all the time; the others are from before.
func uses(pods map[string][]string, now time.Time) []life {
	since := now.Add(-history)
	var out []life
	add := func(workload string, l life) {
		l.namespace, l.from, l.to = "shop", since, now
		if l.throttled == 0 {
			l.throttled = -1
		}
		for i, p := range pods[workload] {
			l := l
			l.pod = p
			if i > 0 { // one pod has more to do than the others
				busy := l.cpu
				l.cpu = func(age time.Duration) float64 { return 0.8 * busy(age) }
			}
			out = append(out, l)
		}
	}
	add("over", life{cpu: steady(0.12), memory: steady(200 * mib), limit: 2048 * mib})
	add("right", life{cpu: steady(0.18), memory: steady(215 * mib), limit: 320 * mib})
	add("spiky", life{cpu: steady(0.05), memory: steady(100 * mib), limit: 2048 * mib})
	// Only a pod that is gone since five days shows what a start takes.
	out = append(out, life{
		namespace: "shop", pod: "spiky-6d4b9c7f58-x2x8q", from: now.Add(-5*day - 3*time.Hour), to: now.Add(-5 * day), throttled: -1,
		cpu: starting(0.9, 0.05), memory: starting(900*mib, 100*mib), limit: 2048 * mib,
	})
	add("killed", life{cpu: steady(0.09), memory: steady(180 * mib), limit: 256 * mib})
	out = append(out, life{
		namespace: "shop", pod: "killed-5c6d7f8b94-q7zvk", from: now.Add(-4*day - 2*time.Hour), to: now.Add(-4 * day), throttled: -1,
		cpu: steady(0.09), memory: steady(190 * mib), limit: 256 * mib, killed: true,
	})
	add("scaled", life{cpu: steady(0.1), memory: steady(150 * mib), limit: 1024 * mib})
	add("idle", life{cpu: steady(0.001), memory: steady(420 * mib), limit: 512 * mib})
	add("throttled", life{cpu: steady(0.19), memory: steady(200 * mib), throttled: 0.4, limit: 256 * mib})
	add("bare", life{cpu: steady(0.05), memory: steady(60 * mib)})
	add("node-local-dns", life{cpu: steady(0.05), memory: steady(50 * mib), limit: 512 * mib})
	add("db", life{cpu: steady(0.2), memory: steady(300 * mib), throttled: 0.01, limit: 1024 * mib})
	n := len(out)
	add("fresh", life{cpu: steady(0.02), memory: steady(50 * mib), limit: 1024 * mib})
	for i := range out[n:] {
		out[n+i].from = now.Add(-2 * day)
	}
	return out
}

// interval is the time between two readings.
const interval = time.Minute

// blocks writes the lives as OpenMetrics, a file for each block.
func blocks(t *testing.T, lives []life, since, now time.Time, each time.Duration) []string {
	t.Helper()
	dir := t.TempDir()
	const span = testbed.BackfillBlock
	first := time.Unix(since.Unix()-since.Unix()%int64(span.Seconds()), 0)
	var files []string
	for from := first; from.Before(now); from = from.Add(span) {
		name := filepath.Join(dir, fmt.Sprintf("%d.om", from.Unix()))
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		w := bufio.NewWriterSize(f, 1<<20)
		write(w, lives, from, minTime(from.Add(span), now), each)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	return files
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// write writes the samples from a time up to another.
func write(w *bufio.Writer, lives []life, from, to time.Time, each time.Duration) {
	families := []struct {
		name, kind string
		of         func(l life, at time.Time, line func(name, labels string, v float64))
	}{
		{"container_cpu_usage_seconds", "counter", func(l life, at time.Time, line func(string, string, float64)) {
			used := total(l.cpu, at.Sub(l.from))
			line("container_cpu_usage_seconds_total", `container="app",image="i",id="/kubepods/`+l.pod+`/c",cpu="total"`, used)
			if l.lean {
				return
			}
			// The cgroup of the pod, its sandbox, and what a second Prometheus says.
			line("container_cpu_usage_seconds_total", `container="",image="",id="/kubepods/`+l.pod+`",cpu="total"`, 10*used)
			line("container_cpu_usage_seconds_total", `container="POD",image="pause",id="/kubepods/`+l.pod+`/p",cpu="total"`, 20*used)
			line("container_cpu_usage_seconds_total", `container="app",image="i",id="/kubepods/`+l.pod+`/c",cpu="total",prometheus_replica="b"`, used)
		}},
		{"container_memory_working_set_bytes", "gauge", func(l life, at time.Time, line func(string, string, float64)) {
			v := l.memory(at.Sub(l.from))
			line("container_memory_working_set_bytes", `container="app",image="i",id="/kubepods/`+l.pod+`/c"`, v)
			if l.lean {
				return
			}
			line("container_memory_working_set_bytes", `container="",image="",id="/kubepods/`+l.pod+`"`, 10*v)
			line("container_memory_working_set_bytes", `container="app",image="i",id="/kubepods/`+l.pod+`/c",prometheus_replica="b"`, v)
		}},
		{"container_spec_memory_limit_bytes", "gauge", func(l life, _ time.Time, line func(string, string, float64)) {
			if l.lean {
				return
			}
			line("container_spec_memory_limit_bytes", `container="app",image="i",id="/kubepods/`+l.pod+`/c"`, l.limit)
		}},
		{"container_cpu_cfs_periods", "counter", func(l life, at time.Time, line func(string, string, float64)) {
			if l.throttled >= 0 {
				line("container_cpu_cfs_periods_total", `container="app",image="i",id="/kubepods/`+l.pod+`/c"`, 10*at.Sub(l.from).Seconds())
			}
		}},
		{"container_cpu_cfs_throttled_periods", "counter", func(l life, at time.Time, line func(string, string, float64)) {
			if l.throttled >= 0 {
				line("container_cpu_cfs_throttled_periods_total", `container="app",image="i",id="/kubepods/`+l.pod+`/c"`, 10*at.Sub(l.from).Seconds()*l.throttled)
			}
		}},
		{"kube_pod_container_status_restarts", "counter", func(l life, at time.Time, line func(string, string, float64)) {
			if l.killed {
				v := 0.0
				if at.After(l.from.Add(l.to.Sub(l.from) / 2)) {
					v = 1
				}
				line("kube_pod_container_status_restarts_total", `container="app"`, v)
			}
		}},
		{"kube_pod_container_status_last_terminated_reason", "gauge", func(l life, at time.Time, line func(string, string, float64)) {
			if l.killed && at.After(l.from.Add(l.to.Sub(l.from)/2)) {
				line("kube_pod_container_status_last_terminated_reason", `container="app",reason="OOMKilled"`, 1)
			}
		}},
	}
	for _, f := range families {
		fmt.Fprintf(w, "# TYPE %s %s\n", f.name, f.kind)
		for _, l := range lives {
			for at := from; at.Before(to); at = at.Add(each) {
				if at.Before(l.from) || at.After(l.to) {
					continue
				}
				f.of(l, at, func(name, labels string, v float64) {
					fmt.Fprintf(w, "%s{namespace=%q,pod=%q,%s} %g %d\n", name, l.namespace, l.pod, labels, v, at.Unix())
				})
			}
		}
	}
	fmt.Fprintln(w, "# EOF")
}

// total is what was used up to an age, in core seconds: the sum of minutes.
func total(cpu func(time.Duration) float64, age time.Duration) float64 {
	const early = 15 * time.Minute
	used := 0.0
	for a := time.Duration(0); a < min(age, early); a += time.Minute {
		used += 60 * cpu(a)
	}
	if age > early {
		used += cpu(early) * (age - early).Seconds()
	}
	return used
}

// podsOf are the pods of a namespace by the label app.
func podsOf(ctx context.Context, t *testing.T, c *testbed.Cluster, namespace string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	after := ""
	for {
		var list struct {
			Metadata struct{ Continue string }
			Items    []struct {
				Metadata struct {
					Name   string
					Labels map[string]string
				}
			}
		}
		if err := c.Get(ctx, "/api/v1/namespaces/"+namespace+"/pods?limit=500&continue="+after, &list); err != nil {
			t.Fatal(err)
		}
		for _, i := range list.Items {
			app := i.Metadata.Labels["app"]
			out[app] = append(out[app], i.Metadata.Name)
			slices.Sort(out[app])
		}
		if after = list.Metadata.Continue; after == "" {
			return out
		}
	}
}
