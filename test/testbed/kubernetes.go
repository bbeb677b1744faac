package testbed

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed stages.yaml
var stages string

// Cluster is a real Kubernetes control plane with TLS and RBAC. Its nodes are
// KWOK's, which run nothing but say that they do: [Cluster.AddNodes].
type Cluster struct {
	Kubeconfig string // of the administrator
	URL        string // of the API server
	CAFile     string

	bed    *Bed
	dir    string
	tokens map[string]string // by user
	http   *http.Client
	mu     sync.Mutex
	kinds  map[string]resource // by apiVersion and kind; guarded by mu
}

// Users of a cluster besides the administrator, whose rights are what tests
// bind to them.
const (
	Admin    = "admin"
	Reader   = "oncall-reader"
	Stranger = "stranger" // has no rights
)

// StartKubernetes starts etcd, the API server, the controller manager, the
// scheduler and KWOK.
func (b *Bed) StartKubernetes(ctx context.Context) (*Cluster, error) {
	bin := map[string]string{}
	for _, name := range []string{"server", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"} {
		p, err := Program(ctx, name, os.Stderr)
		if err != nil {
			return nil, err
		}
		bin[name] = p
	}
	dir, err := b.dir("kubernetes")
	if err != nil {
		return nil, err
	}
	c := &Cluster{bed: b, dir: dir, tokens: map[string]string{}, kinds: map[string]resource{}}
	if err := c.secrets(); err != nil {
		return nil, err
	}
	etcd, err := c.etcd(ctx, bin["server"])
	if err != nil {
		return nil, err
	}
	if err := c.apiserver(ctx, bin["kube-apiserver"], etcd); err != nil {
		return nil, err
	}
	if err := c.controllers(ctx, bin); err != nil {
		return nil, err
	}
	return c, nil
}

// secrets makes the key of service account tokens and a token for each user.
func (c *Cluster) secrets() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	if err := writePEM(c.file("sa.key"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)); err != nil {
		return err
	}
	var csv strings.Builder
	for _, user := range []string{Admin, Reader, Stranger} {
		raw := make([]byte, 16)
		_, _ = rand.Read(raw) // never fails
		c.tokens[user] = hex.EncodeToString(raw)
		fmt.Fprintf(&csv, "%s,%s,%s", c.tokens[user], user, user)
		if user == Admin {
			csv.WriteString(`,"system:masters"`)
		}
		csv.WriteByte('\n')
	}
	return os.WriteFile(c.file("tokens.csv"), []byte(csv.String()), 0o600)
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) etcd(ctx context.Context, bin string) (url string, err error) {
	_, ports, err := c.bed.start(ctx, command{
		name: "etcd", ports: 2,
		argv: func(ports []int) ([]string, []string, error) {
			client, peer := "http://"+local(ports[0]), "http://"+local(ports[1])
			return []string{
				bin, "--data-dir=" + c.file("etcd"), "--unsafe-no-fsync", "--listen-client-urls=" + client, "--advertise-client-urls=" + client,
				"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
			}, nil, os.RemoveAll(c.file("etcd")) // what a lost race has begun names other ports
		},
		ready: func(ctx context.Context, ports []int) error {
			return answers(ctx, http.DefaultClient, "http://"+local(ports[0])+"/health")
		},
	})
	if err != nil {
		return "", err
	}
	return "http://" + local(ports[0]), nil
}

func (c *Cluster) apiserver(ctx context.Context, bin, etcd string) error {
	certs := c.file("certs")
	c.CAFile = filepath.Join(certs, "apiserver.crt") // signs itself
	_, ports, err := c.bed.start(ctx, command{
		name: "kube-apiserver", ports: 1, limit: 2 * time.Minute,
		argv: func(ports []int) ([]string, []string, error) {
			return []string{
				bin, "--etcd-servers=" + etcd, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[0]),
				"--cert-dir=" + certs, "--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none",
				"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + c.file("sa.key"),
				"--service-account-signing-key-file=" + c.file("sa.key"), "--authorization-mode=RBAC", "--token-auth-file=" + c.file("tokens.csv"),
				"--event-ttl=1h", "--allow-privileged=true", "--kubelet-preferred-address-types=InternalIP,Hostname", "--v=1",
			}, nil, nil
		},
		ready: func(ctx context.Context, ports []int) error {
			if c.http == nil {
				if err := c.trust(); err != nil {
					return err
				}
			}
			return answers(ctx, c.http, "https://"+local(ports[0])+"/readyz")
		},
	})
	if err != nil {
		return err
	}
	c.URL = "https://" + local(ports[0])
	c.Kubeconfig, err = c.KubeconfigFor(Admin)
	return err
}

// trust makes the administrator's HTTP client once the API server has made its
// certificate.
func (c *Cluster) trust() error {
	b, err := os.ReadFile(c.CAFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if block, _ := pem.Decode(b); block == nil || !pool.AppendCertsFromPEM(b) {
		return errors.New("the API server's certificate is not complete yet")
	}
	c.http = &http.Client{Timeout: 30 * time.Second, Transport: bearer{
		&http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 16}, c.tokens[Admin],
	}}
	return nil
}

