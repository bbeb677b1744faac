// Package sources reads real servers with the collector's sources: Prometheus
// that pushes, Loki with its tail, Alertmanager that is polled and pushes. Run
// it with make e2e; without the tag e2e there is nothing in it.
package sources
