// Package compat reads the configuration that we ship for Alloy with Alloy's own
// language, and sees what of it reaches our source of logs.
package compat
