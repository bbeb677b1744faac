// Command metrics measures the detectors of one series (package baseline) on
// labelled data, on series in which nothing happens, and on the normal hours
// of a real day: everything with one set of parameters, beside an
// exponentially weighted mean in the same run.
//
//	go run ./test/benchmark/metrics [-data ../shared/data] [-starts]
//	go run ./test/benchmark/metrics [-data ../shared/data] -leave-one-out
//	go run ./test/benchmark/metrics -nulls [-seed 0] [-seeds 6] [-learnt 10080] [-counted 30240]
//
// Where a data set is absent one line says so and no figure is given.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"

	"github.com/oncall-copilot/oncall/pkg/baseline"
)

// row is what a detector says of one sample.
type row struct {
	prob    float64
	score   float64
	anomaly bool
}

// detect is a detector: all rows of a series, each from what came before it.
type detect func(t []int64, v []float64) []row

// ours is the detector that is measured.
func ours(t []int64, v []float64) []row {
	var s baseline.Series
	out := make([]row, len(v))
	for i, x := range v {
		o := s.Observe(t[i]*1000, x)
		out[i] = row{prob: o.TailProb, score: o.Score, anomaly: o.Anomaly}
	}
	return out
}

// light is what series get for which there is no room in full.
func light(t []int64, v []float64) []row {
	var l baseline.Light
	out := make([]row, len(v))
	for i, x := range v {
		o := l.Observe(t[i]*1000, x)
		out[i] = row{prob: o.TailProb, anomaly: o.Anomaly}
	}
	return out
}

// ewma is what everybody has: a mean and a variance that forget with 1/500,
// and an alarm at four standard deviations.
func ewma(_ []int64, v []float64) []row {
	const horizon, threshold = 500, 4.0
	out := make([]row, len(v))
	var n, m, variance float64
	for i, x := range v {
		z := 0.0
		if n > 20 && variance > 0 {
			z = math.Abs(x-m) / math.Sqrt(variance)
		}
		out[i] = row{prob: math.Erfc(z / math.Sqrt2), score: z / (z + 3), anomaly: z >= threshold}
		n = min(n+1, horizon)
		d := x - m
		m += d / n
		variance += (d*d*(1-1/n) - variance) / n
	}
	return out
}

func main() {
	data := flag.String("data", filepath.Join("..", "shared", "data"), "`directory` of the labelled data")
	starts := flag.Bool("starts", false, "also start each NAB series 25, 50 and 75 rows later")
	out := flag.Bool("leave-one-out", false, "say instead what other parameters do, chosen on all groups of the labelled data but one, on that one")
	plan := shippedPlan
	onlyNull := flag.Bool("nulls", false, "only count in series in which nothing happens, those of other laws too")
	flag.Uint64Var(&plan.first, "seed", plan.first, "with -nulls: the first `seed`")
	flag.Uint64Var(&plan.seeds, "seeds", plan.seeds, "with -nulls: how many seeds")
	flag.IntVar(&plan.learnt, "learnt", plan.learnt, "with -nulls: how many samples are learnt from")
	flag.IntVar(&plan.counted, "counted", plan.counted, "with -nulls: how many samples are counted")
	flag.Parse()
	if *onlyNull {
		for _, kinds := range []func() []null{nulls, otherNulls} {
			reportNull(os.Stdout, "baseline", ours, kinds, plan)
			reportNull(os.Stdout, "light", light, kinds, plan)
		}
		return
	}
	if *out {
		if err := reportLeaveOneOut(os.Stdout, *data); err != nil {
			fmt.Fprintln(os.Stderr, "metrics:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(os.Stdout, *data, *starts); err != nil {
		fmt.Fprintln(os.Stderr, "metrics:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, data string, starts bool) error {
	for _, part := range []struct {
		what, dir string
		report    func(io.Writer, string) error
	}{
		{"production series (cloudmon)", "cloudmon", reportCloudmon},
		{"Numenta Anomaly Benchmark", "nab", func(w io.Writer, dir string) error { return reportNAB(w, dir, starts) }},
		{"the normal hours of a real day (nezha)", filepath.Join("nezha", "rca_data", "2022-08-22"), reportNezha},
	} {
		dir := filepath.Join(data, part.dir)
		fmt.Fprintf(w, "\n## %s\n\n", part.what)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(w, "not measured: there is no %s\n", dir)
			continue
		}
		if err := part.report(w, dir); err != nil {
			return fmt.Errorf("%s: %w", part.what, err)
		}
	}
	fmt.Fprint(w, "\n## series in which nothing happens\n\n")
	reportNull(w, "baseline", ours, nulls, shippedPlan)
	reportNull(w, "light", light, nulls, shippedPlan)
	fmt.Fprint(w, "\n## invented series with anomalies planted in them\n\n")
	reportInvented(w, "baseline", ours)
	reportInvented(w, "light", light)
	reportInvented(w, "EWMA", ewma)
	fmt.Fprint(w, "\n## changes of level (level_shift)\n\n")
	return reportLevels(w)
}

// each runs f for every index on all processors.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
