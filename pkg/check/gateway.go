package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

var gatewayChecks = []Info{
	{
		Name: "gateways", Needs: []string{"gateways"},
		Doc: "GatewayClasses that no controller accepts and a Gateway uses; Gateways whose class is not there, or that are not accepted or programmed, or have a listener that is not, with the reason from their conditions. Not: conditions of an older generation, or a Gateway younger than five minutes that still waits.",
		Run: gateways,
	},
	{
		Name: "routes", Needs: []string{"gateways"},
		Doc: "HTTPRoutes and GRPCRoutes to a Gateway, Service or port that is not there, that the Gateway's allowedRoutes refuse, or whose references need a ReferenceGrant. Not: backends of weight 0, parents that are no Gateway, and namespaces that were not read.",
		Run: routes,
	},
}

// state finds a condition of a custom resource that is about its present
// generation; ok is false when there is none.
func state(o Object, list []Object, kind string) (c Object, ok bool) {
	for _, c := range list {
		if text(c, "type") != kind {
			continue
		}
		about, told := number(c["observedGeneration"])
		is, known := number(at(o, "metadata", "generation"))
		return c, !told || !known || about >= is
	}
	return nil, false
}

// number is a whole number of decoded JSON or YAML.
func number(v any) (int64, bool) {
	switch n := v.(type) {
	case float64:
		return int64(n), true
	case int64:
		return n, true
	case int:
		return int64(n), true
	}
	return 0, false
}

func entityOf(o Object) event.Entity {
	return event.Entity{Namespace: text(o, "metadata", "namespace"), Kind: text(o, "kind"), Name: text(o, "metadata", "name")}
}

// since is a time in a custom resource; zero where there is none.
func since(o Object, path ...string) time.Time {
	t, err := time.Parse(time.RFC3339, text(o, path...))
	if err != nil {
		return time.Time{}
	}
	return t
}

// customs are the objects of a kind of gateway.networking.k8s.io, by name.
func (c *Cluster) customs(kind string) []Object {
	var out []Object
	for _, o := range c.Gateways {
		if text(o, "kind") == kind {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b Object) int { return strings.Compare(entityOf(a).String(), entityOf(b).String()) })
	return out
}

// said is a condition as a line of evidence, and as what stands behind a title.
func said(k Object) (seen, brief string) {
	message := text(k, "message")
	return fmt.Sprintf("condition %s=%s %s: %s", text(k, "type"), text(k, "status"), text(k, "reason"), message), text(k, "reason") + ": " + oneLine(message, 120)
}

func gateways(c *Cluster, found func(Problem)) {
	refused := map[string]Object{} // classes, with the condition that says so
	known := map[string]bool{}
	for _, k := range c.customs("GatewayClass") {
		known[text(k, "metadata", "name")] = true
		if s, ok := state(k, objects(k, "status", "conditions"), "Accepted"); ok && text(s, "status") != "True" && c.Now.Sub(since(k, "metadata", "creationTimestamp")) > starting {
			refused[text(k, "metadata", "name")] = s
		}
	}
	users := map[string][]string{}
	for _, g := range c.customs("Gateway") {
		e, class := entityOf(g), text(g, "spec", "gatewayClassName")
		users[class] = append(users[class], Name(e))
		age := c.Now.Sub(since(g, "metadata", "creationTimestamp"))
		p := Problem{Entity: e, State: true, Urgency: event.Broken, Next: []event.Check{describe(e, "its conditions and listeners")}}
		if c.Read("gatewayclasses") && !known[class] {
			p.Title, p.Brief, p.Since = "no controller takes it", fmt.Sprintf("its GatewayClass %s is not there", class), since(g, "metadata", "creationTimestamp")
			p.Seen = []string{"spec.gatewayClassName=" + class, "no GatewayClass of that name"}
			p.Next = append([]event.Check{{Why: "the classes there are", Command: "kubectl get gatewayclasses"}}, p.Next...)
			found(p)
			continue
		}
		if refused[class] != nil {
			continue // told of the class
		}
		var wrong []string
		for _, kind := range []string{"Accepted", "Programmed"} {
			s, ok := state(g, objects(g, "status", "conditions"), kind)
			if !ok || text(s, "status") == "True" || age < assigning && text(s, "reason") == "Pending" {
				continue
			}
			seen, brief := said(s)
			p.Seen = append(p.Seen, seen)
			if p.Title == "" {
				p.Title, p.Brief, p.Since = "not "+strings.ToLower(kind), brief, since(s, "lastTransitionTime")
			}
		}
		for _, l := range objects(g, "status", "listeners") {
			for _, kind := range []string{"Accepted", "ResolvedRefs", "Programmed", "Conflicted"} {
				s, ok := state(g, objects(l, "conditions"), kind)
				good := "True"
				if kind == "Conflicted" {
					good = "False"
				}
				if !ok || text(s, "status") == good || age < assigning && text(s, "reason") == "Pending" {
					continue
				}
				seen, brief := said(s)
				p.Seen = append(p.Seen, "listener "+text(l, "name")+" "+seen)
				wrong = append(wrong, fmt.Sprintf("listener %s: %s", text(l, "name"), brief))
				if p.Since.IsZero() {
					p.Since = since(s, "lastTransitionTime")
				}
				break // what follows follows from it
			}
		}
		if len(wrong) > 0 {
			p.Brief = list(wrong, 2)
			if p.Title == "" {
				p.Title = fmt.Sprintf("%d of %s do not work", len(wrong), evidence.Count(len(objects(g, "status", "listeners")), "listener"))
				p.Severity = event.Warning
			}
		}
		if p.Title != "" {
			found(p)
		}
	}
	for _, k := range c.customs("GatewayClass") {
		name := text(k, "metadata", "name")
		if s := refused[name]; s != nil && len(users[name]) > 0 {
			e := entityOf(k)
			seen, brief := said(s)
			found(Problem{
				Entity: e, State: true, Urgency: event.Broken, Since: since(s, "lastTransitionTime"), Title: "not accepted", Brief: fmt.Sprintf("%s; used by %s", brief, list(users[name], 3)), Seen: []string{seen},
				Next: []event.Check{describe(e, "its controller's name and conditions")},
			})
		}
	}
}

