// Package testbed builds and starts the real servers that the project is tried
// against: NATS, Prometheus, Loki, Alertmanager, kube-state-metrics, and a
// Kubernetes control plane whose nodes are simulated by KWOK, or real where
// there are root, containerd and runc.
//
// Servers are built once from pinned modules into a cache outside the
// repository, listen on free loopback ports, are waited for by condition, and
// die with the process that started them.
package testbed
