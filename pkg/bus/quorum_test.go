package bus

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestALeaderThatHearsTooFewReplicasHasNoQuorum(t *testing.T) {
	here := &jetstream.PeerInfo{Active: time.Second}
	silent := &jetstream.PeerInfo{Active: time.Minute}
	offline := &jetstream.PeerInfo{Offline: true}
	for name, tt := range map[string]struct {
		cluster *jetstream.ClusterInfo
		ok      bool
	}{
		"a server alone":                         {nil, true},
		"a stream of one replica":                {&jetstream.ClusterInfo{Leader: "n1"}, true},
		"nobody leads":                           {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{here, here}}, false},
		"both others answer":                     {&jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{here, here}}, true},
		"one of the others is offline":           {&jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{here, offline}}, true},
		"one is offline and one silent":          {&jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{silent, offline}}, false},
		"two of five are left":                   {&jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{here, silent, silent, offline}}, false},
		"three of five are left, the leader too": {&jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{here, here, silent, offline}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := quorum(tt.cluster); (err == nil) != tt.ok {
				t.Errorf("quorum is %v, want one: %t", err, tt.ok)
			}
		})
	}
}
