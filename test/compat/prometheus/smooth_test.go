package compat

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"

	"github.com/oncall-copilot/oncall/pkg/stat"
)

// What pkg/stat folds is what Prometheus' function says of the same samples.
func TestSmoothingIsThatOfPrometheus(t *testing.T) {
	engine := promql.NewEngine(promql.EngineOpts{Timeout: time.Minute, MaxSamples: 1e6, Parser: everything})
	t.Cleanup(func() { _ = engine.Close() })
	var values []float64
	load := "load 1m\n  x"
	for i := range 200 {
		v := 100 + float64(i%17)*3 + float64(i*i%29) + 0.5*float64(i)
		values = append(values, v)
		load += fmt.Sprintf(" %g", v)
	}
	store := promqltest.LoadedStorage(t, load+"\n")
	for _, f := range [][2]float64{{0.1, 0.02}, {0.5, 0.5}, {0.9, 0.1}} {
		var s stat.Smooth
		for i, v := range values {
			s.Add(v, f[0], f[1])
			if i < 2 || i%13 != 0 {
				continue
			}
			expr := fmt.Sprintf("double_exponential_smoothing(x[%dm1s], %g, %g)", i, f[0], f[1])
			q, err := engine.NewInstantQuery(context.Background(), store, nil, expr, time.Unix(0, 0).Add(time.Duration(i)*time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			got, err := q.Exec(context.Background()).Vector()
			q.Close()
			if err != nil || len(got) != 1 {
				t.Fatalf("%s: %v, %v", expr, got, err)
			}
			if math.Abs(got[0].F-s.Level) > 1e-9*math.Abs(s.Level) {
				t.Errorf("%s says %v, and the fold %v", strings.TrimSpace(expr), got[0].F, s.Level)
			}
		}
	}
}
