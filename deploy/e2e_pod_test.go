//go:build e2e

package deploy_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/test/testbed"
)

// locked is a buffer that a process writes while a test reads.
type locked struct {
	mu  chan struct{}
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu <- struct{}{}
	defer func() { <-l.mu }()
	return l.buf.Write(p)
}

func (l *locked) String() string {
	l.mu <- struct{}{}
	defer func() { <-l.mu }()
	return l.buf.String()
}

// TestSingleRunsAsInItsPod runs the command of the overlay single with what its
// pod has and nothing else: the environment, a projected token with the rights of
// the shipped role, the shipped configuration, a folder for data. It has to find
// Prometheus by its Service, read the cluster, and answer its probes.
func TestSingleRunsAsInItsPod(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: the token's folder is mounted in a namespace of its own")
	}
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
	manifests, err := os.ReadFile("rendered/single.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, said, ok := c.kubectl(string(manifests), "apply", "-f", "-"); !ok {
		t.Fatal(said)
	}
	if _, said, ok := c.kubectl(`
apiVersion: v1
kind: Namespace
metadata: {name: monitoring}
---
apiVersion: v1
kind: Service
metadata: {name: kps-prometheus, namespace: monitoring, labels: {app: kube-prometheus-stack-prometheus}}
spec: {selector: {app: prometheus}, ports: [{name: http-web, port: 9090}]}
`, "apply", "-f", "-"); !ok {
		t.Fatal(said)
	}
	token, said, ok := c.kubectl("", "create", "token", "collector", "-n", "oncall", "--duration=1h")
	if !ok {
		t.Fatal(said)
	}
	dir := t.TempDir()
	oncall := filepath.Join(dir, "oncall")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", oncall, "../cmd/oncall").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	ca, err := os.ReadFile(c.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "account", "token"), strings.TrimSpace(token))
	write(t, filepath.Join(dir, "account", "ca.crt"), string(ca))
	write(t, filepath.Join(dir, "account", "namespace"), "oncall")
	health := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	write(t, filepath.Join(dir, "config.yaml"), string(configuration(t, "single"))+"\nobs: {listen: "+health+"}\n")

	var command []string
	for _, o := range load(t, "single") {
		if spec := o.podSpec(); spec != nil {
			command = strs(spec.list("containers")[0].at("command"))
		}
	}
	if command[0] != "/oncall" {
		t.Fatalf("the pod runs %v", command)
	}
	for i, a := range command {
		if a == "127.0.0.1:4222" {
			command[i] = "127.0.0.1:0"
		}
	}
	host, port, err := net.SplitHostPort(strings.TrimPrefix(c.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	// A mount namespace of its own, so that the token's folder is this process's.
	sh := `mount -t tmpfs none /var/run/ && mkdir -p /var/run/secrets/kubernetes.io && cp -r "$ACCOUNT" /var/run/secrets/kubernetes.io/serviceaccount && exec "$@"`
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"-m", "sh", "-c", sh, "sh", oncall}, command[1:]...)...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "ACCOUNT=" + filepath.Join(dir, "account"), "KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port,
		"ONCALL_CONFIG=" + filepath.Join(dir, "config.yaml"), "ONCALL_DATA_DIR=" + filepath.Join(dir, "data"), "GOMEMLIMIT=440MiB",
	}
	log := &locked{mu: make(chan struct{}, 1)}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	answers := func(path string) bool {
		res, err := http.Get("http://" + health + path)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	}
	eventually(t, "that the probes are answered; it said "+log.String(), func() bool {
		select {
		case err := <-done:
			t.Fatalf("it ended: %v: %s", err, log.String())
		default:
		}
		return answers("/healthz") && answers("/readyz")
	})
	for _, want := range []string{"prometheus: monitoring/kps-prometheus", "by its name", "kubernetes: in-cluster"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("it did not say %q: %s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "forbidden") {
		t.Errorf("something was forbidden: %s", log.String())
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = <-done
	t.Logf("it said:\n%s", log.String())
}
