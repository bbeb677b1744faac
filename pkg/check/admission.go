package check

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

var admissionChecks = []Info{
	{
		Name: "webhooks", Needs: []string{"validatingwebhookconfigurations", "mutatingwebhookconfigurations", "services", "pods"},
		Doc: "Webhooks whose Service is not there or has no ready endpoint, or whose caBundle has expired, will within a week, or is missing: broken with failurePolicy Fail, with what they block; soon with Ignore. Not: webhooks without rules, or whose pods are starting; pods in trouble are on their workload's line.",
		Run: webhooks,
	},
	{
		Name: "apiservices", Needs: []string{"apiservices"},
		Doc: "APIs that another server answers for and that are not available, such as metrics.k8s.io. Not: for less than a minute.",
		Run: apiServices,
	},
	{
		Name: "namespaces", Needs: []string{"namespaces"},
		Doc: "Namespaces that are being deleted for more than five minutes, with what remains and which finalizer waits.",
		Run: namespaces,
	},
}

// admissionHygiene are the checks of what could become a trap.
var admissionHygiene = []Info{{
	Name: "webhook_hygiene", Needs: []string{"validatingwebhookconfigurations", "mutatingwebhookconfigurations", "namespaces"},
	Doc: "Webhooks with failurePolicy Fail that apply to the pods of their own namespace: once they are down, they keep themselves from coming back. Not: with an objectSelector or matchConditions, which may leave them out.",
	Run: webhookHygiene,
}}

// hook is one webhook of either kind of configuration.
type hook struct {
	config     event.Entity
	name       string
	client     admissionv1.WebhookClientConfig
	ignore     bool
	rules      []admissionv1.RuleWithOperations
	namespaces *metav1.LabelSelector
	narrowed   bool // by labels of the object or by conditions
}

func (c *Cluster) hooks() []hook {
	var out []hook
	for _, w := range c.ValidatingWebhooks {
		for i := range w.Webhooks {
			h := &w.Webhooks[i]
			out = append(out, hook{entity("ValidatingWebhookConfiguration", w), h.Name, h.ClientConfig, h.FailurePolicy != nil && *h.FailurePolicy == admissionv1.Ignore, h.Rules, h.NamespaceSelector, narrows(h.ObjectSelector) || len(h.MatchConditions) > 0})
		}
	}
	for _, w := range c.MutatingWebhooks {
		for i := range w.Webhooks {
			h := &w.Webhooks[i]
			out = append(out, hook{entity("MutatingWebhookConfiguration", w), h.Name, h.ClientConfig, h.FailurePolicy != nil && *h.FailurePolicy == admissionv1.Ignore, h.Rules, h.NamespaceSelector, narrows(h.ObjectSelector) || len(h.MatchConditions) > 0})
		}
	}
	slices.SortStableFunc(out, func(a, b hook) int { return strings.Compare(a.config.String()+a.name, b.config.String()+b.name) })
	return out
}

func narrows(s *metav1.LabelSelector) bool {
	return s != nil && len(s.MatchLabels)+len(s.MatchExpressions) > 0
}

// covers says in words what a webhook is asked about: CREATE of pods.
func (h hook) covers() string {
	var ops, resources []string
	for _, r := range h.rules {
		for _, o := range r.Operations {
			if s := strings.ReplaceAll(string(o), "*", "every change"); !slices.Contains(ops, s) {
				ops = append(ops, s)
			}
		}
		for _, s := range r.Resources {
			switch {
			case s == "*" || s == "*/*":
				s = "everything"
				if !slices.Contains(r.APIGroups, "*") {
					s += " in " + orElse(list(r.APIGroups, 3), "the core group")
				}
			case len(r.APIGroups) == 1 && r.APIGroups[0] != "" && r.APIGroups[0] != "*":
				s += "." + r.APIGroups[0]
			}
			if !slices.Contains(resources, s) {
				resources = append(resources, s)
			}
		}
	}
	s := list(ops, 4) + " of " + list(resources, 3)
	if narrows(h.namespaces) {
		s += " in chosen namespaces"
	}
	return s
}

