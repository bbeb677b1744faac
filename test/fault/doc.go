// Package fault breaks the pipeline on purpose: the five services as processes
// on a NATS server of their own, killed, stopped, doubled and fed with junk,
// while they read a recorded history. Every disturbed run must find exactly
// what an undisturbed one finds, and tell nobody twice.
package fault
