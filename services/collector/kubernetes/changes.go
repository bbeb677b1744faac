package kubernetes

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// change tells a change; text in it is redacted here.
func (w *world) change(c event.Change) {
	c.Summary = w.redact(c.Summary)
	for i := range c.Fields {
		c.Fields[i].From, c.Fields[i].To = w.redact(c.Fields[i].From), w.redact(c.Fields[i].To)
	}
	c.Time = c.Time.UTC()
	w.changes = append(w.changes, c)
}

// Annotations that number the templates of a workload.
const (
	revisionDeployment = "deployment.kubernetes.io/revision"
	revisionRollout    = "rollout.argoproj.io/revision"
	// revisionsBefore are the numbers that a ReplicaSet had before its template
	// was rolled out again.
	revisionsBefore = "deployment.kubernetes.io/revision-history"
)

func (w *world) takeReplicaSet(o *appsv1.ReplicaSet, tell bool) {
	owner, ok := kube.Controller(o.Namespace, o.OwnerReferences)
	if !ok {
		return
	}
	n, err := strconv.ParseInt(cmp.Or(o.Annotations[revisionDeployment], o.Annotations[revisionRollout]), 10, 64)
	if err != nil {
		return
	}
	r := &revision{name: o.Name, number: n, created: o.CreationTimestamp.UTC(), edit: w.editOf(o)}
	for s := range strings.SplitSeq(o.Annotations[revisionsBefore], ",") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			r.former = append(r.former, n)
		}
	}
	w.takeRevision(owner, r, func() *kube.Template {
		return kube.TemplateOf(&o.Spec.Template)
	}, tell)
}

func (w *world) takeControllerRevision(o *appsv1.ControllerRevision, tell bool) {
	owner, ok := kube.Controller(o.Namespace, o.OwnerReferences)
	if !ok {
		return
	}
	w.takeRevision(owner, &revision{name: o.Name, number: o.Revision, created: o.CreationTimestamp.UTC(), edit: w.editOf(o)}, func() *kube.Template {
		var data struct {
			Spec struct {
				Template corev1.PodTemplateSpec `json:"template"`
			} `json:"spec"`
		}
		// A template that cannot be read is one of which nothing is known.
		_ = json.NewDecoder(bytes.NewReader(o.Data.Raw)).Decode(&data)
		return kube.TemplateOf(&data.Spec.Template)
	}, tell)
}

// keptTemplates is how many templates of a workload are kept: the present one,
// and the one it is compared with.
const keptTemplates = 2

func (w *world) takeRevision(owner kube.Ref, r *revision, template func() *kube.Template, tell bool) {
	all := w.revisions[owner]
	if i := slices.IndexFunc(all, func(o *revision) bool { return o.name == r.name }); i >= 0 {
		if all[i].number == r.number {
			return // only its replicas changed
		}
		r.former = append(r.former, all[i].number) // it has a new one
		all = slices.Delete(all, i, i+1)
	}
	at, _ := slices.BinarySearchFunc(all, r.number, func(o *revision, n int64) int { return cmp.Compare(o.number, n) })
	all = slices.Insert(all, at, r)
	w.revisions[owner] = all
	if !w.started || at >= len(all)-keptTemplates {
		r.template = template()
	}
	if w.started {
		w.prune(owner)
	}
	if len(w.revisions[owner]) == 1 || at == len(all)-1 {
		w.dirty[owner] = true
	}
	if tell {
		w.tellRollouts(owner)
	} else if w.started {
		w.told[owner] = max(w.told[owner], r.number)
	}
}

// prune lets go of templates that nothing will be compared with.
func (w *world) prune(owner kube.Ref) {
	all := w.revisions[owner]
	for i := range all[:max(0, len(all)-keptTemplates)] {
		all[i].template = nil
	}
}

// horizon is how far back things are told at a start.
func (w *world) horizon() time.Time { return w.firstAt.Add(-w.cfg.History) }

// tellRollouts tells the revisions of a workload that were not told before.
func (w *world) tellRollouts(owner kube.Ref) {
	all := w.revisions[owner]
	for i, r := range all {
		if r.number <= w.told[owner] {
			continue
		}
		w.told[owner] = r.number
		w.rollout(owner, r, before(all, r), w.rolledOut(all, i))
	}
}

