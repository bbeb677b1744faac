// Package benchmark measures what docs/benchmarks.md states: how many samples a
// core moves over the bus, and how long an anomaly takes to its handler.
package benchmark
