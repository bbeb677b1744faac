package prometheus

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// Deployed is what is remembered of workloads from one reading of past changes
// to the next. The zero value knows nothing.
type Deployed struct {
	// Images are those of each workload's containers, by workload and container.
	Images map[string]map[string]string `json:"images,omitempty"`
}

// ChangeMetrics are the metrics of kube-state-metrics that past changes are read
// from, with what is not known without each.
var ChangeMetrics = []struct{ Metric, Tells string }{
	{"kube_replicaset_created", "rollouts of Deployments"},
	{"kube_replicaset_owner", "rollouts of Deployments"},
	{"kube_replicaset_spec_replicas", "rollbacks"},
	{"kube_deployment_metadata_generation", "generations of Deployments"},
	{"kube_deployment_spec_replicas", "scaling of Deployments"},
	{"kube_statefulset_metadata_generation", "rollouts of StatefulSets"},
	{"kube_statefulset_replicas", "scaling of StatefulSets"},
	{"kube_daemonset_metadata_generation", "rollouts of DaemonSets"},
	{"kube_pod_container_info", "which image a rollout brought"},
	{"kube_pod_owner", "whose a pod is"},
	{"kube_horizontalpodautoscaler_spec_max_replicas", "bounds of autoscalers"},
	{"kube_node_spec_unschedulable", "cordons of nodes"},
}

// pastStep is how exactly the time of a past change is known, unless the object
// says when it was made.
const pastStep = time.Minute

// PastChanges are the changes between two times as kube-state-metrics tells them:
// rollouts, images, replicas, autoscalers' bounds and cordons, in the order of
// their times. What changed in a ConfigMap, and who did anything, it does not
// tell.
func (s *Source) PastChanges(ctx context.Context, from, to time.Time, d *Deployed, patience time.Duration) ([]event.Change, error) {
	p := &pastReader{s: s, ctx: ctx, from: from, to: to, patience: patience, deployed: d}
	p.read()
	if p.err != nil {
		return nil, p.err
	}
	slices.SortStableFunc(p.changes, func(a, b event.Change) int {
		return cmp.Or(a.Time.Compare(b.Time), a.Entity.Compare(b.Entity), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Revision, b.Revision))
	})
	return p.changes, nil
}

// pastReader reads one stretch of past changes; its first error stays.
type pastReader struct {
	s        *Source
	ctx      context.Context //nolint:containedctx // it lives for one call
	from, to time.Time
	patience time.Duration
	deployed *Deployed
	changes  []event.Change
	err      error
}

// at asks once, as of the end: over says of a metric that it is meant over the
// whole stretch, so that what has gone meanwhile is in it.
func (p *pastReader) at(expr string) (v model.Vector) {
	if p.err == nil {
		p.err = upstream.Patient(p.ctx, p.patience, func() (err error) {
			v, err = p.s.client.Instant(p.ctx, strings.ReplaceAll(expr, "$over", promDuration(p.to.Sub(p.from))), p.to)
			return err
		})
	}
	return v
}

// moved are the steps at which a metric had another value than the step before,
// with both values. Where it was not there before, it has not moved.
func (p *pastReader) moved(metric, by string) []move {
	value := fmt.Sprintf("max by (%s) (%s)", by, metric)
	before := fmt.Sprintf("max by (%s) (%s offset %s)", by, metric, promDuration(pastStep))
	now := p.lines(value + " != " + before)
	if len(now) == 0 {
		return nil
	}
	old := map[string]float64{}
	for _, l := range p.lines(before + " != " + value) {
		for _, pt := range l.Points {
			old[fmt.Sprint(event.LabelsOf(l.Labels), pt.T)] = pt.V
		}
	}
	var out []move
	for _, l := range now {
		for _, pt := range l.Points {
			out = append(out, move{l.Labels, pt.Time(), old[fmt.Sprint(event.LabelsOf(l.Labels), pt.T)], pt.V})
		}
	}
	return out
}

type move struct {
	labels   map[string]string
	at       time.Time
	from, to float64
}

func (p *pastReader) lines(expr string) []Line {
	if p.err != nil {
		return nil
	}
	lines, err := p.s.Range(p.ctx, expr, p.from.Add(pastStep), p.to, pastStep, p.patience)
	p.err = err
	return lines
}

