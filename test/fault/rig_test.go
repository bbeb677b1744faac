//go:build e2e

package fault

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// short is a member's life that lets takeovers not dominate a test's time.
const short = 2 * time.Second

// rig is one run of the pipeline: a NATS server, the sources, the receiver, and
// the services as processes.
type rig struct {
	t        *testing.T
	dir      string
	bus      *bus.Bus
	url      string
	sources  *sources
	receiver *receiver
	logs     map[string]*syncBuffer
	running  map[string]*process
	metrics  map[string]string // listen address by process name
	marks    map[string]*marks // by group
	patience time.Duration
	ttl      time.Duration // of a member
	step     time.Duration // of metrics, and window of logs
	delay    time.Duration // after which a step is read
	channels string        // further ones, in the configuration
	env      []string      // of the processes
	otlp     string        // where traces go
}

// newRig makes a run whose services are not started yet. Its collector will
// read the history from the beginning.
func newRig(t *testing.T) *rig {
	t.Helper()
	return rigOn(t, newServer(t), 1, short)
}

// newServer starts a NATS server that listens.
func newServer(t *testing.T) (url string) {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.ClientURL()
}

// rigOn makes a run on a NATS server.
func rigOn(t *testing.T, url string, replicas int, ttl time.Duration) *rig {
	t.Helper()
	r := &rig{
		t: t, dir: t.TempDir(), url: url, sources: newSources(t), receiver: newReceiver(t),
		logs: map[string]*syncBuffer{}, running: map[string]*process{}, metrics: map[string]string{}, marks: map[string]*marks{}, patience: time.Hour, ttl: ttl, step: step, delay: 10 * time.Second,
	}
	cfg := bus.DefaultConfig()
	cfg.URL, cfg.MaxBytes, cfg.MemberTTL, cfg.Replicas = r.url, 1<<30, ttl, replicas
	b, err := bus.Connect(t.Context(), cfg, bus.Settings{Name: "test", Source: "//fault/test"})
	if err != nil {
		t.Fatal(err)
	}
	r.bus = b
	t.Cleanup(func() {
		for _, p := range r.running {
			p.kill()
		}
		_ = b.Close()
		if t.Failed() || *keep {
			for name, log := range r.logs {
				t.Logf("--- %s\n%s", name, tail(log.String(), 6000))
			}
		}
	})
	r.cursor(began)
	return r
}

