// Package backtest runs `oncall backtest` against a real Prometheus and a real
// Loki that hold days of the past of a cluster: a rollout that makes requests
// fail, the alerts that its owners had, and what their event exporter wrote. Run it
// with make e2e; without the tag e2e there is nothing in it.
package backtest
