package testbed

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Shop is the business that runs in a simulated cluster: workloads whose ready
// pods serve requests and write log lines, as far as Prometheus and Loki can
// tell. Its methods are safe for concurrent use.
type Shop struct {
	Namespace string
	Addr      string // host:port of /metrics and /fault

	cluster *Cluster
	loki    *Server
	tenant  string
	now     func() time.Time

	mu    sync.Mutex
	work  map[string]*workload
	pods  map[string]*pod // by name
	extra []line          // still to be pushed
	lines int             // written so far, which makes them differ
	ticks int             // seconds
}

type workload struct {
	rate    float64 // requests a second and pod
	errors  float64 // share that fails, 0 to 1
	latency float64 // seconds
}

type pod struct {
	workload string
	owner    string // its ReplicaSet
	good     float64
	bad      float64
	slow     [len(buckets) + 1]float64 // cumulative
	sum      float64
	last     time.Time
	gone     bool
}

// logEvery is how many seconds lie between two lines of a healthy pod.
const logEvery = 2

// past is how long a pod has served when it is first seen, as its counters
// have it: room for a history.
const past = time.Hour

func newPod(name string, w *workload, now time.Time) *pod {
	p := &pod{workload: name, last: now.Add(-past)}
	p.advance(w, now)
	return p
}

// buckets are the bounds of the latency histogram, in seconds.
var buckets = [...]float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5}

type line struct {
	pod, workload, text string
	at                  int64 // nanoseconds; 0: now
}

// ShopConfig says what a shop consists of.
type ShopConfig struct {
	Cluster   *Cluster
	Loki      *Server // nil: no logs
	Tenant    string  // X-Scope-OrgID of the logs
	Namespace string  // default: shop
	Workloads []string
}

// StartShop deploys the workloads with two pods each, and serves their metrics
// and writes their logs until the bed is closed.
func (b *Bed) StartShop(ctx context.Context, cfg ShopConfig) (*Shop, error) {
	if cfg.Namespace == "" {
		cfg.Namespace = "shop"
	}
	s := &Shop{
		Namespace: cfg.Namespace, cluster: cfg.Cluster, loki: cfg.Loki, tenant: cfg.Tenant, now: time.Now,
		work: map[string]*workload{}, pods: map[string]*pod{},
	}
	manifests := fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", cfg.Namespace)
	for _, w := range cfg.Workloads {
		s.work[w] = &workload{rate: 20, latency: 0.08}
		manifests += Deployment{Namespace: cfg.Namespace, Name: w}.YAML()
	}
	if err := cfg.Cluster.Apply(ctx, manifests); err != nil {
		return nil, err
	}
	for _, w := range cfg.Workloads {
		if err := cfg.Cluster.WaitReady(ctx, cfg.Namespace, w); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("POST /fault", s.fault)
	addr, err := b.Serve(mux)
	if err != nil {
		return nil, err
	}
	s.Addr = addr
	run, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		s.run(run)
		close(done)
	}()
	b.OnClose(func() { cancel(); <-done })
	return s, nil
}

// Fail makes a share of a workload's requests fail, and take so long.
func (s *Shop) Fail(workload string, errors float64, latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.work[workload]
	w.errors = errors
	if latency > 0 {
		w.latency = latency.Seconds()
	}
}

// Log has a pod of a workload write lines.
func (s *Shop) Log(workload string, lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, p := range s.pods {
		if p.workload == workload && !p.gone {
			for _, l := range lines {
				s.extra = append(s.extra, line{name, workload, l, 0})
			}
			return
		}
	}
}

// Scrape is the Prometheus job that reads the shop.
func (s *Shop) Scrape() Scrape {
	return Scrape{Job: "shop-" + s.Namespace, Targets: []string{s.Addr}, Honor: true}
}

