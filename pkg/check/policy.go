package check

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Policy is policies/health.yaml: what a team has agreed upon beside what is right
// for everybody. What is left out is allowed.
type Policy struct {
	// Registries are where images may come from: a host, or a host and the begin of
	// a path. registry.example allows all of it, ghcr.io/acme what is below acme,
	// *.example every host of that domain.
	Registries []string `yaml:"registries"`
	// LoadBalancers are the Services that may have a load balancer, as health prints
	// them without their kind, as patterns: ingress/*. An empty list allows none.
	LoadBalancers []string `yaml:"load_balancers"`
	// NodePorts are the Services that may have a port on every node, likewise.
	NodePorts []string `yaml:"node_ports"`
}

// LoadPolicy reads policies/health.yaml.
func LoadPolicy(s *policy.Store) (Policy, error) {
	var p Policy
	b, _ := s.File("health.yaml")
	err := policy.Decode("policies/health.yaml", b, &p)
	return p, err
}

// Validate checks the fields.
func (p *Policy) Validate() error {
	var errs []error
	bad := func(at string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: at, Value: value, Problem: problem, Fix: fix})
	}
	if p.Registries != nil && len(p.Registries) == 0 {
		bad("registries", nil, "is empty, which would allow no image", "leave it out, or write registries: [registry.example]")
	}
	for i, r := range p.Registries {
		host, _, _ := strings.Cut(r, "/")
		switch at := fmt.Sprintf("registries[%d]", i); {
		case strings.Contains(r, "://"):
			bad(at, r, "is an address, and images name none", "write "+strings.SplitN(r, "://", 2)[1])
		case strings.Contains(r, "@") || strings.ContainsRune(r[len(host):], ':'):
			bad(at, r, "is an image, and not where images come from", "leave out its version")
		case strings.Contains(strings.TrimPrefix(r, "*."), "*") || host == "" || strings.HasSuffix(r, "/"):
			bad(at, r, "is no host with or without a path", "write registry.example, ghcr.io/acme or *.example")
		case !strings.ContainsAny(host, ".:") && host != "localhost":
			bad(at, r, "does not begin with a host", "write docker.io/"+r)
		}
	}
	for _, l := range []struct {
		field    string
		patterns []string
	}{{"load_balancers", p.LoadBalancers}, {"node_ports", p.NodePorts}} {
		for i, s := range l.patterns {
			if _, err := path.Match(s, "x"); err != nil || strings.Count(s, "/") != 1 {
				bad(fmt.Sprintf("%s[%d]", l.field, i), s, "is not a namespace and a name", "write ingress/* or shop/web")
			}
		}
	}
	return errors.Join(errs...)
}

// whence is where an image comes from, and its name there: what a container
// runtime makes of it, which takes docker.io for what names no host.
func whence(image string) string {
	image, _, _ = strings.Cut(image, "@")
	host, rest, ok := strings.Cut(image, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, rest = "docker.io", image
		if !ok {
			rest = "library/" + image
		}
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		rest = rest[:i]
	}
	return host + "/" + rest
}

// allowed says whether an image may come from where it does.
func (p *Policy) allowed(image string) bool {
	from := whence(image)
	return len(p.Registries) == 0 || slices.ContainsFunc(p.Registries, func(r string) bool {
		if domain, ok := strings.CutPrefix(r, "*"); ok {
			host, _, _ := strings.Cut(from, "/")
			return strings.HasSuffix(host, domain)
		}
		return strings.HasPrefix(from, r+"/") || from == r
	})
}

// declaredHygiene are the checks of what policies/health.yaml says.
var declaredHygiene = []Info{
	{
		Name: "registry_hygiene", Needs: []string{"pods"},
		Doc: "Workloads with an image from a registry that policies/health.yaml does not name. Not: where it names none, and what runs in kube-system, kube-public and kube-node-lease.",
		Run: registryHygiene,
	},
	{
		Name: "exposure_hygiene", Needs: []string{"services"}, Partly: []string{"nodes", "pods"},
		Doc: "Services of type LoadBalancer or NodePort: those that policies/health.yaml does not allow where it has a list, and what externalTrafficPolicy means for them: with Local the nodes without a pod of it drop what reaches them, with Cluster a load balancer's pods do not see the sender's address. " +
			"Not: Services that the list allows, but for what Local drops; of type ClusterIP; system namespaces.",
		Run: exposureHygiene,
	},
}

