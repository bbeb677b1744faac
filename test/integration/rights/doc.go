// Package rights runs the commands that read a cluster against a real API server
// with its own RBAC, as users who may not read everything.
package rights
