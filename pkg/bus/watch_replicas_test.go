package bus

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestReplicasAreCountedAsTheirLeaderSeesThem(t *testing.T) {
	peer := func(current, offline bool, active time.Duration) *jetstream.PeerInfo {
		return &jetstream.PeerInfo{Current: current, Offline: offline, Active: active}
	}
	well := peer(true, false, time.Second)
	for name, test := range map[string]struct {
		cluster                         *jetstream.ClusterInfo
		current, behind, silent, leader float64
	}{
		"one server alone":            {nil, 1, 0, 0, 1},
		"all of three":                {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{well, well}}, 3, 0, 0, 1},
		"one of three is catching up": {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{well, peer(false, false, time.Second)}}, 2, 1, 0, 1},
		"one of three is offline":     {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{well, peer(false, true, time.Hour)}}, 2, 0, 1, 1},
		"one of three says nothing":   {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{well, peer(true, false, time.Minute)}}, 2, 0, 1, 1},
		"two of three say nothing":    {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{peer(true, false, time.Minute), peer(true, false, time.Minute)}}, 1, 0, 2, 0},
		"nobody leads, two are left":  {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{well, well}}, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newStreamMetrics()
			m.set("S", &jetstream.StreamInfo{Cluster: test.cluster})
			for state, want := range map[string]float64{replicaCurrent: test.current, replicaBehind: test.behind, replicaSilent: test.silent} {
				if got := testutil.ToFloat64(m.replicas.WithLabelValues("S", state)); got != want {
					t.Errorf("%v replicas are %s, want %v", got, state, want)
				}
			}
			if got := testutil.ToFloat64(m.leader.WithLabelValues("S")); got != test.leader {
				t.Errorf("leader %v, want %v", got, test.leader)
			}
		})
	}
}
