package kubernetes

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// world is what is known of the cluster: small facts about objects, never the
// objects. Until started it only learns; from then on it says what is new.
type world struct {
	cfg    Config
	redact func(string) string
	now    func() time.Time

	mu      sync.Mutex
	started bool
	firstAt time.Time // of this process
	saved   saved     // what the process before knew

	pods        map[string]*pod
	gone        map[string]tombstone   // pods that were, for events that come after their end
	above       map[kube.Ref]kube.Ref  // controllers of ReplicaSets, Jobs and others in between
	workloads   map[kube.Ref]*workload // what owns pods
	revisions   map[kube.Ref][]*revision
	told        map[kube.Ref]int64 // last revision that was reported, or need not be
	configs     map[string]config
	nodes       map[string]*node
	namespaces  map[string]map[string]string            // ownership labels, by name
	services    map[string]map[string]map[string]string // namespace, name: selector
	autoscalers map[string]*autoscaler
	byRoot      map[kube.Ref]map[string]*pod
	labelSets   map[string]map[string]string // label sets that pods share
	topology    map[string]sent              // by entity
	dirty       map[kube.Ref]bool
	calls       map[event.Entity][]event.Entity // workloads that a workload calls, where a recording knows
	versions    map[string]string               // of events: uid to resource version
	listed      map[string]map[string]bool      // until started: what first lists held, by plural, and their scopes
	past        map[string]bool                 // ids of events that a recording says were past
	high        uint64                          // highest resource version of events taken in

	changes []event.Change
	events  []event.KubeEvent
	room    chan struct{} // closed when events were emitted
	flushed time.Time     // when topology was emitted last
}

type pod struct {
	namespace, name, uid, node string
	via                        kube.Ref // direct controller
	root                       kube.Ref
	labels                     map[string]string
	standing                   kube.Standing
	ready, over, leaving       bool
	evicted                    bool
	killed                     map[string]time.Time // when containers were OOM killed last, as far as it was told
}

type tombstone struct {
	root kube.Ref
	at   time.Time
}

type workload struct {
	ref            kube.Ref
	labels         map[string]string // ownership
	desired, ready int
	scalable       bool
	generation     int64
	moved          time.Time // when a Deployment's rollout last made progress; zero: unknown
}

// revision is one pod template of a workload.
type revision struct {
	name     string
	number   int64
	created  time.Time
	template *kube.Template
	edit     edit
	former   []int64 // numbers that it had before it was rolled out again
}

type config struct {
	hash string
	edit edit
}

// edit is who changed an object last, and when.
type edit struct {
	actor string
	at    time.Time
}

type sent struct {
	Version string    `json:"v"`
	At      time.Time `json:"t"`
}

func newWorld(cfg Config, redact func(string) string, now func() time.Time, s saved) *world {
	w := &world{
		cfg: cfg, redact: redact, now: now, firstAt: now(), saved: s,
		pods: map[string]*pod{}, gone: map[string]tombstone{}, above: map[kube.Ref]kube.Ref{}, workloads: map[kube.Ref]*workload{},
		revisions: map[kube.Ref][]*revision{}, told: map[kube.Ref]int64{}, configs: map[string]config{}, nodes: map[string]*node{},
		namespaces: map[string]map[string]string{},
		services:   map[string]map[string]map[string]string{}, autoscalers: map[string]*autoscaler{}, byRoot: map[kube.Ref]map[string]*pod{},
		labelSets: map[string]map[string]string{}, topology: map[string]sent{}, dirty: map[kube.Ref]bool{}, versions: map[string]string{},
		listed: map[string]map[string]bool{},
		room:   make(chan struct{}),
	}
	maps.Copy(w.topology, s.Topology)
	w.high = s.EventVersion
	return w
}

// excluded says whether a namespace is none of ours.
func (w *world) excluded(namespace string) bool {
	if namespace == "" {
		return false
	}
	return slices.Contains(w.cfg.ExcludeNamespaces, namespace) || len(w.cfg.Namespaces) > 0 && !slices.Contains(w.cfg.Namespaces, namespace)
}

