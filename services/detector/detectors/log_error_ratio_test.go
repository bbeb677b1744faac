package detectors

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

func TestAShareOfErrorsThatGrowsIsOneAnomalyOfItsWorkload(t *testing.T) {
	const from, to = 25*60 + 10, 25*60 + 40
	var r *rand.Rand
	// traffic is a minute in which every line has its chance to be an error.
	traffic := func(n int, share float64) logMinute {
		l := podLines{}
		for i := range n {
			line := fmt.Sprintf(work, i)
			if r.Float64() < share {
				line = `level=error msg="cannot charge the card" err="gateway said 502"`
				if i%5 == 0 {
					line = `level=error msg="order was not stored"`
				}
			}
			l[podA] = append(l[podA], line)
		}
		return logMinute{lines: l}
	}
	for name, c := range map[string]struct {
		of  func(i int) logMinute
		odd bool
	}{
		"from one in a hundred to a quarter": {func(i int) logMinute {
			if i >= from && i < to {
				return traffic(20, 0.3)
			}
			return traffic(20, 0.01)
		}, true},
		"not with the traffic": {func(i int) logMinute {
			if i >= from && i < to {
				return traffic(120, 0.02)
			}
			return traffic(12, 0.02)
		}, false},
		"not where it has always been so": {func(int) logMinute { return traffic(15, 0.3) }, false},
		"not where it is so at this hour of each day": {func(i int) logMinute {
			if i/60%24 == 2 {
				return traffic(20, 0.4)
			}
			return traffic(10, 0.01)
		}, false},
		"not for a few errors of a workload that hardly writes": {func(i int) logMinute {
			if i >= from && i < to && i%8 == 0 {
				return traffic(2, 1)
			}
			return traffic(2, 0)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			// The hour that is bad each day is known after two.
			minutes, quiet := 27*60, 0
			if strings.Contains(name, "each day") {
				minutes, quiet = 52*60, 49*60
			}
			r = rand.New(rand.NewPCG(8, 8))
			began, ended := playLogs(t, "log_error_ratio", minutes, c.of)
			for i := range began {
				if i < quiet {
					delete(began, i)
				}
			}
			if !c.odd {
				for i, a := range began {
					t.Errorf("minute %d: %s (%s)", i, a.Summary, a.Explanation)
				}
				return
			}
			if len(began) != 1 || len(ended) != 1 || ended[0] < to || ended[0] > to+10 {
				t.Fatalf("began %v, ended in %v, want once, and within ten minutes after %d", began, ended, to)
			}
			for i, a := range began {
				if i < from || i > from+4 || a.Onset.Before(detectortest.At(from-1)) || a.Onset.After(detectortest.At(i)) {
					t.Errorf("began in minute %d with onset %s, want within 4 after %d", i, a.Onset, from)
				}
				if !strings.Contains(a.Summary, "lines state an error") || !strings.Contains(a.Summary, "most: cannot charge the card") {
					t.Errorf("summary %q", a.Summary)
				}
				if len(a.Evidence) != 2 || !strings.Contains(a.Evidence[0].Query, "cannot charge the card") || !strings.Contains(a.Evidence[1].Query, "order was not stored") {
					t.Errorf("evidence %+v", a.Evidence)
				}
			}
		})
	}
}
