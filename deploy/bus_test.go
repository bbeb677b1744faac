package deploy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/access"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// rig is a NATS server under the configuration that production ships, with
// fresh keys.
type rig struct {
	url    string
	dir    string
	server *server.Server
	seen   *witness
}

// ca is the file of what servers are verified against.
func (r *rig) ca() string { return filepath.Join(r.dir, "nats-tls", "ca.crt") }

// seed is the file of an identity's key.
func (r *rig) seed(name string) string { return filepath.Join(r.dir, name+".seed") }

// witness is the server's log: what each connection used, and what was refused.
type witness struct {
	mu      sync.Mutex
	used    map[string]map[string]bool // connection name to "PUB subject" and "SUB subject"
	refused []string
}

var operation = regexp.MustCompile(`:go:([a-z-]+)" .*<<- \[H?(PUB|SUB) (\S+)`)

func (w *witness) Tracef(format string, v ...any) {
	if strings.Contains(format, "PAYLOAD") {
		return
	}
	m := operation.FindStringSubmatch(fmt.Sprintf(format, v...))
	if m == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.used[m[1]] == nil {
		w.used[m[1]] = map[string]bool{}
	}
	w.used[m[1]][m[2]+" "+m[3]] = true
}

func (w *witness) Errorf(format string, v ...any) {
	line := fmt.Sprintf(format, v...)
	if strings.Contains(line, "iolation") || strings.Contains(line, "authentication error") || strings.Contains(line, "handshake error") {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.refused = append(w.refused, line)
	}
}

func (w *witness) Noticef(string, ...any)            {}
func (w *witness) Warnf(string, ...any)              {}
func (w *witness) Fatalf(f string, v ...any)         { panic(fmt.Sprintf(f, v...)) }
func (w *witness) Debugf(format string, args ...any) {}

func (w *witness) refusals() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.refused)
}

// newRig starts a server of the shipped configuration. What belongs to a cluster
// and to a pod is left out, and it syncs now and then: one server that syncs
// every message would take minutes.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), seen: &witness{used: map[string]map[string]bool{}}}
	writeKeys(t, r)
	s := start(t, r, alone(t, r.dir))
	s.SetLoggerV2(r.seen, false, true, false)
	r.url, r.server = s.ClientURL(), s
	return r
}

// alone is the shipped configuration without what belongs to a cluster.
func alone(t *testing.T, dir string) string {
	t.Helper()
	before, rest, _ := strings.Cut(shipped(t, "nats.conf"), `include "../nats-keys/routes.conf"`)
	_, rest, _ = strings.Cut(rest, "\n}\n")
	return adapt(before+rest, dir, 0)
}

