package bus

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/event"
)

type metrics struct {
	published      *prometheus.CounterVec
	publishSeconds prometheus.Histogram
	duplicates     prometheus.Counter
	blocked        prometheus.Counter
	blockedSeconds prometheus.Counter
	handled        *prometheus.CounterVec
	deadLetters    *prometheus.CounterVec
	checkpoints    *prometheus.CounterVec
	standing       *standing
	owned          *prometheus.GaugeVec
	owner          *prometheus.GaugeVec
	pending        *prometheus.GaugeVec
	late           *prometheus.CounterVec
	slow           prometheus.Counter
	streams        *streamMetrics
}

func newMetrics(reg prometheus.Registerer, now func() time.Time) *metrics {
	m := &metrics{
		published:      counters("oncall_bus_published_total", "Events stored on the bus, by stream.", "stream"),
		publishSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "oncall_bus_publish_duration_seconds", Help: "Time until a publish was stored.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)}),
		duplicates:     prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_dedup_dropped_total", Help: "Repeated ids that the server dropped."}),
		blocked:        prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_bus_publish_blocked_total", Help: "Publishes that had to wait for the server."}),
		blockedSeconds: prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_bus_publish_blocked_seconds_total", Help: "Time publishes waited for the server."}),
		handled:        counters("oncall_bus_handled_total", "Messages handled, by consumer and outcome.", "consumer", "outcome"),
		deadLetters:    counters("oncall_dlq_total", "Messages sent to the dead-letter stream, by consumer.", "consumer"),
		checkpoints:    counters("oncall_bus_checkpoints_total", "Checkpoints, by group and outcome.", "group", "outcome"),
		standing:       &standing{now: now, partitions: map[partitionKey]standingOf{}},
		owner:          gauges("oncall_partition_owner", "1 where this process folds the partition of the group.", "group", "partition"),
		owned:          gauges("oncall_partitions_owned", "Partitions held here, by group.", "group"),
		pending:        gauges("oncall_bus_pending_messages", "Messages of the stream not read yet, by consumer.", "consumer"),
		late:           counters("oncall_late_total", "Observations that came after their time was over and were not folded, by group.", "group"),
		slow:           prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_bus_slow_consumer_total", Help: "Times that the client dropped messages, which come again, because this process did not take them in time."}),
		streams:        newStreamMetrics(),
	}
	for _, c := range append(m.streams.collectors(),
		m.published, m.publishSeconds, m.duplicates, m.blocked, m.blockedSeconds, m.handled, m.deadLetters,
		m.checkpoints, m.standing, m.owner, m.owned, m.pending, m.late, m.slow,
	) {
		// Several connections of one process share a registry only in tests and
		// in `oncall up`; the first one's metrics then count for all.
		if err := reg.Register(c); err != nil && !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			panic(err)
		}
	}
	for _, s := range event.Streams() {
		m.published.WithLabelValues(s.Name)
	}
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

// CountLate counts observations of a group that came too late to be folded. A
// nil Bus counts nothing.
func (b *Bus) CountLate(group string, n int) {
	if b != nil {
		b.metrics.late.WithLabelValues(group).Add(float64(n))
	}
}

// standing says, when it is asked, how far behind the folds of this process
// are. It is worked out at the scrape, so that a fold that is stuck is seen to
// fall behind.
type standing struct {
	now        func() time.Time
	mu         sync.Mutex
	partitions map[partitionKey]standingOf
}

type standingOf struct {
	watermark time.Time // event time of the last message folded; zero before the first
	saved     time.Time // when its state was last written down, or found to be so
}

func (s *standing) set(group string, partition int, of standingOf) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions[partitionKey{group, partition}] = of
}

// leave forgets the partitions of a group that are held here no more.
func (s *standing) leave(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.partitions {
		if k.group == group {
			delete(s.partitions, k)
		}
	}
}

var (
	descLag = prometheus.NewDesc("oncall_watermark_lag_seconds", "Wall clock less the oldest event time folded in the partitions held here, by group.", []string{"group"}, nil)
	descAge = prometheus.NewDesc("oncall_checkpoint_age_seconds", "Age of the oldest checkpoint of the partitions held here, by group.", []string{"group"}, nil)
)

// Describe implements prometheus.Collector.
func (s *standing) Describe(ch chan<- *prometheus.Desc) { ch <- descLag; ch <- descAge }

// Collect implements prometheus.Collector.
func (s *standing) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lag, age := map[string]float64{}, map[string]float64{}
	for k, p := range s.partitions {
		if !p.watermark.IsZero() {
			lag[k.group] = max(lag[k.group], s.now().Sub(p.watermark).Seconds())
		}
		age[k.group] = max(age[k.group], s.now().Sub(p.saved).Seconds())
	}
	for g, v := range lag {
		ch <- prometheus.MustNewConstMetric(descLag, prometheus.GaugeValue, v, g)
	}
	for g, v := range age {
		ch <- prometheus.MustNewConstMetric(descAge, prometheus.GaugeValue, v, g)
	}
}