// apply takes in an object. What is merely first listed is learned, not told.
func (w *world) apply(obj runtime.Object, listed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take(obj, listed)
}

func (w *world) take(obj runtime.Object, listed bool) {
	o, ok := obj.(metav1.Object)
	if !ok || w.excluded(o.GetNamespace()) {
		return
	}
	w.observe(obj, false)
	tell := w.started && !listed
	switch o := obj.(type) {
	case *corev1.Event:
		w.takeEvent(o)
	case *corev1.Pod:
		w.takePod(o)
	case *corev1.Node:
		w.takeNode(o, tell)
	case *corev1.Namespace:
		w.takeNamespace(o)
	case *corev1.Service:
		if w.services[o.Namespace] == nil {
			w.services[o.Namespace] = map[string]map[string]string{}
		}
		if old := w.services[o.Namespace][o.Name]; !maps.Equal(old, o.Spec.Selector) || old == nil {
			w.services[o.Namespace][o.Name] = o.Spec.Selector
			w.touchNamespace(o.Namespace)
		}
	case *corev1.ConfigMap:
		if !leaderElection(o) {
			w.takeConfig(o, tell)
		}
	case *appsv1.Deployment:
		w.takeWorkload(o, "Deployment", int(deref(o.Spec.Replicas, 1)), int(o.Status.ReadyReplicas), true, tell).moved = kube.Moved(o)
	case *appsv1.StatefulSet:
		w.takeWorkload(o, "StatefulSet", int(deref(o.Spec.Replicas, 1)), int(o.Status.ReadyReplicas), true, tell)
	case *appsv1.DaemonSet:
		w.takeWorkload(o, "DaemonSet", int(o.Status.DesiredNumberScheduled), int(o.Status.NumberReady), false, tell)
	case *batchv1.CronJob:
		w.takeWorkload(o, "CronJob", 0, 0, false, tell)
	case *batchv1.Job:
		w.takeOwner(o, "Job")
		if _, owned := kube.Controller(o.Namespace, o.OwnerReferences); !owned {
			w.takeWorkload(o, "Job", int(deref(o.Spec.Parallelism, 1)), int(deref(o.Status.Ready, 0)), false, tell)
		}
	case *appsv1.ReplicaSet:
		w.takeOwner(o, "ReplicaSet")
		w.takeReplicaSet(o, tell)
	case *appsv1.ControllerRevision:
		w.takeControllerRevision(o, tell)
	case *autoscalingv2.HorizontalPodAutoscaler:
		w.takeAutoscaler(o, tell)
	}
}

// replace takes in a whole list: what is not in it is gone.
func (w *world) replace(res *resource, scope string, list []runtime.Object, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if res.plural == "events" {
		// In the order they were written, so that the cursor never passes one that
		// was not taken in.
		slices.SortStableFunc(list, func(a, b runtime.Object) int {
			return cmp.Compare(number(a.(metav1.Object).GetResourceVersion()), number(b.(metav1.Object).GetResourceVersion()))
		})
	}
	there := make(map[string]bool, len(list))
	for _, o := range list {
		there[keyOf(o)] = true
		w.take(o, first)
	}
	if first {
		if !w.started {
			w.wasListed(res.plural, scope, there)
		}
		return
	}
	in := func(namespace string) bool { return scope == "" || namespace == scope }
	switch res.plural {
	case "events":
		uids := map[string]bool{}
		for _, o := range list {
			uids[string(o.(metav1.Object).GetUID())] = true
		}
		if scope == "" {
			maps.DeleteFunc(w.versions, func(uid, _ string) bool { return !uids[uid] })
		}
	case "pods":
		for key, p := range w.pods {
			if in(p.namespace) && !there[key] {
				w.dropPod(key)
			}
		}
	case "nodes":
		for _, n := range slices.Sorted(maps.Keys(w.nodes)) {
			if !there["/"+n] {
				w.dropNode(n)
			}
		}
	case "namespaces":
		for _, n := range slices.Sorted(maps.Keys(w.namespaces)) {
			if !there["/"+n] {
				w.dropNamespace(n)
			}
		}
	case "configmaps":
		maps.DeleteFunc(w.configs, func(key string, _ config) bool {
			ns, _, _ := strings.Cut(key, "/")
			return in(ns) && !there[key]
		})
	case "deployments", "statefulsets", "daemonsets", "cronjobs", "jobs":
		kind := kindOf(res.object)
		for ref := range w.workloads {
			if ref.Kind == kind && in(ref.Namespace) && !there[ref.Namespace+"/"+ref.Name] {
				w.dropWorkload(ref)
			}
		}
	case "horizontalpodautoscalers":
		maps.DeleteFunc(w.autoscalers, func(key string, a *autoscaler) bool {
			ns, _, _ := strings.Cut(key, "/")
			return in(ns) && !there[key]
		})
	}
}

