// Package past writes what a Prometheus would hold of a cluster that has run for
// days, as OpenMetrics text: workloads with requests, containers, nodes and what
// kube-state-metrics says of them, and in it what was planted.
package past

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Cluster is what ran.
type Cluster struct {
	Workloads int // in the namespace shop; each is a Deployment
	Pods      int // of each
	Nodes     int
	Scrape    time.Duration
	From, To  time.Time
	Rollouts  []Rollout
	Troubles  []Trouble
	Alerts    []Alert
	// Away are times of which there is nothing.
	Away []Span
	// Plain leaves out latency histograms, which are most of the series.
	Plain bool
}

// Span is a time from one moment up to another.
type Span struct{ From, To time.Time }

func (s Span) holds(at time.Time) bool { return !at.Before(s.From) && at.Before(s.To) }

// Stretches are the times of the cluster's past that lie in one block each, of
// blocks that begin at multiples of a length since 1970, as Prometheus' do.
func (c Cluster) Stretches(block time.Duration) []Span {
	var out []Span
	for from := c.From; from.Before(c.To); {
		to := time.Unix((from.Unix()/int64(block.Seconds())+1)*int64(block.Seconds()), 0)
		if to.After(c.To) {
			to = c.To
		}
		out = append(out, Span{from, to})
		from = to
	}
	return out
}

// Rollout is another image of a workload from a time on.
type Rollout struct {
	Workload string
	At       time.Time
	Image    string
}

// Trouble is a time in which a share of a workload's requests fails.
type Trouble struct {
	Span
	Workload string
	Failing  float64 // 0..1
}

// Alert is a firing of one of the user's.
type Alert struct {
	Span
	Labels map[string]string
}

// Name is the name of the n-th workload.
func Name(n int) string {
	if n == 0 {
		return "checkout"
	}
	return fmt.Sprintf("app%02d", n)
}

// series is one series; next is its value at a time, called once for each in
// order; false for none.
type series struct {
	text string
	next func(at time.Time) (float64, bool)
}

// Writer writes a cluster's past, a stretch after the other.
type Writer struct {
	c        Cluster
	families map[string][]*series
	order    []string
	seed     uint64
}

// NewWriter makes a writer.
func NewWriter(c Cluster) *Writer {
	w := &Writer{c: c, families: map[string][]*series{}}
	w.add("up", func(time.Time) (float64, bool) { return 1, true }, "job", "kube-state-metrics")
	for n := range c.Nodes {
		w.node(n)
	}
	for n := range c.Workloads {
		w.workload(n)
	}
	for _, a := range c.Alerts {
		w.alert(a)
	}
	return w
}

// Write writes everything in [from, to), by families and series.
func (w *Writer) Write(out io.Writer, from, to time.Time) error {
	b := bufio.NewWriterSize(out, 1<<20)
	var line []byte
	first := from.Truncate(w.c.Scrape)
	if first.Before(from) {
		first = first.Add(w.c.Scrape)
	}
	for _, f := range w.order {
		for _, s := range w.families[f] {
			for at := first; at.Before(to); at = at.Add(w.c.Scrape) {
				v, ok := s.next(at)
				if !ok || slices.ContainsFunc(w.c.Away, func(s Span) bool { return s.holds(at) }) {
					continue
				}
				line = append(line[:0], s.text...)
				line = strconv.AppendFloat(line, v, 'g', 8, 64)
				line = append(line, ' ')
				line = strconv.AppendInt(line, at.Unix(), 10)
				line = append(line, '\n')
				if _, err := b.Write(line); err != nil {
					return err
				}
			}
		}
	}
	if _, err := b.WriteString("# EOF\n"); err != nil {
		return err
	}
	return b.Flush()
}

// Series is how many there are.
func (w *Writer) Series() int {
	n := 0
	for _, f := range w.families {
		n += len(f)
	}
	return n
}

func (w *Writer) add(family string, next func(time.Time) (float64, bool), labels ...string) {
	var b strings.Builder
	b.WriteString(family)
	for i := 0; i < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		fmt.Fprintf(&b, "%s%s=%q", sep, labels[i], labels[i+1])
	}
	if len(labels) > 0 {
		b.WriteString("}")
	}
	b.WriteString(" ")
	if w.families[family] == nil {
		w.order = append(w.order, family)
	}
	w.families[family] = append(w.families[family], &series{b.String(), next})
}

func (w *Writer) noise() *rand.Rand {
	w.seed++
	return rand.New(rand.NewPCG(42, w.seed))
}

func always(v float64) func(time.Time) (float64, bool) {
	return func(time.Time) (float64, bool) { return v, true }
}

// while is 1 in a time.
func while(s Span) func(time.Time) (float64, bool) {
	return func(at time.Time) (float64, bool) { return 1, s.holds(at) }
}

// counter adds up what a rate a second gives.
func (w *Writer) counter(rate func(time.Time) float64) func(time.Time) (float64, bool) {
	sum := 0.0
	return func(at time.Time) (float64, bool) {
		sum += rate(at) * w.c.Scrape.Seconds()
		return sum, true
	}
}

// wave is the hour of the day: low at night.
func wave(at time.Time) float64 {
	return 1 + 0.4*math.Sin(2*math.Pi*(float64(at.Unix()%86400)/86400-0.3))
}

