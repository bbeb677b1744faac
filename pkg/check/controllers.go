package check

import (
	"cmp"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// controllers are what writes a lease of its name in kube-system while it works,
// and what happens no longer when it does not.
var controllers = map[string]string{
	"kube-controller-manager":  "pods are not created or replaced, and dead nodes not noticed",
	"kube-scheduler":           "new pods get no node",
	"cloud-controller-manager": "load balancers and nodes are not followed",
}

// leaseLost is after how long a lease that is not renewed is more than one that
// changes its holder: leases are renewed every two seconds and given up after 15.
const leaseLost = 2 * time.Minute

// leaseForgotten is after how long nobody can be missing whoever wrote a lease:
// it was removed, and its lease left behind.
const leaseForgotten = 24 * time.Hour

var controllerChecks = []Info{{
	Name: "controllers", Needs: []string{"leases"},
	Doc: "Controller manager, scheduler and cloud controller manager that have not renewed their lease for two minutes: nobody does their work. Not: where they hold none, since only one is ever started; a lease that was left behind a day ago or more.",
	Run: controllersWork,
}}

func controllersWork(c *Cluster, found func(Problem)) {
	for _, l := range c.Leases {
		name := text(l, "metadata", "name")
		stops := controllers[name]
		if text(l, "metadata", "namespace") != "kube-system" || stops == "" {
			continue
		}
		renewed, err := time.Parse(time.RFC3339, text(l, "spec", "renewTime"))
		if err != nil {
			continue // it was never held
		}
		held, _ := number(at(l, "spec", "leaseDurationSeconds"))
		silent := c.Now.Sub(renewed)
		if silent < max(leaseLost, 4*time.Duration(held)*time.Second) || silent > leaseForgotten {
			continue
		}
		p := Problem{
			Entity: event.Entity{Namespace: "kube-system", Kind: "Lease", Name: name}, State: true, Urgency: event.Broken, Since: renewed,
			Title: name + " has not renewed its lease", Brief: stops,
			Seen: []string{fmt.Sprintf("lease renewTime %s, held by %s for %d s", renewed.UTC().Format(time.RFC3339), cmp.Or(text(l, "spec", "holderIdentity"), "nobody"), held)},
			Next: []event.Check{
				{Why: "who held it, and until when", Command: kubectl("kube-system", "get lease %s -o yaml", name)},
				{Why: "whether its pods are there, where they are pods", Command: kubectl("kube-system", "get pods -o wide -l component=%s", name)},
			},
		}
		if name == "cloud-controller-manager" {
			p.Urgency = event.Soon
		}
		var pods []*corev1.Pod
		for _, pod := range c.byNamespace["kube-system"] {
			if pod.Labels["component"] == name {
				pods = append(pods, pod)
			}
		}
		effect := p
		effect.State, effect.Title, effect.Brief = false, name+" does not work: "+stops, ""
		if !c.lost(pods, effect, found) {
			found(p)
		}
	}
}