func (s *Shop) run(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		// A cluster that is going away is the end of the test, not of the world:
		// the next turn tries again.
		_ = s.follow(ctx)
		_ = s.push(ctx, s.write())
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// follow takes over which pods are ready.
func (s *Shop) follow(ctx context.Context) error {
	var list struct {
		Items []struct {
			Metadata struct {
				Name              string
				Labels            map[string]string
				DeletionTimestamp *time.Time
				OwnerReferences   []struct{ Name string }
			}
			Spec   struct{ NodeName string }
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := s.cluster.Get(ctx, "/api/v1/namespaces/"+s.Namespace+"/pods", &list); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	there := map[string]bool{}
	for _, i := range list.Items {
		ready := slices.ContainsFunc(i.Status.Conditions, func(c struct{ Type, Status string }) bool { return c.Type == "Ready" && c.Status == "True" })
		w := i.Metadata.Labels["app"]
		if !ready || s.work[w] == nil || i.Metadata.DeletionTimestamp != nil {
			continue
		}
		there[i.Metadata.Name] = true
		if p, ok := s.pods[i.Metadata.Name]; !ok {
			p = newPod(w, s.work[w], now)
			if len(i.Metadata.OwnerReferences) > 0 {
				p.owner = i.Metadata.OwnerReferences[0].Name
			}
			s.pods[i.Metadata.Name] = p
		} else if p.gone {
			p.gone, p.last = false, now
		}
	}
	for name, p := range s.pods {
		s.advance(p, now)
		p.gone = !there[name]
	}
	return nil
}

// advance lets time pass for a pod's counters.
func (s *Shop) advance(p *pod, now time.Time) {
	if !p.gone {
		p.advance(s.work[p.workload], now)
	}
}

func (p *pod) advance(w *workload, now time.Time) {
	n := w.rate * now.Sub(p.last).Seconds()
	p.last = now
	p.bad += n * w.errors
	p.good += n * (1 - w.errors)
	p.sum += n * w.latency
	for i := range p.slow {
		if i == len(buckets) || w.latency <= buckets[i] {
			p.slow[i] += n
		}
	}
}

func (s *Shop) metrics(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	samples := map[string][]string{}
	for name, p := range s.pods {
		if !p.gone {
			s.advance(p, now)
			s.expose(samples, name, p, "")
		}
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	writeFamilies(w, samples, "http_requests_total")
}

// expose adds a pod's samples by their family. stamp stands after each value.
func (s *Shop) expose(samples map[string][]string, name string, p *pod, stamp string) {
	id := fmt.Sprintf("namespace=%q,pod=%q", s.Namespace, name)
	add := func(family, format string, args ...any) {
		samples[family] = append(samples[family], fmt.Sprintf(format, args...)+stamp)
	}
	add("requests", "http_requests_total{%s,code=\"200\"} %f", id, p.good)
	add("requests", "http_requests_total{%s,code=\"500\"} %f", id, p.bad)
	const h = "http_request_duration_seconds"
	for i, n := range p.slow {
		le := "+Inf"
		if i < len(buckets) {
			le = strconv.FormatFloat(buckets[i], 'f', -1, 64)
		}
		add(h, "%s_bucket{%s,le=%q} %f", h, id, le, n)
	}
	add(h, "%s_sum{%s} %f", h, id, p.sum)
	add(h, "%s_count{%s} %f", h, id, p.slow[len(buckets)])
}

// writeFamilies writes samples as text. counter is the name of the counter's
// family, which OpenMetrics has without _total.
func writeFamilies(w io.Writer, samples map[string][]string, counter string) {
	for _, f := range []struct{ name, key, kind string }{
		{counter, "requests", "counter"},
		{"http_request_duration_seconds", "http_request_duration_seconds", "histogram"},
		{"kube_pod_info", "kube_pod_info", "gauge"},
		{"kube_pod_owner", "kube_pod_owner", "gauge"},
		{"kube_replicaset_owner", "kube_replicaset_owner", "gauge"},
	} {
		if len(samples[f.key]) == 0 {
			continue
		}
		fmt.Fprintf(w, "# TYPE %s %s\n", f.name, f.kind)
		for _, l := range samples[f.key] {
			fmt.Fprintln(w, l)
		}
	}
}

// History is what the present pods would have exposed since a time, and
// kube-state-metrics of whose they are, as OpenMetrics with timestamps: at most
// [past] ago.
func (s *Shop) History(ctx context.Context, since time.Time) (map[string][]string, error) {
	if err := s.follow(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	samples := map[string][]string{}
	sets := map[string]bool{} // ReplicaSets that have been told of
	for name, p := range s.pods {
		w := s.work[p.workload]
		told := sets[p.owner]
		sets[p.owner] = true
		h := &pod{workload: p.workload, last: p.last.Add(-time.Duration(float64(time.Second) * p.good / w.rate))}
		for t := since; t.Before(p.last); t = t.Add(5 * time.Second) {
			h.advance(w, t)
			stamp := fmt.Sprintf(" %.3f", float64(t.UnixMilli())/1000)
			s.expose(samples, name, h, stamp)
			for family, labels := range map[string]string{
				"kube_pod_info":         fmt.Sprintf("namespace=%q,pod=%q", s.Namespace, name),
				"kube_pod_owner":        fmt.Sprintf("namespace=%q,pod=%q,owner_kind=\"ReplicaSet\",owner_name=%q", s.Namespace, name, p.owner),
				"kube_replicaset_owner": fmt.Sprintf("namespace=%q,replicaset=%q,owner_kind=\"Deployment\",owner_name=%q", s.Namespace, p.owner, p.workload),
			} {
				if family == "kube_replicaset_owner" && told {
					continue
				}
				samples[family] = append(samples[family], family+"{"+labels+"} 1"+stamp)
			}
		}
	}
	return samples, nil
}

// fault is /fault?workload=web&errors=0.3&latency=2s&log=TEXT&lines=50, for
// people with curl.
func (s *Shop) fault(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name := q.Get("workload")
	if s.work[name] == nil {
		http.Error(w, fmt.Sprintf("workload: %q is not in the shop", name), http.StatusBadRequest)
		return
	}
	if text := q.Get("log"); text != "" {
		n, err := strconv.Atoi(q.Get("lines"))
		if err != nil || n < 1 {
			n = 50
		}
		s.Log(name, slices.Repeat([]string{text}, n)...)
		return
	}
	ratio, err := strconv.ParseFloat(q.Get("errors"), 64)
	if err != nil || ratio < 0 || ratio > 1 {
		http.Error(w, "errors: is not a share between 0 and 1", http.StatusBadRequest)
		return
	}
	latency, err := time.ParseDuration(q.Get("latency"))
	if err != nil && q.Get("latency") != "" {
		http.Error(w, "latency: is not a duration such as 2s", http.StatusBadRequest)
		return
	}
	s.Fail(name, ratio, latency)
}

// write is what the pods log in a second.
func (s *Shop) write() []line {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.extra
	s.extra = nil
	s.ticks++
	if s.loki == nil {
		return nil
	}
	for name, p := range s.pods {
		if p.gone {
			continue
		}
		if s.ticks%logEvery == 0 {
			s.lines++
			out = append(out, line{name, p.workload, served(s.lines), 0})
		}
		if s.work[p.workload].errors > 0 {
			s.lines++
			out = append(out, line{name, p.workload, fmt.Sprintf("level=error msg=\"request not served\" path=/items/%d status=500 err=\"dial tcp: connection refused\"", s.lines%997), 0})
		}
	}
	return out
}

func (s *Shop) push(ctx context.Context, lines []line) error {
	if s.loki == nil || len(lines) == 0 {
		return nil
	}
	now := s.now().UnixNano()
	streams := map[string]*logStream{}
	for i, l := range lines {
		st := streams[l.pod]
		if st == nil {
			st = &logStream{Stream: s.labels(l)}
			streams[l.pod] = st
		}
		at := l.at
		if at == 0 {
			at = now + int64(i)
		}
		st.Values = append(st.Values, [2]string{strconv.FormatInt(at, 10), l.text})
	}
	var all []logStream
	for _, st := range streams {
		all = append(all, *st)
	}
	return s.loki.push(ctx, s.tenant, all)
}

func (s *Shop) labels(l line) map[string]string {
	return map[string]string{"namespace": s.Namespace, "pod": l.pod, "app": l.workload, "container": "app"}
}

// Remember writes the log lines that the present pods would have written since
// a time, so that what is normal is known.
func (s *Shop) Remember(ctx context.Context, since time.Time) error {
	if err := s.follow(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	var all []line
	for t := since; t.Before(s.now().Add(-logEvery * time.Second)); t = t.Add(logEvery * time.Second) {
		for name, p := range s.pods {
			s.lines++
			all = append(all, line{name, p.workload, served(s.lines), t.UnixNano()})
		}
	}
	s.mu.Unlock()
	for batch := range slices.Chunk(all, 5000) {
		if err := s.push(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func served(n int) string {
	return fmt.Sprintf("level=info msg=\"request served\" path=/items/%d status=200 took=%dms", n%997, 40+n%60)
}
