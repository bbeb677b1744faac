package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

var hygieneChecks = []Info{
	{
		Name: "pod_hygiene", Needs: []string{"pods"},
		Doc: "Workloads whose containers have no readiness or liveness probe, no requests, no memory limit, an untagged or latest image, run privileged or as root, share the node's namespaces, or mount the token of the default ServiceAccount; and pods that nobody would replace. One line a workload. " +
			"Not: what runs in kube-system, kube-public and kube-node-lease, Jobs (which need no probes), and init containers.",
		Run: podHygiene,
	},
	{
		Name: "disruption_hygiene", Needs: []string{"pods", "poddisruptionbudgets"},
		Doc: "Workloads of more than one replica without a PodDisruptionBudget, or with all replicas on one node though there are others. Not: DaemonSets, Jobs, system namespaces.",
		Run: disruptionHygiene,
	},
	{
		Name: "isolation_hygiene", Needs: []string{"pods", "networkpolicies"},
		Doc: "Namespaces with pods that no NetworkPolicy selects; one line a namespace. Not: system namespaces, and pods that a policy of Cilium may select.",
		Run: isolationHygiene,
	},
	{
		Name: "idle_hygiene", Needs: []string{"deployments", "statefulsets"},
		Doc: "Workloads scaled to zero.",
		Run: idleHygiene,
	},
}

// systemNamespaces are the cluster's own: what is in them is not the user's to
// tidy up.
var systemNamespaces = []string{"kube-system", "kube-public", "kube-node-lease"}

func podHygiene(c *Cluster, found func(Problem)) {
	for root, pods := range c.ordered() {
		if slices.Contains(systemNamespaces, root.Namespace) || root.Kind == "Node" {
			continue
		}
		missing, seen := untidy(pods[0], root)
		if len(missing) == 0 {
			continue
		}
		found(Problem{
			Entity: root, Root: root, Urgency: event.Hygiene, Title: strings.Join(missing, "; "), Seen: seen,
			Next: []event.Check{{Why: "what its pods ask for", Command: kubectl(root.Namespace, "get pod %s -o yaml", pods[0].Name)}},
		})
	}
}

// untidy lists what a pod lacks, for each kind of lack the containers concerned.
func untidy(p *corev1.Pod, root event.Entity) (missing, seen []string) {
	of := map[string][]string{}
	var order []string
	lack := func(what, container string) {
		if of[what] == nil {
			order = append(order, what)
		}
		of[what] = append(of[what], container)
	}
	job := root.Kind == "Job" || root.Kind == "CronJob"
	for i := range p.Spec.Containers {
		k := &p.Spec.Containers[i]
		if k.ReadinessProbe == nil && !job {
			lack("no readiness probe", k.Name)
		}
		if k.LivenessProbe == nil && !job {
			lack("no liveness probe", k.Name)
		}
		if r := k.Resources.Requests; r.Cpu().IsZero() || r.Memory().IsZero() {
			lack("no requests", k.Name)
		}
		if k.Resources.Limits.Memory().IsZero() {
			lack("no memory limit", k.Name)
		}
		if untagged(k.Image) {
			lack("image without a version", k.Name)
		}
		s := k.SecurityContext
		if s != nil && s.Privileged != nil && *s.Privileged {
			lack("privileged", k.Name)
		}
		if mayBeRoot(p.Spec.SecurityContext, s) {
			lack("may run as root", k.Name)
		}
	}
	for _, w := range order {
		missing = append(missing, w)
		seen = append(seen, fmt.Sprintf("pod %s: %s: container %s", p.Name, w, strings.Join(of[w], ", ")))
	}
	whole := func(what string) {
		missing = append(missing, what)
		seen = append(seen, fmt.Sprintf("pod %s: %s", p.Name, what))
	}
	if p.Spec.HostNetwork || p.Spec.HostPID || p.Spec.HostIPC {
		whole("shares the node's namespaces")
	}
	if (p.Spec.ServiceAccountName == "" || p.Spec.ServiceAccountName == "default") && (p.Spec.AutomountServiceAccountToken == nil || *p.Spec.AutomountServiceAccountToken) && mountsToken(p) {
		whole("mounts the token of the default ServiceAccount")
	}
	if root.Kind == "Pod" && len(p.OwnerReferences) == 0 {
		whole("nobody replaces it when its node goes")
	}
	return missing, seen
}

// untagged says whether an image names no version: no tag, or latest, and no
// digest.
func untagged(image string) bool {
	if strings.Contains(image, "@") {
		return false
	}
	name := image[strings.LastIndex(image, "/")+1:]
	_, tag, ok := strings.Cut(name, ":")
	return !ok || tag == "latest"
}

