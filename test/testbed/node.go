package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// NodeMissing says what a real node lacks on this machine, and how to get it;
// "" when nothing is missing.
func NodeMissing() string {
	if runtime.GOOS != "linux" {
		return "a real node needs Linux"
	}
	if os.Geteuid() != 0 {
		return "a real node needs root"
	}
	for _, p := range []string{"containerd", "ctr", "runc", "unshare", "nsenter", "ip"} {
		if _, err := exec.LookPath(p); err != nil {
			return p + " is not installed; on Debian: apt-get install containerd runc containernetworking-plugins iproute2"
		}
	}
	for _, p := range []string{"loopback", "bridge", "host-local"} {
		if _, err := os.Stat(filepath.Join(cniPlugins, p)); err != nil {
			return "the CNI plugin " + p + " is not in " + cniPlugins + "; on Debian: apt-get install containernetworking-plugins"
		}
	}
	return ""
}

const cniPlugins = "/usr/lib/cni"

// Node is a real kubelet with containerd: pods on it run, and really fail.
type Node struct {
	Name string
	// Discovery is an address that tells Prometheus where the pods' metrics are.
	Discovery string
	// CAdvisor is the address of the kubelet's container metrics.
	CAdvisor string

	socket  string
	pods    string // folder of the pods' logs
	root    string // the kubelet's folder
	net     *podNetwork
	shipper *shipper
}

// NodeConfig says how a node is called and where its pods' logs go.
type NodeConfig struct {
	Name   string
	Loki   *Server // nil: the logs stay on the node
	Tenant string  // X-Scope-OrgID of the logs
	// Network gives pods addresses of their own, services and their names, by which
	// they reach what Node.Serve names and nothing else. Without it pods use the
	// machine's network, and have to ask for it: hostNetwork.
	Network bool
}

// StartNode starts containerd and a kubelet, and waits until the node is ready.
func (b *Bed) StartNode(ctx context.Context, c *Cluster, cfg NodeConfig) (*Node, error) {
	if m := NodeMissing(); m != "" {
		return nil, errors.New(m)
	}
	bin, err := Program(ctx, "kubelet", os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := b.dir("node")
	if err != nil {
		return nil, err
	}
	n := &Node{Name: cfg.Name, pods: filepath.Join(dir, "pod-logs"), root: filepath.Join(dir, "kubelet")}
	if cfg.Network {
		if n.net, err = newPodNetwork(ctx, b, c); err != nil {
			return nil, err
		}
	}
	if err := n.share(ctx, b); err != nil {
		return nil, err
	}
	if err := n.containerd(ctx, b, dir); err != nil {
		return nil, err
	}
	if err := n.kubelet(ctx, b, c, bin, dir); err != nil {
		return nil, err
	}
	if err := c.Wait(ctx, "node "+cfg.Name+" ready and untainted", func(ctx context.Context) (bool, error) {
		var node nodeState
		err := c.Get(ctx, "/api/v1/nodes/"+cfg.Name, &node)
		return node.takesPods(), err
	}); err != nil {
		return nil, err
	}
	s := newShipper(n.pods, cfg)
	n.shipper = s
	if n.Discovery, err = b.Serve(http.HandlerFunc(s.discovery)); err != nil {
		return nil, err
	}
	n.Discovery = "http://" + n.Discovery
	run, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		s.run(run)
		close(done)
	}()
	b.OnClose(func() { cancel(); <-done })
	return n, nil
}

// Ship brings the log lines of the node's pods to a Loki from now on, and those
// that were written before.
func (n *Node) Ship(loki *Server) { n.shipper.to(loki) }

// Scrapes are the Prometheus jobs that read the node.
func (n *Node) Scrapes() []Scrape {
	return []Scrape{
		{Job: "pods", Discovery: n.Discovery, Honor: true},
		{Job: "kubelet", Targets: []string{n.CAdvisor}, Path: "/metrics/cadvisor", Insecure: true, Honor: true, Labels: map[string]string{"node": n.Name}},
		// cAdvisor knows the pods of a containerd at its usual address only; the
		// kubelet itself knows memory and CPU of all.
		{Job: "kubelet-resource", Targets: []string{n.CAdvisor}, Path: "/metrics/resource", Insecure: true, Honor: true, Labels: map[string]string{"node": n.Name}},
	}
}

