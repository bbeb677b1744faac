package reasoner

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// subject is one entity that rules are applied to, with its look-ups.
type subject struct {
	entity  event.Entity
	answers map[string]event.Evidence // by look-up name, see rule.Lookups
}

// maxSubjects bounds how many entities are looked at: what is affected most,
// the first suspects, and nodes.
const maxSubjects = 4

// subjects are the entities worth looking at, the affected one first.
func (d *draft) subjects() []event.Entity {
	var out []event.Entity
	add := func(e event.Entity) {
		if len(out) < maxSubjects && e.Kind != "Cluster" && e.Kind != "Source" && !e.IsZero() && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	add(d.inc.Entity)
	for _, s := range d.inc.Suspects {
		add(s.Entity)
	}
	for _, e := range d.inc.Related {
		if e.Kind == "Node" {
			add(e)
		}
	}
	return out
}

// question is one look-up for one subject.
type question struct {
	subject int
	name    string // of the look-up
	query   evidence.Query
}

// gather asks all that the rules may need, and returns the answers by subject.
// What the first answers point at (a container that crashed, the node that the
// troubled pods share) is asked in a second round, within the same deadline. A
// question without an answer is an answer too.
func (d *draft) gather(ctx context.Context) []subject {
	entities := d.subjects()
	out := make([]subject, len(entities))
	var first, second []question
	for i, e := range entities {
		out[i] = subject{entity: e, answers: map[string]event.Evidence{}}
		first = append(first, d.firstQuestions(i, e)...)
	}
	// What logs said before is of no subject; its answers are put last, and taken out.
	before := d.historyQuestions(len(out))
	for _, q := range before {
		first = append(first, q.question)
	}
	all := append(out, subject{answers: map[string]event.Evidence{}})
	d.ask(ctx, all, first)
	d.remember(before, all[len(out)].answers)
	for i := range out {
		second = append(second, d.secondQuestions(i, out[i])...)
	}
	d.ask(ctx, out, second)
	return out
}

func (d *draft) question(subject int, e event.Entity, name, source, expr string, limit int) question {
	return question{subject, name, evidence.Query{
		Source: source, Expr: expr, Start: d.inc.Onset.Add(-15 * time.Minute), End: d.inc.Updated, Limit: limit, Incident: d.inc.ID, Entity: e,
	}}
}

// maxPods bounds how many pods of a subject are read: more than a node holds.
const maxPods = 260

func (d *draft) firstQuestions(i int, e event.Entity) []question {
	var qs []question
	ask := func(name, source, expr string, limit int) {
		qs = append(qs, d.question(i, e, name, source, expr, limit))
	}
	where := strings.TrimSpace(e.Namespace + " " + e.Kind + "/" + e.Name)
	object := fmt.Sprintf("object %s %s/%s", e.Kind, e.Namespace, e.Name)
	switch e.Kind {
	case "Node":
		ask("object", evidence.Kubernetes, "object Node "+e.Name, 1)
		ask("pods", evidence.Kubernetes, "pods "+where, maxPods)
		ask("events", evidence.Kubernetes, "events "+where, 50)
	case "PersistentVolume", "Namespace":
		ask("object", evidence.Kubernetes, fmt.Sprintf("object %s %s", e.Kind, e.Name), 1)
		ask("events", evidence.Kubernetes, "events "+where, 50)
	case "Workload":
		// A name that came out of a metric: there is no object of this kind.
		ask("logs", evidence.Loki, errorLines(e), 30)
	case "Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Rollout":
		ask("pods", evidence.Kubernetes, "pods "+where, maxPods)
		ask("events", evidence.Kubernetes, "events "+where, 50)
		ask("object", evidence.Kubernetes, object, 1)
		ask("logs", evidence.Loki, errorLines(e), 30)
		if slices.Contains([]string{"Deployment", "StatefulSet", "Rollout"}, e.Kind) {
			ask("hpa", evidence.Kubernetes, fmt.Sprintf("object HorizontalPodAutoscaler %s/%s", e.Namespace, e.Name), 1)
		}
	default:
		if _, err := kube.KindOf(e.Kind); err != nil {
			return nil // a kind that look-ups do not know: a custom resource, a name out of a metric
		}
		ask("object", evidence.Kubernetes, object, 1)
		ask("events", evidence.Kubernetes, "events "+where, 50)
	}
	return qs
}

// secondQuestions follow from the pods: what a container said before it died,
// and how the node is that the unready pods share.
func (d *draft) secondQuestions(i int, s subject) []question {
	var qs []question
	pods, _ := s.answers["pods"].Values["items"].([]any)
	if s.entity.Kind == "Node" {
		return nil
	}
	node, shared := "", true
	crashed := false
	for _, p := range pods {
		pod, _ := p.(map[string]any)
		meta, spec, status := child(pod, "metadata"), child(pod, "spec"), child(pod, "status")
		name, _ := meta["name"].(string)
		if n, _ := spec["nodeName"].(string); n != "" && !ready(status) {
			shared = shared && (node == "" || node == n)
			node = n
		}
		for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
			cs, _ := status[list].([]any)
			for _, c := range cs {
				c, _ := c.(map[string]any)
				container, _ := c["name"].(string)
				restarts, _ := c["restartCount"].(float64)
				_, died := child(child(c, "lastState"), "terminated")["exitCode"]
				if crashed || restarts == 0 || !died || name == "" || container == "" {
					continue
				}
				crashed = true
				expr := fmt.Sprintf("logs %s/%s %s previous", s.entity.Namespace, name, container)
				qs = append(qs, d.question(i, s.entity, "crash", evidence.Kubernetes, expr, 20))
			}
		}
	}
	if node != "" && shared {
		qs = append(qs, d.question(i, s.entity, "node", evidence.Kubernetes, "object Node "+node, 1))
	}
	return qs
}