// shipped is a file of production's NATS configuration.
func shipped(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("kustomize/overlays/prod/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// adapt makes a configuration run on this machine.
func adapt(conf, dir string, n int) string {
	return strings.NewReplacer(
		"$SERVER_NAME", fmt.Sprintf("nats-%d", n), "port: 4222", "host: 127.0.0.1\nport: -1", "http_port: 8222\n", "",
		`pid_file: "/var/run/nats/nats.pid"`, "", `"/data"`, strconv.Quote(filepath.Join(dir, fmt.Sprintf("data-%d", n))),
		"sync_interval: always", "sync_interval: 2m", "90Gi", "2Gi", "/etc/nats-tls", filepath.Join(dir, "nats-tls"),
	).Replace(conf)
}

// writeKeys makes what the Secrets hold.
func writeKeys(t *testing.T, r *rig) {
	t.Helper()
	var public strings.Builder
	for _, i := range access.Identities() {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		seed, _ := pair.Seed()
		key, _ := pair.PublicKey()
		fmt.Fprintf(&public, "%s: %q\n", i.Variable(), key)
		write(t, r.seed(i.Name), string(seed))
	}
	write(t, filepath.Join(r.dir, "nats-keys", "keys.conf"), public.String())
	writeRoutes(t, r, "a-password", 6222, 6222, 6222)
	write(t, filepath.Join(r.dir, "nats", "permissions.conf"), shipped(t, "permissions.conf"))
	r.certify(t)
}

// certify makes the Secret nats-tls anew, as oncall bus keys does.
func (r *rig) certify(t *testing.T) access.Certificate {
	t.Helper()
	c, err := access.NewCertificate(access.ServerNames("oncall", 3), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"ca.crt": c.CA, "tls.crt": c.Cert, "tls.key": c.Key} {
		write(t, filepath.Join(r.dir, "nats-tls", name), string(content))
	}
	return c
}

// writeRoutes makes what the servers need to find one another, as oncall bus keys
// does for their names in a cluster.
func writeRoutes(t *testing.T, r *rig, password string, ports ...int) {
	t.Helper()
	routes := fmt.Sprintf("ROUTE_PASSWORD: %q\nROUTES: [\n", password)
	for _, p := range ports {
		routes += fmt.Sprintf("  \"nats://route:%s@127.0.0.1:%d\"\n", password, p)
	}
	write(t, filepath.Join(r.dir, "nats-keys", "routes.conf"), routes+"]\n")
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, r *rig, conf string) *server.Server {
	t.Helper()
	f, err := os.CreateTemp(filepath.Join(r.dir, "nats"), "nats-*.conf")
	if err != nil {
		t.Fatal(err)
	}
	file := f.Name()
	_ = f.Close()
	write(t, file, conf)
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS not ready in 20s")
	}
	return s
}

// connect connects as an identity.
func (r *rig) connect(t *testing.T, identity, name string, manage bool) *bus.Bus {
	t.Helper()
	cfg := bus.DefaultConfig()
	cfg.URL, cfg.NKey, cfg.ManageStreams, cfg.MaxBytes, cfg.TLS.CA = r.url, r.seed(identity), manage, 1<<30, r.ca()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	b, err := bus.Connect(ctx, cfg, bus.Settings{Name: name})
	if err != nil {
		t.Fatalf("connect as %s: %v; refused: %q", identity, err, r.seen.refusals())
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	if !within(90*time.Second, cond) {
		t.Fatalf("%s: not within 90s", what)
	}
}

// within waits for a condition, and says whether it came.
func within(limit time.Duration, cond func() bool) bool {
	deadline := time.After(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			return false
		case <-tick.C:
		}
	}
	return true
}

// prometheus answers PromQL as one that watches a workload whose errors jump.
func prometheus(t *testing.T, bad time.Time) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		query := r.Form.Get("query")
		at, _ := strconv.ParseFloat(r.Form.Get("time"), 64)
		result := []any{}
		add := func(v float64, labels map[string]string) {
			result = append(result, map[string]any{"metric": labels, "value": []any{at, fmt.Sprint(v)}})
		}
		pod := map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}
		switch {
		case strings.Contains(query, "count by (__name__)"):
			if strings.Contains(query, "http_requests_total") {
				add(1, map[string]string{"__name__": "http_requests_total"})
			}
		case strings.Contains(query, "code=~"):
			if at >= float64(bad.Unix()) {
				add(30, pod)
			} else {
				add(0, pod)
			}
		case strings.Contains(query, "http_requests_total"):
			add(100+float64(int(at)%7), pod)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": "vector", "result": result}})
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestPipelineRunsUnderTheShippedPermissions runs the five services, each with
// its own key, from a jump in errors to a delivered report; nothing that they do
// may be refused, and what they may do and never did has to have a reason.
func TestPipelineRunsUnderTheShippedPermissions(t *testing.T) {
	r := newRig(t)
	r.connect(t, "streams", "streams", true)
	began := time.Now().Add(-30 * time.Minute)
	got := make(chan string, 64)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		select {
		case got <- string(b):
		default:
		}
	}))
	t.Cleanup(hook.Close)
	kv, err := r.connect(t, "collector", "collector", false).KV(t.Context(), bus.BucketCollector)
	if err != nil {
		t.Fatal(err)
	}
	// The collector catches up on half an hour, as after an outage.
	if _, err := kv.Put(t.Context(), "prometheus", fmt.Appendf(nil, `{"step":%q}`, began.Truncate(15*time.Second).UTC().Format(time.RFC3339))); err != nil {
		t.Fatal(err)
	}
	poison(t, r)
	config := fmt.Sprintf(`
bus: {url: %q, nkey: SEED, tls: {ca: %q}, manage_streams: false, checkpoint_every: 1s}
obs: {listen: ""}
collector: {prometheus: {url: %q, step: 15s, max_query_qps: 1000}}
notifier: {mode: page, channels: {hook: {type: webhook, url: %q}}}
`, r.url, r.ca(), prometheus(t, began.Add(22*time.Minute)), hook.URL)

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, spec := range pipeline.Services {
		cfg, err := service.Parse("config.yaml", []byte(strings.ReplaceAll(config, "SEED", strconv.Quote(r.seed(spec.Name)))), service.Names, spec)
		if err != nil {
			t.Fatal(err)
		}
		p, err := service.Open(ctx, cfg, service.Options{Name: spec.Name, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("open %s: %v", spec.Name, err)
		}
		wg.Go(func() {
			if err := p.Run(ctx, spec); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", spec.Name, err)
			}
			_ = p.Close()
		})
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	select {
	case body := <-got:
		if !strings.Contains(body, "shop") {
			t.Errorf("delivered %.200s, want a report about shop/web", body)
		}
	case <-time.After(90 * time.Second):
		t.Errorf("no report delivered in 90s")
	}
	reader := r.connect(t, "reader", "oncall", false)
	for _, s := range []*event.Stream{event.Metrics, event.Anomalies, event.Incidents, event.Evidences, event.Reports, event.Decisions, event.Audits, event.DeadLetters} {
		eventually(t, "something in "+s.Name, func() bool {
			last, err := reader.Last(t.Context(), s)
			return err == nil && last > 0
		})
	}
	// What is left is used now and then, as a checkpoint is, or at the end.
	within(30*time.Second, func() bool { return len(unused(r.seen)) == 0 })
	stop()
	wg.Wait()
	for _, line := range r.seen.refusals() {
		t.Errorf("refused: %s", line)
	}
	for _, right := range unused(r.seen) {
		t.Errorf("%s and never did: take it away, or say in seldom when it does", right)
	}
}