type bearer struct {
	next  http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// KubeconfigFor writes the kubeconfig of a user and returns its path.
func (c *Cluster) KubeconfigFor(user string) (string, error) {
	name := c.file("kubeconfig")
	if user != Admin {
		name += "-" + user
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: testbed, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: %[3]s, user: {token: %[4]q}}]
contexts: [{name: testbed, context: {cluster: testbed, user: %[3]s}}]
current-context: testbed
`, c.URL, c.CAFile, user, c.tokens[user])
	return name, os.WriteFile(name, []byte(text), 0o600)
}

func (c *Cluster) controllers(ctx context.Context, bin map[string]string) error {
	certs := "--cert-dir=" + c.file("certs")
	// The default, 20 requests a second, is made to spare a cluster: thousands
	// of pods would take minutes to be made.
	const qps, burst = "--kube-api-qps=100", "--kube-api-burst=200"
	stagesFile := c.file("stages.yaml")
	if err := os.WriteFile(stagesFile, []byte(stages), 0o644); err != nil {
		return err
	}
	insecure := insecureClient()
	healthy := func(scheme string) func(context.Context, []int) error {
		return func(ctx context.Context, ports []int) error {
			return answers(ctx, insecure, scheme+"://"+local(ports[0])+"/healthz")
		}
	}
	for _, cmd := range []command{
		{
			name: "kube-controller-manager", ports: 1, ready: healthy("https"),
			argv: func(ports []int) ([]string, []string, error) {
				return []string{
					bin["kube-controller-manager"], "--kubeconfig=" + c.Kubeconfig, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[0]), certs,
					"--leader-elect=false", "--service-account-private-key-file=" + c.file("sa.key"), "--root-ca-file=" + c.CAFile, "--controllers=*",
					qps, burst,
				}, nil, nil
			},
		},
		{
			name: "kube-scheduler", ports: 1, ready: healthy("https"),
			argv: func(ports []int) ([]string, []string, error) {
				return []string{
					bin["kube-scheduler"], "--kubeconfig=" + c.Kubeconfig, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[0]), certs, "--leader-elect=false",
					qps, burst,
				}, nil, nil
			},
		},
		{
			name: "kwok", ports: 1, ready: healthy("http"),
			argv: func(ports []int) ([]string, []string, error) {
				return []string{
					bin["kwok"], "--kubeconfig=" + c.Kubeconfig, "--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
					fmt.Sprintf("--node-port=%d", ports[0]), "--server-address=" + local(ports[0]), "--cidr=10.244.0.0/16", "--node-ip=127.0.0.1", "--config=" + stagesFile,
				}, nil, nil
			},
		},
	} {
		if _, _, err := c.bed.start(ctx, cmd); err != nil {
			return err
		}
	}
	return nil
}

// AddNodes adds simulated nodes of 8 CPUs and 32 GiB: node-0, node-1 and so on.
func (c *Cluster) AddNodes(ctx context.Context, n int) error {
	var t strings.Builder
	for i := range n {
		fmt.Fprintf(&t, `---
apiVersion: v1
kind: Node
metadata:
  name: node-%[1]d
  labels: {kubernetes.io/hostname: node-%[1]d, kubernetes.io/os: linux, kubernetes.io/arch: amd64, type: kwok}
  annotations: {kwok.x-k8s.io/node: fake}
`, i)
	}
	if err := c.Apply(ctx, t.String()); err != nil {
		return err
	}
	if err := c.Wait(ctx, fmt.Sprintf("%d nodes ready and untainted", n), func(ctx context.Context) (bool, error) {
		var list struct{ Items []nodeState }
		if err := c.Get(ctx, "/api/v1/nodes", &list); err != nil {
			return false, err
		}
		return len(slices.DeleteFunc(list.Items, func(x nodeState) bool { return !x.takesPods() })) >= n, nil
	}); err != nil {
		return err
	}
	// Only now: what initializes a node gives it a size of its own.
	for i := range n {
		size := `{"status":{"capacity":{"cpu":"8","memory":"32Gi","pods":"110"},"allocatable":{"cpu":"8","memory":"32Gi","pods":"110"}}}`
		if err := c.Patch(ctx, fmt.Sprintf("/api/v1/nodes/node-%d/status", i), size); err != nil {
			return err
		}
	}
	return nil
}

// nodeState is what a node says of whether it takes pods.
type nodeState struct {
	Spec struct {
		Taints []struct{ Key string }
	}
	Status struct {
		Conditions []struct{ Type, Status string }
	}
}

// takesPods is more than being ready: the taint of a node that was not is taken
// away a moment later, and pods are refused until then.
func (n nodeState) takesPods() bool {
	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True" && len(n.Spec.Taints) == 0
		}
	}
	return false
}

// StartKubeStateMetrics starts kube-state-metrics on a cluster.
func (b *Bed) StartKubeStateMetrics(ctx context.Context, kubeconfig string) (*Server, error) {
	bin, err := Program(ctx, "kube-state-metrics", os.Stderr)
	if err != nil {
		return nil, err
	}
	p, ports, err := b.start(ctx, command{
		name: "kube-state-metrics", ports: 2,
		argv: func(ports []int) ([]string, []string, error) {
			return []string{
				bin, "--kubeconfig=" + kubeconfig, "--host=127.0.0.1", fmt.Sprintf("--port=%d", ports[0]),
				"--telemetry-host=127.0.0.1", fmt.Sprintf("--telemetry-port=%d", ports[1]),
			}, nil, nil
		},
		ready: func(ctx context.Context, ports []int) error {
			return answers(ctx, http.DefaultClient, "http://"+local(ports[0])+"/healthz")
		},
	})
	if err != nil {
		return nil, err
	}
	return &Server{Process: p, URL: "http://" + local(ports[0]), Addr: local(ports[0]), Client: http.DefaultClient}, nil
}

// insecureClient is for /healthz of servers that signed their certificates
// themselves, which says nothing secret.
func insecureClient() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}