func kindOf(o runtime.Object) string {
	switch o.(type) {
	case *appsv1.Deployment:
		return "Deployment"
	case *appsv1.StatefulSet:
		return "StatefulSet"
	case *appsv1.DaemonSet:
		return "DaemonSet"
	case *appsv1.ReplicaSet:
		return "ReplicaSet"
	case *batchv1.Job:
		return "Job"
	case *batchv1.CronJob:
		return "CronJob"
	}
	return ""
}

// remove takes in that an object is gone.
func (w *world) remove(obj runtime.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := obj.(metav1.Object)
	if !ok || w.excluded(o.GetNamespace()) {
		return
	}
	w.observe(obj, true)
	key, ref := keyOf(obj), kube.Ref{Namespace: o.GetNamespace(), Kind: kindOf(obj), Name: o.GetName()}
	switch o := obj.(type) {
	case *corev1.Event:
		delete(w.versions, string(o.UID))
	case *corev1.Pod:
		w.dropPod(key)
	case *corev1.Node:
		w.dropNode(o.Name)
	case *corev1.Namespace:
		w.dropNamespace(o.Name)
	case *corev1.Service:
		delete(w.services[o.Namespace], o.Name)
		w.touchNamespace(o.Namespace)
	case *corev1.ConfigMap:
		delete(w.configs, key)
	case *appsv1.ReplicaSet:
		if owner, ok := kube.Controller(o.Namespace, o.OwnerReferences); ok {
			w.dropRevision(owner, o.Name)
		}
		delete(w.above, ref)
	case *appsv1.ControllerRevision:
		if owner, ok := kube.Controller(o.Namespace, o.OwnerReferences); ok {
			w.dropRevision(owner, o.Name)
		}
	case *autoscalingv2.HorizontalPodAutoscaler:
		delete(w.autoscalers, key)
	default:
		if ref.Kind != "" {
			delete(w.above, ref)
			w.dropWorkload(ref)
		}
	}
}

func (w *world) takeOwner(o metav1.Object, kind string) {
	ref := kube.Ref{Namespace: o.GetNamespace(), Kind: kind, Name: o.GetName()}
	up, ok := kube.Controller(o.GetNamespace(), o.GetOwnerReferences())
	if !ok {
		return
	}
	if old, known := w.above[ref]; known && old == up {
		return
	}
	w.above[ref] = up
	if !w.started {
		return
	}
	// Its pods may have come before it.
	for key, p := range w.pods {
		if p.via == ref {
			w.place(key, p)
		}
	}
}

// root is the workload behind an object; labels of the pod help when a
// ReplicaSet may not be read.
func (w *world) root(r kube.Ref, podLabels map[string]string) kube.Ref {
	e := kube.Root(r, func(at kube.Ref) (kube.Ref, bool) {
		if up, ok := w.above[at]; ok {
			return up, true
		}
		if at.Kind == "ReplicaSet" {
			return kube.ReplicaSetOwner(at, podLabels)
		}
		return kube.Ref{}, false
	})
	return kube.Ref{Namespace: e.Namespace, Kind: e.Kind, Name: e.Name}
}

