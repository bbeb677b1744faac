//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// latencies are times from a failure to the delivered report.
type latencies struct {
	mu   sync.Mutex
	rows []latency
}

type latency struct {
	signal          string
	first, complete time.Duration
}

func (l *latencies) add(signal string, first, complete time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows = append(l.rows, latency{signal, first, complete})
}

// String is a table: the percentiles of each signal over its repetitions.
func (l *latencies) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	by := map[string][]latency{}
	var names []string
	for _, r := range l.rows {
		if by[r.signal] == nil {
			names = append(names, r.signal)
		}
		by[r.signal] = append(by[r.signal], r)
	}
	slices.Sort(names)
	var b strings.Builder
	fmt.Fprintf(&b, "failure to report delivered\n%-12s %3s %10s %10s %12s %12s\n", "signal", "n", "first p50", "first p90", "complete p50", "complete p90")
	for _, n := range names {
		var first, complete []time.Duration
		for _, r := range by[n] {
			first, complete = append(first, r.first), append(complete, r.complete)
		}
		fmt.Fprintf(&b, "%-12s %3d %10s %10s %12s %12s\n", n, len(first), seconds(first, 0.5), seconds(first, 0.9), seconds(complete, 0.5), seconds(complete, 0.9))
	}
	return b.String()
}

// seconds is a quantile, by the nearest rank.
func seconds(d []time.Duration, q float64) string {
	slices.Sort(d)
	i := int(q*float64(len(d))+0.5) - 1
	return fmt.Sprintf("%.1fs", d[min(max(i, 0), len(d)-1)].Seconds())
}