func mayBeRoot(pod *corev1.PodSecurityContext, container *corev1.SecurityContext) bool {
	nonRoot, user := (*bool)(nil), (*int64)(nil)
	if pod != nil {
		nonRoot, user = pod.RunAsNonRoot, pod.RunAsUser
	}
	if container != nil {
		if container.RunAsNonRoot != nil {
			nonRoot = container.RunAsNonRoot
		}
		if container.RunAsUser != nil {
			user = container.RunAsUser
		}
	}
	return (nonRoot == nil || !*nonRoot) && (user == nil || *user == 0)
}

// mountsToken says whether the API server gave the pod a token.
func mountsToken(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return strings.HasPrefix(v.Name, "kube-api-access-") })
}

func disruptionHygiene(c *Cluster, found func(Problem)) {
	for root, pods := range c.ordered() {
		if slices.Contains(systemNamespaces, root.Namespace) || !slices.Contains([]string{"Deployment", "StatefulSet", "Rollout", "ReplicaSet"}, root.Kind) || len(pods) < 2 {
			continue
		}
		var lacks []string
		if !slices.ContainsFunc(c.PDBs, func(b *policyv1.PodDisruptionBudget) bool {
			return b.Namespace == root.Namespace && selects(b.Spec.Selector, pods[0])
		}) {
			lacks = append(lacks, "no PodDisruptionBudget: a drain may take all replicas at once")
		}
		on := map[string]bool{}
		for _, p := range pods {
			if p.Spec.NodeName != "" {
				on[p.Spec.NodeName] = true
			}
		}
		if len(on) == 1 && len(c.Nodes) > 1 {
			lacks = append(lacks, fmt.Sprintf("all %d replicas on node %s", len(pods), slices.Collect(maps.Keys(on))[0]))
		}
		if len(lacks) == 0 {
			continue
		}
		found(Problem{
			Entity: root, Root: root, Urgency: event.Hygiene, Title: strings.Join(lacks, "; "), Seen: []string{fmt.Sprintf("%s of %s on %s", evidence.Count(len(pods), "pod"), Name(root), evidence.Count(len(on), "node"))},
			Next: []event.Check{{Why: "budgets of the namespace", Command: kubectl(root.Namespace, "get poddisruptionbudgets")}},
		})
	}
}

// selects says whether a selector chooses a pod. None chooses nothing.
func selects(s *metav1.LabelSelector, p *corev1.Pod) bool {
	if s == nil {
		return false
	}
	sel, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && sel.Matches(labels.Set(p.Labels))
}

func isolationHygiene(c *Cluster, found func(Problem)) {
	covering := map[string][]labels.Selector{}
	for _, n := range c.NetworkPolicies {
		if s, err := metav1.LabelSelectorAsSelector(&n.Spec.PodSelector); err == nil {
			covering[n.Namespace] = append(covering[n.Namespace], s)
		}
	}
	cilium := c.ciliumChoices()
	for _, ns := range slices.Sorted(maps.Keys(c.byNamespace)) {
		if slices.Contains(systemNamespaces, ns) {
			continue
		}
		open := 0
		for _, p := range c.byNamespace[ns] {
			if !slices.ContainsFunc(covering[ns], func(s labels.Selector) bool { return s.Matches(labels.Set(p.Labels)) }) &&
				!slices.ContainsFunc(cilium, func(k choosing) bool { return k.may(p) }) {
				open++
			}
		}
		if open > 0 {
			e := event.Entity{Kind: "Namespace", Name: ns}
			found(Problem{
				Entity: e, Root: e, Urgency: event.Hygiene, Title: fmt.Sprintf("no NetworkPolicy selects %d of %s", open, evidence.Count(len(c.byNamespace[ns]), "pod")),
				Seen: []string{fmt.Sprintf("%d of %s in %s are selected by no NetworkPolicy", open, evidence.Count(len(c.byNamespace[ns]), "pod"), ns)},
				Next: []event.Check{{Why: "the policies there are", Command: kubectl(ns, "get networkpolicies")}},
			})
		}
	}
}

func idleHygiene(c *Cluster, found func(Problem)) {
	idle := func(e event.Entity, replicas *int32) {
		if wanted(replicas) > 0 {
			return
		}
		found(Problem{
			Entity: e, Urgency: event.Hygiene, Title: "scaled to zero", Seen: []string{"spec.replicas=0"},
			Next: []event.Check{{Why: "who scaled it, and when", Command: kubectl(e.Namespace, "describe %s %s", strings.ToLower(e.Kind), e.Name)}},
		})
	}
	for _, d := range c.Deployments {
		idle(entity("Deployment", d), d.Spec.Replicas)
	}
	for _, s := range c.StatefulSets {
		idle(entity("StatefulSet", s), s.Spec.Replicas)
	}
}