// cursor makes the collector read on from a time.
func (r *rig) cursor(from time.Time) {
	r.t.Helper()
	kv := r.kv(bus.BucketCollector)
	for key, cursor := range map[string]string{"prometheus": "step", "loki": "end"} {
		b := fmt.Appendf(nil, `{%q:%q}`, cursor, from.Format(time.RFC3339))
		if _, err := kv.Put(r.t.Context(), key, b); err != nil {
			r.t.Fatal(err)
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (r *rig) kv(bucket string) bus.KV {
	r.t.Helper()
	kv, err := r.bus.KV(r.t.Context(), bucket)
	if err != nil {
		r.t.Fatal(err)
	}
	return kv
}

// config writes the configuration of one process.
func (r *rig) config(name string) string {
	r.t.Helper()
	if r.metrics[name] == "" {
		r.metrics[name] = freePort(r.t)
	}
	text := fmt.Sprintf(`cluster: fault
bus: {url: %q, member_ttl: %s, checkpoint_every: 1s, max_bytes: 1073741824, manage_streams: false}
obs: {listen: %q, otlp_endpoint: %q, otlp_insecure: true, sample_ratio: 1}
collector:
  patience: %s
  prometheus: {url: %q, step: %s, delay: %s, max_catch_up: 48h, max_query_qps: 10000, warm_start: {off: true}}
  loki: {url: %q, window: %s, delay: %s, max_catch_up: 48h, max_query_qps: 10000, warm_start: {off: true}}
correlator: {grace: 48h}
reasoner: {every_revision: true, lookup_timeout: 2s}
notifier:
  mode: page
  timeout: 5s
  max_per_minute: 100000
  channels:
    hook: {type: webhook, url: %q}
%s`, r.url, r.ttl, r.metrics[name], r.otlp, r.patience, r.sources.URL, r.step, r.delay, r.sources.URL, r.step, r.delay, r.receiver.URL, r.channels)
	file := filepath.Join(r.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return file
}

// start starts services; name may carry a suffix, as in correlator-2.
func (r *rig) start(names ...string) {
	r.t.Helper()
	for _, name := range names {
		if r.logs[name] == nil {
			r.logs[name] = &syncBuffer{}
		}
		r.running[name] = start(r.t, name, r.config(name), r.logs[name], r.env...)
	}
}

func (r *rig) startAll() { r.t.Helper(); r.start(service.Names...) }

// stopAll ends every service and checks that each ends well.
func (r *rig) stopAll() {
	r.t.Helper()
	for name, p := range r.running {
		// One that was restarted a moment ago is loaded first: what ends it before
		// its main function has begun says nothing of how it ends.
		eventually(r.t, 25*time.Second, name+" started or ended", func() bool { return p.started() || !p.alive() })
	}
	var wg sync.WaitGroup
	for name, p := range r.running {
		delete(r.running, name)
		wg.Go(func() {
			if _, err := p.stop(25 * time.Second); err != nil {
				r.t.Error(err)
			}
		})
	}
	wg.Wait()
}

func contains(s, part string) bool { return strings.Contains(s, part) }

// metric reads one sample of a process's metrics, 0 when it has none.
func (r *rig) metric(name, sample string) float64 {
	r.t.Helper()
	resp, err := http.Get("http://" + r.metrics[name] + "/metrics")
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, sample+" "); ok {
			v, _ := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return v
		}
	}
	return 0
}

// marks are the last watermarks of a group's partitions, and how far they were
// read: tests ask many times a second, and there are thousands.
type marks struct {
	last map[int]time.Time
	seq  uint64
}

// watermark is the oldest of the last watermarks of a group's partitions; zero
// while a partition has none.
func (r *rig) watermark(group string) time.Time {
	r.t.Helper()
	k := r.marks[group]
	if k == nil {
		k = &marks{last: map[int]time.Time{}}
		r.marks[group] = k
	}
	o := bus.ReadOptions{Filters: []string{"watermarks." + group + ".*"}, StartSeq: k.seq + 1}
	err := r.bus.Read(r.t.Context(), event.Anomalies, o, func(m bus.Message) error {
		k.seq = m.Sequence
		if w, ok := m.Data.(event.Watermark); ok && w.Time.After(k.last[w.Partition]) {
			k.last[w.Partition] = w.Time
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	var oldest time.Time
	for _, t := range k.last {
		if oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	if len(k.last) < event.Partitions {
		return time.Time{}
	}
	return oldest
}

func (r *rig) digest() string {
	r.t.Helper()
	d, err := pipeline.Digest(r.t.Context(), r.bus)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// each calls f with the data of every message of a stream that is a T.
func each[T any](r *rig, s *event.Stream, f func(bus.Message, T)) {
	r.t.Helper()
	err := r.bus.Read(r.t.Context(), s, bus.ReadOptions{}, func(m bus.Message) error {
		if v, ok := m.Data.(T); ok {
			f(m, v)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// outcome is what a run has come to.
type outcome struct {
	digest   string
	lines    []string // of what the digest is made
	received []string // incident, revision, channel
	// telemetry is what the collector stored, in an order that keeps that of each
	// stream.
	telemetry []bus.Raw
}

// findings are one line for each thing that a digest is made of.
func (r *rig) findings() []string {
	var out []string
	for _, s := range []*event.Stream{event.Anomalies, event.Incidents, event.Reports} {
		err := r.bus.Read(r.t.Context(), s, bus.ReadOptions{}, func(m bus.Message) error {
			switch m.Data.(type) {
			case event.Anomaly, event.Incident, event.Report:
				var v any
				_ = json.Unmarshal(m.Payload, &v)
				b, _ := json.Marshal(v)
				out = append(out, m.ID+" "+string(b))
			}
			return nil
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// quiet says whether every incident is resolved, reported and delivered, and
// nobody has anything left to do.
func (r *rig) quiet() bool {
	open, resolved := map[string]bool{}, 0
	err := r.bus.Read(r.t.Context(), event.Incidents, bus.ReadOptions{}, func(m bus.Message) error {
		if i, ok := m.Data.(event.Incident); ok {
			open[i.ID] = i.State != event.Resolved
		}
		return nil
	})
	if err != nil { // a stream between two leaders cannot be read: not yet
		return false
	}
	for _, o := range open {
		if o {
			return false
		}
		resolved++
	}
	if resolved == 0 {
		return false
	}
	for durable, s := range map[string]*event.Stream{"reasoner": event.Incidents, "incident-state": event.Incidents, "notifier": event.Reports, "notifier-hook": event.Notify} {
		if idle, err := r.bus.Idle(r.t.Context(), s, durable); err != nil || !idle {
			return false
		}
	}
	return true
}

// made is the outcome of the undisturbed run, once it was made.
var made struct {
	sync.Mutex
	outcome *outcome
}

// undisturbed is the outcome of a run that nothing befalls. It is made once.
func undisturbed(t *testing.T) *outcome {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if made.outcome != nil {
		return made.outcome
	}
	made.outcome = newRig(t).rest()
	if len(made.outcome.received) < 4 {
		t.Fatalf("the undisturbed run told only of %q", made.outcome.received)
	}
	return made.outcome
}

// rest runs until nothing more comes, and returns what has come of it.
func (r *rig) rest() *outcome {
	t := r.t
	t.Helper()
	r.startAll()
	// Everything is there when all was read and folded, and nothing has come for a
	// while: nothing slows the services down but the machine.
	last, since := "", time.Now()
	eventually(t, 2*time.Minute, "an undisturbed run that has come to rest", func() bool {
		if !r.quiet() || r.watermark("metrics").Before(ends.Add(-r.step)) || r.watermark("logs").Before(ends.Add(-r.step)) {
			return false
		}
		if d := r.digest(); d != last {
			last, since = d, time.Now()
		}
		return time.Since(since) > 2*time.Second
	})
	r.stopAll()
	o := &outcome{}
	o.received = r.receiver.once(t, 0)
	o.lines = r.findings()
	o.digest = r.digest()
	for _, s := range []*event.Stream{event.Metrics, event.Logs} {
		if err := r.bus.ReadRaw(t.Context(), s, func(m bus.Raw) error { o.telemetry = append(o.telemetry, m); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortStableFunc(o.telemetry, func(a, b bus.Raw) int { return a.Received.Compare(b.Received) })
	t.Logf("undisturbed: digest %s, received %d", o.digest, len(o.received))
	return o
}

// same waits until the run has found exactly what the undisturbed one has, ends
// it, and checks that it is still so, and that nobody was told anything else,
// or twice. repeats is how many calls may repeat a delivery under its own id.
//
// A revision may be left out when a later one of its incident was delivered
// before it: reports are drafted side by side.
func (r *rig) same(want *outcome, repeats int) {
	r.t.Helper()
	// What is missing is said below, piece by piece.
	_ = within(r.t, time.Minute, func() bool {
		if !r.quiet() {
			return false
		}
		d, err := pipeline.Digest(r.t.Context(), r.bus)
		return err == nil && d == want.digest
	})
	r.stopAll()
	if got := r.digest(); got != want.digest {
		r.t.Errorf("digest %s, want that of the undisturbed run %s", got, want.digest)
		r.diff(want)
	}
	got := r.receiver.once(r.t, repeats)
	for _, what := range want.received {
		if !slices.Contains(got, what) && !slices.ContainsFunc(got, func(o string) bool { return overtakes(o, what) }) {
			r.t.Errorf("%s was never received, nor a later revision", what)
		}
	}
	for _, what := range got {
		if !slices.Contains(r.reported(), what) {
			r.t.Errorf("%s was received, and is no revision that was reported", what)
		}
	}
}

// reported are the report revisions there are, as the receiver counts them.
func (r *rig) reported() []string {
	var out []string
	each(r, event.Reports, func(_ bus.Message, rep event.Report) {
		out = append(out, fmt.Sprintf("%s %d hook", rep.Incident, rep.Revision))
	})
	return out
}

// overtakes says whether a delivery is of a later revision of the same incident
// on the same channel.
func overtakes(later, earlier string) bool {
	a, b := strings.Fields(later), strings.Fields(earlier)
	n, _ := strconv.Atoi(a[1])
	m, _ := strconv.Atoi(b[1])
	return a[0] == b[0] && a[2] == b[2] && n > m
}

// diff prints what one run has and the other has not.
func (r *rig) diff(want *outcome) {
	got := r.findings()
	n := 0
	show := func(sign string, a, b []string) {
		for _, l := range a {
			if _, found := slices.BinarySearch(b, l); !found && n < 12 {
				n++
				r.t.Logf("%s %.1500s", sign, l)
			}
		}
	}
	show("+", got, want.lines)
	show("-", want.lines, got)
}
