//go:build e2e

package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/test/testbed"
)

const account = "system:serviceaccount:oncall:collector"

// crd makes the API server know a kind of the Prometheus operator, whose own
// definitions cannot be had here: any specification is taken.
func crd(kind, plural string) string {
	return fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]s.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: %[1]s, plural: %[2]s}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`, kind, plural)
}

// cluster is a control plane without nodes, as its administrator.
type cluster struct {
	*testbed.Cluster
	t *testing.T
}

// kubectl runs kubectl and returns what it printed and whether it succeeded.
func (c cluster) kubectl(stdin string, args ...string) (stdout, stderr string, ok bool) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "kubectl", append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
	err := cmd.Run()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		c.t.Fatal(err)
	}
	return out.String(), said.String(), err == nil
}

func TestOnARealAPIServer(t *testing.T) {
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Close)
	k, err := bed.StartKubernetes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{k, t}
	for _, m := range []string{crd("PodMonitor", "podmonitors"), crd("PrometheusRule", "prometheusrules")} {
		if err := c.Apply(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if _, said, ok := c.kubectl("", "wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"); !ok {
		t.Fatal(said)
	}
	// What everything else is in or runs as has to be there, even for a dry run.
	var base []string
	for _, o := range load(t, "single") {
		switch o.kind() {
		case "Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding":
			b, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			base = append(base, string(b))
		}
	}
	if _, said, ok := c.kubectl(strings.Join(base, "---\n"), "apply", "-f", "-"); !ok {
		t.Fatal(said)
	}
	for _, overlay := range overlays {
		t.Run("overlay "+overlay+" is accepted", func(t *testing.T) { cluster{k, t}.accepts(overlay) })
	}
	t.Run("prod with cert-manager is accepted", func(t *testing.T) { cluster{k, t}.certManager() })
	t.Run("a pod that is not restricted is refused", func(t *testing.T) {
		_, said, ok := cluster{k, t}.kubectl("apiVersion: v1\nkind: Pod\nmetadata: {name: careless, namespace: oncall}\nspec: {containers: [{name: c, image: c}]}\n", "apply", "--dry-run=server", "-f", "-")
		if ok || !strings.Contains(said, "violates PodSecurity") {
			t.Errorf("taken, or for another reason: %s", said)
		}
	})
	t.Run("the collector may do what it needs and nothing else", func(t *testing.T) { cluster{k, t}.rights() })
	t.Run("the collector runs with its token", func(t *testing.T) { cluster{k, t}.collector() })
}

// accepts has the API server judge every object of an overlay, and of every
// workload a pod as it would make it, which is where the restricted profile is
// enforced.
func (c cluster) accepts(overlay string) {
	c.t.Helper()
	out, said, ok := c.kubectl("", "apply", "--dry-run=server", "-f", "rendered/"+overlay+".yaml")
	if !ok || strings.Contains(said, "Warning") && !strings.Contains(said, "last-applied-configuration") {
		c.t.Errorf("kubectl apply --dry-run=server: %s", said)
	}
	all := load(c.t, overlay)
	if n := strings.Count(out, "(server dry run)"); n != len(all) {
		c.t.Errorf("%d of %d objects were judged:\n%s", n, len(all), out)
	}
	for _, o := range all {
		spec := o.podSpec()
		if spec == nil {
			continue
		}
		for _, v := range o.list("spec", "volumeClaimTemplates") {
			spec["volumes"] = append(spec["volumes"].([]any), map[string]any{"name": v.at("metadata", "name"), "emptyDir": map[string]any{}})
		}
		pod, err := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": o.name(), "namespace": "oncall"}, "spec": spec,
		})
		if err != nil {
			c.t.Fatal(err)
		}
		if _, said, ok := c.kubectl(string(pod), "apply", "--dry-run=server", "-f", "-"); !ok {
			c.t.Errorf("a pod of %s: %s", o.id(), said)
		}
	}
}

// may asks kubectl auth can-i as the collector.
func (c cluster) may(args ...string) bool {
	c.t.Helper()
	out, said, _ := c.kubectl("", append([]string{"auth", "can-i", "--as=" + account, "--as-group=system:serviceaccounts", "--as-group=system:authenticated"}, args...)...)
	switch strings.TrimSpace(out) {
	case "yes":
		return true
	case "no":
		return false
	}
	c.t.Fatalf("kubectl auth can-i %v: %s%s", args, out, said)
	return false
}

func (c cluster) rights() {
	for _, r := range kube.Needed() {
		args := []string{r.Verb, r.Resource, "-A"}
		if r.Group != "" {
			args[1] += "." + r.Group
		}
		if r.Subresource != "" {
			args = append(args, "--subresource="+r.Subresource)
		}
		if !c.may(args...) {
			c.t.Errorf("may not %v, which it needs", args)
		}
	}
	for _, no := range [][]string{
		{"get", "secrets"},
		{"list", "secrets"},
		{"watch", "secrets"},
		{"get", "secrets", "-n", "kube-system"},
		{"create", "pods"},
		{"delete", "pods"},
		{"patch", "pods"},
		{"update", "deployments.apps"},
		{"patch", "deployments.apps", "--subresource=scale"},
		{"create", "pods", "--subresource=exec"},
		{"get", "pods", "--subresource=exec"},
		{"create", "pods", "--subresource=attach"},
		{"create", "pods", "--subresource=portforward"},
		{"get", "pods", "--subresource=proxy"},
		{"get", "services", "--subresource=proxy"},
		{"get", "nodes", "--subresource=proxy"},
		{"create", "serviceaccounts", "--subresource=token"},
		{"impersonate", "users"},
		{"create", "pods", "--subresource=eviction"},
		{"patch", "nodes"},
		{"update", "configmaps"},
		{"delete", "events"},
		{"create", "events"},
		{"get", "clusterroles.rbac.authorization.k8s.io"},
		{"bind", "clusterroles.rbac.authorization.k8s.io"},
		{"escalate", "clusterroles.rbac.authorization.k8s.io"},
		{"list", "persistentvolumes"},
		{"watch", "persistentvolumeclaims"},
		{"get", "certificatesigningrequests.certificates.k8s.io"},
		{"get", "/metrics"},
		{"*", "*"},
	} {
		if !strings.HasPrefix(no[1], "/") && !slices.Contains(no, "-n") {
			no = append(slices.Clone(no), "-A")
		}
		if c.may(no...) {
			c.t.Errorf("may %v", no)
		}
	}
}

// collector runs the collector with a token of its account until it has listed
// everything, and sees a workload that comes.
func (c cluster) collector() {
	token, said, ok := c.kubectl("", "create", "token", "collector", "-n", "oncall", "--duration=1h")
	if !ok {
		c.t.Fatal(said)
	}
	dir := c.t.TempDir()
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte(strings.TrimSpace(token)), 0o600); err != nil {
		c.t.Fatal(err)
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: {tokenFile: %q}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`, c.URL, c.CAFile, file), 0o600); err != nil {
		c.t.Fatal(err)
	}
	cfg, err := service.Parse("config.yaml", fmt.Appendf(nil, "obs: {listen: \"\"}\ncollector: {kubernetes: {kubeconfig: %q}}\n", kubeconfig), service.Names, pipeline.Services...)
	if err != nil {
		c.t.Fatal(err)
	}
	h, err := pipeline.Open(c.t.Context(), cfg, pipeline.Options{Data: filepath.Join(dir, "data")})
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	ctx, stop := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, collector.Spec) }()
	if err := c.Apply(ctx, `{apiVersion: v1, kind: Namespace, metadata: {name: shop}}`); err != nil {
		c.t.Fatal(err)
	}
	if _, said, ok := c.kubectl("", "create", "deployment", "web", "-n", "shop", "--image=web"); !ok {
		c.t.Fatal(said)
	}
	eventually(c.t, "telemetry of the cluster", func() bool {
		last, err := h.Bus.Last(ctx, event.KubeEvents)
		return err == nil && last > event.Partitions
	})
	// Everything that a feed may not read it says of itself.
	deadline := time.Now().Add(20 * time.Second)
	for listed := false; !listed && time.Now().Before(deadline); {
		parts, _ := h.Health.Parts()
		for _, p := range parts {
			if strings.HasPrefix(p.Name, "kubernetes ") && !p.Ready {
				c.t.Fatalf("%s: %s", p.Name, p.Why)
			}
			listed = listed || p.Name == "source kubernetes" && p.Ready
		}
	}
	stop()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		c.t.Error(err)
	}
}

