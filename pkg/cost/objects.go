package cost

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

// settled is how old a thing has to be before it counts as left behind, and
// pending how long a pod may wait for a node.
const (
	settled = Day
	pending = 2 * time.Minute
)

// objects tells of what is paid for beside pods, and of pods without a node.
func (x *examiner) objects() {
	if x.c.Read("persistentvolumeclaims") && x.c.Read("pods") {
		x.claims()
	}
	if x.c.Namespace == "" {
		x.volumes()
	}
	if x.c.Read("services") && x.c.Read("endpointslices") {
		x.balancers()
	}
	for _, w := range x.workloads {
		x.waiting(w)
	}
}

// stored is a volume's size and price.
func (x *examiner) stored(gibs float64, class string) Amount {
	var a Amount
	if p := x.o.Prices.storage(class); p > 0 {
		m := gibs * p
		a.Money = &m
	}
	return a
}

// claims tells of bound claims that no pod mounts, and nothing would.
func (x *examiner) claims() {
	used := map[string]bool{}
	spec := func(namespace, pod string, s *corev1.PodSpec) {
		for i := range s.Volumes {
			switch v := &s.Volumes[i]; {
			case v.PersistentVolumeClaim != nil:
				used[namespace+"/"+v.PersistentVolumeClaim.ClaimName] = true
			case v.Ephemeral != nil:
				used[namespace+"/"+pod+"-"+v.Name] = true
			}
		}
	}
	for _, p := range x.c.Pods {
		spec(p.Namespace, p.Name, &p.Spec)
	}
	for _, o := range x.c.CronJobs { // they mount it when they run
		spec(o.Namespace, "", &o.Spec.JobTemplate.Spec.Template.Spec)
	}
	for _, o := range x.c.Jobs {
		spec(o.Namespace, "", &o.Spec.Template.Spec)
	}
	asleep := map[string]event.Entity{} // claims of what is scaled to zero
	for _, d := range x.c.Deployments {
		for i := range d.Spec.Template.Spec.Volumes {
			if v := d.Spec.Template.Spec.Volumes[i].PersistentVolumeClaim; v != nil {
				asleep[d.Namespace+"/"+v.ClaimName] = event.Entity{Namespace: d.Namespace, Kind: "Deployment", Name: d.Name}
			}
		}
	}
	for _, s := range x.c.StatefulSets {
		for _, t := range s.Spec.VolumeClaimTemplates {
			for _, v := range x.c.PVCs {
				if v.Namespace == s.Namespace && WorkloadKey(v.Name) == t.Name+"-"+s.Name {
					asleep[v.Namespace+"/"+v.Name] = event.Entity{Namespace: s.Namespace, Kind: "StatefulSet", Name: s.Name}
				}
			}
		}
	}
	for _, v := range x.c.PVCs {
		key := v.Namespace + "/" + v.Name
		if v.Status.Phase != corev1.ClaimBound || used[key] || v.DeletionTimestamp != nil || x.c.Now.Sub(v.CreationTimestamp.Time) < settled {
			continue
		}
		e := event.Entity{Namespace: v.Namespace, Kind: "PersistentVolumeClaim", Name: v.Name}
		class := ""
		if v.Spec.StorageClassName != nil {
			class = *v.Spec.StorageClassName
		}
		q := v.Status.Capacity[corev1.ResourceStorage]
		bytes := cmp.Or(q.AsApproximateFloat64(), quantity(v.Spec.Resources.Requests, corev1.ResourceStorage))
		title := fmt.Sprintf("%s bound, and mounted by no pod", size(bytes))
		if by, ok := asleep[key]; ok {
			title += ": " + check.Name(by) + " runs fewer pods than it did"
		}
		i := x.add(x.waste, x.team(e), noted{
			rule: ruleClaim, entity: e, urgency: event.Hygiene, title: title, seen: []string{fmt.Sprintf("phase %s, class %q, volume %s, no pod has it among its volumes", v.Status.Phase, class, v.Spec.VolumeName)},
			next: []event.Check{{Why: "who used it, and what its volume does when it goes", Command: kubectl(v.Namespace, "describe pvc %s", v.Name)}},
		})
		i.Amount, i.Risk = x.stored(bytes/gib, class), Risk{"high", "what is on it is lost with it; take a snapshot first"}
	}
}

// volumes tells of volumes that are kept though their claim is gone.
func (x *examiner) volumes() {
	for _, v := range x.c.PVs {
		if v.Status.Phase != corev1.VolumeReleased || v.DeletionTimestamp != nil {
			continue
		}
		e := event.Entity{Kind: "PersistentVolume", Name: v.Name}
		title := size(quantity(v.Spec.Capacity, corev1.ResourceStorage)) + " kept after its claim is gone"
		if r := v.Spec.ClaimRef; r != nil {
			title = size(quantity(v.Spec.Capacity, corev1.ResourceStorage)) + " kept after claim " + r.Namespace + "/" + r.Name + " is gone"
		}
		i := x.add(x.waste, "", noted{
			rule: ruleVolume, entity: e, urgency: event.Hygiene, title: title, seen: []string{"phase Released, reclaim policy " + string(v.Spec.PersistentVolumeReclaimPolicy)},
			next: []event.Check{{Why: "what it was for", Command: "kubectl describe pv " + v.Name}},
		})
		i.Amount, i.Risk = x.stored(quantity(v.Spec.Capacity, corev1.ResourceStorage)/gib, v.Spec.StorageClassName), Risk{"high", "what is on it is lost with it; take a snapshot first"}
	}
}