func ready(status map[string]any) bool {
	cs, _ := status["conditions"].([]any)
	return slices.ContainsFunc(cs, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["type"] == "Ready" && m["status"] == "True"
	})
}

func child(o map[string]any, key string) map[string]any {
	c, _ := o[key].(map[string]any)
	return c
}

// ask puts questions at once, and gives each subject its answers. It returns
// when ctx is done, whether or not a source heeds it: a report is due by then.
func (d *draft) ask(ctx context.Context, subjects []subject, qs []question) {
	type answer struct {
		i int
		e event.Evidence
	}
	answers := make(chan answer, len(qs)) // room for all, so that a late one does not wait for us
	slots := make(chan struct{}, 6)       // as many as the collector answers at once
	for i, q := range qs {
		go func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				return
			}
			e, err := d.r.ask.Retrieve(ctx, q.query)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				e = evidence.Failed(q.query, err.Error())
			}
			answers <- answer{i, e}
		}()
	}
	got := make([]bool, len(qs))
	keep := func(a answer) { got[a.i], subjects[qs[a.i].subject].answers[qs[a.i].name] = true, a.e }
	for range qs {
		select {
		case a := <-answers:
			keep(a)
			continue
		case <-ctx.Done():
		}
		break
	}
	for {
		select { // those that came in time
		case a := <-answers:
			keep(a)
			continue
		default:
		}
		break
	}
	for i, q := range qs {
		if !got[i] {
			subjects[q.subject].answers[q.name] = evidence.Failed(q.query, fmt.Sprintf("no answer by the report's deadline of %s", d.r.cfg.Deadline))
		}
	}
}

// errorLines is LogQL for the lines of a workload that look like trouble.
func errorLines(e event.Entity) string {
	pod := regexp.QuoteMeta(e.Name)
	if e.Kind != "Pod" {
		pod += "-.*"
	}
	return fmt.Sprintf(`{namespace=%q, pod=~%q} |~ "(?i)error|fatal|panic|exception|refused|timeout|timed out|denied|killed|no such host|no space|too many|expired|unavailable|traceback"`, e.Namespace, pod)
}
