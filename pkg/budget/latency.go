package budget

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

// Asker answers an instant query.
type Asker interface {
	Instant(ctx context.Context, expr string, at time.Time) (model.Vector, error)
}

// CheckLatency finds out whether a Prometheus can tell which requests took longer
// than a threshold: there is a classic histogram with a bucket of that bound, or a
// native one. If not, the error is a [promql.Mismatch] behind the field that is
// wrong, histogram or threshold, as field names it.
func CheckLatency(ctx context.Context, c Asker, l slo.Latency, field func(string) string, at time.Time) error {
	name, labels, ok := l.Metric()
	if !ok {
		return fmt.Errorf("%s: %w", field("histogram"), &promql.Mismatch{Problem: l.Histogram + " is not a metric with its labels", Fix: `write http_request_duration_seconds{service="web"}`})
	}
	bounds, err := c.Instant(ctx, "count by (le) ("+name+"_bucket"+labels+")", at)
	if err != nil {
		return fmt.Errorf("%s: %w", field("histogram"), err)
	}
	var known []float64
	for _, b := range bounds {
		x, err := strconv.ParseFloat(string(b.Metric["le"]), 64)
		switch {
		case err != nil || math.IsInf(x, 0):
		case math.Abs(x-l.Bound()) <= 1e-9*l.Bound():
			return nil
		default:
			known = append(known, x)
		}
	}
	native, err := c.Instant(ctx, "histogram_count(sum("+name+labels+"))", at)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", field("histogram"), err)
	case len(native) > 0:
		return nil
	case known != nil:
		return fmt.Errorf("%s: %s %w", field("threshold"), l.Threshold, &promql.Mismatch{Problem: fmt.Sprintf("is no bound of %s's buckets", name), Fix: "write " + nearest(known, l) + ", the nearest"})
	}
	return fmt.Errorf("%s: %w", field("histogram"), &promql.Mismatch{Absent: true, Problem: fmt.Sprintf("%s%s has neither buckets nor a native histogram", name, labels), Fix: "is the name right, without _bucket, and are its labels?"})
}

// nearest are the bounds on both sides of the threshold.
func nearest(known []float64, l slo.Latency) string {
	slices.Sort(known)
	say := func(x float64) string { return slo.Seconds(x / l.PerSecond()).String() }
	switch i, _ := slices.BinarySearch(known, l.Bound()); i {
	case 0:
		return say(known[0])
	case len(known):
		return say(known[i-1])
	default:
		return say(known[i-1]) + " or " + say(known[i])
	}
}
