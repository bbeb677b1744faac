package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

func apiRequests(c *Cluster, found func(Problem)) {
	tell := func(m Measured, u event.Urgency, title, detail string) {
		found(holds(m, Problem{State: u != event.Hygiene, Urgency: u, Title: title, Detail: detail, Next: []event.Check{{Why: "what the API server says of itself", Command: "kubectl get --raw /readyz?verbose"}}}))
	}
	fast := c.measured("api_burns_fast")
	for _, m := range fast {
		tell(m, event.Broken, fmt.Sprintf("API server fails %s of its requests", percent(m.Value)), "")
	}
	for _, m := range c.measured("api_burns") {
		if len(fast) == 0 {
			tell(m, event.Soon, fmt.Sprintf("API server fails %s of its requests", percent(m.Value)), "")
		}
	}
	for _, m := range c.measured("api_terminates") {
		tell(m, event.Soon, fmt.Sprintf("API server turns away %s of its requests", percent(m.Value)), "It has more to do than it can, or a client asks without end.")
	}
	for _, m := range c.measured("api_client_certificates") {
		tell(m, event.Hygiene, "a client's certificate ends in "+span(time.Duration(m.Value*float64(time.Second))), "Which client it is, its audit log says.")
	}
	for _, m := range c.measured("deprecated_api") {
		l := m.Labels
		tell(m, event.Hygiene, fmt.Sprintf("%s of %s/%s are asked for, and gone in v%s", l["resource"], cmp.Or(l["group"], "core"), l["version"], l["removed_release"]), "Once the cluster is upgraded, whoever asks for them fails.")
	}
	for _, m := range c.measured("api_clients_failing") {
		found(holds(m, Problem{
			Urgency: event.Soon, Title: fmt.Sprintf("the API server fails %s of its requests", percent(m.Value)), Confidence: event.Medium,
			Next: []event.Check{{Why: "what the API server says of itself", Command: "kubectl get --raw /readyz?verbose"}, closely(m.Entity, "what it asks for")},
		}))
	}
	c.aggregated(found)
}

// aggregated tells of APIs by other servers that come and go. What is not
// available now is told by [apiServices].
func (c *Cluster) aggregated(found func(Problem)) {
	told := map[event.Entity]bool{}
	tell := func(m Measured, title string) {
		i := slices.IndexFunc(c.APIServices, func(o Object) bool { return text(o, "metadata", "name") == m.Entity.Name })
		if i < 0 || told[m.Entity] {
			return // it is gone
		}
		if k, ok := state(c.APIServices[i], objects(c.APIServices[i], "status", "conditions"), "Available"); ok && text(k, "status") == "False" {
			return
		}
		told[m.Entity] = true
		found(holds(m, Problem{State: true, Urgency: event.Soon, Title: title, Next: []event.Check{describe(m.Entity, "its Service and condition")}}))
	}
	for _, m := range c.measured("aggregated_down") {
		tell(m, fmt.Sprintf("was available for %s of ten minutes", percent(m.Value)))
	}
	for _, m := range c.measured("aggregated_errors") {
		tell(m, fmt.Sprintf("was not available %.0f times in ten minutes", m.Value))
	}
}

// controlling says what no longer happens while the targets of a job of the
// control plane are down, if they are down for others too.
var controlling = map[string]string{
	"kube-controller-manager": "pods may not be created and nodes not be watched", "kube-scheduler": "new pods may get no node", "kube-proxy": "Services may lead to pods that are gone",
	"etcd": "the API server may not be able to write", "kube-etcd": "the API server may not be able to write", "apiserver": "requests of clients may fail", "coredns": "names may not be resolved",
}

func targets(c *Cluster, found func(Problem)) {
	for _, k := range []struct {
		name    string
		urgency event.Urgency
		says    string
	}{
		{"targets_down", event.Soon, "%s of its targets cannot be read since ten minutes or more"},
		{"targets_never_up", event.Hygiene, "%s of its targets could never be read"},
	} {
		for _, m := range c.measured(k.name) {
			p := holds(m, Problem{State: true, Urgency: k.urgency, Title: fmt.Sprintf(k.says, percent(m.Value)), Detail: "What Prometheus does not read, no alert and no detector sees."})
			if effect := controlling[m.Entity.Name]; effect != "" && k.urgency == event.Soon {
				p.Brief = "if it is down: " + effect
			}
			if ns, name := m.Entity.Namespace, m.Entity.Name; c.exists("services", ns, name) {
				p.Next = []event.Check{c.whoAnswers(ns, name)}
				effect := p
				effect.State, effect.Title, effect.Brief = false, "Prometheus cannot read the job "+name, ""
				if c.lost(c.chosen(ns, name), effect, found) {
					continue
				}
			} else if ns != "" {
				p.Next = []event.Check{{Why: "which pods it may be, and where they are", Command: kubectl(ns, "get pods -o wide")}}
			}
			found(p)
		}
	}
}

// chosen are the pods that a Service selects.
func (c *Cluster) chosen(namespace, name string) []*corev1.Pod {
	s, _ := named(c.Services, event.Entity{Namespace: namespace, Kind: "Service", Name: name}).(*corev1.Service)
	if s == nil || !selecting(s) {
		return nil
	}
	pods, _ := c.behind(s)
	return pods
}

func monitoring(c *Cluster, found func(Problem)) {
	tell := func(m Measured, u event.Urgency, title, detail string) {
		found(holds(m, Problem{Urgency: u, Title: title, Detail: detail, Next: []event.Check{closely(m.Entity, "what it says in its logs")}}))
	}
	for _, m := range c.measured("config_refused") {
		tell(m, event.Soon, "refused its last configuration", "It goes on with the one before: what was changed since is neither read nor alerted on.")
	}
	for _, m := range c.measured("alertmanager_config_refused") {
		tell(m, event.Soon, "refused its last configuration", "It goes on with the one before: routes and receivers that were changed since are not used.")
	}
	for _, m := range c.measured("rules_failing") {
		tell(m, event.Soon, fmt.Sprintf("failed %.0f times to evaluate the rules %s", m.Value, m.Labels["rule_group"]), "Alerts of these rules do not fire.")
	}
	for _, m := range c.measured("notifications_failing") {
		u := event.Soon
		if m.Value > 0.5 {
			u = event.Broken
		}
		tell(m, u, fmt.Sprintf("%s of its notifications by %s fail", percent(m.Value), cmp.Or(m.Labels["integration"], "one integration")), "Alerts do not arrive.")
	}
}