// balancers tells of load balancers behind which nothing is ready.
func (x *examiner) balancers() {
	ready := map[string]bool{}
	for _, s := range x.c.EndpointSlices {
		if slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }) {
			ready[s.Namespace+"/"+s.Labels[discoveryv1.LabelServiceName]] = true
		}
	}
	for _, v := range x.c.Services {
		if v.Spec.Type != corev1.ServiceTypeLoadBalancer || ready[v.Namespace+"/"+v.Name] || v.DeletionTimestamp != nil || x.c.Now.Sub(v.CreationTimestamp.Time) < settled {
			continue
		}
		e := event.Entity{Namespace: v.Namespace, Kind: "Service", Name: v.Name}
		i := x.add(x.waste, x.team(e), noted{
			rule: ruleBalancer, entity: e, urgency: event.Hygiene, title: "load balancer without a ready endpoint behind it", seen: []string{fmt.Sprintf("type LoadBalancer, %d addresses, no ready endpoint", len(v.Status.LoadBalancer.Ingress))},
			next: []event.Check{{Why: "what it should lead to", Command: kubectl(v.Namespace, "describe service %s", v.Name)}},
		})
		i.Risk = Risk{"medium", "its address goes with it, and may be in DNS"}
		if p := x.o.Prices.LoadBalancerHour; p > 0 {
			m := p * MonthHours
			i.Amount.Money = &m
		}
	}
}

// waiting tells of pods that no node takes.
func (x *examiner) waiting(w *workload) {
	var held Amount
	n, message := 0, ""
	var since time.Time
	var large []string
	for _, p := range w.waiting {
		for _, k := range p.Status.Conditions {
			if k.Type != corev1.PodScheduled || k.Status != corev1.ConditionFalse || k.Reason != corev1.PodReasonUnschedulable {
				continue
			}
			cpu, memory := ofPod(p)
			over := x.tooLarge(cpu, memory)
			if len(over) == 0 && x.c.Now.Sub(p.CreationTimestamp.Time) < pending {
				continue // the autoscaler may be at it
			}
			held = held.Plus(x.o.Prices.priced(cpu, memory/gib, w.rate))
			if n++; message == "" {
				message, since, large = k.Message, p.CreationTimestamp.Time, over
			}
		}
	}
	if n == 0 {
		return
	}
	title, name := fmt.Sprintf("no node has %s free for %s, since %s", held2(held.times(1/float64(n))), evidence.Count(n, "pod"), check.Age(x.c.Now.Sub(since))), ruleUnschedulable
	if len(large) > 0 {
		title, name = fmt.Sprintf("no node is large enough for %s: %s", evidence.Count(n, "pod"), large[0]), ruleTooLarge
	}
	i := x.add(x.short, w.team, noted{
		rule: name, entity: w.entity, urgency: event.Broken, title: title, detail: message, since: since, seen: append(w.lines(), append([]string{message}, large...)...),
		next: []event.Check{{Why: "why, and since when", Command: "oncall triage --workload " + rule.Quote(w.entity.Namespace+"/"+w.entity.Name)}},
	})
	i.Title, i.Amount, i.Risk = i.Findings[len(i.Findings)-1].Title, held, Risk{"high", "it does not run"}
	// What is broken stands first.
	last := len(i.Findings) - 1
	i.Findings = slices.Insert(i.Findings[:last:last], 0, i.Findings[last])
}

func ofPod(p *corev1.Pod) (cpu, bytes float64) {
	cpu, memory := held(&p.Spec)
	return cpu, memory * gib
}

// tooLarge says by what a pod is larger than the largest node.
func (x *examiner) tooLarge(cpu, memory float64) []string {
	var most Amount
	for _, n := range x.c.Nodes {
		most.Cores, most.GiB = math.Max(most.Cores, quantity(n.Status.Allocatable, "cpu")), math.Max(most.GiB, quantity(n.Status.Allocatable, "memory")/gib)
	}
	var out []string
	if len(x.c.Nodes) == 0 {
		return nil
	}
	if cpu > most.Cores {
		out = append(out, fmt.Sprintf("%s cores requested, %s on the largest node", cores(cpu), cores(most.Cores)))
	}
	if memory/gib > most.GiB {
		out = append(out, fmt.Sprintf("%s requested, %s on the largest node", size(memory), size(most.GiB*gib)))
	}
	return out
}
