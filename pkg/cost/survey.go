package cost

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/owner"
)

// Resources are the kinds of objects that are read, by their plurals.
func Resources() []string {
	return []string{
		"pods", "nodes", "namespaces", "deployments", "replicasets", "statefulsets", "daemonsets", "jobs", "cronjobs", "horizontalpodautoscalers", "verticalpodautoscalers",
		"limitranges", "services", "endpointslices", "persistentvolumeclaims", "persistentvolumes",
	}
}

// workload is what somebody would have to change.
type workload struct {
	entity event.Entity
	team   string
	// pods hold their requests: they have a node, and are not over.
	pods []*corev1.Pod
	// waiting have no node yet.
	waiting []*corev1.Pod
	held    Amount
	// rate is what its nodes cost, on average over its requests.
	rate Rate
	// template is what its pods are made of, and nil where that cannot be changed;
	// fixed says why.
	template *corev1.PodSpec
	fixed    string
	// scaled says for a resource what scales it, if something does.
	scaled     map[corev1.ResourceName]string
	containers []*container
}

// container is one of a workload's, in all of its pods.
type container struct {
	name      string
	init      bool
	injected  bool // in the pods, and not in the template
	resources corev1.ResourceRequirements
	use       *Use // nil when nobody knows
	shared    bool // other workloads' pods have the same name
	oom       kills
}

// kills are those of a container for lack of memory, in the window.
type kills struct {
	last  time.Time // zero: none
	days  int
	limit float64 // the highest memory limit at which it was killed, in bytes; 0 or NaN when it is not known
}

func (k *container) request(name corev1.ResourceName) float64 {
	return quantity(k.resources.Requests, name)
}

func (k *container) limit(name corev1.ResourceName) float64 {
	return quantity(k.resources.Limits, name)
}

// survey is what was read, by workload.
type survey struct {
	c         *check.Cluster
	o         Options
	workloads []*workload // by entity
	rates     map[string]Rate
}

