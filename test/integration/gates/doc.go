// Package gates runs canary-gate's relatives and the commands of error budgets
// against a real Prometheus that scrapes classic and native histograms. Run it with
// make e2e; without the tag e2e there is nothing in it.
package gates
