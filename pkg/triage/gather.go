package triage

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/pkg/runbook"
)

// Sources are what is asked. All but Kube, Ask and Redact may be missing.
type Sources struct {
	Kube   *kube.Client
	Ask    evidence.Retriever // Kubernetes
	Redact evidence.Redactor
	Loki   evidence.Retriever
	// History reads what statements did in the hours before.
	History func(ctx context.Context, q loghistory.Question) ([]*loghistory.History, error)
	// Measure reads the measurements of a workload, or of one pod of it.
	Measure func(ctx context.Context, of Measured) ([]Series, error)
	// Signals reads what was measured of a namespace in the last hours, and gives
	// what says, once the cluster is known, what of one workload is odd.
	Signals func(ctx context.Context, namespace string) Judge
	// Incidents are those that a pipeline has recorded.
	Incidents func(ctx context.Context) ([]event.Incident, error)
	Rules     *rule.Engine
	Runbooks  *runbook.Shelf
	Owners    owner.Policy
	Exempt    check.Exemptions
	// Context is the kubectl context to print in commands; "" leaves it out.
	Context string
	// NotAsked are sources that are not there, and why.
	NotAsked []check.Unchecked
}

// Judge says what is odd in what was measured of a workload, and what could not
// be read of it.
type Judge func(ctx context.Context, c *check.Cluster, root event.Entity) (*check.Signals, []check.Unchecked)

// Options bound the reading.
type Options struct {
	Lines int           // of each container's log
	Since time.Duration // back from now, for events, logs and metrics
	Now   time.Time
}

// Bounds of what is read about one workload, so that a large one costs no more
// than a small one.
const (
	maxLogPods    = 4
	maxContainers = 8 // whose logs are read
	maxNodes      = 3
	asksAtOnce    = 6
	maxRevisions  = 11 // ten changes
)

