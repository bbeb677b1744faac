// Package cost runs `oncall cost` against a real API server and a real Prometheus
// that has days of what cAdvisor would have said: workloads whose right answer is
// known, and a cluster of five thousand pods. Run it with make e2e; without the
// tag e2e there is nothing in it.
package cost
