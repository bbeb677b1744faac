package detector

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the service's own; a fold only ever adds to them.
type metrics struct {
	samples   *prometheus.CounterVec // by group
	dropped   *prometheus.CounterVec // by group, reason
	anomalies *prometheus.CounterVec // by detector
	panics    *prometheus.CounterVec // by detector
	tested    *prometheus.CounterVec // by group
	rationed  *prometheus.CounterVec // by detector
	late      func(group string, n int)
}

func newMetrics(reg prometheus.Registerer, infos []Info) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "oncall", Subsystem: "detector", Name: name, Help: help}, labels)
		if reg != nil {
			reg.MustRegister(c)
		}
		return c
	}
	m := &metrics{
		samples:   counter("observations_total", "Samples, log lines and events given to detectors.", "group"),
		dropped:   counter("dropped_total", "Samples, batches, events and anomalies left out, by reason.", "group", "reason"),
		anomalies: counter("anomaly_events_total", "Anomaly events published.", "detector"),
		panics:    counter("panics_total", "Panics of a detector; its state of that partition was given up.", "detector"),
		tested:    counter("hypotheses_total", "Hypotheses tested.", "group"),
		rationed:  counter("rationed_total", "Series in a window that a detector looked at less closely than it could, or not at all, because there is room for so many only.", "detector"),
	}
	for _, g := range []Input{Metrics, Logs, Events} {
		m.samples.WithLabelValues(string(g))
		m.tested.WithLabelValues(string(g))
		for _, why := range dropReasons {
			m.dropped.WithLabelValues(string(g), why)
		}
	}
	m.panics.WithLabelValues(vocabularyName)
	for _, i := range infos {
		m.anomalies.WithLabelValues(i.Name)
		m.panics.WithLabelValues(i.Name)
	}
	return m
}

// dropReasons are the values of the reason label.
var dropReasons = []string{"repeat", "late", "not_finite", "cardinality", "invalid", "too_many_open"}