func registryHygiene(c *Cluster, found func(Problem)) {
	if len(c.Policy.Registries) == 0 {
		return
	}
	for root, pods := range c.ordered() {
		if slices.Contains(systemNamespaces, root.Namespace) || root.Kind == "Node" {
			continue
		}
		var from, seen []string
		containers(&pods[0].Spec, func(k *corev1.Container) {
			if c.Policy.allowed(k.Image) {
				return
			}
			host, _, _ := strings.Cut(whence(k.Image), "/")
			if !slices.Contains(from, host) {
				from = append(from, host)
			}
			seen = append(seen, fmt.Sprintf("pod %s container %s image %s", pods[0].Name, k.Name, k.Image))
		})
		if len(from) > 0 {
			found(Problem{
				Entity: root, Root: root, Urgency: event.Hygiene, Title: "image from " + list(from, 3) + ", which policies/health.yaml does not allow", Seen: seen,
				Next: []event.Check{{Why: "its images", Command: kubectl(root.Namespace, "get pod %s -o yaml", pods[0].Name)}},
			})
		}
	}
}

// without are the nodes that no pod of a Service is ready on, and how many there
// are that its ports are open on.
func (c *Cluster) without(s *corev1.Service) (names []string, all int) {
	_, ready := c.behind(s)
	on := map[string]bool{}
	for _, p := range ready {
		on[p.Spec.NodeName] = true
	}
	for _, n := range c.Nodes {
		if _, left := n.Labels[corev1.LabelNodeExcludeBalancers]; left && s.Spec.Type == corev1.ServiceTypeLoadBalancer || c.deadNodes[n.Name] {
			continue
		}
		if all++; !on[n.Name] {
			names = append(names, n.Name)
		}
	}
	return names, all
}

func exposureHygiene(c *Cluster, found func(Problem)) {
	for _, s := range c.Services {
		what, patterns := "", []string(nil)
		switch s.Spec.Type {
		case corev1.ServiceTypeLoadBalancer:
			what, patterns = "load balancer", c.Policy.LoadBalancers
		case corev1.ServiceTypeNodePort:
			what, patterns = "port on every node", c.Policy.NodePorts
		}
		if what == "" || slices.Contains(systemNamespaces, s.Namespace) {
			continue
		}
		allowed := slices.ContainsFunc(patterns, func(p string) bool { ok, err := path.Match(p, s.Namespace+"/"+s.Name); return err == nil && ok })
		local := s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
		var lacks []string
		switch {
		case allowed:
		case patterns != nil:
			lacks = append(lacks, "has a "+what+", which policies/health.yaml does not allow")
		case s.Spec.Type == corev1.ServiceTypeNodePort:
			lacks = append(lacks, "has a "+what+": whoever reaches a node reaches it")
		case !local:
			lacks = append(lacks, "externalTrafficPolicy Cluster: its pods do not see the sender's address")
		}
		seen := []string{fmt.Sprintf("spec.type=%s externalTrafficPolicy=%s", s.Spec.Type, s.Spec.ExternalTrafficPolicy)}
		if local && selecting(s) && c.Read("nodes") && c.Read("pods") {
			if names, all := c.without(s); len(names) > 0 && len(names) < all {
				drop := fmt.Sprintf("externalTrafficPolicy Local: %d of %d nodes have no pod of it, and drop what reaches them", len(names), all)
				if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
					drop = fmt.Sprintf("externalTrafficPolicy Local: %d of %d nodes have no pod of it, and the load balancer must know", len(names), all)
				}
				lacks = append(lacks, drop)
				seen = append(seen, "no ready pod of it on: "+list(names, 10))
			}
		}
		if len(lacks) > 0 {
			e := entity("Service", s)
			found(Problem{
				Entity: e, Root: e, Urgency: event.Hygiene, Title: strings.Join(lacks, "; "), Seen: seen,
				Next: []event.Check{{Why: "which nodes its pods are on", Command: kubectl(s.Namespace, "get service %s -o wide", s.Name)}},
			})
		}
	}
}
