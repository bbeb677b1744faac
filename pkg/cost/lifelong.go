package cost

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// lifelong makes what is freed of a workload's requests what its pods hold less
// for it, on average over time: a pod holds as long as it lives what its largest
// init container requests, and a Job's only while it runs.
func (x *examiner) lifelong(w *workload, seen []string, all *judged) {
	cpu, memory := 1.0, 1.0
	if w.entity.Kind == "CronJob" || w.entity.Kind == "Job" {
		share := 0.0
		for _, k := range w.containers {
			if k.use != nil && k.use.History > 0 {
				share = max(share, min(1, float64(k.use.Seen)/float64(k.use.History)))
			}
		}
		cpu, memory = share, share
	}
	if len(w.pods) > 0 && w.entity.Kind != "Job" {
		after := w.pods[len(w.pods)-1].Spec.DeepCopy()
		for i := range after.Containers {
			for _, a := range all.advice {
				if c := &after.Containers[i]; !a.Init && a.Container == c.Name && c.Resources.Requests != nil {
					c.Resources.Requests[corev1.ResourceName(a.Resource)] = resource.MustParse(a.Request.To)
				}
			}
		}
		var held Amount
		for _, r := range []struct {
			name  corev1.ResourceName
			share *float64
		}{{corev1.ResourceCPU, &cpu}, {corev1.ResourceMemory, &memory}} {
			runs, starts, by := inits(after, r.name)
			if starts <= runs {
				continue
			}
			before, _, _ := inits(&w.pods[len(w.pods)-1].Spec, r.name)
			if before > runs {
				*r.share *= max(0, before-starts) / (before - runs)
			}
			if n := float64(len(w.pods)); r.name == corev1.ResourceCPU {
				held = held.Plus(x.o.Prices.priced((starts-max(before, runs))*n, 0, w.rate))
			} else {
				held = held.Plus(x.o.Prices.priced(0, (starts-max(before, runs))*n/gib, w.rate))
			}
			if starts > before*1.2 && !w.system() {
				i := x.add(x.waste, w.team, noted{
					rule: ruleInit, entity: w.entity, urgency: event.Hygiene, seen: seen, title: fmt.Sprintf("init container %s: each pod holds its %s=%s as long as it lives, and what runs then requests %s", by, r.name, written(r.name, starts), written(r.name, before)),
					next: []event.Check{{Why: "what its init containers request", Command: kubectl(w.entity.Namespace, "get pod %s -o yaml", w.pods[0].Name)}},
				})
				i.Amount, i.Risk = held, Risk{"medium", "with a lower request it may start more slowly"}
			}
		}
	}
	advice := all.advice
	all.advice = nil
	for _, a := range advice {
		if a.lowers() {
			a.Saves = a.Saves.times(map[string]float64{"cpu": cpu, "memory": memory}[a.Resource])
			if x.weight(a.Saves) == 0 && !a.Init {
				all.left = append(all.left, LeftAlone{a.Container, a.Resource, "an init container requests more, and its pods hold that as long as they live"})
				continue
			}
		}
		all.advice = append(all.advice, a)
	}
	all.over = x.o.Prices.priced(all.over.Cores*cpu, all.over.GiB*memory, w.rate)
}

// inits is what the containers of a pod request together, what its init containers
// request at most at one time, and the one that does.
func inits(s *corev1.PodSpec, name corev1.ResourceName) (runs, starts float64, by string) {
	sidecars := 0.0
	for i := range s.Containers {
		runs += quantity(s.Containers[i].Resources.Requests, name)
	}
	for i := range s.InitContainers {
		k := &s.InitContainers[i]
		q := sidecars + quantity(k.Resources.Requests, name)
		if q > starts {
			starts, by = q, k.Name
		}
		if restarts(k) {
			sidecars = q
		}
	}
	return runs + sidecars, starts, by
}
