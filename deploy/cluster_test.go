package deploy_test

import (
	"context"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// freePorts are ports that nobody listens on.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

// TestThreeServersOfTheShippedConfigurationBecomeOneCluster starts production's
// three servers, with addresses of this machine, and stores with three replicas.
// A fourth with a wrong password, or with a certificate of another authority, stays
// outside.
func TestThreeServersOfTheShippedConfigurationBecomeOneCluster(t *testing.T) {
	r := &rig{dir: t.TempDir()}
	writeKeys(t, r)
	ports := freePorts(t, 4)
	writeRoutes(t, r, "a-password", ports[:3]...)
	conf := func(n int) string {
		c := strings.Replace(shipped(t, "nats.conf"), "port: 6222", "listen: 127.0.0.1:"+strconv.Itoa(ports[n]), 1)
		return adapt(c, r.dir, n)
	}
	var servers []*server.Server
	for n := range 3 {
		servers = append(servers, start(t, r, conf(n)))
	}
	eventually(t, "a leader of the cluster", func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	})
	cfg := bus.DefaultConfig()
	cfg.URL, cfg.NKey, cfg.Replicas, cfg.MaxBytes, cfg.TLS.CA = servers[0].ClientURL(), r.seed("streams"), 3, 1<<30, r.ca()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b, err := bus.Connect(ctx, cfg, bus.Settings{Name: "streams"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	for _, s := range event.Streams() {
		eventually(t, s.Name+" on three servers", func() bool {
			for _, member := range servers {
				if !member.JetStreamIsStreamCurrent("ONCALL", s.Name) {
					return false
				}
			}
			return true
		})
	}

	r.seen = &witness{}
	for _, member := range servers {
		member.SetLoggerV2(r.seen, false, false, false)
	}
	alone := regexp.MustCompile(`(?s)jetstream \{.*?\n\}\n`).ReplaceAllString(conf(3), "")
	other := &rig{dir: t.TempDir()}
	other.certify(t)
	for name, stranger := range map[string]struct{ password, conf, refusal string }{
		"another password":    {"another", alone, "authentication error"},
		"another certificate": {"a-password", strings.ReplaceAll(alone, filepath.Join(r.dir, "nats-tls"), filepath.Join(other.dir, "nats-tls")), "TLS route handshake error"},
	} {
		t.Run(name, func(t *testing.T) {
			r.seen = &witness{}
			for _, member := range servers {
				member.SetLoggerV2(r.seen, false, false, false)
			}
			writeRoutes(t, r, stranger.password, ports[:3]...)
			s := start(t, r, stranger.conf)
			eventually(t, "that the stranger is refused", func() bool {
				return slices.ContainsFunc(r.seen.refusals(), func(line string) bool { return strings.Contains(line, stranger.refusal) })
			})
			// It tries again and again; a route that is refused is a route for a moment.
			eventually(t, "that the stranger has no route", func() bool { return s.NumRoutes() == 0 })
			for _, member := range servers {
				if peers := member.JetStreamClusterPeers(); len(peers) > 3 {
					t.Errorf("a server with %s is a member: %v", name, peers)
				}
			}
		})
	}

	t.Run("a server that goes is missed by its replicas", func(t *testing.T) {
		cfg.NKey, cfg.ManageStreams = r.seed("notifier"), false
		// Each look has metrics of its own: what another has seen would be found
		// before anything was asked.
		seen := func(state string) float64 {
			reg := prom.NewRegistry()
			b, err := bus.Connect(t.Context(), cfg, bus.Settings{Name: "notifier", Metrics: reg})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = b.Close() }()
			ctx, stop := context.WithCancel(t.Context())
			var run sync.WaitGroup
			run.Go(func() { b.WatchStreams(ctx) })
			defer run.Wait()
			defer stop()
			var value float64
			within(time.Minute, func() bool {
				all, err := reg.Gather()
				if err != nil {
					t.Fatal(err)
				}
				found := false
				for _, f := range all {
					for _, m := range f.GetMetric() {
						l := m.GetLabel()
						if f.GetName() == "oncall_bus_stream_replicas" && l[0].GetValue() == state && l[1].GetValue() == bus.LastMade {
							value, found = m.GetGauge().GetValue(), true
						}
					}
				}
				return found
			})
			return value
		}
		eventually(t, "three replicas", func() bool { return seen("current") == 3 })
		servers[2].Shutdown()
		servers[2].WaitForShutdown()
		eventually(t, "that one is silent", func() bool { return seen("silent") == 1 })
	})
}