func (p *pastReader) read() {
	images, pods := p.images()
	p.replicaSets(images)
	p.controllers(images)
	p.scaled("kube_deployment_spec_replicas", "deployment", "Deployment")
	p.scaled("kube_statefulset_replicas", "statefulset", "StatefulSet")
	p.autoscalers()
	p.cordons()
	// What runs at the end is what the next stretch begins with.
	if p.deployed.Images == nil {
		p.deployed.Images = map[string]map[string]string{}
	}
	for _, pod := range pods {
		of := pod.owner.String()
		if pod.current {
			p.deployed.Images[of] = maps.Clone(images[pod.template])
		}
	}
}

// podOf is a pod of the stretch.
type podOf struct {
	owner    event.Entity
	template string // the ReplicaSet or, without one, the workload and what it runs
	current  bool   // there at the end
}

// images are the images of every template that ran, by its containers, and the
// pods that ran it. ReplicaSets are templates of their own; pods of other
// workloads are one template of each, since a pod's name does not tell which.
func (p *pastReader) images() (map[string]map[string]string, []podOf) {
	own := makeOwners(
		p.at(`group by (namespace, pod, owner_kind, owner_name) (last_over_time(kube_pod_owner[$over]))`),
		p.at(`group by (namespace, replicaset, owner_kind, owner_name) (last_over_time(kube_replicaset_owner[$over]))`), nil)
	direct := map[string]string{} // pod to ReplicaSet
	for _, v := range p.at(`group by (namespace, pod, owner_name) (last_over_time(kube_pod_owner{owner_kind="ReplicaSet"}[$over]))`) {
		direct[string(v.Metric["namespace"]+"/"+v.Metric["pod"])] = string(v.Metric["namespace"] + "/" + v.Metric["owner_name"])
	}
	now := map[string]bool{}
	for _, v := range p.at(`group by (namespace, pod) (kube_pod_container_info)`) {
		now[string(v.Metric["namespace"]+"/"+v.Metric["pod"])] = true
	}
	images := map[string]map[string]string{}
	var pods []podOf
	ran := p.at(`group by (namespace, pod, container, image_spec, image) (last_over_time(kube_pod_container_info[$over]))`)
	slices.SortFunc(ran, func(a, b *model.Sample) int { return strings.Compare(a.Metric.String(), b.Metric.String()) })
	for _, v := range ran {
		key := string(v.Metric["namespace"] + "/" + v.Metric["pod"])
		o, ok := own[key]
		if !ok || o.kind == "Job" || o.kind == "CronJob" {
			continue
		}
		e := event.Entity{Namespace: string(v.Metric["namespace"]), Kind: o.kind, Name: o.name}
		template := cmp.Or(direct[key], e.String())
		if images[template] == nil {
			images[template] = map[string]string{}
		}
		// image_spec is what the workload says; image is what the node resolved it to.
		image := cmp.Or(string(v.Metric["image_spec"]), string(v.Metric["image"]))
		if container := string(v.Metric["container"]); now[key] || images[template][container] == "" {
			images[template][container] = image
		}
		pods = append(pods, podOf{e, template, now[key]})
	}
	return images, pods
}

