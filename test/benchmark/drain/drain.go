// Package drain holds our log miner against Loki's, in speed and in what it finds,
// in the same run.
//
// Loki is AGPL-3.0. This module is for the comparison only: nothing of it is linked
// into what is distributed, and nothing of ours imports it. It is not part of make
// compat either, because building what Loki's package needs takes minutes.
package drain
