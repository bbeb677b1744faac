// Package compat checks what we write and read of Prometheus' formats against
// Prometheus' own code.
package compat
