package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// podNetwork is what a cluster gives its pods: an address each, addresses of
// services, and their names. All of it is in a network namespace of the node, so
// that nothing of it is seen on the machine, and two beds do not meet. Network
// policies are not enforced.
type podNetwork struct {
	space   *namespace
	cluster *Cluster

	mu    sync.Mutex
	conns map[io.Closer]struct{} // what is to be closed; nil once it is
	done  sync.WaitGroup
}

// Addresses in the namespace. Documentation's block is the node's own: it is
// nobody's.
const (
	nodeIP     = "192.0.2.1"
	serviceIPs = "10.96.0.0/16" // as the API server gives them
	apiIP      = "10.96.0.1"
	dnsIP      = "10.96.0.10"
	podIPs     = "10.244.1.0/24"
)

// bridge connects the pods with the node.
func bridge(data string) string {
	return fmt.Sprintf(`{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"bridge","bridge":"pods0","isGateway":true,
"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":%q}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`, data, podIPs)
}

// newPodNetwork makes the namespace, in which the API server is where a pod looks
// for it, and where the administrator's kubeconfig says.
func newPodNetwork(ctx context.Context, b *Bed, c *Cluster) (*podNetwork, error) {
	space, err := newNamespace()
	if err != nil {
		return nil, err
	}
	p := &podNetwork{space: space, cluster: c, conns: map[io.Closer]struct{}{}}
	b.OnClose(p.close)
	for _, line := range []string{
		"link set lo up",
		"addr add " + nodeIP + "/32 dev lo",
		"route add local " + serviceIPs + " dev lo", // every service's address is the node's
	} {
		if out, err := exec.CommandContext(ctx, "nsenter", p.enter(append([]string{"ip"}, strings.Fields(line)...)...)[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	api := strings.TrimPrefix(c.URL, "https://")
	for _, addr := range []string{api, net.JoinHostPort(apiIP, "443")} {
		if err := p.serve(addr, api); err != nil {
			return nil, err
		}
	}
	return p, p.names()
}

// enter is a command line that runs in the namespace.
func (p *podNetwork) enter(argv ...string) []string {
	return append([]string{"nsenter", "--net=" + p.space.path()}, argv...)
}

// serve has an address of the namespace lead to one of the machine.
func (p *podNetwork) serve(addr, machine string) error {
	l, err := p.space.listen("tcp", addr)
	if err != nil {
		return err
	}
	p.forward(l, func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", machine) })
	return nil
}

// publish gives an address of the namespace one on the machine's loopback.
func (p *podNetwork) publish(addr string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	p.forward(l, func(ctx context.Context) (net.Conn, error) { return p.space.dial(ctx, "tcp", addr) })
	return l.Addr().String(), nil
}

func (p *podNetwork) forward(l net.Listener, dial func(context.Context) (net.Conn, error)) {
	if !p.keep(l) {
		return
	}
	p.done.Go(func() {
		defer p.drop(l)
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.done.Go(func() { p.pipe(in, dial) })
		}
	})
}

func (p *podNetwork) pipe(in net.Conn, dial func(context.Context) (net.Conn, error)) {
	if !p.keep(in) {
		return
	}
	defer p.drop(in)
	ctx, cancel := context.WithTimeoutCause(context.Background(), 10*time.Second, errors.New("not connected in 10s"))
	defer cancel()
	out, err := dial(ctx)
	if err != nil || !p.keep(out) {
		return
	}
	defer p.drop(out)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			if half, ok := way[0].(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		})
	}
	both.Wait()
}

// keep has close close c as well; false, with c closed, when it is too late.
func (p *podNetwork) keep(c io.Closer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		_ = c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *podNetwork) drop(c io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

func (p *podNetwork) close() {
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.done.Wait()
	p.space.close()
}

// names answers for the names of services, as the DNS of a cluster.
func (p *podNetwork) names() error {
	c, err := p.space.listenPacket("udp", net.JoinHostPort(dnsIP, "53"))
	if err != nil {
		return err
	}
	if !p.keep(c) {
		return net.ErrClosed
	}
	p.done.Go(func() {
		defer p.drop(c)
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, err := p.answer(buf[:n]); err == nil {
				_, _ = c.WriteTo(answer, from)
			}
		}
	})
	return nil
}

func (p *podNetwork) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative, m.RecursionAvailable, m.Additionals = true, true, true, nil
	for _, q := range m.Questions {
		ip := p.service(q.Name.String())
		switch {
		case ip == nil:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 5},
				Body:   &dnsmessage.AResource{A: [4]byte(ip)},
			})
		}
	}
	return m.Pack()
}

// service is the address of NAME.NAMESPACE.svc.cluster.local.; nil when there is
// no such service.
func (p *podNetwork) service(name string) net.IP {
	host, ok := strings.CutSuffix(strings.ToLower(name), ".svc.cluster.local.")
	service, ns, found := strings.Cut(host, ".")
	if !ok || !found {
		return nil
	}
	ip, err := p.cluster.ServiceIP(context.Background(), ns, service)
	if err != nil {
		return nil
	}
	return net.ParseIP(ip).To4()
}

// ServiceIP is the address that a service has in the cluster.
func (c *Cluster) ServiceIP(ctx context.Context, namespace, name string) (string, error) {
	var s struct{ Spec struct{ ClusterIP string } }
	err := c.Get(ctx, "/api/v1/namespaces/"+namespace+"/services/"+name, &s)
	return s.Spec.ClusterIP, err
}

// Serve has a port of a service lead to a server of the bed, as kube-proxy would
// to its pods. The node has to have a network of its pods.
func (n *Node) Serve(ctx context.Context, namespace, service string, port int, addr string) error {
	ip, err := n.net.cluster.ServiceIP(ctx, namespace, service)
	if err != nil {
		return err
	}
	return n.net.serve(net.JoinHostPort(ip, fmt.Sprint(port)), addr)
}

// Publish gives an address that a pod listens on one on the machine's loopback.
func (n *Node) Publish(addr string) (string, error) { return n.net.publish(addr) }

// Import gives the node an image that is not built from workloads/, from an
// archive as docker save writes it.
func (n *Node) Import(ctx context.Context, archive string) error {
	return n.ctr(ctx, "-n", "k8s.io", "images", "import", archive)
}

// Exec runs a command in a container, as kubectl exec does where the API server
// reaches the node. id is the container's, without the name of the runtime.
func (n *Node) Exec(ctx context.Context, id string, argv ...string) (string, error) {
	args := append([]string{"-a", n.socket, "-n", "k8s.io", "tasks", "exec", "--exec-id", fmt.Sprintf("e%d", time.Now().UnixNano()), id}, argv...)
	out, err := exec.CommandContext(ctx, "ctr", args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("exec %s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return string(out), nil
}

// Logs is what a pod's containers have written on the node.
func (n *Node) Logs(namespace, pod string) (string, error) {
	files, err := filepath.Glob(filepath.Join(n.pods, namespace+"_"+pod+"_*", "*", "*.log"))
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		out.Write(b)
	}
	return out.String(), nil
}
