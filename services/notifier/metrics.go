package notifier

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// metrics are the notifier's own.
type metrics struct {
	decisions  *prometheus.CounterVec
	deliveries *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	refused    *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, channels []string) *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oncall_notifier_decisions_total", Help: "Decisions about report revisions, by outcome.",
		}, []string{"outcome"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oncall_notifier_deliveries_total", Help: "Delivery attempts, by channel and outcome.",
		}, []string{"channel", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "oncall_notifier_delivery_duration_seconds", Help: "Duration of delivery attempts.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 12),
		}, []string{"channel"}),
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oncall_notifier_channel_refused", Help: "1 while a channel refuses everything, as with a revoked token.",
		}, []string{"channel"}),
	}
	reg.MustRegister(m.decisions, m.deliveries, m.seconds, m.refused)
	for _, o := range []event.Outcome{event.Sent, event.HeldBack, event.Silenced, event.Maintenance, event.Shadow} {
		m.decisions.WithLabelValues(string(o))
	}
	for _, c := range channels {
		for _, o := range []string{"sent", "retried", "failed"} {
			m.deliveries.WithLabelValues(c, o)
		}
		m.seconds.WithLabelValues(c)
		m.refused.WithLabelValues(c)
	}
	return m
}
