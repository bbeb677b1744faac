package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// watchEvery is how often the streams are asked how they stand.
const watchEvery = 30 * time.Second

// StreamNames are all that EnsureStreams makes: the streams of the table of kinds,
// those behind the buckets, and those behind the object stores.
func StreamNames() []string {
	var out []string
	for _, s := range event.Streams() {
		out = append(out, s.Name)
	}
	for _, b := range []string{bucketMembers, bucketCheckpoints, BucketCollector, BucketIncident, BucketNotifier, BucketConfig} {
		out = append(out, "KV_"+b)
	}
	return append(out, "OBJ_"+storeKept, LastMade)
}

// WatchStreams says in metrics how full every stream is and how its replicas
// stand, until ctx is done. One service of several does, since all would say the
// same; it needs the right to ask for every stream.
func (b *Bus) WatchStreams(ctx context.Context) {
	for {
		for _, name := range StreamNames() {
			call, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("no answer"))
			s, err := b.js.Stream(call, name)
			cancel()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				b.metrics.streams.lost(name)
				continue
			}
			b.metrics.streams.set(name, s.CachedInfo())
		}
		if !sleep(ctx, watchEvery) {
			return
		}
	}
}

// streamMetrics is how the streams stand, as their leaders say.
type streamMetrics struct {
	bytes, limit, messages, oldest, leader, replicas *prometheus.GaugeVec
}

// How a replica stands, its leader's own included.
const (
	replicaCurrent = "current"
	replicaBehind  = "behind"
	replicaSilent  = "silent"
)

func newStreamMetrics() *streamMetrics {
	return &streamMetrics{
		bytes:    gauges("oncall_bus_stream_bytes", "What a stream takes on disk, by stream.", "stream"),
		limit:    gauges("oncall_bus_stream_limit_bytes", "What a stream may take on disk, by stream.", "stream"),
		messages: gauges("oncall_bus_stream_messages", "Messages that a stream holds, by stream.", "stream"),
		oldest:   gauges("oncall_bus_stream_oldest_timestamp_seconds", "When the oldest message that a stream holds was stored; nothing for one that is empty.", "stream"),
		leader:   gauges("oncall_bus_stream_leader", "1 where a stream answers, by its leader, who hears a quorum; 0 where it does not, and nothing is stored.", "stream"),
		replicas: gauges("oncall_bus_stream_replicas", "Replicas of a stream, by stream and state: current, behind, silent.", "stream", "state"),
	}
}

func (m *streamMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.bytes, m.limit, m.messages, m.oldest, m.leader, m.replicas}
}

// lost leaves what was last known as it was: a stream that does not answer is
// neither empty nor full.
func (m *streamMetrics) lost(name string) { m.leader.WithLabelValues(name).Set(0) }

func (m *streamMetrics) set(name string, info *jetstream.StreamInfo) {
	if info.Cluster != nil && info.Cluster.Leader == "" {
		m.lost(name)
		return
	}
	m.bytes.WithLabelValues(name).Set(float64(info.State.Bytes))
	m.messages.WithLabelValues(name).Set(float64(info.State.Msgs))
	if limit := info.Config.MaxBytes; limit > 0 {
		m.limit.WithLabelValues(name).Set(float64(limit))
	}
	if info.State.Msgs > 0 {
		m.oldest.WithLabelValues(name).Set(float64(info.State.FirstTime.UnixMilli()) / 1000)
	} else {
		m.oldest.DeleteLabelValues(name)
	}
	count := map[string]int{replicaCurrent: 1, replicaBehind: 0, replicaSilent: 0}
	leader := 1.0
	if c := info.Cluster; c != nil {
		if quorum(c) != nil {
			leader = 0
		}
		for _, r := range c.Replicas {
			switch {
			case r.Offline || r.Active >= silentFor:
				count[replicaSilent]++
			case !r.Current:
				count[replicaBehind]++
			default:
				count[replicaCurrent]++
			}
		}
	}
	m.leader.WithLabelValues(name).Set(leader)
	for state, n := range count {
		m.replicas.WithLabelValues(name, state).Set(float64(n))
	}
}
