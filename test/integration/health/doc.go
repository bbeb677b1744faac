// Package health runs `oncall health` against a real API server with its
// controllers: a zoo of broken objects beside healthy look-alikes, and a cluster
// of five thousand pods. Run it with make e2e; without the tag e2e there is
// nothing in it.
package health