// holds says whether a pod keeps its requests from others.
func holds(p *corev1.Pod) bool {
	return p.Spec.NodeName != "" && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

func newSurvey(c *check.Cluster, o Options) *survey {
	s := &survey{c: c, o: o, rates: map[string]Rate{}}
	for _, n := range c.Nodes {
		s.rates[n.Name] = o.Prices.Of(n)
	}
	at := map[event.Entity]*workload{}
	for _, p := range c.Pods {
		root := c.RootOfPod(p)
		w := at[root]
		if w == nil {
			w = &workload{entity: root, scaled: map[corev1.ResourceName]string{}, team: s.team(root)}
			at[root] = w
			s.workloads = append(s.workloads, w)
		}
		switch {
		case holds(p):
			w.pods = append(w.pods, p)
		case p.Spec.NodeName == "" && p.Status.Phase == corev1.PodPending && p.DeletionTimestamp == nil:
			w.waiting = append(w.waiting, p)
		}
	}
	slices.SortFunc(s.workloads, func(a, b *workload) int { return strings.Compare(a.entity.String(), b.entity.String()) })
	s.templates(at)
	s.scalers(at)
	for _, w := range s.workloads {
		s.weigh(w)
		w.contain()
	}
	s.uses()
	s.killed()
	return s
}

// weigh adds up what a workload's pods hold.
func (s *survey) weigh(w *workload) {
	var rated Rate
	for _, p := range w.pods {
		cpu, memory := held(&p.Spec)
		r, ok := s.rates[p.Spec.NodeName]
		if !ok {
			r = s.o.Prices.Rate
		}
		w.held = w.held.Plus(s.o.Prices.priced(cpu, memory, r))
		rated.CPUCoreHour += r.CPUCoreHour
		rated.MemoryGiBHour += r.MemoryGiBHour
	}
	w.rate = s.o.Prices.Rate
	if n := float64(len(w.pods)); n > 0 {
		w.rate = Rate{rated.CPUCoreHour / n, rated.MemoryGiBHour / n}
	}
}

// contain lists the containers, as the youngest pod has them.
func (w *workload) contain() {
	var newest *corev1.Pod
	for _, p := range slices.Concat(w.pods, w.waiting) {
		if newest == nil || newest.CreationTimestamp.Before(&p.CreationTimestamp) {
			newest = p
		}
	}
	if newest == nil {
		return
	}
	add := func(list, of []corev1.Container, init bool) {
		for i := range list {
			k := &container{name: list[i].Name, init: init, resources: list[i].Resources}
			if w.template != nil && !slices.ContainsFunc(of, func(t corev1.Container) bool { return t.Name == k.name }) {
				k.injected = true
			}
			w.containers = append(w.containers, k)
		}
	}
	t := cmp.Or(w.template, &corev1.PodSpec{})
	add(newest.Spec.Containers, t.Containers, false)
	add(newest.Spec.InitContainers, t.InitContainers, true)
}

// templates finds what the pods of workloads are made of.
func (s *survey) templates(at map[event.Entity]*workload) {
	put := func(kind string, m metav1.Object, t *corev1.PodTemplateSpec) {
		if w := at[event.Entity{Namespace: m.GetNamespace(), Kind: kind, Name: m.GetName()}]; w != nil {
			w.template = &t.Spec
		}
	}
	for _, o := range s.c.Deployments {
		put("Deployment", o, &o.Spec.Template)
	}
	for _, o := range s.c.StatefulSets {
		put("StatefulSet", o, &o.Spec.Template)
	}
	for _, o := range s.c.DaemonSets {
		put("DaemonSet", o, &o.Spec.Template)
	}
	for _, o := range s.c.CronJobs {
		put("CronJob", o, &o.Spec.JobTemplate.Spec.Template)
	}
	for _, w := range s.workloads {
		switch k := w.entity.Kind; {
		case w.template != nil:
		case k == "Job":
			w.fixed = "the template of a Job cannot be changed; change what makes it"
		case k == "Pod" || k == "Node":
			w.fixed = "a bare pod is made anew by hand alone"
		case k == "Deployment" || k == "StatefulSet" || k == "DaemonSet" || k == "CronJob":
			w.fixed = "its template could not be read"
		default:
			w.fixed = fmt.Sprintf("%s %s makes its pods; change it there", k, w.entity.Name)
		}
	}
}

// scalers finds what changes requests, or replicas by them.
func (s *survey) scalers(at map[event.Entity]*workload) {
	both := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}
	for _, u := range s.c.Unread {
		if u.Resource == "horizontalpodautoscalers" || u.Resource == "verticalpodautoscalers" {
			for _, w := range s.workloads {
				for _, r := range both {
					w.scaled[r] = u.Resource + " could not be read, and one may scale it"
				}
			}
		}
	}
	for _, h := range s.c.HPAs {
		w := at[event.Entity{Namespace: h.Namespace, Kind: h.Spec.ScaleTargetRef.Kind, Name: h.Spec.ScaleTargetRef.Name}]
		if w == nil {
			continue
		}
		why := "HPA " + h.Name + " scales it on "
		if len(h.Spec.Metrics) == 0 {
			w.scaled[corev1.ResourceCPU] = why + "cpu"
		}
		for _, m := range h.Spec.Metrics {
			var name corev1.ResourceName
			switch {
			case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
				name = m.Resource.Name
			case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
				name = m.ContainerResource.Name
			default:
				continue
			}
			w.scaled[name] = why + string(name) + " in relation to its request"
		}
		// What a pod gets is in how many of them there are.
		for _, r := range both {
			if w.scaled[r] == "" {
				w.scaled[r] = "HPA " + h.Name + " sets how many pods share the work"
			}
		}
	}
	for _, v := range s.c.VPAs {
		spec, _ := v["spec"].(check.Object)
		target, _ := spec["targetRef"].(check.Object)
		meta, _ := v["metadata"].(check.Object)
		update, _ := spec["updatePolicy"].(check.Object)
		text := func(o check.Object, key string) string { t, _ := o[key].(string); return t }
		w := at[event.Entity{Namespace: text(meta, "namespace"), Kind: text(target, "kind"), Name: text(target, "name")}]
		if w == nil || text(update, "updateMode") == "Off" {
			continue
		}
		for _, r := range both {
			w.scaled[r] = "VPA " + text(meta, "name") + " sets its requests"
		}
	}
}

