package check

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

var referenceChecks = []Info{
	{
		Name: "references", Needs: []string{"pods"},
		Doc: "ConfigMaps, PersistentVolumeClaims, ServiceAccounts, PriorityClasses, RuntimeClasses and StorageClasses that a workload names and that do not exist: broken when its pods are in trouble, soon when they still run, since the next restart fails. " +
			"Not: optional references, workloads scaled to zero or suspended, or a workload or rollout younger than a minute. Of ConfigMaps the names alone are read.",
		Run: references,
	},
	{
		Name: "secret_references", Needs: []string{"pods"},
		Doc: "Secrets, and keys of Secrets and ConfigMaps, that the kubelet says it does not find, and pull secrets that are missing. Secrets are never read: what the kubelet does not complain about is not known. Not: a pull secret that is missing while the image is pulled all the same (hygiene).",
		Run: secretReferences,
	},
}

// podTemplate is what a workload would make pods of.
type podTemplate struct {
	root   event.Entity
	spec   *corev1.PodSpec
	claims []corev1.PersistentVolumeClaim // of a StatefulSet
	since  metav1.Time                    // of the newest revision, as far as it is known
}

// templates are those of workloads that want pods, and the pods of what was not
// read or has no template.
func (c *Cluster) templates() []podTemplate {
	var out []podTemplate
	for _, d := range c.Deployments {
		e := entity("Deployment", d)
		if wanted(d.Spec.Replicas) > 0 {
			t := podTemplate{root: e, spec: &d.Spec.Template.Spec, since: d.CreationTimestamp}
			if newest := c.rollouts[kube.Ref{Namespace: d.Namespace, Kind: "Deployment", Name: d.Name}]; newest != nil {
				t.since = newest.CreationTimestamp
			}
			out = append(out, t)
		}
	}
	for _, s := range c.StatefulSets {
		if wanted(s.Spec.Replicas) > 0 {
			out = append(out, podTemplate{entity("StatefulSet", s), &s.Spec.Template.Spec, s.Spec.VolumeClaimTemplates, s.CreationTimestamp})
		}
	}
	for _, d := range c.DaemonSets {
		if d.Status.DesiredNumberScheduled > 0 {
			out = append(out, podTemplate{root: entity("DaemonSet", d), spec: &d.Spec.Template.Spec, since: d.CreationTimestamp})
		}
	}
	for _, k := range c.CronJobs {
		if k.Spec.Suspend == nil || !*k.Spec.Suspend {
			out = append(out, podTemplate{root: entity("CronJob", k), spec: &k.Spec.JobTemplate.Spec.Template.Spec, since: k.CreationTimestamp})
		}
	}
	for _, j := range c.Jobs {
		e := entity("Job", j)
		if _, _, _, _, done := ended(j); !done && c.rootOf(e) == e && (j.Spec.Suspend == nil || !*j.Spec.Suspend) {
			out = append(out, podTemplate{root: e, spec: &j.Spec.Template.Spec, since: j.CreationTimestamp})
		}
	}
	for root, pods := range c.ordered() {
		if p := pods[len(pods)-1]; (root.Kind == "Pod" || c.object(root) == nil) && p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodFailed {
			out = append(out, podTemplate{root: root, spec: &p.Spec, since: p.CreationTimestamp})
		}
	}
	return out
}

// reference is an object that a template needs.
type reference struct {
	kind, resource, name string
	whole                bool // of the cluster
}

