//go:build e2e

package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// onCluster is a run on three NATS servers that keep every message three times.
func onCluster(t *testing.T) (*rig, *testbed.NATSCluster) {
	t.Helper()
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Close)
	c, err := bed.StartNATS(t.Context(), testbed.NATSConfig{Servers: 3})
	if err != nil {
		t.Fatal(err)
	}
	r := rigOn(t, c.URL, 3, bus.DefaultConfig().MemberTTL)
	r.sources.pace.Store(int64(slow))
	r.startAll()
	r.readTo(0.3)
	return r, c
}

// leader is the server that leads a stream, "" while none does.
func leader(ctx context.Context, js jetstream.JetStream, stream string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil || s.CachedInfo().Cluster == nil {
		return ""
	}
	return s.CachedInfo().Cluster.Leader
}

// probe stores a message every 20 ms in a stream of its own, and keeps what was
// acknowledged.
type probe struct {
	js   jetstream.JetStream
	stop context.CancelFunc
	done sync.WaitGroup
	// Read once done.
	acked []uint64
	gap   time.Duration // the longest between two acknowledgements
}

const probed = "PROBE"

// newProbe makes the stream of the probe, led by the server that leads another
// stream: what kills one leader kills both.
func newProbe(t *testing.T, r *rig, as *event.Stream) *probe {
	t.Helper()
	js, err := jetstream.New(r.bus.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: probed, Subjects: []string{"probe"}, Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "one server that leads both streams", func() bool {
		want, now := leader(t.Context(), js, as.Name), leader(t.Context(), js, probed)
		if want == "" || now == want {
			return want != ""
		}
		step, _ := json.Marshal(map[string]any{"placement": map[string]any{"preferred": want}})
		_, _ = r.bus.Conn().Request("$JS.API.STREAM.LEADER.STEPDOWN."+probed, step, time.Second)
		return false
	})
	p := &probe{js: js}
	ctx, cancel := context.WithCancel(t.Context())
	p.stop = cancel
	p.done.Go(func() {
		last := time.Now()
		for n := uint64(1); ctx.Err() == nil; {
			call, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
			_, err := js.Publish(call, "probe", fmt.Appendf(nil, "%d", n), jetstream.WithMsgID(fmt.Sprint("probe-", n)), jetstream.WithRetryAttempts(0))
			cancel()
			if err == nil {
				p.acked = append(p.acked, n)
				p.gap, last = max(p.gap, time.Since(last)), time.Now()
				n++
			}
			passes(ctx, 20*time.Millisecond)
		}
	})
	t.Cleanup(func() { p.stop(); p.done.Wait() })
	return p
}

// end stops the probe and checks that all it was promised is there, once.
func (p *probe) end(t *testing.T) {
	t.Helper()
	p.stop()
	p.done.Wait()
	s, err := p.js.Stream(t.Context(), probed)
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]int{}
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		stored[string(m.Data)]++
	}
	for _, n := range p.acked {
		if got := stored[fmt.Sprint(n)]; got != 1 {
			t.Errorf("message %d was acknowledged, and is stored %d times", n, got)
		}
	}
	if len(p.acked) == 0 {
		t.Error("nothing was acknowledged")
	}
	t.Logf("%d acknowledged, %d stored, longest gap %v", len(p.acked), len(stored), p.gap.Round(time.Millisecond))
}

// TestTheLeaderOfAStreamIsKilledUnderLoad is fault 7.
func TestTheLeaderOfAStreamIsKilledUnderLoad(t *testing.T) {
	want := undisturbed(t)
	r, c := onCluster(t)
	p := newProbe(t, r, event.Metrics)
	r.readTo(0.4)
	name := leader(t.Context(), p.js, event.Metrics.Name)
	i := slices.IndexFunc(c.Nodes, func(n *testbed.NATSNode) bool { return n.Name == name })
	if i < 0 {
		t.Fatalf("the leader is %q, and no server is called so", name)
	}
	at := r.sources.read.Load()
	c.Nodes[i].Kill()
	// What was read is stored before the next but one is read.
	eventually(t, time.Minute, "a collector that goes on with two servers", func() bool {
		return r.sources.read.Load() > time.UnixMilli(at).Add(3*step).UnixMilli()
	})
	eventually(t, 20*time.Second, "another leader", func() bool {
		now := leader(t.Context(), p.js, event.Metrics.Name)
		return now != "" && now != name
	})
	if err := c.Nodes[i].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.sources.pace.Store(0)
	r.same(want, 0)
	p.end(t)
	if p.gap > electionLimit {
		t.Errorf("for %v nothing was stored, want at most %v", p.gap, electionLimit)
	}
}

// electionLimit is how long a stream may be without a leader. The replicas of
// nats-server 2.15 wait a random 4 to 9 seconds for a silent leader before they
// elect another (raft.go: minElectionTimeout, maxElectionTimeout), so that the
// five seconds one would wish for are its luck and not its promise.
const electionLimit = 10 * time.Second

// TestTheQuorumIsLostForAWhile is fault 8.
func TestTheQuorumIsLostForAWhile(t *testing.T) {
	want := undisturbed(t)
	r, c := onCluster(t)
	p := newProbe(t, r, event.Metrics)
	r.readTo(0.4)
	lost := time.Now()
	for _, n := range c.Nodes[:2] {
		n.Kill()
	}
	still := func() []string {
		return slices.DeleteFunc(slices.Clone(service.Names), func(name string) bool {
			code, _ := r.ready(name)
			return code == http.StatusServiceUnavailable
		})
	}
	if !within(t, 15*time.Second, func() bool { return len(still()) == 0 }) {
		t.Errorf("%v are still ready 15 s after the quorum was lost", still())
	}
	t.Logf("not ready after %v", time.Since(lost).Round(time.Millisecond))
	passes(t.Context(), 25*time.Second-time.Since(lost)) // an outage that outlasts leases and their retries
	for name, s := range r.running {
		if !s.alive() {
			t.Errorf("%s ended because NATS stores nothing", name)
		}
		if code, body := r.ready(name); code != http.StatusServiceUnavailable {
			t.Errorf("%s is ready without a quorum: %s", name, body)
		}
	}
	var wg sync.WaitGroup
	for _, n := range c.Nodes[:2] {
		wg.Go(func() {
			if err := n.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	eventually(t, time.Minute, "every service ready again", func() bool {
		return !slices.ContainsFunc(service.Names, func(name string) bool { code, _ := r.ready(name); return code != http.StatusOK })
	})
	r.sources.pace.Store(0)
	r.same(want, 0)
	p.end(t)
}