func (w *world) takePod(o *corev1.Pod) {
	key := o.Namespace + "/" + o.Name
	p := w.pods[key]
	if p != nil && p.uid != string(o.UID) {
		w.dropPod(key) // a StatefulSet's pod comes again by the same name
		p = nil
	}
	if p == nil {
		p = &pod{namespace: o.Namespace, name: o.Name, uid: string(o.UID), labels: w.shared(o.Labels)}
		p.via, _ = kube.Controller(o.Namespace, o.OwnerReferences)
		if p.via.Kind == "Node" {
			p.via = kube.Ref{}
		}
		w.pods[key] = p
	}
	was := *p
	p.node, p.standing = o.Spec.NodeName, kube.StandingOf(o)
	p.over = o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed
	p.leaving = o.DeletionTimestamp != nil
	p.ready = false
	for _, c := range o.Status.Conditions {
		switch c.Type {
		case corev1.PodReady:
			p.ready = c.Status == corev1.ConditionTrue
		case corev1.DisruptionTarget:
			p.evicted = c.Status == corev1.ConditionTrue && c.Reason == "EvictionByEvictionAPI"
		}
	}
	w.takeKills(p, o)
	if !w.started {
		return // owners may not be there yet; start places all pods
	}
	if p.root == (kube.Ref{}) {
		w.place(key, p)
	}
	if p.node != was.node || p.over != was.over || p.ready != was.ready || p.leaving != was.leaving {
		w.dirty[p.root] = true
	}
	if p.evicted && !was.evicted || p.leaving && !was.leaving {
		w.noteDrain(p)
	}
}

// place finds the workload of a pod.
func (w *world) place(key string, p *pod) {
	at := kube.Ref{Namespace: p.namespace, Kind: "Pod", Name: p.name}
	if p.via != (kube.Ref{}) {
		at = p.via
	}
	root := w.root(at, p.labels)
	if p.root == root {
		return
	}
	if p.root != (kube.Ref{}) {
		delete(w.byRoot[p.root], key)
		w.dirty[p.root] = true
	}
	p.root = root
	if w.byRoot[root] == nil {
		w.byRoot[root] = map[string]*pod{}
	}
	w.byRoot[root][key] = p
	w.dirty[root] = true
}

func (w *world) dropPod(key string) {
	p, ok := w.pods[key]
	if !ok {
		return
	}
	delete(w.pods, key)
	if p.root != (kube.Ref{}) {
		w.gone[key] = tombstone{p.root, w.now()}
		delete(w.byRoot[p.root], key)
		if len(w.byRoot[p.root]) == 0 {
			delete(w.byRoot, p.root)
		}
		w.dirty[p.root] = true
	}
}

// shared gives label sets that differ only in hashes one copy.
func (w *world) shared(labels map[string]string) map[string]string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		b.WriteString(k + "\x00" + labels[k] + "\x00")
	}
	if s, ok := w.labelSets[b.String()]; ok {
		return s
	}
	if len(w.labelSets) > 10000 {
		clear(w.labelSets) // those in use stay with their pods
	}
	w.labelSets[b.String()] = labels
	return labels
}

func (w *world) touchNamespace(namespace string) {
	for ref := range w.byRoot {
		if ref.Namespace == namespace {
			w.dirty[ref] = true
		}
	}
}

// editOf is who edited an object last, and when; without managed fields it is
// nobody, now.
func (w *world) editOf(o metav1.Object) edit {
	for _, m := range o.GetManagedFields() {
		if m.Time != nil {
			return edit{m.Manager, m.Time.UTC()}
		}
	}
	return edit{}
}

// when is the time of an edit, if it is a plausible one.
func (w *world) when(e edit) time.Time {
	now := w.now().UTC()
	if e.at.IsZero() || e.at.After(now) || e.at.Before(now.Add(-7*24*time.Hour)) {
		return now.Truncate(time.Millisecond)
	}
	return e.at
}

func deref(p *int32, def int32) int32 {
	if p == nil {
		return def
	}
	return *p
}

// number reads a resource version. They are numbers since they are etcd's
// revisions; one that is not gives 0, which is before all others.
func number(resourceVersion string) uint64 {
	n, _ := strconv.ParseUint(resourceVersion, 10, 64)
	return n
}