// TestRulesByPromtool has Prometheus' own tool judge the rules that are shipped,
// and evaluate the burn rates on histories with a known answer.
func TestRulesByPromtool(t *testing.T) {
	promtool, err := testbed.Program(t.Context(), "promtool", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put := func(name string, v any) string {
		b, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	burn := put("burn.yaml", map[string]any{"groups": burnRules(t)})
	var own []object
	for _, o := range load(t, "prod") {
		if o.kind() == "PrometheusRule" {
			own = append(own, o.list("spec", "groups")...)
		}
	}
	run := func(args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput()
		t.Logf("promtool %s\n%s", strings.Join(args, " "), out)
		if err != nil {
			t.Errorf("promtool %v: %v", args, err)
		}
	}
	run("check", "rules", burn, put("own.yaml", map[string]any{"groups": own}))
	alerts, err := os.ReadFile("testdata/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range own {
		for _, r := range g.list("rules") {
			if name := fmt.Sprint(r.at("alert")); bytes.Count(alerts, []byte("alertname: "+name+"\n")) != 1 || !bytes.Contains(alerts, []byte("alertname: "+name+", exp_alerts: []")) {
				t.Errorf("testdata/alerts.yaml has no history on which %s fires, or none on which it is quiet", name)
			}
		}
	}
	write(t, filepath.Join(dir, "alerts.yaml"), string(alerts))
	run("test", "rules", filepath.Join(dir, "alerts.yaml"))
	// 1,000 requests a minute, of which so many fail.
	history := func(errors string, fires bool) map[string]any {
		alerts := []any{}
		if fires {
			alerts = append(alerts, map[string]any{"exp_labels": map[string]any{"severity": "page", "namespace": "shop", "job": "web"}})
		}
		return map[string]any{
			"interval": "1m",
			"input_series": []any{
				map[string]any{"series": `http_requests_total{namespace="shop",job="web",code="200"}`, "values": "0+1000x120"},
				map[string]any{"series": `http_requests_total{namespace="shop",job="web",code="500"}`, "values": errors},
			},
			"promql_expr_test": []any{},
			"alert_rule_test":  []any{map[string]any{"eval_time": "100m", "alertname": "SLOBurnRatePage", "exp_alerts": alerts}},
		}
	}
	tests := []any{history("0+15x120", true), history("0+1x120", false)}
	for _, h := range tests {
		// The annotation holds the value; only that it fires is asked here.
		for _, a := range h.(map[string]any)["alert_rule_test"].([]any)[0].(map[string]any)["exp_alerts"].([]any) {
			a.(map[string]any)["exp_annotations"] = map[string]any{"summary": "shop/web burns its error budget 14.78 times as fast as it may."}
		}
	}
	run("test", "rules", put("test.yaml", map[string]any{"rule_files": []any{burn}, "evaluation_interval": "1m", "tests": tests}))
}

// TestLokiTakesItsValues assembles from the chart's values what the chart makes
// of them, and has Loki judge it.
func TestLokiTakesItsValues(t *testing.T) {
	loki, err := testbed.Program(t.Context(), "loki", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	v, _ := values(t, "values-loki.yaml").at("loki").(map[string]any)
	common, _ := v["commonConfig"].(map[string]any)
	common["storage"] = map[string]any{"filesystem": map[string]any{"chunks_directory": "/var/loki/chunks", "rules_directory": "/var/loki/rules"}}
	common["ring"] = map[string]any{"kvstore": map[string]any{"store": "inmemory"}}
	b, err := yaml.Marshal(map[string]any{
		"auth_enabled": v["auth_enabled"], "common": common, "schema_config": v["schemaConfig"], "limits_config": v["limits_config"],
		"compactor": v["compactor"], "pattern_ingester": v["pattern_ingester"], "server": map[string]any{"http_listen_port": 3100},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "loki.yaml")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), loki, "-verify-config", "-config.file="+file).CombinedOutput()
	t.Logf("loki -verify-config: %s", out)
	if err != nil {
		t.Errorf("loki -verify-config: %v", err)
	}
}