// rolledOut is when a revision was rolled out. A ReplicaSet is as old as it is when
// its template is rolled out again: that was when it got its number.
func (w *world) rolledOut(all []*revision, i int) time.Time {
	r := all[i]
	if len(r.former) == 0 && (i == 0 || r.created.After(all[i-1].created)) {
		return r.created
	}
	if now := w.now().UTC(); r.edit.at.IsZero() || r.edit.at.After(now) {
		return now.Truncate(time.Millisecond)
	}
	return r.edit.at
}

// before is the template that a revision took the place of: of the revision that
// has, or had until it was rolled out again, the next lower number; nil: not known.
func before(all []*revision, r *revision) *kube.Template {
	var at int64
	var found *kube.Template
	for _, o := range all {
		for _, n := range append([]int64{o.number}, o.former...) {
			if o != r && n < r.number && n > at {
				at, found = n, o.template
			}
		}
	}
	return found
}

// dateRollout says of a workload's newest revision, if that was rolled out before,
// when it was rolled out again: at the latest when the rollout last moved, since
// its ReplicaSet is edited whenever it is scaled, too. For a start only, at which the
// two are of one moment.
func (w *world) dateRollout(owner kube.Ref, r *revision) {
	if len(r.former) == 0 {
		return
	}
	wl := w.workloads[owner]
	switch {
	case wl != nil && !wl.moved.IsZero() && (r.edit.at.IsZero() || wl.moved.Before(r.edit.at)):
		r.edit.at = wl.moved
	case r.edit.at.IsZero():
		r.edit.at = r.created
	}
}

// firstRevision is the number of a workload's first template, of every kind.
const firstRevision = 1

// rollout tells a revision. What was before it may be unknown though it was
// not the first: an old revision is not kept for ever.
func (w *world) rollout(owner kube.Ref, r *revision, before *kube.Template, at time.Time) {
	c := event.Change{
		Kind: event.Rollout, Entity: owner.Entity(), Time: at, Revision: strconv.FormatInt(r.number, 10), Summary: "pod template changed",
	}
	if before == nil && r.number <= firstRevision {
		c.First, c.Summary = true, "first rollout"
	}
	switch {
	case r.template == nil:
		// Nothing is known of it.
	case before == nil:
		images := r.template.Images()
		for _, name := range slices.Sorted(maps.Keys(images)) {
			c.Summary += ", image " + images[name]
			c.Fields = append(c.Fields, event.FieldChange{Path: "containers[" + name + "].image", To: images[name]})
		}
	default:
		c.Fields = before.Diff(r.template)
		c.Summary = cmp.Or(kube.Summary(c.Fields), c.Summary)
	}
	w.change(c)
}

func (w *world) dropRevision(owner kube.Ref, name string) {
	left := slices.DeleteFunc(w.revisions[owner], func(r *revision) bool { return r.name == name })
	if len(left) == 0 {
		delete(w.revisions, owner)
		delete(w.told, owner)
		return
	}
	w.revisions[owner] = left
}

func (w *world) takeWorkload(o metav1.Object, kind string, desired, ready int, scalable, tell bool) *workload {
	ref := kube.Ref{Namespace: o.GetNamespace(), Kind: kind, Name: o.GetName()}
	old := w.workloads[ref]
	next := &workload{ref: ref, labels: w.ownership(o), desired: desired, ready: ready, scalable: scalable, generation: o.GetGeneration()}
	w.workloads[ref] = next
	if old == nil || old.desired != desired || old.ready != ready || !maps.Equal(old.labels, next.labels) {
		w.dirty[ref] = true
	}
	if tell && scalable && old != nil && old.desired != desired {
		w.scaled(ref, old.desired, desired, next.generation, w.editOf(o))
	}
	return next
}

func (w *world) scaled(ref kube.Ref, from, to int, generation int64, e edit) {
	w.change(event.Change{
		Kind: event.Scale, Entity: ref.Entity(), Time: w.when(e), Actor: e.actor, Revision: "g" + strconv.FormatInt(generation, 10),
		Summary: fmt.Sprintf("replicas %d -> %d", from, to),
		Fields:  []event.FieldChange{{Path: "spec.replicas", From: strconv.Itoa(from), To: strconv.Itoa(to)}},
	})
}