func webhooks(c *Cluster, found func(Problem)) {
	for _, h := range c.hooks() {
		if len(h.rules) == 0 {
			continue
		}
		e := h.config
		p := Problem{
			Entity: e, State: true, Urgency: event.Broken, Title: "blocks " + h.covers(), Seen: []string{"webhook " + h.name + " failurePolicy=Fail, asked about " + h.covers()},
			Next: []event.Check{{Why: "its Service, rules and failurePolicy", Command: kubectl("", "get %s %s -o yaml", strings.ToLower(e.Kind), e.Name)}},
		}
		if h.ignore {
			p.Urgency, p.Title = event.Soon, "is not asked about "+h.covers()
			p.Seen[0] = "webhook " + h.name + " failurePolicy=Ignore, asked about " + h.covers()
		}
		if s := h.client.Service; s != nil {
			ok, why, chosen := c.serves(s.Namespace, s.Name)
			if ok && s.Port != nil {
				if lack := c.noPort(s.Namespace, s.Name, "", *s.Port); lack != "" {
					ok, why = false, lack
				}
			}
			if !ok {
				p.Brief = why
				p.Seen = append(p.Seen, why)
				p.Next = append([]event.Check{c.whoAnswers(s.Namespace, s.Name)}, p.Next...)
				effect := p
				effect.State, effect.Title, effect.Brief = false, fmt.Sprintf("%s %s", Name(e), p.Title), ""
				if c.lost(chosen, effect, found) {
					continue
				}
				if len(chosen) > 0 && c.allStarting(chosen) {
					continue
				}
				found(p)
				continue
			}
		}
		ends, n := expiry(h.client.CABundle)
		left := ends.Sub(c.Now)
		p.Seen = append(p.Seen, fmt.Sprintf("%s in its caBundle, the last ends %s", evidence.Count(n, "certificate"), ends.UTC().Format(time.RFC3339)))
		switch {
		case n == 0 && h.client.Service != nil:
			p.Confidence, p.Brief, p.Seen[1] = event.Medium, "it has no caBundle: the API server trusts no certificate of a Service", "caBundle is empty"
		case n > 0 && left < 0:
			p.Since, p.Brief = ends, fmt.Sprintf("the certificate in its caBundle expired %s ago", span(-left))
		case n > 0 && left < expiring:
			p.Urgency, p.Severity, p.Title = event.Soon, event.Warning, fmt.Sprintf("the certificate in its caBundle expires in %s", span(left))
			p.Brief = ""
			if !h.ignore {
				p.Brief = "then it blocks " + h.covers()
			}
		default:
			continue
		}
		found(p)
	}
}

// allStarting says whether pods are younger than what their probes grant.
func (c *Cluster) allStarting(pods []*corev1.Pod) bool {
	return !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return c.age(p.CreationTimestamp) > startup(p) })
}

// expiry is when the last certificate of a bundle ends, and how many it holds.
func expiry(bundle []byte) (ends time.Time, n int) {
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return ends, n
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue // what is no certificate ends nothing
		}
		n++
		if cert.NotAfter.After(ends) {
			ends = cert.NotAfter
		}
	}
}

func webhookHygiene(c *Cluster, found func(Problem)) {
	for _, h := range c.hooks() {
		s := h.client.Service
		if h.ignore || s == nil || h.narrowed || !slices.ContainsFunc(h.rules, makesPods) {
			continue
		}
		ns, _ := named(c.Namespaces, event.Entity{Name: s.Namespace}).(*corev1.Namespace)
		if ns == nil {
			continue
		}
		l := labels.Merge(ns.Labels, labels.Set{corev1.LabelMetadataName: ns.Name})
		if sel, err := metav1.LabelSelectorAsSelector(h.namespaces); h.namespaces != nil && (err != nil || !sel.Matches(l)) {
			continue
		}
		found(Problem{
			Entity: h.config, Urgency: event.Hygiene, Title: fmt.Sprintf("applies to the pods of its own namespace %s: once down, it keeps itself down", s.Namespace),
			Seen: []string{fmt.Sprintf("webhook %s: failurePolicy=Fail, %s, its namespaceSelector chooses %s", h.name, h.covers(), s.Namespace)},
			Next: []event.Check{{Why: "its namespaceSelector", Command: kubectl("", "get %s %s -o yaml", strings.ToLower(h.config.Kind), h.config.Name)}},
		})
	}
}

