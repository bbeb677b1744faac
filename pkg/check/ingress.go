package check

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

var ingressChecks = []Info{{
	Name: "ingresses", Needs: []string{"ingresses"},
	Doc: "Ingresses that lead to a Service that is not there or has no such port, whose class is not there, that no controller takes, or about which their load balancer or controller reports an error. " +
		"Not: a class in the old annotation, the default class, an Ingress of a missing class that has an address all the same, ExternalName Services, or ports that an annotation gives a meaning. Services without endpoints have a line of their own.",
	Run: ingresses,
}}

// backend is where an Ingress leads.
type backend struct {
	path    string // host and path
	service string
	port    networkingv1.ServiceBackendPort
}

func backends(i *networkingv1.Ingress) []backend {
	var out []backend
	add := func(path string, b *networkingv1.IngressBackend) {
		if b != nil && b.Service != nil {
			out = append(out, backend{path, b.Service.Name, b.Service.Port})
		}
	}
	add("default", i.Spec.DefaultBackend)
	for _, r := range i.Spec.Rules {
		if r.HTTP != nil {
			for k := range r.HTTP.Paths {
				add(r.Host+r.HTTP.Paths[k].Path, &r.HTTP.Paths[k].Backend)
			}
		}
	}
	return out
}

func ingresses(c *Cluster, found func(Problem)) {
	byDefault := slices.ContainsFunc(c.IngressClasses, func(k *networkingv1.IngressClass) bool {
		return k.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true"
	})
	for _, i := range c.Ingresses {
		e := entity("Ingress", i)
		ingressBackends(c, i, e, found)
		addressed := len(i.Status.LoadBalancer.Ingress) > 0
		_, old := i.Annotations["kubernetes.io/ingress.class"]
		if name := i.Spec.IngressClassName; c.Read("ingressclasses") && !addressed && !old && c.age(i.CreationTimestamp) > starting {
			var have []string
			for _, k := range c.IngressClasses {
				have = append(have, k.Name)
			}
			classes := "the cluster has no IngressClass"
			if len(have) > 0 {
				classes = "the cluster has " + list(have, 4)
			}
			p := Problem{
				Entity: e, State: true, Urgency: event.Broken, Since: i.CreationTimestamp.Time, Title: "no controller takes it", Next: []event.Check{{Why: "the classes there are", Command: "kubectl get ingressclasses"}, describe(e, "its class, backends and events")},
				Seen: []string{"no address in its status", classes},
			}
			switch {
			case name != nil && !c.exists("ingressclasses", "", *name):
				p.Brief = fmt.Sprintf("its class %s is not there; %s", *name, classes)
				found(p)
			case name == nil && !byDefault:
				p.Confidence, p.Brief = event.Medium, "it names no class and none is the default; "+classes
				found(p)
			}
		}
		for _, l := range i.Status.LoadBalancer.Ingress {
			for _, port := range l.Ports {
				if port.Error != nil {
					found(Problem{
						Entity: e, State: true, Urgency: event.Broken, Severity: event.Warning, Title: fmt.Sprintf("its load balancer reports %s for port %d", *port.Error, port.Port),
						Seen: []string{fmt.Sprintf("status.loadBalancer port %d error %s", port.Port, *port.Error)}, Next: []event.Check{describe(e, "its events")},
					})
				}
			}
		}
		if said := c.warned(e, recently); len(said) > 0 {
			last := said[len(said)-1]
			p := Problem{
				Entity: e, Cause: true, Urgency: event.Soon, Since: last.FirstTimestamp, Title: last.Reason + ": " + oneLine(last.Message, 140), Detail: last.Message,
				Seen: []string{fmt.Sprintf("event %s x%d: %s", last.Reason, last.Occurrences(), last.Message)}, Next: []event.Check{describe(e, "what its controller says")},
			}
			if !addressed && c.age(i.CreationTimestamp) > assigning {
				p.Urgency = event.Broken
			}
			found(p)
		}
	}
}

// ingressBackends tells in one problem where an Ingress leads in vain.
func ingressBackends(c *Cluster, i *networkingv1.Ingress, e event.Entity, found func(Problem)) {
	if !c.Read("services") {
		return
	}
	var wrong, seen []string
	all := backends(i)
	failing := 0
	for _, b := range all {
		if b.port.Name == "use-annotation" {
			continue // of the AWS controller: the annotation says where it leads
		}
		why := c.noPort(i.Namespace, b.service, b.port.Name, b.port.Number)
		if why == "" {
			continue
		}
		failing++
		seen = append(seen, fmt.Sprintf("%s: %s", b.path, why))
		if !slices.Contains(wrong, why) {
			wrong = append(wrong, why)
		}
	}
	if len(wrong) == 0 {
		return
	}
	p := Problem{
		Entity: e, State: true, Urgency: event.Broken, Title: "leads nowhere", Brief: list(wrong, 3), Seen: seen,
		Next: []event.Check{{Why: "the Services and ports there are", Command: kubectl(i.Namespace, "get services")}, describe(e, "its rules and backends")},
	}
	if failing < len(all) {
		p.Title, p.Severity = fmt.Sprintf("%d of %s lead nowhere", failing, evidence.Count(len(all), "path")), event.Warning
	}
	found(p)
}

// noPort says why a Service cannot be led to at a port, or "".
func (c *Cluster) noPort(namespace, service, name string, number int32) string {
	s, _ := named(c.Services, event.Entity{Namespace: namespace, Kind: "Service", Name: service}).(*corev1.Service)
	if s == nil {
		if c.Namespace != "" && c.Namespace != namespace {
			return "" // it was not read
		}
		return fmt.Sprintf("Service %s is not there", service)
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return ""
	}
	var have []string
	for _, p := range s.Spec.Ports {
		if name != "" && p.Name == name || name == "" && p.Port == number {
			return ""
		}
		have = append(have, strings.TrimSuffix(fmt.Sprintf("%d/%s", p.Port, p.Name), "/"))
	}
	if name == "" {
		name = fmt.Sprint(number)
	}
	return fmt.Sprintf("Service %s has no port %s (it has %s)", service, name, list(have, 4))
}