// replicaSets tells the rollouts of what is rolled out by ReplicaSets: those that
// were made in the stretch, and those that came back from nothing.
func (p *pastReader) replicaSets(images map[string]map[string]string) {
	owners := map[string]event.Entity{}
	for _, v := range p.at(`group by (namespace, replicaset, owner_kind, owner_name) (last_over_time(kube_replicaset_owner[$over]))`) {
		if kind := string(v.Metric["owner_kind"]); kind != "" && kind != "<none>" {
			owners[string(v.Metric["namespace"]+"/"+v.Metric["replicaset"])] = event.Entity{Namespace: string(v.Metric["namespace"]), Kind: kind, Name: string(v.Metric["owner_name"])}
		}
	}
	type rollout struct {
		owner    event.Entity
		name     string // of the ReplicaSet, with its namespace
		at       time.Time
		revision string
	}
	var all []rollout
	made := fmt.Sprintf(`max by (namespace, replicaset) (last_over_time(kube_replicaset_created[$over])) > %d <= %d`, p.from.Unix(), p.to.Unix())
	for _, v := range p.at(made) {
		name := string(v.Metric["namespace"] + "/" + v.Metric["replicaset"])
		if o, ok := owners[name]; ok {
			all = append(all, rollout{o, name, time.Unix(int64(v.Value), 0).UTC(), string(v.Metric["replicaset"])})
		}
	}
	for _, m := range p.moved("kube_replicaset_spec_replicas", "namespace, replicaset") {
		name := m.labels["namespace"] + "/" + m.labels["replicaset"]
		o, ok := owners[name]
		fresh := slices.ContainsFunc(all, func(r rollout) bool { return r.name == name })
		if ok && m.from == 0 && m.to > 0 && !fresh {
			all = append(all, rollout{o, name, m.at, fmt.Sprintf("%s-%d", m.labels["replicaset"], m.at.Unix())})
		}
	}
	slices.SortFunc(all, func(a, b rollout) int { return cmp.Or(a.at.Compare(b.at), strings.Compare(a.name, b.name)) })
	running := map[string]map[string]string{} // of this stretch
	for _, r := range all {
		of := r.owner.String()
		before := running[of]
		if before == nil {
			before = p.deployed.Images[of]
		}
		p.rollout(r.owner, r.at, r.revision, before, images[r.name])
		if images[r.name] != nil {
			running[of] = images[r.name]
		}
	}
}

// controllers tells the rollouts of what has a generation and no ReplicaSets, and
// of Deployments whose ReplicaSets are not exported.
func (p *pastReader) controllers(images map[string]map[string]string) {
	kinds := []struct{ metric, replicas, label, kind string }{
		{"kube_statefulset_metadata_generation", "kube_statefulset_replicas", "statefulset", "StatefulSet"},
		{"kube_daemonset_metadata_generation", "", "daemonset", "DaemonSet"},
	}
	if len(p.at(`count(last_over_time(kube_replicaset_owner[$over]))`)) == 0 {
		kinds = append(kinds, struct{ metric, replicas, label, kind string }{"kube_deployment_metadata_generation", "kube_deployment_spec_replicas", "deployment", "Deployment"})
	}
	for _, k := range kinds {
		moves := p.moved(k.metric, "namespace, "+k.label)
		if len(moves) == 0 {
			continue
		}
		var scaled []move
		if k.replicas != "" {
			scaled = p.moved(k.replicas, "namespace, "+k.label)
		}
		for _, m := range moves {
			if slices.ContainsFunc(scaled, func(o move) bool {
				return maps.Equal(o.labels, m.labels) && o.at.Sub(m.at).Abs() <= pastStep
			}) {
				continue // the generation counts that too
			}
			e := event.Entity{Namespace: m.labels["namespace"], Kind: k.kind, Name: m.labels[k.label]}
			of := e.String()
			p.rollout(e, m.at, "g"+strconv.FormatFloat(m.to, 'f', -1, 64), p.deployed.Images[of], images[of])
		}
	}
}

func (p *pastReader) rollout(e event.Entity, at time.Time, revision string, before, after map[string]string) {
	c := event.Change{Kind: event.Rollout, Entity: e, Time: at, Revision: revision, Summary: "pod template changed"}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if from, to := before[name], after[name]; from != to && (before != nil || to != "") {
			c.Fields = append(c.Fields, event.FieldChange{Path: "containers[" + name + "].image", From: p.s.env.Redact.Line(from), To: p.s.env.Redact.Line(to)})
			if from == "" {
				parts = append(parts, "image "+to)
			} else {
				parts = append(parts, "image "+from+" -> "+to)
			}
		}
	}
	if len(parts) > 0 {
		c.Summary = strings.Join(parts, ", ")
	}
	p.change(c)
}

func (p *pastReader) change(c event.Change) {
	c.Summary = p.s.env.Redact.Line(c.Summary)
	p.changes = append(p.changes, c)
}