// apart says whether what is in a namespace was not read.
func (c *Cluster) apart(namespace string) bool { return c.Namespace != "" && c.Namespace != namespace }

func routes(c *Cluster, found func(Problem)) {
	there := map[string]bool{}
	for _, g := range c.customs("Gateway") {
		e := entityOf(g)
		there[e.Namespace+"/"+e.Name] = true
	}
	for _, r := range append(c.customs("HTTPRoute"), c.customs("GRPCRoute")...) {
		e := entityOf(r)
		var wrong, seen []string
		whole := true // nothing of it works
		add := func(why, line string) {
			if !slices.Contains(wrong, why) {
				wrong = append(wrong, why)
			}
			seen = append(seen, line)
		}
		p := Problem{Entity: e, State: true, Urgency: event.Broken}
		for _, ref := range objects(r, "spec", "parentRefs") {
			if k := text(ref, "kind"); k != "" && k != "Gateway" {
				continue
			}
			ns := orElse(text(ref, "namespace"), e.Namespace)
			if !c.apart(ns) && !there[ns+"/"+text(ref, "name")] {
				add(fmt.Sprintf("Gateway %s/%s is not there", ns, text(ref, "name")), "parentRef "+ns+"/"+text(ref, "name"))
			}
		}
		gone := len(wrong) > 0
		rules := objects(r, "spec", "rules")
		failing := 0
		for i, rule := range rules {
			dead := false
			for _, b := range objects(rule, "backendRefs") {
				if k := text(b, "kind"); k != "" && k != "Service" || text(b, "group") != "" || !c.Read("services") {
					continue
				}
				if w, ok := number(b["weight"]); ok && w == 0 {
					continue
				}
				ns := orElse(text(b, "namespace"), e.Namespace)
				port, _ := number(b["port"])
				if c.apart(ns) {
					continue
				}
				if why := c.noPort(ns, text(b, "name"), "", int32(port)); why != "" { //nolint:gosec // a port fits
					add(why, fmt.Sprintf("rule %d: backendRef %s/%s:%d", i+1, ns, text(b, "name"), port))
					dead = true
				}
			}
			if dead {
				failing++
			}
		}
		static := len(wrong) > 0
		for _, parent := range objects(r, "status", "parents") {
			for _, kind := range []string{"Accepted", "ResolvedRefs"} {
				s, ok := state(r, objects(parent, "conditions"), kind)
				if !ok || text(s, "status") != "False" || kind == "ResolvedRefs" && static {
					continue // what was found above, in the controller's words
				}
				line, brief := said(s)
				name := text(parent, "parentRef", "name")
				if kind == "Accepted" {
					brief = fmt.Sprintf("Gateway %s refuses it: %s", name, brief)
				}
				add(brief, "parent "+name+" "+line)
				if p.Since.IsZero() {
					p.Since = since(s, "lastTransitionTime")
				}
			}
		}
		if len(wrong) == 0 {
			continue
		}
		if static && !gone && failing < len(rules) {
			whole = false
		}
		p.Title, p.Brief, p.Seen = "leads nowhere", list(wrong, 2), seen
		if !whole {
			p.Title, p.Severity = fmt.Sprintf("%d of %s lead nowhere", failing, evidence.Count(len(rules), "rule")), event.Warning
		}
		p.Next = []event.Check{describe(e, "its parents, backends and conditions"), {Why: "the Services there are", Command: kubectl(e.Namespace, "get services")}}
		found(p)
	}
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
