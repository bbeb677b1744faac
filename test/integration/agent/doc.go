// Package agent holds the tests of oncall agent-run and oncall ask as the program
// that people type, on a real cluster with a real Prometheus and Loki. They run
// with -tags e2e.
package agent
