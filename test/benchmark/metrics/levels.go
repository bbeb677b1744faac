package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/baseline"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectors"
)

// levels is the detector of changes of level with the rules that are shipped.
func levels(t []int64, v []float64) []row {
	info, _ := detector.Builtin.Lookup("level_shift")
	rules := baseline.Rules(info.Default().(detectors.LevelShiftConfig))
	var l baseline.Level
	out := make([]row, len(v))
	for i, x := range v {
		s := l.Observe(t[i]*1000, x, &rules)
		out[i] = row{prob: 1, anomaly: s.Away}
		if s.Away {
			out[i].prob = s.TailProb
		}
	}
	return out
}

// A null series changes its level on the twelfth day; within two hours it should
// be found.
const (
	shiftDay = 11 * 1440
	shiftRan = 13 * 1440
	soon     = 2 * 60
)

var factors = []float64{1.5, 2, 0.3}

// reportLevels states how often and how soon changes of level are found in the
// null series that have a level, and what is found where nothing changes.
func reportLevels(w io.Writer) error {
	fmt.Fprintf(w, "%-22s false alarms a series-day; changes found of %d, and minutes until then in the mean\n", "", seeds)
	kinds := nulls()
	lines := make([]string, len(kinds))
	each(len(kinds), func(k int) {
		var b strings.Builder
		wrong := 0
		for seed := range uint64(seeds) {
			t, v := shifted(k, seed, shiftRan, 1)
			wrong += begun(levels(t, v), 0)
		}
		fmt.Fprintf(&b, "%-22s %.3f", kinds[k].name, float64(wrong)/seeds*1440/shiftRan)
		for _, factor := range factors {
			found, delay := 0, 0
			for seed := range uint64(seeds) {
				at := shiftDay + int(seed)*240
				t, v := shifted(k, seed, at, factor)
				rows := levels(t, v)
				for i := at; i < at+soon; i++ {
					if rows[i].anomaly {
						found, delay = found+1, delay+i-at
						break
					}
				}
			}
			fmt.Fprintf(&b, "    x%.1f %d, %3d m", factor, found, delay/max(found, 1))
		}
		lines[k] = b.String()
	})
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
	return nil
}

// shifted is a null series that is so many times itself from minute at on.
func shifted(kind int, seed uint64, at int, factor float64) (t []int64, v []float64) {
	n := nulls()[kind]
	r := rand.New(rand.NewPCG(seed, 7))
	t, v = make([]int64, shiftRan), make([]float64, shiftRan)
	for i := range v {
		t[i], v[i] = time.Date(2023, 11, 13, 0, i, 0, 0, time.UTC).Unix(), n.next(r, i)
		if i >= at {
			v[i] *= factor
		}
	}
	return t, v
}

// begun counts the anomalies that begin from a row on.
func begun(rows []row, from int) (n int) {
	for i := from; i < len(rows); i++ {
		if rows[i].anomaly && (i == 0 || !rows[i-1].anomaly) {
			n++
		}
	}
	return n
}
