package cost

import (
	"math"
	"regexp"
	"slices"
	"sync/atomic"
	"time"
)

// Day is the length of one step of what is read of Prometheus.
const Day = 24 * time.Hour

// MinHistory is how much history an advice takes: a week has a weekend in it.
const MinHistory = 7 * Day

// Key names the containers of a workload in Prometheus, which knows pods by name
// alone.
type Key struct{ Namespace, Workload, Container string }

// podName takes the parts that controllers add off a pod's name: of a Deployment
// the template's hash and five characters, of a CronJob the minute and five
// characters, of a DaemonSet or Job five characters, of a StatefulSet the
// ordinal. Both alphabets are Kubernetes' own (rand.SafeEncodeString); a hash is
// a decimal number written in ten of its letters.
const podName = `(.+?)(?:-[4-9bcdf]{5,10}-[bcdfghjklmnpqrstvwxz2456789]{5}|-[0-9]{8}-[bcdfghjklmnpqrstvwxz2456789]{5}|-[bcdfghjklmnpqrstvwxz2456789]{5}|-[0-9]+)?`

var podNames = regexp.MustCompile(`^(?:` + podName + `)$`)

// WorkloadKey is the name under which the pods of a workload, past and present,
// are found together. It is no workload's name: what it stands for is known from
// the pods that are there.
func WorkloadKey(pod string) string {
	if m := podNames.FindStringSubmatch(pod); m != nil {
		return m[1]
	}
	return pod
}

// Use is how the containers of one key used what they have. What nobody knows is
// NaN.
type Use struct {
	// P95 and P99 are quantiles of the CPU use of one pod, in cores: of its busiest
	// day, in the pod that used most.
	P95, P99 float64
	// MaxCPU is the highest use of one pod over some minutes, in cores, and
	// MaxMemory the highest of its memory, in bytes, in the whole window.
	MaxCPU, MaxMemory float64
	// MeanCPU and MeanMemory are what all pods used together, on average over the
	// time that Prometheus has.
	MeanCPU, MeanMemory float64
	// Throttled is the share of CPU periods in which a pod was throttled, on its
	// worst day.
	Throttled float64
	// History is for how long Prometheus knows the container, its own gaps left out.
	History time.Duration
	// Seen are the hours in which a container was there, and Days the days.
	Seen time.Duration
	Days int
	// OOMDays are the ends of the days in which a container was killed for lack of
	// memory, oldest first, and OOMLimit the highest memory limit on those days, in
	// bytes.
	OOMDays  []time.Time
	OOMLimit float64
}

// Usage is what Prometheus says of a window.
type Usage struct {
	Start, End time.Time
	// Days is the length of the window that was asked for.
	Days int
	// History is how much of the window Prometheus has.
	History time.Duration
	// RateWindow is the span over which CPU use is averaged, Interval the time
	// between two readings.
	RateWindow, Interval time.Duration
	// Containers is how many series there are now, by which queries are bounded.
	Containers int
	Uses       map[Key]*Use
	// Queries are what was asked, by measure, for those who want to see for
	// themselves.
	Queries map[string]string
	// Missing are the measures that gave no answer, with why.
	Missing map[string]string

	asked atomic.Int64
}

// EnoughAt is when there will be [MinHistory], as long as nothing is lost.
func (u *Usage) EnoughAt() time.Time { return u.End.Add(max(0, MinHistory-u.History)) }

// daily are the values of one measure, by day of the window; NaN where there is
// none.
type daily map[Key][]float64

func (d daily) set(k Key, days, day int, v float64) {
	if day < 0 || day >= days {
		return
	}
	if d[k] == nil {
		d[k] = make([]float64, days)
		for i := range d[k] {
			d[k][i] = math.NaN()
		}
	}
	// Two series of one key, as of two clusters, are not added up.
	if !(d[k][day] >= v) {
		d[k][day] = v
	}
}

// fold makes the usage of the daily values of each measure.
func (u *Usage) fold(by map[string]daily) {
	u.Uses = map[Key]*Use{}
	hours := by[measureHours]
	// What Prometheus has of a day is what the container has that it has most of.
	known := make([]float64, u.Days)
	for _, h := range hours {
		for i, v := range h {
			if v > known[i] {
				known[i] = min(v, 24)
			}
		}
	}
	total := 0.0
	for _, h := range known {
		total += h
	}
	u.History = time.Duration(total * float64(time.Hour))
	for _, values := range by {
		for k := range values {
			if u.Uses[k] == nil {
				nan := math.NaN()
				u.Uses[k] = &Use{P95: nan, P99: nan, MaxCPU: nan, MaxMemory: nan, MeanCPU: nan, MeanMemory: nan, Throttled: nan, OOMLimit: nan}
			}
		}
	}
	for k, use := range u.Uses {
		use.P95, use.P99, use.MaxCPU = highest(by[measureP95][k]), highest(by[measureP99][k]), highest(by[measureMaxCPU][k])
		use.MaxMemory, use.Throttled = highest(by[measureMaxMemory][k]), highest(by[measureThrottled][k])
		use.MeanCPU, use.MeanMemory = average(by[measureMeanCPU][k], total), average(by[measureMeanMemory][k], total)
		first := true
		for i, v := range hours[k] {
			if !(v > 0) {
				if !first {
					use.History += span(known[i])
				}
				continue
			}
			use.Days++
			use.Seen += span(min(v, 24))
			if first {
				use.History, first = span(min(v, 24)), false
				continue
			}
			use.History += span(known[i])
		}
		for i := range u.Days {
			oom := false
			for _, measure := range []string{measureOOM, measureOOMEvents} {
				if v := by[measure][k]; v != nil && v[i] > 0 {
					oom = true
				}
			}
			if !oom {
				continue
			}
			use.OOMDays = append(use.OOMDays, u.Start.Add(time.Duration(i+1)*Day))
			if l := by[measureLimit][k]; l != nil && !(use.OOMLimit >= l[i]) {
				use.OOMLimit = l[i]
			}
		}
	}
}

func span(hours float64) time.Duration { return time.Duration(hours * float64(time.Hour)) }

// highest is the largest value; NaN when there is none.
func highest(values []float64) float64 {
	out := math.NaN()
	for _, v := range values {
		if !(out >= v) && !math.IsNaN(v) {
			out = v
		}
	}
	return out
}

// average spreads the sums of days, each over 24 hours, over the hours that
// Prometheus has.
func average(values []float64, hours float64) float64 {
	if !slices.ContainsFunc(values, func(v float64) bool { return !math.IsNaN(v) }) || hours == 0 {
		return math.NaN()
	}
	sum := 0.0
	for _, v := range values {
		if !math.IsNaN(v) {
			sum += v
		}
	}
	return sum * 24 / hours
}