func (w *Writer) node(n int) {
	name := fmt.Sprintf("node-%02d", n)
	r := w.noise()
	for _, mode := range []string{"idle", "user"} {
		w.add("node_cpu_seconds_total", w.counter(func(at time.Time) float64 {
			busy := min(0.9, 0.3*wave(at)*(1+0.05*r.NormFloat64()))
			if mode == "idle" {
				return 4 * (1 - busy)
			}
			return 4 * busy
		}), "node", name, "mode", mode)
	}
	w.add("node_memory_MemTotal_bytes", always(16<<30), "node", name)
	w.add("node_memory_MemAvailable_bytes", func(time.Time) (float64, bool) { return (8 + 0.2*r.NormFloat64()) * (1 << 30), true }, "node", name)
	w.add("kube_node_status_condition", always(1), "node", name, "condition", "Ready", "status", "true")
	w.add("kube_node_spec_unschedulable", always(0), "node", name)
}

// hashes are pod-template hashes as Kubernetes makes them.
func hash(seed uint64, n int) string {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789"
	r := rand.New(rand.NewPCG(7, seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

func (w *Writer) workload(n int) {
	name := Name(n)
	type template struct {
		Span
		image string
	}
	all := []template{{Span{w.c.From.Add(-24 * time.Hour), w.c.To.Add(24 * time.Hour)}, name + ":v411"}}
	for _, r := range w.c.Rollouts {
		if r.Workload == name {
			all[len(all)-1].To = r.At
			all = append(all, template{Span{r.At, w.c.To.Add(24 * time.Hour)}, r.Image})
		}
	}
	of := []string{"namespace", "shop", "deployment", name}
	w.add("kube_deployment_spec_replicas", always(float64(w.c.Pods)), of...)
	w.add("kube_deployment_status_replicas_ready", always(float64(w.c.Pods)), of...)
	w.add("kube_deployment_metadata_generation", func(at time.Time) (float64, bool) {
		g := 0
		for _, t := range all {
			if !at.Before(t.From) {
				g++
			}
		}
		return float64(g), true
	}, of...)
	for k, t := range all {
		rs := name + "-" + hash(uint64(1000*n+k), 9)
		known := Span{t.From, w.c.To.Add(24 * time.Hour)} // a ReplicaSet stays, without pods
		in := func(v float64) func(time.Time) (float64, bool) {
			return func(at time.Time) (float64, bool) { return v, known.holds(at) }
		}
		w.add("kube_replicaset_created", in(float64(t.From.Unix())), "namespace", "shop", "replicaset", rs)
		w.add("kube_replicaset_owner", in(1), "namespace", "shop", "replicaset", rs, "owner_kind", "Deployment", "owner_name", name)
		w.add("kube_replicaset_spec_replicas", func(at time.Time) (float64, bool) {
			if t.holds(at) {
				return float64(w.c.Pods), known.holds(at)
			}
			return 0, known.holds(at)
		}, "namespace", "shop", "replicaset", rs)
		for p := range w.c.Pods {
			w.pod(name, rs, rs+"-"+hash(uint64(1000*n+100*k+p), 5), t.image, n+p, t.Span)
		}
	}
}

func (w *Writer) pod(workload, rs, pod, image string, n int, lives Span) {
	of := []string{"namespace", "shop", "pod", pod}
	with := func(more ...string) []string { return append(slices.Clone(of), more...) }
	living := func(next func(time.Time) (float64, bool)) func(time.Time) (float64, bool) {
		return func(at time.Time) (float64, bool) {
			if !lives.holds(at) {
				return 0, false
			}
			return next(at)
		}
	}
	node := "node-00"
	if w.c.Nodes > 0 {
		node = fmt.Sprintf("node-%02d", n%w.c.Nodes)
	}
	w.add("kube_pod_info", while(lives), with("node", node)...)
	w.add("kube_pod_owner", while(lives), with("owner_kind", "ReplicaSet", "owner_name", rs)...)
	w.add("kube_pod_container_info", while(lives), with("container", "main", "image", image)...)
	w.add("kube_pod_container_status_restarts_total", living(always(0)), with("container", "main")...)
	r := w.noise()
	w.add("container_cpu_usage_seconds_total", living(w.counter(func(at time.Time) float64 { return max(0, 0.2*wave(at)*(1+0.1*r.NormFloat64())) })), with("container", "main")...)
	w.add("container_memory_working_set_bytes", living(func(time.Time) (float64, bool) { return (200 + 4*r.NormFloat64()) * (1 << 20), true }), with("container", "main")...)
	w.add("container_spec_memory_limit_bytes", living(always(512<<20)), with("container", "main")...)
	rate := func(at time.Time) float64 { return max(0, 20*wave(at)*(1+0.05*r.NormFloat64())) }
	failing := func(at time.Time) float64 {
		share := 0.001
		for _, t := range w.c.Troubles {
			if t.Workload == workload && t.holds(at) {
				share = t.Failing
			}
		}
		return share
	}
	w.add("http_requests_total", living(w.counter(func(at time.Time) float64 { return rate(at) * (1 - failing(at)) })), with("code", "200")...)
	w.add("http_requests_total", living(w.counter(func(at time.Time) float64 { return rate(at) * failing(at) })), with("code", "500")...)
	if w.c.Plain {
		return
	}
	for _, le := range []float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, math.Inf(1)} {
		// Exponential with a mean of 50 ms.
		share := 1 - math.Exp(-le/0.05)
		w.add("http_request_duration_seconds_bucket", living(w.counter(func(at time.Time) float64 { return rate(at) * share })), with("le", strconv.FormatFloat(le, 'g', -1, 64))...)
	}
}

func (w *Writer) alert(a Alert) {
	labels := []string{"alertstate", "firing"}
	for _, k := range slices.Sorted(func(yield func(string) bool) {
		for k := range a.Labels {
			if !yield(k) {
				return
			}
		}
	}) {
		labels = append(labels, k, a.Labels[k])
	}
	w.add("ALERTS", while(a.Span), labels...)
}
