package detectors

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

var update = flag.Bool("update", false, "write docs/event-reasons.md")

// TestTheCatalogueOfReasonsIsDocumented makes docs/event-reasons.md.
func TestTheCatalogueOfReasonsIsDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Reasons of Kubernetes events\n\nMade from the code by `go test ./services/detector/detectors -run Catalogue -update`.\n\n" +
		"What `event_surge` ([detectors.md](detectors.md)) knows of the reasons that the kubelet, the\nscheduler, controllers, autoscalers and the node problem detector give to events: what one\nmeans, how bad it is, how often it has to come within ten minutes, and what to look at first.\nA Warning of any other reason has to come oftener than it used to.\n\n" +
		"| reason | means | severity | times | first check |\n|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(reasons)) {
		r := reasons[name]
		about := event.Entity{Namespace: "NS", Kind: "KIND", Name: "NAME"}
		switch r.first {
		case seePrevious:
			about.Kind = "Pod"
		case seeNode:
			about = event.Entity{Kind: "Node", Name: "NAME"}
		}
		c := r.first.check(event.Entity{Namespace: strings.ToLower(about.Namespace), Kind: about.Kind, Name: strings.ToLower(about.Name)})
		if r.meaning == "" || r.least < 1 || c == nil {
			t.Fatalf("%s: no meaning, no number or no first check: %+v", name, r)
		}
		if err := rule.ReadOnly(c.Command); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		command := strings.NewReplacer("-n ns ", "-n NS ", "kind/name", "KIND/NAME", "pod/name", "pod/NAME", "node name", "node NAME").Replace(c.Command)
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %s: `%s` |\n", name, r.meaning, r.severity, r.least, c.Why, command)
	}
	const path = "../../../docs/event-reasons.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != b.String() {
		t.Error("docs/event-reasons.md is not what the code says; run: go test ./services/detector/detectors -run Catalogue -update")
	}
}

func TestTheFirstCheckOfAnEventIsForItsObject(t *testing.T) {
	for name, c := range map[string]struct {
		first first
		about event.Entity
		want  string
	}{
		"what a container said before":  {seePrevious, event.Entity{Namespace: "shop", Kind: "Pod", Name: "web-0"}, "kubectl -n shop logs pod/web-0 --all-containers --previous --tail=50"},
		"a Job that failed has no log":  {seePrevious, event.Entity{Namespace: "shop", Kind: "Job", Name: "load"}, "kubectl -n shop describe job/load"},
		"a node":                        {seeNode, event.Entity{Kind: "Node", Name: "ip-10-0-0-1.eu.internal"}, "kubectl describe node ip-10-0-0-1.eu.internal"},
		"a node's reason about a pod":   {seeNode, event.Entity{Namespace: "shop", Kind: "Pod", Name: "web-0"}, "kubectl -n shop describe pod/web-0"},
		"the node's network":            {seeNetwork, event.Entity{Namespace: "shop", Kind: "Pod", Name: "web-0"}, "kubectl get pods -n kube-system -o wide"},
		"a name that is a command":      {seeObject, event.Entity{Namespace: "shop", Kind: "Pod", Name: "x; rm -rf /"}, ""},
		"a namespace that is an option": {seeObject, event.Entity{Namespace: "--as=admin", Kind: "Pod", Name: "x"}, ""},
		"a kind that is two words":      {seeObject, event.Entity{Namespace: "shop", Kind: "Pod $(id)", Name: "x"}, ""},
		"no object":                     {seeObject, event.Entity{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if k := c.first.check(c.about); k != nil {
				got = k.Command
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