// makesPods says whether a rule is about the making of pods.
func makesPods(r admissionv1.RuleWithOperations) bool {
	has := func(list []string, want ...string) bool {
		return slices.ContainsFunc(want, func(w string) bool { return slices.Contains(list, w) })
	}
	made := slices.Contains(r.Operations, admissionv1.Create) || slices.Contains(r.Operations, admissionv1.OperationAll)
	return made && has(r.APIGroups, "", "*") && has(r.Resources, "pods", "*", "*/*")
}

// apiBreaks says what does not work without an API.
var apiBreaks = map[string]string{
	"metrics.k8s.io": "kubectl top and autoscaling by CPU and memory", "custom.metrics.k8s.io": "autoscaling by custom metrics", "external.metrics.k8s.io": "autoscaling by external metrics",
}

func apiServices(c *Cluster, found func(Problem)) {
	for _, a := range c.APIServices {
		k, ok := state(a, objects(a, "status", "conditions"), "Available")
		at := since(k, "lastTransitionTime")
		if !ok || text(k, "status") != "False" || c.Now.Sub(at) < starting {
			continue
		}
		e := entityOf(a)
		seen, brief := said(k)
		breaks := orElse(apiBreaks[text(a, "spec", "group")], "everything of "+text(a, "spec", "group"))
		ns, name := text(a, "spec", "service", "namespace"), text(a, "spec", "service", "name")
		p := Problem{
			Entity: e, State: true, Urgency: event.Broken, Since: at, Title: "not available", Brief: brief + "; without it: " + breaks, Seen: []string{seen},
			Detail: "While an API is not available, namespaces cannot be deleted, since nobody can say what is in them.",
			Next:   []event.Check{describe(e, "its Service and condition")},
		}
		if name != "" {
			p.Next = append([]event.Check{c.whoAnswers(ns, name)}, p.Next...)
			if ok, why, chosen := c.serves(ns, name); !ok {
				p.Brief = why + "; without it: " + breaks
				effect := p
				effect.State, effect.Title, effect.Brief = false, "API "+e.Name+" is not available", ""
				if c.lost(chosen, effect, found) {
					continue
				}
			}
		}
		found(p)
	}
}

func namespaces(c *Cluster, found func(Problem)) {
	var dead []Problem
	apiServices(c, func(p Problem) { dead = append(dead, p) })
	for _, n := range c.Namespaces {
		if n.DeletionTimestamp == nil || c.age(*n.DeletionTimestamp) < terminating {
			continue
		}
		e := entity("Namespace", n)
		p := Problem{
			Entity: e, State: true, Urgency: event.Soon, Since: n.DeletionTimestamp.Time, Title: "Terminating",
			Next: []event.Check{{Why: "its conditions say what remains", Command: kubectl("", "get namespace %s -o yaml", n.Name)}},
		}
		for _, kind := range []corev1.NamespaceConditionType{
			corev1.NamespaceDeletionDiscoveryFailure, corev1.NamespaceDeletionGVParsingFailure, corev1.NamespaceFinalizersRemaining, corev1.NamespaceContentRemaining, corev1.NamespaceDeletionContentFailure,
		} {
			k, holds := condition(n.Status.Conditions, kind)
			if !holds {
				continue
			}
			p.Seen = append(p.Seen, fmt.Sprintf("condition %s=True %s: %s", k.Type, k.Reason, k.Message))
			if p.Brief == "" {
				p.Brief = oneLine(k.Message, 160)
			}
			if kind == corev1.NamespaceDeletionDiscoveryFailure && len(dead) > 0 {
				// Nobody can say what is in it before that API answers again.
				p.State, p.Effect, p.Root, p.Title = false, true, dead[0].Root, "Namespace "+n.Name+" cannot be deleted"
				if p.Root.IsZero() {
					p.Root = dead[0].Entity
				}
			}
		}
		if p.Brief == "" && len(n.Spec.Finalizers) > 0 {
			p.Brief = "waits for the finalizer " + string(n.Spec.Finalizers[0])
		}
		if len(p.Seen) == 0 {
			p.Seen = []string{fmt.Sprintf("deletionTimestamp %s, spec.finalizers %v", n.DeletionTimestamp.UTC().Format(time.RFC3339), n.Spec.Finalizers)}
		}
		found(p)
	}
}
