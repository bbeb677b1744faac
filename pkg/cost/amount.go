package cost

import (
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const (
	gib = 1 << 30
	mib = 1 << 20
)

// Amount is capacity, and what it costs in a month.
type Amount struct {
	Cores float64 `json:"cores"`
	GiB   float64 `json:"gib"`
	// Money is for a month of 730 hours; absent where there is no price.
	Money *float64 `json:"money_month,omitempty"`
}

// Plus is the sum of two amounts. Money is known when it is of one of them.
func (a Amount) Plus(b Amount) Amount {
	out := Amount{Cores: a.Cores + b.Cores, GiB: a.GiB + b.GiB}
	if a.Money != nil || b.Money != nil {
		m := a.money() + b.money()
		out.Money = &m
	}
	return out
}

func (a Amount) times(x float64) Amount {
	out := Amount{Cores: a.Cores * x, GiB: a.GiB * x}
	if a.Money != nil {
		m := *a.Money * x
		out.Money = &m
	}
	return out
}

func (a Amount) money() float64 {
	if a.Money == nil {
		return 0
	}
	return *a.Money
}

// rounded is the amount as precisely as anybody may take it.
func (a Amount) rounded() Amount {
	out := Amount{Cores: math.Round(a.Cores*1000) / 1000, GiB: math.Round(a.GiB*1000) / 1000}
	if a.Money != nil {
		m := math.Round(*a.Money*100) / 100
		out.Money = &m
	}
	return out
}

// priced is capacity at a rate.
func (p *Prices) priced(cores, gibs float64, r Rate) Amount {
	a := Amount{Cores: cores, GiB: gibs}
	if p.Known() {
		m := MonthHours * (cores*r.CPUCoreHour + gibs*r.MemoryGiBHour)
		a.Money = &m
	}
	return a
}

// held is what a pod's requests keep from others: as the scheduler counts, the
// sum of its containers and restartable init containers, or the largest init
// container where that is more, and the overhead of its runtime.
func held(s *corev1.PodSpec) (cores, gibs float64) {
	of := func(name corev1.ResourceName) float64 {
		var sum, sidecars, peak float64
		for i := range s.Containers {
			sum += quantity(s.Containers[i].Resources.Requests, name)
		}
		for i := range s.InitContainers {
			k := &s.InitContainers[i]
			q := quantity(k.Resources.Requests, name)
			if restarts(k) {
				sidecars += q
				peak = max(peak, sidecars)
				continue
			}
			peak = max(peak, sidecars+q)
		}
		total := max(sum+sidecars, peak)
		if s.Resources != nil {
			if q, ok := s.Resources.Requests[name]; ok {
				total = q.AsApproximateFloat64()
			}
		}
		return total + quantity(s.Overhead, name)
	}
	return of(corev1.ResourceCPU), of(corev1.ResourceMemory) / gib
}

// restarts says whether an init container runs as long as its pod.
func restarts(k *corev1.Container) bool {
	return k.RestartPolicy != nil && *k.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func quantity(l corev1.ResourceList, name corev1.ResourceName) float64 {
	q, ok := l[name]
	if !ok {
		return 0
	}
	return q.AsApproximateFloat64()
}

// CPU writes cores as a quantity, rounded up to what a person would write: 10m,
// 120m, 1.5, 12.
func CPU(cores float64) string {
	m := cores * 1000
	step := 10.0
	switch {
	case m > 10000:
		step = 500
	case m > 1000:
		step = 100
	case m > 500:
		step = 50
	}
	// A hair above is the float's, not the user's.
	m = math.Ceil(m/step-1e-6) * step
	return resource.NewMilliQuantity(int64(m), resource.DecimalSI).String()
}

// Memory writes bytes as a quantity, rounded up: 32Mi, 416Mi, 2304Mi, 12Gi.
func Memory(bytes float64) string {
	m := bytes / mib
	step := 8.0
	switch {
	case m > 8192:
		step = 512
	case m > 1024:
		step = 128
	case m > 256:
		step = 32
	}
	return resource.NewQuantity(int64(math.Ceil(m/step-1e-6)*step)*mib, resource.BinarySI).String()
}

// amountOf reads what [CPU] and [Memory] write.
func amountOf(s string) float64 {
	q := resource.MustParse(s)
	return q.AsApproximateFloat64()
}

// cores is a number of cores for people: 0.012, 0.35, 4.2, 120.
func cores(v float64) string {
	switch {
	case math.IsNaN(v):
		return "?"
	case v != 0 && math.Abs(v) < 0.1:
		return fmt.Sprintf("%.3f", v)
	case math.Abs(v) < 10:
		return fmt.Sprintf("%.2f", v)
	case math.Abs(v) < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// size is a number of bytes for people.
func size(bytes float64) string {
	if math.IsNaN(bytes) {
		return "?"
	}
	if bytes >= gib {
		return fmt.Sprintf("%.1f GiB", bytes/gib)
	}
	return fmt.Sprintf("%.0f MiB", bytes/mib)
}