func (p *pastReader) scaled(metric, label, kind string) {
	for _, m := range p.moved(metric, "namespace, "+label) {
		p.change(event.Change{
			Kind: event.Scale, Entity: event.Entity{Namespace: m.labels["namespace"], Kind: kind, Name: m.labels[label]}, Time: m.at,
			Revision: fmt.Sprintf("r%.0f-%d", m.to, m.at.Unix()), Summary: fmt.Sprintf("replicas %.0f -> %.0f", m.from, m.to),
			Fields: []event.FieldChange{{Path: "spec.replicas", From: fmt.Sprintf("%.0f", m.from), To: fmt.Sprintf("%.0f", m.to)}},
		})
	}
}

func (p *pastReader) autoscalers() {
	moves := p.moved("kube_horizontalpodautoscaler_spec_max_replicas", "namespace, horizontalpodautoscaler")
	if len(moves) == 0 {
		return
	}
	targets := map[string]event.Entity{}
	for _, v := range p.at(`group by (namespace, horizontalpodautoscaler, scaletargetref_kind, scaletargetref_name) (last_over_time(kube_horizontalpodautoscaler_info[$over]))`) {
		targets[string(v.Metric["namespace"]+"/"+v.Metric["horizontalpodautoscaler"])] = event.Entity{
			Namespace: string(v.Metric["namespace"]), Kind: string(v.Metric["scaletargetref_kind"]), Name: string(v.Metric["scaletargetref_name"]),
		}
	}
	for _, m := range moves {
		name := m.labels["horizontalpodautoscaler"]
		target, ok := targets[m.labels["namespace"]+"/"+name]
		if !ok {
			target = event.Entity{Namespace: m.labels["namespace"], Kind: "HorizontalPodAutoscaler", Name: name}
		}
		p.change(event.Change{
			Kind: event.Autoscale, Entity: target, Time: m.at, Revision: fmt.Sprintf("%s-%.0f-%d", name, m.to, m.at.Unix()),
			Summary: fmt.Sprintf("autoscaler %s: at most %.0f -> %.0f replicas", name, m.from, m.to),
		})
	}
}

func (p *pastReader) cordons() {
	for _, m := range p.moved("kube_node_spec_unschedulable", "node") {
		word := "cordoned"
		if m.to == 0 {
			word = "uncordoned"
		}
		p.change(event.Change{
			Kind: event.NodeState, Entity: event.Entity{Kind: "Node", Name: m.labels["node"]}, Time: m.at,
			Revision: fmt.Sprintf("%s-%d", word, m.at.Unix()), Summary: word,
		})
	}
}

// PastTopology is who runs where at a past time, as kube-state-metrics tells it.
func (s *Source) PastTopology(ctx context.Context, at time.Time, patience time.Duration) ([]event.Topology, error) {
	p := &pastReader{s: s, ctx: ctx, from: at.Add(-pastStep), to: at, patience: patience}
	own := makeOwners(p.at(ownerQueries[0]), p.at(ownerQueries[1]), p.at(ownerQueries[2]))
	all := map[string]*event.Topology{}
	for _, v := range p.at(`group by (namespace, pod, node) (kube_pod_info)`) {
		ns, pod := string(v.Metric["namespace"]), string(v.Metric["pod"])
		o, ok := own[ns+"/"+pod]
		if !ok {
			continue
		}
		e := event.Entity{Namespace: ns, Kind: o.kind, Name: o.name}
		if all[e.String()] == nil {
			all[e.String()] = &event.Topology{Entity: e, Time: at.UTC()}
		}
		t := all[e.String()]
		t.Pods = append(t.Pods, event.Placement{Pod: pod, Node: string(v.Metric["node"])})
	}
	if p.err != nil {
		return nil, p.err
	}
	out := make([]event.Topology, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t := *all[name]
		slices.SortFunc(t.Pods, func(a, b event.Placement) int {
			return cmp.Or(strings.Compare(a.Pod, b.Pod), strings.Compare(a.Node, b.Node))
		})
		var parts []string
		for _, pod := range t.Pods {
			parts = append(parts, pod.Pod, pod.Node)
		}
		t.Version = event.SeriesHash(event.HashStrings(append(parts, t.Entity.String())...))
		out = append(out, t)
	}
	return out, nil
}
