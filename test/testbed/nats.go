package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// NATSCluster is one or three JetStream servers.
type NATSCluster struct {
	URL   string // all servers, separated by commas
	Nodes []*NATSNode
}

// NATSNode is one server of a cluster.
type NATSNode struct {
	*Process
	URL     string
	monitor string
	bed     *Bed
	argv    []string
	name    string
}

// NATSConfig says what a cluster is made of.
type NATSConfig struct {
	Servers int // 1 or 3
	// Authorization is the authorization block of the servers' configuration, or
	// "" to let everybody in: users: [{nkey: U…, permissions: {…}}].
	Authorization string
	// Accounts is the content of a configuration file that says who may do what,
	// as pkg/bus/access writes it; it may include others, from its own folder.
	Accounts string
	// SyncInterval is how often the servers write to disk: "always" as shipped.
	// Default: the server's own two minutes, since the machine of a test does
	// not lose its power.
	SyncInterval string
}

// StartNATS starts a cluster and waits until JetStream has a leader.
func (b *Bed) StartNATS(ctx context.Context, cfg NATSConfig) (*NATSCluster, error) {
	bin, err := Program(ctx, "nats-server", os.Stderr)
	if err != nil {
		return nil, err
	}
	var c *NATSCluster
	for range attempts {
		if c, err = b.natsCluster(ctx, bin, cfg); err == nil || !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	return c, err
}

func (b *Bed) natsCluster(ctx context.Context, bin string, cfg NATSConfig) (*NATSCluster, error) {
	ports, err := freePorts(3 * cfg.Servers)
	if err != nil {
		return nil, err
	}
	client, monitor, route := ports[:cfg.Servers], ports[cfg.Servers:2*cfg.Servers], ports[2*cfg.Servers:]
	var routes, urls []string
	for i := range cfg.Servers {
		routes = append(routes, "nats://"+local(route[i]))
		urls = append(urls, "nats://"+local(client[i]))
	}
	c := &NATSCluster{URL: strings.Join(urls, ",")}
	for i := range cfg.Servers {
		name := fmt.Sprintf("nats-%d", i)
		dir, err := b.dir(name)
		if err != nil {
			return nil, err
		}
		var t strings.Builder
		fmt.Fprintf(&t, "server_name: %s\nlisten: %q\nhttp: %q\n", name, local(client[i]), local(monitor[i]))
		// The streams reserve what they may grow to, which is more than any test fills.
		sync := ""
		if cfg.SyncInterval != "" {
			sync = "sync_interval: " + cfg.SyncInterval
		}
		fmt.Fprintf(&t, "jetstream { store_dir: %q, max_file_store: 256G, max_memory_store: 64M\n%s }\n", filepath.Join(dir, "data"), sync)
		if cfg.Servers > 1 {
			fmt.Fprintf(&t, "cluster { name: testbed, listen: %q, routes: [%s] }\n", local(route[i]), strings.Join(routes, ", "))
		}
		if cfg.Authorization != "" {
			fmt.Fprintf(&t, "authorization {\n%s\n}\n", cfg.Authorization)
		}
		if cfg.Accounts != "" {
			if err := os.WriteFile(filepath.Join(dir, "accounts.conf"), []byte(cfg.Accounts), 0o644); err != nil {
				return nil, err
			}
			t.WriteString("include \"accounts.conf\"\n")
		}
		file := filepath.Join(dir, "nats.conf")
		if err := os.WriteFile(file, []byte(t.String()), 0o644); err != nil {
			return nil, err
		}
		n := &NATSNode{URL: urls[i], monitor: "http://" + local(monitor[i]), bed: b, argv: []string{bin, "-c", file}, name: name}
		if err := n.launch(); err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, n)
	}
	for _, n := range c.Nodes {
		if err := n.ready(ctx); err != nil {
			for _, n := range c.Nodes {
				n.Kill()
			}
			return nil, err
		}
	}
	return c, nil
}

func (n *NATSNode) launch() (err error) {
	n.Process, err = n.bed.Launch(n.name, nil, n.argv...)
	return err
}

// ready waits until the server's JetStream is current.
func (n *NATSNode) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("not ready in 30s"))
	defer cancel()
	if err := n.await(ctx, func(ctx context.Context) error { return answers(ctx, http.DefaultClient, n.monitor+"/healthz") }); err != nil {
		return fmt.Errorf("start %s: %w\n%s", n.name, err, n.Tail(25))
	}
	return nil
}

// Restart starts a server again that was killed or stopped, and waits until it
// has caught up.
func (n *NATSNode) Restart(ctx context.Context) error {
	if err := n.launch(); err != nil {
		return err
	}
	return n.ready(ctx)
}

// Freeze stops a server without ending it, as a machine that swaps; Thaw lets
// it go on.
func (n *NATSNode) Freeze() error { return n.Signal(syscall.SIGSTOP) }

// Thaw ends a [NATSNode.Freeze].
func (n *NATSNode) Thaw() error { return n.Signal(syscall.SIGCONT) }
