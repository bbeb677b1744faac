package cost

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Advice is a recommended value, with why.
type Advice struct {
	Container string `json:"container"`
	Init      bool   `json:"init,omitempty"`
	Resource  string `json:"resource"` // cpu or memory
	Request   Change `json:"request"`
	Limit     Change `json:"limit,omitzero"` // zero: it stays as it is
	// Saves is what it frees over all pods; below zero where it takes more.
	Saves Amount `json:"saves"`
	Why   string `json:"why"`
}

// lowers says whether less is requested than before.
func (a Advice) lowers() bool {
	return a.Request.From != "" && amountOf(a.Request.To) < amountOf(a.Request.From)
}

// Change is a quantity before and after. From is empty where there was none.
type Change struct {
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// LeftAlone is a container of which nothing is recommended, with why.
type LeftAlone struct {
	Container string `json:"container"`
	Resource  string `json:"resource"`
	Why       string `json:"why"`
}

// Measured is the use of a container, as far as it is known.
type Measured struct {
	Container      string   `json:"container"`
	CPURequest     float64  `json:"cpu_request"` // cores
	CPULimit       float64  `json:"cpu_limit,omitempty"`
	CPUP95         *float64 `json:"cpu_p95,omitempty"`
	CPUP99         *float64 `json:"cpu_p99,omitempty"`
	CPUMax         *float64 `json:"cpu_max,omitempty"`
	MemoryRequest  float64  `json:"memory_request"` // bytes
	MemoryLimit    float64  `json:"memory_limit,omitempty"`
	MemoryMax      *float64 `json:"memory_max,omitempty"`
	Throttled      *float64 `json:"throttled,omitempty"` // share of periods on the worst day
	OOMKilledDays  int      `json:"oom_killed_days,omitempty"`
	HistoryHours   float64  `json:"history_hours"`
	HistoryMissing bool     `json:"history_missing,omitempty"` // Prometheus does not know the container
}

const (
	// aboveHighest is what is added to the highest memory that was seen: a reading
	// every half a minute misses peaks, and memory that is missing kills.
	aboveHighest = 1.15
	// aboveOOM is what is added to a limit at which a container was killed, which
	// says only that more was needed.
	aboveOOM = 1.25
	// aboveGuaranteed is what is added to the highest CPU use over minutes where the
	// request is the limit, too: within minutes there are peaks above it.
	aboveGuaranteed = 2
	// lower is how far below the request a recommendation is worth the change, and
	// worthCores and worthBytes how much it has to free over all pods.
	lower      = 0.8
	worthCores = 0.05
	worthBytes = 64 * mib
	// throttledMuch is the share of periods from which throttling counts, as in the
	// kubernetes-mixin's CPUThrottlingHigh.
	throttledMuch = 0.25
	minCores      = 0.01
	minBytes      = 32 * mib
)

// shortage says what a container lacks.
type shortage struct {
	rule, title string
}

// judged is what is recommended for one container, and what it lacks.
type judged struct {
	advice []Advice
	left   []LeftAlone
	lacks  []shortage
	over   Amount // requested and above what was ever needed, changed or not
}

// judge recommends values for a container of a workload.
func (s *survey) judge(w *workload, k *container) judged {
	var j judged
	for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		s.judgeResource(w, k, r, &j)
	}
	return j
}

// guaranteed says whether the requests of all containers are their limits, so
// that Kubernetes kills their pods last.
func (w *workload) guaranteed() bool {
	return len(w.containers) > 0 && !slices.ContainsFunc(w.containers, func(k *container) bool {
		for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if k.request(r) == 0 || k.request(r) != k.limit(r) {
				return true
			}
		}
		return false
	})
}