// references are what the pods of a template cannot do without. Of Secrets
// nothing can be known.
func (t *podTemplate) references() []reference {
	var out []reference
	need := func(kind, resource, name string, whole bool) {
		if r := (reference{kind, resource, name, whole}); name != "" && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	configMapsOf(t.spec, func(name string, optional *bool) {
		if optional == nil || !*optional {
			need("ConfigMap", "configmaps", name, false)
		}
	})
	for i := range t.spec.Volumes {
		if v := t.spec.Volumes[i].PersistentVolumeClaim; v != nil {
			need("PersistentVolumeClaim", "persistentvolumeclaims", v.ClaimName, false)
		}
	}
	need("ServiceAccount", "serviceaccounts", t.spec.ServiceAccountName, false)
	need("PriorityClass", "priorityclasses", t.spec.PriorityClassName, true)
	if r := t.spec.RuntimeClassName; r != nil {
		need("RuntimeClass", "runtimeclasses", *r, true)
	}
	for i := range t.claims {
		if s := t.claims[i].Spec.StorageClassName; s != nil {
			need("StorageClass", "storageclasses", *s, true)
		}
	}
	return out
}

func references(c *Cluster, found func(Problem)) {
	for _, t := range c.templates() {
		if c.age(t.since) < starting {
			continue // what it names may come after it
		}
		missing := map[string][]string{}
		var kinds []reference
		for _, r := range t.references() {
			namespace := t.root.Namespace
			if r.whole {
				namespace = ""
			}
			if c.exists(r.resource, namespace, r.name) {
				continue
			}
			if missing[r.kind] = append(missing[r.kind], r.name); len(missing[r.kind]) == 1 {
				kinds = append(kinds, r)
			}
		}
		for _, k := range kinds {
			names := missing[k.kind]
			p := c.lacks(t.root, Problem{
				Entity: t.root, Root: t.root, Cause: true, Title: k.kind + " " + list(names, 3) + " does not exist", Seen: []string{fmt.Sprintf("%s names %s %s, which is not among those read", Name(t.root), k.kind, strings.Join(names, ", "))},
				Next: []event.Check{{Why: "those there are", Command: kubectl(t.root.Namespace, "get %s", k.resource)}},
			})
			if k.whole {
				p.Next[0].Command = "kubectl get " + k.resource
			}
			if len(names) > 1 {
				p.Title = k.kind + "s " + list(names, 3) + " do not exist"
				if k.kind == "PriorityClass" || k.kind == "RuntimeClass" || k.kind == "StorageClass" {
					p.Title = k.kind + "es " + list(names, 3) + " do not exist"
				}
			}
			switch {
			case p.Urgency == event.Soon && t.root.Kind == "CronJob":
				p.Title += ": the next run fails"
			case p.Urgency == event.Soon:
				p.Title += ": the next restart fails"
			}
			found(p)
		}
	}
}

// lacks makes a problem as urgent as its root is in trouble: broken when pods
// are, soon when they run on with what they had.
func (c *Cluster) lacks(root event.Entity, p Problem) Problem {
	ready, want := c.replicas(root, c.pods[root])
	p.Urgency = event.Soon
	if slices.ContainsFunc(c.pods[root], func(pod *corev1.Pod) bool { t, bad := c.troubleOf(pod); return bad && !t.soon }) || ready < want && len(c.pods[root]) < want {
		p.Urgency, p.Severity = event.Broken, below(ready, want)
	}
	return p
}

var (
	notFound = regexp.MustCompile(`(?i)(secret|configmap|configmaps|secrets) "([^"]+)" not found`)
	noKey    = regexp.MustCompile(`(?i)couldn't find key (\S+) in (Secret|ConfigMap) (\S+)|references non-existent (secret|config) key: (\S+)`)
	pulling  = regexp.MustCompile(`image pull secrets? \(([^)]+)\)`)
)

// lacked is what a message of the kubelet says is missing: Secret db-password;
// "" when it says nothing of that.
func lacked(message string) string {
	kind := func(s string) string {
		if strings.HasPrefix(strings.ToLower(s), "secret") {
			return "Secret"
		}
		return "ConfigMap"
	}
	if m := notFound.FindStringSubmatch(message); m != nil {
		return kind(m[1]) + " " + m[2] + " does not exist"
	}
	if m := noKey.FindStringSubmatch(message); m != nil {
		if m[1] != "" {
			name := m[3]
			if i := strings.LastIndexByte(name, '/'); i >= 0 {
				name = name[i+1:]
			}
			return kind(m[2]) + " " + name + " has no key " + m[1]
		}
		return "a " + kind(m[4]) + " has no key " + m[5]
	}
	return ""
}

func secretReferences(c *Cluster, found func(Problem)) {
	for root, pods := range c.ordered() {
		what, line := "", ""
		var since time.Time
		pull := ""
		for _, p := range pods {
			if p.DeletionTimestamp != nil || c.age(p.CreationTimestamp) < starting/4 {
				continue
			}
			for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
				if w := s.State.Waiting; w != nil && what == "" {
					if what = lacked(w.Message); what != "" {
						line, since = fmt.Sprintf("pod %s container %s waiting %s: %s", p.Name, s.Name, w.Reason, w.Message), p.CreationTimestamp.Time
					}
				}
			}
			_, ready := condition(p.Status.Conditions, corev1.PodReady)
			for _, ev := range c.warned(entity("Pod", p), recently, "FailedMount", "Failed", "FailedToRetrieveImagePullSecret") {
				if m := pulling.FindStringSubmatch(ev.Message); m != nil && pull == "" {
					pull = m[1]
					if line == "" {
						line, since = fmt.Sprintf("event %s of pod %s: %s", ev.Reason, p.Name, ev.Message), p.CreationTimestamp.Time
					}
				}
				if w := lacked(ev.Message); w != "" && what == "" && !ready {
					what, line, since = w, fmt.Sprintf("event %s of pod %s: %s", ev.Reason, p.Name, ev.Message), p.CreationTimestamp.Time
				}
			}
		}
		p := Problem{Entity: root, Root: root, Cause: true, Since: since, Seen: []string{line}}
		switch {
		case what != "":
			kind, name, _ := strings.Cut(what, " ")
			name, _, _ = strings.Cut(name, " ")
			p.Title, p.Next = what, []event.Check{{Why: "is it there, and since when?", Command: kubectl(root.Namespace, "get %s %s", strings.ToLower(kind), name)}, describe(entity("Pod", pods[0]), "what refers to it")}
			if kind != "ConfigMap" {
				p.Next = p.Next[1:] // no check reads a Secret, not even its name
			}
			p = c.lacks(root, p)
			if p.Urgency == event.Soon {
				continue // a pod that has it by now
			}
			if kind == "ConfigMap" && strings.HasSuffix(what, "does not exist") && c.Read("configmaps") && c.object(root) != nil {
				continue // told by its template
			}
		case pull != "":
			p.Title, p.Next = "pull secret "+pull+" does not exist", []event.Check{{Why: "what its pods name", Command: kubectl(root.Namespace, "get pod %s -o 'custom-columns=PULL:.spec.imagePullSecrets[*].name,ACCOUNT:.spec.serviceAccountName'", pods[0].Name)}}
			if p = c.lacks(root, p); p.Urgency == event.Soon {
				p.Urgency, p.Cause, p.Title = event.Hygiene, false, p.Title+", and the image comes without"
			}
		default:
			continue
		}
		found(p)
	}
}
