//go:build e2e

package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/test/testbed"
)

// image builds the image as its user does, in a store of its own, and returns the
// archive of it.
func image(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Skip("buildah is not installed; on Debian: apt-get install buildah")
	}
	dir := t.TempDir()
	store := filepath.Join(dir, "storage.conf")
	write(t, store, fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", filepath.Join(dir, "store"), filepath.Join(dir, "run")))
	cmd := exec.CommandContext(t.Context(), "make", "-C", "..", "image", "BUILDER=buildah", "IMAGES="+dir, "VERSION=v0.0.0-e2e")
	cmd.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+store)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make image: %v: %s", err, out)
	}
	t.Logf("%s", out)
	return filepath.Join(dir, "oncall-linux-"+runtime.GOARCH+".tar")
}

// TestTheImageRunsAsThePodOfSingle does what the first page of docs/operations.md
// says: it builds the image, applies the overlay to a cluster with a real kubelet,
// and reads what the pod says when a workload fails there. Nothing of the overlay
// is changed.
func TestTheImageRunsAsThePodOfSingle(t *testing.T) {
	if m := testbed.NodeMissing(); m != "" {
		t.Skip(m)
	}
	archive := image(t)
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Close)
	k, err := bed.StartKubernetes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	node, err := bed.StartNode(t.Context(), k, testbed.NodeConfig{Name: "real-0", Network: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Import(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	prom, err := bed.StartPrometheus(t.Context(), testbed.PrometheusConfig{Scrapes: node.Scrapes()})
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{k, t}
	apply := func(manifests string) {
		t.Helper()
		if _, said, ok := c.kubectl(manifests, "apply", "-f", "-"); !ok {
			t.Fatal(said)
		}
	}
	apply(`
apiVersion: v1
kind: Namespace
metadata: {name: monitoring}
---
apiVersion: v1
kind: Service
metadata: {name: kps-prometheus, namespace: monitoring, labels: {app: kube-prometheus-stack-prometheus}}
spec: {selector: {app: prometheus}, ports: [{name: http-web, port: 9090}]}
`)
	if err := node.Serve(t.Context(), "monitoring", "kps-prometheus", 9090, prom.Addr); err != nil {
		t.Fatal(err)
	}
	// What a storage class gives in a cluster that has one.
	data := filepath.Join(t.TempDir(), "volume")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	apply(fmt.Sprintf(`
apiVersion: v1
kind: PersistentVolume
metadata: {name: data}
spec:
  capacity: {storage: 5Gi}
  accessModes: [ReadWriteOnce]
  local: {path: %q}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: type, operator: In, values: [real]}]}]}}
`, data))

	manifests, err := os.ReadFile("rendered/single.yaml")
	if err != nil {
		t.Fatal(err)
	}
	apply(string(manifests))
	p := pod{cluster: c, node: node}
	logs := func() string {
		all, err := node.Logs("oncall", "oncall-0")
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	began := time.Now()
	await(t, "that the pod is ready", func() bool { return p.read() && p.ready }, func() string {
		said, _, _ := c.kubectl("", "get", "events", "-A")
		return said + logs()
	})
	t.Logf("ready after %v", time.Since(began).Round(time.Second))
	for _, want := range []string{"prometheus: monitoring/kps-prometheus", "by its name", "kubernetes: in-cluster"} {
		if !strings.Contains(logs(), want) {
			t.Errorf("it did not say %q: %s", want, logs())
		}
	}
	t.Run("it can do nothing but write its data", func(t *testing.T) { p.confined(t) })
	t.Run("the commands of the documents work in it", func(t *testing.T) {
		for _, test := range []struct {
			argv []string
			want string
		}{
			{[]string{"/oncall", "version"}, "oncall v0.0.0-e2e linux/" + runtime.GOARCH},
			{[]string{"/oncall", "--nats", "nats://127.0.0.1:4222", "incidents", "ls"}, ""},
			{[]string{"/oncall", "doctor"}, "ok    rights"},
		} {
			if out, err := node.Exec(t.Context(), p.id, test.argv...); err != nil || !strings.Contains(out, test.want) {
				t.Errorf("%v: %v: %s", test.argv, err, out)
			}
		}
	})

	// Something fails, on the same node.
	await(t, "that it says what it sees", func() bool { return strings.Contains(logs(), "oncall: sees ") }, logs)
	apply(`
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout, namespace: shop}
spec:
  selector: {matchLabels: {app: checkout}}
  template:
    metadata: {labels: {app: checkout}}
    spec:
      automountServiceAccountToken: false
      containers: [{name: checkout, image: "localhost/checkout:v3", imagePullPolicy: Never}]
`)
	await(t, "a report of what fails", func() bool {
		l := logs()
		return strings.Contains(l, "in-cluster shop/deployment/checkout: BackOff") && strings.Contains(l, "first rollout, image localhost/checkout:v3")
	}, logs)
	if strings.Contains(logs(), "forbidden") {
		t.Error("something was forbidden")
	}
	t.Logf("it said:\n%s", logs())

	// Another pod takes over what this one has stored.
	ls, err := node.Exec(t.Context(), p.id, "/oncall", "--nats", "nats://127.0.0.1:4222", "incidents", "ls")
	if err != nil {
		t.Fatal(err)
	}
	old := p.id
	if _, said, ok := c.kubectl("", "-n", "oncall", "delete", "pod", "oncall-0"); !ok {
		t.Fatal(said)
	}
	await(t, "that another pod is ready", func() bool { return p.read() && p.ready && p.id != old }, logs)
	again, err := node.Exec(t.Context(), p.id, "/oncall", "--nats", "nats://127.0.0.1:4222", "incidents", "ls")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(ls, "shop/deployment/checkout") || !strings.Contains(again, "shop/deployment/checkout") {
		t.Errorf("incidents before the pod was deleted:\n%s\nand after:\n%s", ls, again)
	}
}

// pod is the only pod of single.
type pod struct {
	cluster cluster
	node    *testbed.Node
	ready   bool
	id      string // of the container
	uid     string
}

// read reads what the cluster says of it; false while there is none.
func (p *pod) read() bool {
	var v struct {
		Metadata struct{ UID string }
		Status   struct {
			ContainerStatuses []struct {
				ContainerID string
				Ready       bool
			}
		}
	}
	if err := p.cluster.Get(p.cluster.t.Context(), "/api/v1/namespaces/oncall/pods/oncall-0", &v); err != nil || len(v.Status.ContainerStatuses) != 1 {
		return false
	}
	s := v.Status.ContainerStatuses[0]
	p.uid, p.ready, p.id = v.Metadata.UID, s.Ready, strings.TrimPrefix(s.ContainerID, "containerd://")
	return true
}

// confined looks at the process from outside, as the kernel sees it.
func (p *pod) confined(t *testing.T) {
	proc := process(t, p.id)
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{
		"Uid": "65532\t65532\t65532\t65532", "Gid": "65532\t65532\t65532\t65532", "NoNewPrivs": "1", "Seccomp": "2",
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "CapAmb": "0000000000000000",
	} {
		m := regexp.MustCompile(`(?m)^` + field + `:\t(.*)$`).FindSubmatch(status)
		if m == nil || string(m[1]) != want {
			t.Errorf("%s is %q, want %q", field, m, want)
		}
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
	if err != nil {
		t.Fatal(err)
	}
	var writable []string
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if strings.HasPrefix(f[5], "rw") && !strings.HasPrefix(f[4], "/proc") && !strings.HasPrefix(f[4], "/dev") && !strings.HasPrefix(f[4], "/sys") {
			writable = append(writable, f[4])
		}
	}
	for _, w := range writable {
		switch w {
		case "/data", "/tmp":
		case "/etc/hosts", "/etc/hostname", "/etc/resolv.conf": // the runtime's own, and not this user's
			info, err := os.Stat(filepath.Join(proc, "root", w))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm()&0o002 != 0 {
				t.Errorf("%s may be written by everybody", w)
			}
		default:
			t.Errorf("%s is writable", w)
		}
	}
	if len(writable) < 2 {
		t.Errorf("only %v is writable; where is its data?", writable)
	}
}

// process is the folder in /proc of a container's first process.
func process(t *testing.T, container string) string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	first, found := 0, ""
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(b), container) {
			continue // one that has just ended
		}
		dir := filepath.Dir(file)
		if n, _ := strconv.Atoi(filepath.Base(dir)); found == "" || n < first {
			first, found = n, dir
		}
	}
	if found == "" {
		t.Fatalf("no process of container %s", container)
	}
	return found
}

// await waits for a condition of a cluster, in which things take their time, and
// shows the state when it does not come.
func await(t *testing.T, what string, cond func() bool, state func() string) {
	t.Helper()
	if limit := 5 * time.Minute; !within(limit, cond) {
		t.Fatalf("%s: not within %v: %s", what, limit, state())
	}
}