// poison puts a message on the telemetry that no detector can read.
func poison(t *testing.T, r *rig) {
	t.Helper()
	b := r.connect(t, "collector", "collector", false)
	if err := b.Republish(t.Context(), "telemetry.metrics.00.shop", map[string][]string{"Nats-Msg-Id": {"poison"}}, []byte("poison")); err != nil {
		t.Fatal(err)
	}
}

// seldom are rights that a quiet half hour with one source does not use, by the
// part of the subject that tells them.
var seldom = map[string]string{
	"telemetry.logs.":                       "no Loki in this test",
	"$JS.API.STREAM.PURGE.OBJ_kept":         "a checkpoint that is kept again after a crash, or let go after two hours",
	"telemetry.events.":                     "no API server in this test",
	"telemetry.changes.":                    "no API server in this test",
	"telemetry.topology.":                   "no API server in this test",
	"telemetry.pushed.":                     "nothing is pushed in this test",
	"TELEMETRY_PUSHED":                      "nothing is pushed in this test",
	"$KV.ckpt.events.":                      "no API server in this test",
	"watermarks.events.":                    "no API server in this test",
	"$KV.ckpt.logs.":                        "no Loki in this test",
	"watermarks.logs.":                      "no Loki in this test",
	"$JS.API.CONSUMER.DELETE.TELEMETRY_":    "after a lost connection",
	"$JS.API.CONSUMER.DELETE.ANOMALIES":     "after a lost connection",
	"telemetry.alerts.":                     "no Alertmanager in this test",
	"KV_notifier.>":                         "what is open is listed when an Alertmanager is told again, or a silence looked at; test/integration/e2e does",
	"CONSUMER.DELETE.KV_notifier":           "after such a list",
	"context.":                              "no API server in this test",
	"dlq.":                                  "only one message is poison, and the detector's",
	"snapshots":                             "states above 256 KiB",
	"$JS.FC.":                               "large answers only",
	"$JS.ACK.":                              "both forms are let through, the server uses one",
	"$JS.API.CONSUMER.INFO.":                "after a lost connection",
	"evidence.*.model":                      "no model is configured in this test",
	"REPORTS.reasoner-model":                "no model is configured in this test",
	".EVIDENCE":                             "no model is configured in this test",
	"$JS.API.STREAM.MSG.GET.":               "deliveries that the server gave up",
	"$JS.API.DIRECT.GET.":                   "keys that are there already, deliveries that the server gave up",
	"$JS.API.CONSUMER.CREATE.NOTIFY.*":      "the form without a filter",
	"$JS.API.CONSUMER.CREATE.REPORTS.":      "the form without a filter",
	"$JS.API.CONSUMER.CREATE.INCIDENTS.":    "the form with a filter",
	"$JS.API.CONSUMER.CREATE.ADVISORIES.":   "the form without a filter",
	"reports.*.failed":                      "the hook takes everything",
	"incidents.*.":                          "updated and resolved need more time",
	"anomalies.":                            "an end needs more time",
	"$JS.API.CONSUMER.CREATE.DECISIONS.>":   "once a day",
	"$JS.API.CONSUMER.MSG.NEXT.DECISIONS.*": "once a day",
	"$JS.API.CONSUMER.DELETE.DECISIONS.*":   "once a day",
}