// uses gives containers their use.
func (s *survey) uses() {
	if s.o.Usage == nil {
		return
	}
	of := map[Key]*workload{}
	shared := map[Key]bool{}
	keys := func(w *workload, each func(Key)) {
		seen := map[string]bool{}
		for _, p := range slices.Concat(w.pods, w.waiting) {
			if name := WorkloadKey(p.Name); !seen[name] {
				seen[name] = true
				each(Key{Namespace: w.entity.Namespace, Workload: name})
			}
		}
	}
	for _, w := range s.workloads {
		keys(w, func(k Key) {
			if of[k] != nil && of[k] != w {
				shared[k] = true
			}
			of[k] = w
		})
	}
	for _, w := range s.workloads {
		for _, k := range w.containers {
			keys(w, func(key Key) {
				k.shared = k.shared || shared[key]
				key.Container = k.name
				if u := s.o.Usage.Uses[key]; u != nil && k.use == nil {
					k.use = u
				}
			})
		}
	}
}

// killed gathers what the API and Prometheus know of containers killed for lack of
// memory. The API knows the limit: a pod's resources are those with which it runs.
func (s *survey) killed() {
	since := s.c.Now.Add(-time.Duration(max(s.o.Days, 1)) * Day)
	for _, w := range s.workloads {
		for _, k := range w.containers {
			if u := k.use; u != nil && len(u.OOMDays) > 0 {
				k.oom = kills{last: u.OOMDays[len(u.OOMDays)-1].Add(-Day / 2), days: len(u.OOMDays), limit: u.OOMLimit}
			}
			for _, p := range w.pods {
				at := oomKilled(p, k.name)
				if at.IsZero() || at.Before(since) {
					continue
				}
				k.oom.days = max(k.oom.days, 1)
				if at.After(k.oom.last) {
					k.oom.last = at
				}
				for i := range p.Spec.Containers {
					if c := &p.Spec.Containers[i]; c.Name == k.name {
						if l := quantity(c.Resources.Limits, corev1.ResourceMemory); !(k.oom.limit >= l) {
							k.oom.limit = l
						}
					}
				}
			}
		}
	}
}

// oomKilled is when a container of a pod was last killed for lack of memory, or
// zero.
func oomKilled(p *corev1.Pod, name string) (at time.Time) {
	for _, st := range p.Status.ContainerStatuses {
		if st.Name != name {
			continue
		}
		for _, t := range []*corev1.ContainerStateTerminated{st.State.Terminated, st.LastTerminationState.Terminated} {
			if t != nil && t.Reason == "OOMKilled" && t.FinishedAt.After(at) {
				at = t.FinishedAt.Time
			}
		}
	}
	return at
}

// labels are labels over annotations, as ownership reads them.
func labels(m metav1.Object) map[string]string {
	out := map[string]string{}
	for k, v := range m.GetAnnotations() {
		out[k] = v
	}
	for k, v := range m.GetLabels() {
		out[k] = v
	}
	return out
}

func (s *survey) team(e event.Entity) string {
	var l owner.Labels
	if m, _ := s.c.Workload(e); m != nil {
		l.Own = labels(m)
	}
	for _, n := range s.c.Namespaces {
		if n.Name == e.Namespace {
			l.Namespace = labels(n)
		}
	}
	return s.o.Owners.Of(e, l).Team
}

// limitRange are the bounds that the namespace sets for containers.
func (s *survey) limitRange(namespace string) []corev1.LimitRangeItem {
	var out []corev1.LimitRangeItem
	for _, l := range s.c.LimitRanges {
		if l.Namespace != namespace {
			continue
		}
		for _, i := range l.Spec.Limits {
			if i.Type == corev1.LimitTypeContainer {
				out = append(out, i)
			}
		}
	}
	return out
}
