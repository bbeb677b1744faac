package detectors

import (
	"testing"
	"unsafe"

	"github.com/oncall-copilot/oncall/pkg/baseline"
)

// TestRowsAreAsSmallAsTheyAreSaidToBe keeps a series at 400 bytes in the mix of
// test/benchmark/series, which nothing but these sizes decides.
func TestRowsAreAsSmallAsTheyAreSaidToBe(t *testing.T) {
	for name, c := range map[string]struct{ got, most uintptr }{
		"a level":                 {unsafe.Sizeof(baseline.Level{}), 296},
		"a share of a limit":      {unsafe.Sizeof(trendState{}), 256},
		"a series known lightly":  {unsafe.Sizeof(lightState{}), 208},
		"a series known in full":  {unsafe.Sizeof(deepState{}), 3400},
		"a ledger, but its cells": {unsafe.Sizeof(burnState{}), 72},
	} {
		if c.got > c.most {
			t.Errorf("%s is %d bytes, want at most %d: decision 15 and docs/benchmarks.md say so", name, c.got, c.most)
		}
	}
}
