//go:build e2e

package gates

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// each is how many requests a track serves from one scrape to the next.
const each = 400

// track is one side of a rollout: of the requests between two scrapes so many fail,
// and so many take 400 ms where the others take 20 ms.
type track struct {
	namespace, pod, name, side string
	failed, slow               int
}

// tracks are the rollouts: one whose canary is as good as its baseline, one that
// fails, one that is slow, and a service without any.
var tracks = []track{
	{"shop", "web-primary-7d4b9c6f5-x2x8q", "web", "stable", 1, 8},
	{"shop", "web-canary-5b9c7d6f8-k4k2z", "web", "canary", 1, 8},
	{"shop", "pay-primary-7d4b9c6f5-x2x8q", "pay", "stable", 1, 8},
	{"shop", "pay-canary-5b9c7d6f8-k4k2z", "pay", "canary", 60, 8},
	{"shop", "cart-primary-7d4b9c6f5-x2x8q", "cart", "stable", 1, 8},
	{"shop", "cart-canary-5b9c7d6f8-k4k2z", "cart", "canary", 1, 120},
}

// serve serves the metrics of all tracks: every scrape sees the requests that came
// since the one before, so that rates are exactly known. The histogram named
// native_seconds is native, the other classic.
func serve(t *testing.T) (addr string) {
	t.Helper()
	reg := prometheus.NewRegistry()
	labels := []string{"namespace", "pod", "name", "track"}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "http_requests_total"}, append([]string{"code"}, labels...))
	classic := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "classic_seconds", Buckets: []float64{0.01, 0.05, 0.1, 0.3, 1}}, labels)
	native := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "native_seconds", NativeHistogramBucketFactor: 1.1}, labels)
	reg.MustRegister(requests, classic, native)
	metrics := promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, x := range tracks {
			who := []string{x.namespace, x.pod, x.name, x.side}
			requests.WithLabelValues(append([]string{"500"}, who...)...).Add(float64(x.failed))
			requests.WithLabelValues(append([]string{"200"}, who...)...).Add(float64(each - x.failed))
			for i := range each {
				seconds := 0.02
				if i < x.slow {
					seconds = 0.4
				}
				classic.WithLabelValues(who...).Observe(seconds)
				native.WithLabelValues(who...).Observe(seconds)
			}
		}
		metrics.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}