func (w *world) dropWorkload(ref kube.Ref) {
	if _, ok := w.workloads[ref]; ok {
		delete(w.workloads, ref)
		w.dirty[ref] = true
	}
}

// ownership are those labels and annotations that say whose a workload is.
func (w *world) ownership(o metav1.Object) map[string]string {
	out := map[string]string{}
	for _, k := range w.cfg.OwnershipLabels {
		if v, ok := o.GetAnnotations()[k]; ok {
			out[k] = v
		}
		if v, ok := o.GetLabels()[k]; ok {
			out[k] = v
		}
	}
	return out
}

// takeNamespace keeps what says whose a namespace is. One that says nothing is
// no part of the topology.
func (w *world) takeNamespace(o *corev1.Namespace) {
	if w.excluded(o.Name) {
		return
	}
	labels := w.ownership(o)
	if !maps.Equal(w.namespaces[o.Name], labels) {
		w.dirty[namespaceRef(o.Name)] = true
	}
	w.namespaces[o.Name] = labels
}

func (w *world) dropNamespace(name string) {
	if _, ok := w.namespaces[name]; ok {
		delete(w.namespaces, name)
		w.dirty[namespaceRef(name)] = true
	}
}

func namespaceRef(name string) kube.Ref { return kube.Ref{Kind: "Namespace", Name: name} }

func (w *world) takeConfig(o *corev1.ConfigMap, tell bool) {
	key := o.Namespace + "/" + o.Name
	next := config{o.Data[hashKey], w.editOf(o)}
	old, known := w.configs[key]
	w.configs[key] = next
	if tell && known && old.hash != next.hash {
		w.configured(o.Namespace, o.Name, old.hash, next)
	}
}

// configured tells the workloads that read a ConfigMap of its change.
func (w *world) configured(namespace, name, from string, c config) {
	for owner := range w.revisions {
		if owner.Namespace != namespace || !slices.Contains(w.reads(owner), name) {
			continue
		}
		w.dirty[owner] = true
		at := w.when(c.edit)
		w.change(event.Change{
			Kind: event.ConfigEdit, Entity: owner.Entity(), Time: at, Actor: c.edit.actor,
			// An edit back to what was is another edit, hence the time.
			Revision: fmt.Sprintf("%s-%s-%d", name, c.hash, at.Unix()),
			Summary:  fmt.Sprintf("ConfigMap %s changed (hash %s -> %s)", name, from, c.hash),
			Fields:   []event.FieldChange{{Path: "configMap[" + name + "]", From: from, To: c.hash}},
		})
	}
}

// reads are the ConfigMaps that the present pods of a workload read.
func (w *world) reads(owner kube.Ref) []string {
	all := w.revisions[owner]
	if len(all) == 0 || all[len(all)-1].template == nil {
		return nil
	}
	return all[len(all)-1].template.ConfigMaps
}

// autoscaler is an autoscaler's bounds.
type autoscaler struct {
	least, most int
	target      kube.Ref
}

func (a autoscaler) String() string { return fmt.Sprintf("%d-%d", a.least, a.most) }

func (w *world) takeAutoscaler(o *autoscalingv2.HorizontalPodAutoscaler, tell bool) {
	key := o.Namespace + "/" + o.Name
	next := &autoscaler{
		least: int(deref(o.Spec.MinReplicas, 1)), most: int(o.Spec.MaxReplicas),
		target: kube.Ref{Namespace: o.Namespace, Kind: o.Spec.ScaleTargetRef.Kind, Name: o.Spec.ScaleTargetRef.Name},
	}
	old := w.autoscalers[key]
	w.autoscalers[key] = next
	if tell && old != nil && old.String() != next.String() {
		w.rebounded(o.Namespace, o.Name, old.String(), next, w.editOf(o))
	}
}

func (w *world) rebounded(namespace, name, from string, a *autoscaler, e edit) {
	at := w.when(e)
	w.change(event.Change{
		Kind: event.Autoscale, Entity: a.target.Entity(), Time: at, Actor: e.actor,
		Revision: fmt.Sprintf("%s-%s-%d", name, a, at.Unix()),
		Summary:  fmt.Sprintf("autoscaler %s: bounds %s -> %s replicas", name, from, a),
		Fields:   []event.FieldChange{{Path: "horizontalPodAutoscaler[" + name + "].bounds", From: from, To: a.String()}},
	})
}