func (s *survey) judgeResource(w *workload, k *container, r corev1.ResourceName, j *judged) {
	leave := func(format string, args ...any) {
		j.left = append(j.left, LeftAlone{k.name, string(r), fmt.Sprintf(format, args...)})
	}
	u := k.use
	if u == nil {
		if r == corev1.ResourceMemory && !k.oom.last.IsZero() && k.limit(r) > 0 && k.limit(r) <= k.oom.limit {
			j.lacks = append(j.lacks, k.killed())
		}
		if !k.init && s.o.Usage != nil { // an init container may have ended before the window
			leave("Prometheus knows nothing of its use")
		}
		return
	}
	v := s.want(w, k, r)
	if v.lack.rule != "" {
		j.lacks = append(j.lacks, v.lack)
	}
	if v.why == "" {
		if v.leave != "" {
			leave("%s", v.leave)
		}
		return // it is right as it is
	}
	pods := float64(len(w.pods))
	a := Advice{Container: k.name, Init: k.init, Resource: string(r), Why: v.why}
	if q, ok := k.resources.Requests[r]; ok {
		a.Request.From = q.String()
	}
	a.Request.To = written(r, v.request)
	freed := (k.request(r) - amountOf(a.Request.To)) * pods
	if k.init && !w.sidecar(k) {
		freed = 0 // it ends, and what runs after it is judged
	}
	if r == corev1.ResourceCPU {
		a.Saves = s.o.Prices.priced(freed, 0, w.rate)
	} else {
		a.Saves = s.o.Prices.priced(0, freed/gib, w.rate)
	}
	if v.limit > 0 {
		if q, ok := k.resources.Limits[r]; ok {
			a.Limit.From = q.String()
		}
		a.Limit.To = written(r, v.limit)
	}
	if v.leave == "" {
		v.leave = s.leftAlone(w, k, r)
	}
	for _, i := range s.limitRange(w.entity.Namespace) {
		if most := quantity(i.Max, r); v.leave == "" && most > 0 && max(v.request, v.limit) > most {
			v.leave = fmt.Sprintf("it needs %s, and the namespace's LimitRange allows %s", written(r, max(v.request, v.limit)), written(r, most))
		}
	}
	if freed > 0 {
		j.over = j.over.Plus(a.Saves)
	}
	if v.leave != "" {
		leave("%s", v.leave)
		return
	}
	j.advice = append(j.advice, a)
}

// sidecar says whether an init container runs as long as its pod.
func (w *workload) sidecar(k *container) bool {
	return slices.ContainsFunc(w.pods, func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == k.name && restarts(&c) })
	})
}

// leftAlone is why a container may not be changed, or "".
func (s *survey) leftAlone(w *workload, k *container, r corev1.ResourceName) string {
	u := k.use
	switch {
	case w.scaled[r] != "":
		return w.scaled[r]
	case k.injected:
		return "it is not in the template: something puts it into the pods"
	case k.shared:
		return "pods of another workload have the same names, and Prometheus cannot tell them apart"
	case w.fixed != "":
		return w.fixed
	case u.History < MinHistory:
		return fmt.Sprintf("%s of history, and it takes %s: enough on %s", Span(u.History), Span(MinHistory), date(s.o.Usage.End.Add(MinHistory-u.History)))
	case w.entity.Kind == "CronJob" && (u.Days < 7 || u.Seen < 24*time.Hour):
		return fmt.Sprintf("it was seen running on %d days for %s in all, too little to know its peaks", u.Days, Span(u.Seen))
	case k.init && u.Seen < 24*time.Hour:
		return "it runs too briefly for its peaks to be seen"
	}
	return ""
}

// verdict is what a container should have of a resource. why is empty where that
// is what it has, and leave says why nothing can be said.
type verdict struct {
	request, limit float64 // limit 0: as it is
	why, leave     string
	lack           shortage
}

// want is what a container should have of a resource.
func (s *survey) want(w *workload, k *container, r corev1.ResourceName) verdict {
	req, lim := k.request(r), k.limit(r)
	whole := w.guaranteed()
	var v verdict
	var need float64
	var reason string
	if r == corev1.ResourceCPU {
		if math.IsNaN(k.use.MaxCPU) {
			return verdict{leave: "Prometheus knows nothing of its CPU"}
		}
		need, reason = s.needCPU(k, whole, &v)
	} else {
		if math.IsNaN(k.use.MaxMemory) {
			return verdict{leave: "Prometheus knows nothing of its memory"}
		}
		need, reason = s.needMemory(k, &v)
		if v.leave != "" {
			return v
		}
	}
	need, reason = bounded(s.limitRange(w.entity.Namespace), r, need, lim, reason)
	need = amountOf(written(r, need))
	v.request = req
	pods := float64(max(1, len(w.pods)))
	enough, worth := need <= req*lower, (req-need)*pods >= map[corev1.ResourceName]float64{corev1.ResourceCPU: worthCores, corev1.ResourceMemory: worthBytes}[r]
	throttled := r == corev1.ResourceCPU && k.use.Throttled >= throttledMuch && lim > 0
	switch {
	case throttled:
		v.request = max(req, min(need, 2*lim))
		v.limit = 2 * lim
		if whole {
			v.request = v.limit
		}
		v.why = fmt.Sprintf("throttled in %.0f %% of periods at a limit of %s, so that what it would use is not known: twice the limit, and never a lower request", 100*k.use.Throttled, written(r, lim))
	case req == 0:
		v.request, v.why = need, "no request: "+reason
	case enough && worth:
		v.request, v.why = need, reason
	case v.lack.rule != "" && need > req:
		v.request, v.why = need, reason
	}
	if v.why != "" && !throttled && (whole || lim > 0 && v.request > lim) {
		v.limit = v.request
	}
	if v.lack.rule == ruleOOM {
		v.limit, v.why = need, reason
		if v.request = need; !whole {
			v.request = max(req, min(need, k.use.MaxMemory*aboveHighest))
		}
	}
	return v
}

