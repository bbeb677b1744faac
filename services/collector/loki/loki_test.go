package loki

import (
	"testing"
	"time"
)

func TestSampleRateKeepsADaysBudget(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes, perDay int64
		want          int
	}{
		"nothing":            {0, 20 << 30, 1},
		"within the share":   {1 << 20, 20 << 30, 1},
		"ten times too much": {10 * 17280, 17280 * 17280, 10},
		"a flood is bounded": {1 << 40, 1 << 20, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			if got := sampleRate(tc.bytes, tc.perDay, 5*time.Second); got != tc.want {
				t.Errorf("sampleRate(%d, %d, 5s) = %d, want %d", tc.bytes, tc.perDay, got, tc.want)
			}
		})
	}
}
