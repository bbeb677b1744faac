//go:build e2e

package health

import (
	"fmt"
	"time"
)

// beyondBounds writes what is beyond a bound of [check.Measures], and what looks
// like it: of a workload that fills its memory and one that has filled it, of one
// that is throttled and slow and one that is throttled alone, of two nodes, of an
// API server, of Prometheus' targets and of Alertmanager.
func beyondBounds(pods map[string][]string, line func(at time.Time, name, labels string, v float64), from, to, now time.Time, each time.Duration) {
	share := func(at time.Time) float64 { return min(1, float64(at.Sub(from))/float64(now.Sub(from))) }
	of := func(name string) string { return fmt.Sprintf("namespace=%q,pod=%q", "shop", pods[name][0]) }
	const limit = 1 << 30
	n := 0.0
	for at := from; at.Before(to); at = at.Add(each) {
		n++
		for name, use := range map[string]float64{"grows": 0.55 + 0.35*share(at), "filled": 0.93} {
			labels := of(name) + `,container="app"`
			line(at, "container_memory_working_set_bytes", labels, use*limit)
			line(at, "container_spec_memory_limit_bytes", labels, limit)
		}
		for _, name := range []string{"slow", "throttled"} {
			labels := of(name) + `,container="app"`
			line(at, "container_cpu_cfs_periods_total", labels, 150*n)
			line(at, "container_cpu_cfs_throttled_periods_total", labels, 90*n)
		}
		for node, free := range map[string]float64{"node-0": 50, "node-1": 4} {
			line(at, "node_memory_MemTotal_bytes", fmt.Sprintf("instance=%q", node+":9100"), 100)
			line(at, "node_memory_MemAvailable_bytes", fmt.Sprintf("instance=%q", node+":9100"), free)
			for le, share := range map[string]float64{"1": 1 - min(1, (50-free)/40), "60": 1, "+Inf": 1} {
				line(at, "kubelet_pleg_relist_duration_seconds_bucket", fmt.Sprintf("node=%q,le=%q", node, le), share*15*n)
			}
		}
		line(at, "apiserver_request_total", `verb="GET",code="200"`, 80*n)
		line(at, "apiserver_request_total", `verb="GET",code="503"`, 20*n)
		line(at, "apiserver_request_total", `verb="WATCH",code="504"`, 500*n)
		for job, up := range map[string]bool{"kube-scheduler": at.Before(now.Add(-20 * time.Minute)), "kube-proxy": true, "etcd": false, "web": at.Before(now.Add(-4*time.Minute)) || at.After(now.Add(-time.Minute))} {
			v := 0.0
			if up {
				v = 1
			}
			line(at, "up", fmt.Sprintf("namespace=%q,job=%q,instance=%q", "kube-system", job, "n:1"), v)
		}
		line(at, "alertmanager_notifications_total", of("tells")+`,integration="slack"`, n)
		line(at, "alertmanager_notifications_failed_total", of("tells")+`,integration="slack"`, n)
		line(at, "alertmanager_notifications_total", of("well")+`,integration="slack"`, n)
		line(at, "alertmanager_notifications_failed_total", of("well")+`,integration="slack"`, 3)
	}
}