// unused are the rights of the services that were not used.
func unused(w *witness) (rights []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range access.Identities() {
		if !slices.Contains(service.Names, i.Name) {
			continue
		}
		for what, allowed := range map[string][]string{"PUB": i.Publish, "SUB": i.Subscribe} {
		right:
			for _, a := range allowed {
				for u := range w.used[i.Name] {
					if s, ok := strings.CutPrefix(u, what+" "); ok && (event.MatchSubject(a, s) || s == a) {
						continue right
					}
				}
				for part := range seldom {
					if strings.Contains(a, part) {
						continue right
					}
				}
				rights = append(rights, fmt.Sprintf("%s may %s %s", i.Name, what, a))
			}
		}
	}
	return rights
}

// TestWhatNoIdentityMayDo tries, as each identity, what is not its business.
func TestWhatNoIdentityMayDo(t *testing.T) {
	r := newRig(t)
	r.connect(t, "streams", "streams", true)
	for _, test := range []struct {
		identity string
		pub, sub []string
	}{
		{"collector", []string{"anomalies.critical.shop.spike", "incidents.x.opened", "reports.x.drafted", "audit.notifier", "$KV.incident.x", "$JS.API.STREAM.DELETE.INCIDENTS", "$JS.API.CONSUMER.CREATE.INCIDENTS.x", "dlq.X.y"}, []string{"telemetry.>", "incidents.>", ">", "_INBOX_notifier.>"}},
		{"detector", []string{"telemetry.metrics.00.shop", "incidents.x.opened", "$KV.ckpt.correlator.x.00", "$KV.collector.prometheus", "$JS.API.CONSUMER.CREATE.INCIDENTS.x", "control.collector.query", "watermarks.correlator.00"}, []string{"control.collector.query", "anomalies.>", "_INBOX_collector.>"}},
		{"correlator", []string{"anomalies.critical.shop.spike", "telemetry.metrics.00.tick", "reports.x.drafted", "$KV.ckpt.metrics.x.00", "$KV.notifier.x", "watermarks.metrics.00"}, []string{"incidents.>", "_INBOX_reasoner.>"}},
		{"reasoner", []string{"incidents.x.opened", "notify.slack.x", "$KV.incident.x", "evidence.x.prometheus", "telemetry.alerts.00.shop", "$JS.API.STREAM.MSG.GET.AUDIT"}, []string{"control.collector.query", "evidence.>"}},
		{"notifier", []string{"telemetry.metrics.00.shop", "incidents.x.resolved", "reports.x.drafted", "control.collector.query", "anomalies.info.shop.spike", "$KV.incident.x", "$JS.API.STREAM.PURGE.INCIDENTS"}, []string{"reports.>", "control.>"}},
		{"streams", []string{"$JS.API.STREAM.DELETE.INCIDENTS", "$JS.API.STREAM.PURGE.INCIDENTS", "$JS.API.STREAM.MSG.GET.INCIDENTS", "$JS.API.CONSUMER.CREATE.INCIDENTS.x", "telemetry.metrics.00.shop"}, []string{"telemetry.>", ">"}},
		{"plugin", []string{"incidents.x.opened", "telemetry.metrics.00.shop", "$KV.ckpt.metrics.x.00", "$JS.API.CONSUMER.CREATE.INCIDENTS.x"}, []string{"incidents.>"}},
		{"reader", []string{"audit.collector", "telemetry.metrics.00.shop", "anomalies.info.shop.spike", "$KV.incident.x", "$JS.API.STREAM.DELETE.INCIDENTS", "$JS.API.STREAM.MSG.DELETE.DLQ", "control.collector.query"}, []string{"_INBOX_collector.>"}},
		{"operator", []string{"$JS.API.STREAM.DELETE.INCIDENTS", "$JS.API.STREAM.UPDATE.INCIDENTS", "$KV.incident.x", "control.collector.query", "$JS.EVENT.ADVISORY.API.LIMIT_REACHED"}, []string{">"}},
	} {
		t.Run(test.identity, func(t *testing.T) {
			option, err := nats.NkeyOptionFromSeed(r.seed(test.identity))
			if err != nil {
				t.Fatal(err)
			}
			said := make(chan string, 64)
			nc, err := nats.Connect(r.url, option, nats.RootCAs(r.ca()), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { said <- err.Error() }))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			refused := func(what, subject string) {
				t.Helper()
				if err := nc.Flush(); err != nil {
					t.Fatal(err)
				}
				select {
				case s := <-said:
					if !strings.Contains(s, what) || !strings.Contains(s, strconv.Quote(subject)) {
						t.Errorf("%s %s: the server said %s", what, subject, s)
					}
				case <-time.After(5 * time.Second):
					t.Errorf("%s %s is let through", what, subject)
				}
			}
			for _, s := range test.pub {
				if err := nc.Publish(s, nil); err != nil {
					t.Fatal(err)
				}
				refused("Publish", s)
			}
			for _, s := range test.sub {
				if _, err := nc.SubscribeSync(s); err != nil {
					t.Fatal(err)
				}
				refused("Subscription", s)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		if nc, err := nats.Connect(r.url, nats.RootCAs(r.ca())); !errors.Is(err, nats.ErrAuthorization) {
			nc.Close()
			t.Errorf("connecting without a key: %v, want %v", err, nats.ErrAuthorization)
		}
	})
}

// TestEveryKindHasSomebodyWhoMayPublishIt fails for a kind that was added to the
// table and to no identity.
func TestEveryKindHasSomebodyWhoMayPublishIt(t *testing.T) {
	for _, k := range event.Kinds() {
		sample := strings.ReplaceAll(k.Filter(), "*", "x")
		switch k.Type {
		case event.DeadLettered.Type:
			sample = "dlq." + event.Metrics.Name + ".x"
		case event.WatermarkPassed.Type:
			sample = "watermarks.metrics.00"
		case event.Audited.Type:
			sample = "audit.collector"
		}
		var who []string
		for _, i := range access.Identities() {
			if slices.Contains(service.Names, i.Name) && slices.ContainsFunc(i.Publish, func(a string) bool { return event.MatchSubject(a, sample) }) {
				who = append(who, i.Name)
			}
		}
		if len(who) != 1 {
			t.Errorf("%s (%s) may be published by %v, want one service", k.Type, sample, who)
		}
	}
}