// share makes the kubelet's folder one whose mounts the runtime sees, as those of
// a token: it has a table of mounts of its own.
func (n *Node) share(ctx context.Context, b *Bed) error {
	if err := os.MkdirAll(n.root, 0o755); err != nil {
		return err
	}
	// Tokens of pods stay mounted in it, and the kubelet mounts it onto itself once
	// more; it could not be removed.
	b.OnClose(func() {
		for exec.Command("umount", "-l", n.root).Run() == nil {
		}
	})
	for _, args := range [][]string{{"--bind", n.root, n.root}, {"--make-rshared", n.root}} {
		if out, err := exec.CommandContext(ctx, "mount", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("mount %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// enter is a command line that runs in the node's network.
func (n *Node) enter(argv ...string) []string {
	if n.net == nil {
		return argv
	}
	return n.net.enter(argv...)
}

// containerd starts the runtime in a process namespace of its own: when it
// ends, however it does, the kernel ends every container with it.
func (n *Node) containerd(ctx context.Context, b *Bed, dir string) error {
	// Addresses of sockets are short: the bed's own folder may be too deep.
	run, err := os.MkdirTemp("", "oncall-node-")
	if err != nil {
		return err
	}
	b.OnClose(func() { _ = os.RemoveAll(run) })
	n.socket = filepath.Join(run, "c.sock")
	cni := filepath.Join(dir, "cni")
	if err := os.MkdirAll(cni, 0o755); err != nil {
		return err
	}
	network := `{"cniVersion":"0.4.0","name":"lo","plugins":[{"type":"loopback"}]}`
	if n.net != nil {
		network = bridge(filepath.Join(dir, "addresses"))
	}
	for name, text := range map[string]string{
		filepath.Join(cni, "10-pods.conflist"): network,
		filepath.Join(dir, "containerd.toml"): fmt.Sprintf(`version = 2
root = %q
state = %q
[grpc]
address = %q
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = %q
bin_dir = %q
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
`, filepath.Join(dir, "containerd"), filepath.Join(run, "state"), n.socket, cni, cniPlugins),
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	p, err := b.Launch("containerd", nil, n.enter("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "--propagation", "slave",
		"containerd", "-c", filepath.Join(dir, "containerd.toml"))...)
	if err != nil {
		return err
	}
	b.OnClose(p.Kill) // unshare passes no other signal on
	wait, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not ready in 1m"))
	defer cancel()
	if err := p.await(wait, func(ctx context.Context) error { return n.ctr(ctx, "version") }); err != nil {
		return fmt.Errorf("start containerd: %w\n%s", err, p.Tail(25))
	}
	archive, err := writeImages(ctx, dir)
	if err != nil {
		return err
	}
	return n.ctr(ctx, "-n", "k8s.io", "images", "import", archive)
}

func (n *Node) ctr(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ctr", append([]string{"-a", n.socket}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (n *Node) kubelet(ctx context.Context, b *Bed, c *Cluster, bin, dir string) error {
	insecure := insecureClient()
	if n.net != nil {
		insecure.Transport.(*http.Transport).DialContext = n.net.space.dial
	}
	file := filepath.Join(dir, "kubelet.json")
	_, ports, err := b.start(ctx, command{
		name: "kubelet", ports: 2,
		argv: func(ports []int) ([]string, []string, error) {
			// What a machine that is no node by itself needs is known from trying:
			// cgroups of either version, no cgroup for each class of service, no
			// swap check.
			settings := map[string]any{
				"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
				"address": "127.0.0.1", "port": ports[0], "healthzBindAddress": "127.0.0.1", "healthzPort": ports[1], "readOnlyPort": 0,
				"failCgroupV1": false, "failSwapOn": false, "cgroupDriver": "cgroupfs", "cgroupsPerQOS": false,
				"enforceNodeAllocatable": []string{}, "localStorageCapacityIsolation": false,
				"containerRuntimeEndpoint": "unix://" + n.socket,
				"authentication":           map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}, "x509": map[string]any{}},
				"authorization":            map[string]any{"mode": "AlwaysAllow"},
				"volumePluginDir":          filepath.Join(n.root, "plugins"), "podLogsDir": n.pods,
				"evictionHard":              map[string]string{"memory.available": "100Mi"},
				"nodeStatusUpdateFrequency": "5s", "imageGCHighThresholdPercent": 100,
			}
			argv := n.enter(
				bin, "--kubeconfig="+c.Kubeconfig, "--config="+file, "--root-dir="+n.root, "--cert-dir="+filepath.Join(dir, "certs"),
				"--hostname-override="+n.Name, "--node-labels=type=real",
			)
			if n.net != nil {
				settings["clusterDNS"], settings["clusterDomain"] = []string{dnsIP}, "cluster.local"
				argv = append(argv, "--node-ip="+nodeIP)
			}
			cfg, err := json.Marshal(settings)
			if err != nil {
				return nil, nil, err
			}
			return argv, nil, os.WriteFile(file, cfg, 0o644)
		},
		ready: func(ctx context.Context, ports []int) error {
			return answers(ctx, insecure, "http://"+local(ports[1])+"/healthz")
		},
	})
	if err != nil {
		return err
	}
	n.CAdvisor = local(ports[0])
	if n.net != nil {
		n.CAdvisor, err = n.net.publish(n.CAdvisor)
	}
	return err
}
