//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/access"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// object is a mapping of a configuration file.
type object = map[string]any

// world is one cluster with its telemetry, and the five services that watch
// it: every server behind TLS and a password, Loki with tenants, the bus with
// a key, the cluster with the collector's rights and no more.
type world struct {
	bed      *testbed.Bed
	cluster  *testbed.Cluster
	prom     *testbed.Server
	loki     *testbed.Server
	alerts   *testbed.Server
	nats     *testbed.NATSCluster
	shops    map[string]*testbed.Shop // by namespace
	receiver *receiver
	bus      *bus.Bus
	services map[string]*testbed.Process
	config   map[string]string // configuration files by service
	binaries string

	door   testbed.Door
	secret string
}

// calm is the namespace in which nothing is wrong. Each story has one of its
// own, so that stories do not touch.
const calm = "calm"

// tenant is whose the logs are.
const tenant = "team-a"

// folder is where a world keeps its data and logs: below ONCALL_E2E_DIR when
// that is set, which outlives the test.
func folder(t *testing.T) string {
	t.Helper()
	if d := os.Getenv("ONCALL_E2E_DIR"); d != "" {
		return filepath.Join(d, t.Name())
	}
	return t.TempDir()
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// empty makes a world without anything in it, that ends with the test.
func empty(t *testing.T) *world {
	t.Helper()
	w := &world{shops: map[string]*testbed.Shop{}, services: map[string]*testbed.Process{}, config: map[string]string{}}
	w.bed = must(testbed.New(folder(t)))(t)
	t.Cleanup(func() {
		w.bed.Close()
		if t.Failed() {
			w.logs(t)
		}
	})
	w.receiver = newReceiver(t, w.bed)
	w.build(t)
	return w
}

// start brings the world up, behind locked doors. namespaces get a shop each,
// with the workloads named.
func start(t *testing.T, namespaces map[string][]string) *world {
	t.Helper()
	ctx := t.Context()
	w := empty(t)
	w.door = testbed.Door{Authority: must(w.bed.Authority())(t), User: "oncall", Password: "open sesame"}
	w.nats = must(w.bed.StartNATS(ctx, testbed.NATSConfig{Servers: 3, Accounts: w.keys(t)}))(t)
	w.cluster = must(w.bed.StartKubernetes(ctx))(t)
	check(t, w.cluster.AddNodes(ctx, 4))
	w.loki = must(w.bed.StartLoki(ctx, testbed.LokiConfig{Tenants: true, Door: w.door}))(t)
	w.alerts = must(w.bed.StartAlertmanager(ctx, testbed.AlertmanagerConfig{Door: w.door}))(t)
	ksm := must(w.bed.StartKubeStateMetrics(ctx, w.cluster.Kubeconfig))(t)
	scrapes := []testbed.Scrape{{Job: "kube-state-metrics", Targets: []string{ksm.Addr}, Honor: true}}
	var history []map[string][]string
	since := time.Now().Add(-before)
	for ns, workloads := range namespaces {
		s := must(w.bed.StartShop(ctx, testbed.ShopConfig{Cluster: w.cluster, Loki: w.loki, Tenant: tenant, Namespace: ns, Workloads: workloads}))(t)
		w.shops[ns] = s
		scrapes = append(scrapes, s.Scrape())
		history = append(history, must(s.History(ctx, since.Add(before-burning)))(t))
		check(t, s.Remember(ctx, since))
	}
	w.prom = must(w.bed.StartPrometheus(ctx, testbed.PrometheusConfig{
		Scrapes: scrapes, Door: w.door, History: history, Rules: theirRules, Alertmanagers: []*testbed.Server{w.alerts},
	}))(t)
	w.watch(t, &since)
	return w
}

// watch starts the five services, with the rights that the collector says it
// needs. With since, they read what happened from then on, as after an outage.
func (w *world) watch(t *testing.T, since *time.Time) {
	t.Helper()
	w.secrets(t)
	check(t, w.cluster.Apply(t.Context(), rights()))
	check(t, w.connect(t, "streams", "streams").Close())
	w.bus = w.connect(t, "reader", "oncall")
	t.Cleanup(func() { _ = w.bus.Close() })
	if since != nil {
		w.rewind(t, *since)
	}
	for _, name := range service.Names {
		w.run(t, name)
	}
}

// before is how long the shops have been watched when a test begins: what is
// normal has to be known before something can be odd.
const before = 32 * time.Minute

// burning is how much of it the metrics are read for. A burn is of an hour: the
// longer all was well, the longer it takes to see.
const burning = 6 * time.Minute

// theirRules are what the user's Prometheus alerts on.
const theirRules = `groups:
- name: shop
  rules:
  - alert: CheckoutErrors
    expr: |
      sum by (namespace) (rate(http_requests_total{code=~"5..",namespace=~"alert.*"}[20s]))
        / sum by (namespace) (rate(http_requests_total{namespace=~"alert.*"}[20s])) > 0.05
    labels: {severity: page, deployment: web}
    annotations:
      summary: "{{ $value | humanizePercentage }} of checkouts fail"
      runbook_url: https://runbooks.example/checkout-errors
  - alert: Watchdog
    expr: vector(1)
    labels: {severity: none}
`

// rewind has the collector read from a time on, as after an outage.
func (w *world) rewind(t *testing.T, since time.Time) {
	t.Helper()
	b := w.connect(t, "collector", "collector")
	defer func() { _ = b.Close() }()
	kv := must(b.KV(t.Context(), bus.BucketCollector))(t)
	must(kv.Put(t.Context(), "prometheus", prometheus.After(since.Add(before-burning).Truncate(15*time.Second))))(t)
	must(kv.Put(t.Context(), "loki", loki.After(since.Truncate(10*time.Second))))(t)
}

// secrets writes what the services read from files.
func (w *world) secrets(t *testing.T) {
	t.Helper()
	w.secret = filepath.Join(w.bed.Dir, "webhook.secret")
	check(t, os.WriteFile(w.secret, []byte(w.receiver.secret+"\n"), 0o600))
	check(t, os.WriteFile(filepath.Join(w.bed.Dir, "password"), []byte(w.door.Password), 0o600))
}

// keys makes a key for every identity of the bus, and returns what each may do
// as the servers' configuration: what is shipped, and nobody else.
func (w *world) keys(t *testing.T) string {
	t.Helper()
	var public strings.Builder
	check(t, os.MkdirAll(filepath.Join(w.bed.Dir, "nats-keys"), 0o700))
	for _, i := range access.Identities() {
		kp := must(nkeys.CreateUser())(t)
		fmt.Fprintf(&public, "%s: %s\n", i.Variable(), must(kp.PublicKey())(t))
		check(t, os.WriteFile(w.seed(i.Name), must(kp.Seed())(t), 0o600))
	}
	check(t, os.WriteFile(filepath.Join(w.bed.Dir, "nats-keys", "keys.conf"), []byte(public.String()), 0o600))
	return w.inspected(t, access.Config())
}

// seed is the file of an identity's private key.
func (w *world) seed(identity string) string {
	return filepath.Join(w.bed.Dir, "nats-keys", identity+".nk")
}

// connect connects as an identity. connection is how its connections are
// called, on which its rights to answers rest.
func (w *world) connect(t *testing.T, identity, connection string) *bus.Bus {
	t.Helper()
	return must(bus.Connect(t.Context(), bus.Config{
		URL: w.nats.URL, NKey: w.seed(identity), Replicas: len(w.nats.Nodes), MaxPending: 64, ManageStreams: identity == "streams",
	}, bus.Settings{Name: connection, Source: "//testbed/e2e"}))(t)
}

// rights is a role of what the collector says it needs, for its user.
func rights() string {
	type rule struct {
		APIGroups []string `yaml:"apiGroups"`
		Resources []string
		Verbs     []string
	}
	var rules []rule
	for _, r := range kube.Needed() {
		res := r.Resource
		if r.Subresource != "" {
			res += "/" + r.Subresource
		}
		rules = append(rules, rule{[]string{r.Group}, []string{res}, []string{r.Verb}})
	}
	role, _ := yaml.Marshal(object{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": object{"name": "oncall"}, "rules": rules,
	})
	binding, _ := yaml.Marshal(object{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": object{"name": "oncall"},
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "oncall"},
		"subjects": []object{{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": testbed.Reader}},
	})
	return string(role) + "---\n" + string(binding)
}

// build makes the services' binaries.
func (w *world) build(t *testing.T) {
	t.Helper()
	w.binaries = buildServices(t)
}

func buildServices(t *testing.T) string {
	t.Helper()
	root := must(testbed.Root())(t)
	dir := t.TempDir()
	args := []string{"build", "-o", dir + "/"}
	for _, name := range service.Names {
		args = append(args, "./services/"+name+"/cmd/"+name)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return dir
}

// upstream is how a source behind the door is configured.
func (w *world) upstream(url string) object {
	if !w.door.Locked() {
		return object{"url": url}
	}
	return object{"url": url, "http": w.http()}
}

func (w *world) http() object {
	return object{
		"tls_config": object{"ca_file": w.door.Authority.CAFile},
		"basic_auth": object{"username": w.door.User, "password_file": filepath.Join(w.bed.Dir, "password")},
	}
}

// run writes the configuration of a service and starts it.
func (w *world) run(t *testing.T, name string) {
	t.Helper()
	reader := must(w.cluster.KubeconfigFor(testbed.Reader))(t)
	prom := w.upstream(w.prom.URL)
	prom["step"], prom["delay"], prom["window"], prom["max_query_qps"] = "15s", "2s", "20s", 100
	logs := w.upstream(w.loki.URL)
	logs["window"], logs["max_catch_up"], logs["max_query_qps"] = "10s", "1h", 50
	logs["stream_log_bytes_per_day"] = 60_000 * 8640 // 60 kB in a window
	if w.door.Locked() {
		logs["tenant"] = tenant
	}
	sources := object{
		"prometheus": []object{prom}, "loki": []object{logs}, "kubernetes": []object{{"kubeconfig": reader, "history": "1m"}},
	}
	channels := object{"hook": object{"type": "webhook", "url": "http://" + w.receiver.addr + "/hook", "secret_file": w.secret}}
	if w.alerts != nil {
		theirs := w.upstream(w.alerts.URL)
		theirs["every"] = "5s"
		sources["alertmanager"] = []object{theirs}
		channels["theirs"] = object{"type": "alertmanager", "urls": []string{w.alerts.URL}, "repeat": "10s", "patience": "1m", "http": w.http()}
	}
	cfg := object{
		"cluster": "testbed", "policies": w.policies(t),
		"obs":       object{"listen": "127.0.0.1:0"},
		"bus":       object{"url": w.nats.URL, "nkey": w.seed(name), "replicas": len(w.nats.Nodes), "manage_streams": false},
		"collector": sources,
		"notifier":  object{"mode": "page", "max_per_minute": 600, "channels": channels},
	}
	text := must(yaml.Marshal(cfg))(t)
	w.config[name] = filepath.Join(w.bed.Dir, name+".yaml")
	check(t, os.WriteFile(w.config[name], text, 0o600))
	w.services[name] = must(w.bed.Launch(name, nil, filepath.Join(w.binaries, name), "-config", w.config[name]))(t)
}

// policies are the built-in ones, but for storms: the stories fail at once and
// have nothing to do with each other.
func (w *world) policies(t *testing.T) string {
	t.Helper()
	b := must(fs.ReadFile(policies.FS, "correlation.yaml"))(t)
	if !bytes.Contains(b, []byte("storm: 5 ")) {
		t.Fatal("policies/correlation.yaml has no storm: 5")
	}
	dir := filepath.Join(w.bed.Dir, "policies")
	check(t, os.MkdirAll(dir, 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "correlation.yaml"), bytes.Replace(b, []byte("storm: 5 "), []byte("storm: 100 "), 1), 0o644))
	return dir
}

// logs shows the ends of the services' logs.
func (w *world) logs(t *testing.T) {
	for _, name := range service.Names {
		if p := w.services[name]; p != nil {
			t.Log(p.Tail(15))
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, limit)
		case <-tick.C:
		}
	}
}

// alertmanagerAlerts are the alerts that the user's Alertmanager has.
func (w *world) alertmanagerAlerts(t *testing.T) []alert {
	t.Helper()
	var out []alert
	check(t, getJSON(t.Context(), w.alerts.Client, w.alerts.URL+"/api/v2/alerts", &out))
	return out
}

type alert struct {
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
	Status              struct{ State string }
}

func getJSON(ctx context.Context, c *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, res.Status)
	}
	return decode(res.Body, into)
}
