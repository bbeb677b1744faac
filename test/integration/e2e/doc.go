// Package e2e runs the five services as processes against real servers (see
// test/testbed), causes failures, and checks the reports that arrive. Run it
// with make e2e; without the tag e2e there is nothing in it.
package e2e