// needCPU is the highest use that was seen, over minutes, in any pod.
func (s *survey) needCPU(k *container, whole bool, v *verdict) (need float64, reason string) {
	u, req := k.use, k.request(corev1.ResourceCPU)
	need = max(u.MaxCPU, minCores)
	reason = fmt.Sprintf("highest use in %s: %s cores over %s in one pod (p95 %s, p99 %s of its busiest day)", s.window(u), cores(u.MaxCPU), Span(s.o.Usage.RateWindow), cores(u.P95), cores(u.P99))
	if whole {
		need *= aboveGuaranteed
		reason += "; twice that, since the request is the limit"
	}
	if u.Throttled >= throttledMuch && k.limit(corev1.ResourceCPU) > 0 {
		v.lack = shortage{ruleThrottled, fmt.Sprintf("container %s: throttled in %.0f %% of periods at a limit of %s", k.name, 100*u.Throttled, CPU(k.limit(corev1.ResourceCPU)))}
	} else if req > 0 && u.P95 > req*1.1 {
		v.lack = shortage{ruleUnderRequested, fmt.Sprintf("container %s: uses %s cores (p95 of its busiest day) and requests %s", k.name, cores(u.P95), CPU(req))}
	}
	return need, reason
}

// needMemory is the highest use that was seen with something added, and above
// every limit at which a container was killed.
func (s *survey) needMemory(k *container, v *verdict) (need float64, reason string) {
	u, req := k.use, k.request(corev1.ResourceMemory)
	need = max(u.MaxMemory*aboveHighest, minBytes)
	reason = fmt.Sprintf("highest use in %s: %s in one pod, and 15 %%", s.window(u), size(u.MaxMemory))
	now := k.limit(corev1.ResourceMemory)
	switch {
	case k.oom.last.IsZero():
	case !(k.oom.limit > 0):
		v.lack = shortage{ruleOOM, fmt.Sprintf("container %s: killed for lack of memory, last on %s", k.name, date(k.oom.last))}
		v.leave = fmt.Sprintf("it was killed for lack of memory on %s, and its limit at that time is not known", date(k.oom.last))
		return need, reason
	case k.oom.limit*aboveOOM > need:
		need, reason = k.oom.limit*aboveOOM, fmt.Sprintf("killed for lack of memory on %s at a limit of %s: a quarter more", date(k.oom.last), Memory(k.oom.limit))
	}
	switch {
	case !k.oom.last.IsZero() && now > 0 && need > now:
		v.lack = k.killed()
	case req > 0 && u.MaxMemory > req:
		v.lack = shortage{ruleUnderRequested, fmt.Sprintf("container %s: used up to %s and requests %s", k.name, size(u.MaxMemory), Memory(req))}
	}
	return need, reason
}

// killed says that a container was killed, and at what limit.
func (k *container) killed() shortage {
	return shortage{ruleOOM, fmt.Sprintf("container %s: killed for lack of memory at a limit of %s, last on %s", k.name, Memory(k.oom.limit), date(k.oom.last))}
}

func date(t time.Time) string { return t.UTC().Format("2 January") }

// window is how long a use was watched, for people.
func (s *survey) window(u *Use) string {
	return Span(min(u.History, time.Duration(s.o.Usage.Days)*Day))
}

// bounded is a need within what the namespace allows.
func bounded(items []corev1.LimitRangeItem, r corev1.ResourceName, need, limit float64, reason string) (float64, string) {
	for _, i := range items {
		if least := quantity(i.Min, r); least > need {
			need, reason = least, fmt.Sprintf("%s; the namespace's LimitRange wants at least %s", reason, written(r, least))
		}
		if ratio := quantity(i.MaxLimitRequestRatio, r); ratio > 0 && limit > 0 && limit/ratio > need {
			need, reason = limit/ratio, fmt.Sprintf("%s; the namespace's LimitRange wants at least the limit divided by %g", reason, ratio)
		}
	}
	return need, reason
}

func written(r corev1.ResourceName, v float64) string {
	if r == corev1.ResourceCPU {
		return CPU(v)
	}
	return Memory(v)
}

// Span is a time for people: 45s, 5 min, 36 h, 8.2 d.
func Span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	// Rounded down: 6.98 days are no week.
	return strings.TrimSuffix(fmt.Sprintf("%.1f", math.Floor(d.Hours()/24*10)/10), ".0") + " d"
}