// Things lists the names of what can be triaged, in a namespace or, with "", in
// all. Kinds that may not be listed are left out; that none may is an error.
func Things(ctx context.Context, c *kube.Client, namespace string) ([]event.Entity, error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var out []event.Entity
	var failed error
	answered := false
	for _, kind := range workloadKinds {
		k, err := kube.KindOf(kind)
		if err != nil {
			continue // Argo Rollouts are known by their pods
		}
		wg.Go(func() {
			err := kube.List(ctx, c, k.ListPath(namespace), nil, func(page *metav1.PartialObjectMetadataList) {
				mu.Lock()
				defer mu.Unlock()
				for i := range page.Items {
					o := &page.Items[i]
					out = append(out, event.Entity{Namespace: o.Namespace, Kind: kind, Name: o.Name})
					if up, ok := kube.Controller(o.Namespace, o.OwnerReferences); ok && kind == "ReplicaSet" && up.Kind == "Rollout" {
						out = append(out, up.Entity())
					}
				}
			})
			mu.Lock()
			defer mu.Unlock()
			answered = answered || err == nil
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	wg.Wait()
	if !answered {
		return nil, failed
	}
	slices.SortFunc(out, event.Entity.Compare)
	return slices.Compact(out), nil
}

// container is one whose log is read.
type container struct {
	pod, name string
	previous  bool
}

func (c container) String() string {
	s := c.pod + " " + c.name
	if c.previous {
		s += " before its last restart"
	}
	return s
}

// gathered is what the sources answered.
type gathered struct {
	c    *check.Cluster
	root event.Entity
	pod  string // the only one that was asked about, or ""
	pods []*corev1.Pod

	events     event.Evidence
	containers []container
	logs       []event.Evidence // of containers
	loki       event.Evidence
	lokiAsked  bool
	limit      int // of lines
	revisions  []revision
	namespace  map[string]string // its labels and annotations
	guests     map[string][]*corev1.Pod
	series     []Series
	signals    *check.Signals
	incidents  []event.Incident
	notRead    []check.Unchecked
}

// gather reads everything at once.
func gather(ctx context.Context, s Sources, e event.Entity, o Options) (*gathered, error) {
	var judge Judge
	var reading sync.WaitGroup
	if s.Signals != nil {
		reading.Go(func() { judge = s.Signals(ctx, e.Namespace) })
	}
	c, err := check.Read(ctx, s.Kube, e.Namespace, o.Now)
	if err != nil {
		reading.Wait()
		return nil, err
	}
	g := &gathered{c: c, limit: o.Lines, root: c.Root(e), guests: map[string][]*corev1.Pod{}}
	if e.Kind == "Pod" && g.root != e {
		g.pod = e.Name
	}
	g.pods = slices.Clone(c.PodsOf(g.root))
	slices.SortStableFunc(g.pods, func(a, b *corev1.Pod) int { return g.rank(b) - g.rank(a) })
	from := o.Now.Add(-o.Since)

	var wg sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, asksAtOnce)
	do := func(what string, f func() error) {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := f(); err != nil && ctx.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				why := kube.Reason(err)
				if what == "metrics" || what == "past incidents" { // it is not the cluster that said so
					why = err.Error()
				}
				g.notRead = append(g.notRead, check.Unchecked{What: what, Why: s.Redact.Line(why)})
			}
		})
	}
	retrieve := func(into *event.Evidence, ask evidence.Retriever, q evidence.Query) error {
		e, err := ask.Retrieve(ctx, q)
		if err != nil {
			e = evidence.Failed(q, err.Error())
		}
		*into = e
		return nil // a failed answer says so itself
	}
	do("events", func() error {
		return retrieve(&g.events, s.Ask, evidence.Query{
			// Clocks differ: what the cluster says happened in a minute, has.
			Source: evidence.Kubernetes, Expr: fmt.Sprintf("events %s %s/%s", g.root.Namespace, g.root.Kind, g.root.Name), Start: from, End: o.Now.Add(5 * time.Minute), Limit: evidence.MaxLimit, Entity: g.root,
		})
	})
	g.containers = g.logged()
	g.logs = make([]event.Evidence, len(g.containers))
	for i, k := range g.containers {
		q := evidence.Query{Source: evidence.Kubernetes, Expr: fmt.Sprintf("logs %s/%s %s", g.root.Namespace, k.pod, k.name), Start: from, End: o.Now.Add(5 * time.Minute), Limit: o.Lines, Entity: g.root}
		if k.previous {
			q.Expr += " previous"
			q.Start = time.Time{} // its last words count, whenever they were
		}
		do("logs", func() error { return retrieve(&g.logs[i], s.Ask, q) })
	}
	if s.Loki != nil {
		g.lokiAsked = true
		do("loki", func() error {
			return retrieve(&g.loki, s.Loki, evidence.Query{Source: evidence.Loki, Expr: g.logQL(), Start: from, End: o.Now, Limit: o.Lines, Entity: g.root})
		})
	}
	do("revisions", func() error { return g.readRevisions(ctx, s.Kube) })
	do("namespace", func() error {
		var ns struct{ Metadata metav1.ObjectMeta }
		if err := s.Kube.Get(ctx, "/api/v1/namespaces/"+e.Namespace, nil, &ns); err != nil {
			return err
		}
		g.namespace = labelsOf(&ns.Metadata)
		return nil
	})
	for _, n := range g.nodes() {
		do("pods on node "+n, func() error {
			return kube.List(ctx, s.Kube, "/api/v1/pods", url.Values{"fieldSelector": {"spec.nodeName=" + n}}, func(page *corev1.PodList) {
				mu.Lock()
				defer mu.Unlock()
				for i := range page.Items {
					g.guests[n] = append(g.guests[n], &page.Items[i])
				}
			})
		})
	}
	if s.Measure != nil {
		do("metrics", func() (err error) {
			g.series, err = s.Measure(ctx, Measured{Entity: g.root, Pods: g.podPattern(), Start: from, End: o.Now})
			return err
		})
	}
	if s.Incidents != nil {
		do("past incidents", func() (err error) {
			g.incidents, err = s.Incidents(ctx)
			return err
		})
	}
	if s.Signals != nil {
		wg.Go(func() {
			reading.Wait()
			signals, unread := judge(ctx, g.c, g.root)
			mu.Lock()
			defer mu.Unlock()
			g.signals, g.notRead = signals, append(g.notRead, unread...)
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	g.c.Signals = g.signals
	return g, nil
}

// rank orders pods by how much there is to see in them.
func (g *gathered) rank(p *corev1.Pod) int {
	n := 0
	if _, _, bad := g.c.Trouble(p); bad {
		n = 4
	}
	for _, s := range p.Status.ContainerStatuses {
		if s.RestartCount > 0 {
			n = max(n, 2)
			if s.LastTerminationState.Terminated != nil && s.LastTerminationState.Terminated.ExitCode != 0 {
				n |= 1
			}
		}
	}
	return n
}

// looked are the pods that are looked at: all, or the one that was asked about.
func (g *gathered) looked() []*corev1.Pod {
	if g.pod == "" {
		return g.pods
	}
	return slices.DeleteFunc(slices.Clone(g.pods), func(p *corev1.Pod) bool { return p.Name != g.pod })
}

// logged are the containers whose logs are read: of the worst pods, what wrote
// something. One that crashed has its last words in the log before.
func (g *gathered) logged() []container {
	var out []container
	pods := g.looked()
	for _, p := range pods[:min(len(pods), maxLogPods)] {
		for i, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
			for _, s := range list {
				end := s.State.Terminated
				if i == 1 && (end == nil || end.ExitCode == 0) && s.RestartCount == 0 {
					continue // it did what it was for
				}
				if len(out) >= 2*maxContainers {
					return out
				}
				if s.State.Running != nil || end != nil {
					out = append(out, container{p.Name, s.Name, false})
				}
				if s.RestartCount > 0 {
					out = append(out, container{p.Name, s.Name, true})
				}
			}
		}
	}
	return out
}

// nodes are those that the pods are on, of the worst pods first.
func (g *gathered) nodes() []string {
	var out []string
	for _, p := range g.looked() {
		if n := p.Spec.NodeName; n != "" && !slices.Contains(out, n) && len(out) < maxNodes {
			out = append(out, n)
		}
	}
	return out
}

// podPattern is a regular expression for the names of the pods, those that are
// gone included.
func (g *gathered) podPattern() string {
	name := strings.ReplaceAll(g.root.Name, ".", `\.`)
	switch {
	case g.pod != "":
		return strings.ReplaceAll(g.pod, ".", `\.`)
	case g.root.Kind == "Pod":
		return name
	case g.root.Kind == "StatefulSet":
		return name + "-[0-9]+"
	case g.root.Kind == "Deployment" || g.root.Kind == "CronJob" || g.root.Kind == "Rollout":
		return name + "-[a-z0-9]+-[a-z0-9]+"
	}
	return name + "-[a-z0-9]+"
}

// logQL asks Loki for lines that look like trouble.
func (g *gathered) logQL() string {
	return g.selector() + fmt.Sprintf(" |~ %q", TroubleWords)
}

// selector is LogQL of the streams of the pods, those that are gone included.
func (g *gathered) selector() string {
	return fmt.Sprintf("{namespace=%q, pod=~%q}", g.root.Namespace, g.podPattern())
}

// revision is one template that a workload had.
type revision struct {
	number   int64
	name     string // of the ReplicaSet or ControllerRevision
	created  time.Time
	template corev1.PodTemplateSpec
	replicas int32
	again    bool // it was the template of an earlier revision, too
}

// readRevisions reads the templates that a controller keeps.
func (g *gathered) readRevisions(ctx context.Context, c *kube.Client) error {
	_, selector := g.c.Workload(g.root)
	params := url.Values{}
	if sel, err := metav1.LabelSelectorAsSelector(selector); err == nil && selector != nil {
		params.Set("labelSelector", sel.String())
	}
	ours := func(o metav1.Object) bool {
		up, ok := kube.Controller(o.GetNamespace(), o.GetOwnerReferences())
		return ok && up.Entity() == g.root
	}
	var err error
	switch g.root.Kind {
	case "Deployment", "Rollout":
		err = kube.List(ctx, c, "/apis/apps/v1/namespaces/"+g.root.Namespace+"/replicasets", params, func(page *appsv1.ReplicaSetList) {
			for i := range page.Items {
				rs := &page.Items[i]
				if ours(rs) {
					g.revisions = append(g.revisions, revision{number: revisionOf(rs.Annotations), name: rs.Name, created: rs.CreationTimestamp.Time, template: rs.Spec.Template, replicas: rs.Status.Replicas, again: rs.Annotations["deployment.kubernetes.io/revision-history"] != ""})
				}
			}
		})
	case "StatefulSet", "DaemonSet":
		err = kube.List(ctx, c, "/apis/apps/v1/namespaces/"+g.root.Namespace+"/controllerrevisions", params, func(page *appsv1.ControllerRevisionList) {
			for i := range page.Items {
				cr := &page.Items[i]
				var data struct {
					Spec struct {
						Template corev1.PodTemplateSpec `json:"template"`
					} `json:"spec"`
				}
				if ours(cr) && json.Unmarshal(cr.Data.Raw, &data) == nil {
					g.revisions = append(g.revisions, revision{number: cr.Revision, name: cr.Name, created: cr.CreationTimestamp.Time, template: data.Spec.Template})
				}
			}
		})
	}
	return err
}

// labelsOf are labels and annotations in one, as ownership is read from both.
func labelsOf(o metav1.Object) map[string]string {
	out := map[string]string{}
	for k, v := range o.GetAnnotations() {
		out[k] = v
	}
	for k, v := range o.GetLabels() {
		out[k] = v
	}
	return out
}
