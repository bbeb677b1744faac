package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
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
	"github.com/nats-io/nkeys"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/access"
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
