package deploy_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// reached are the ports that somebody has to reach, by pod. What is not here is
// for the kubelet, which no policy holds up, or for nobody.
var reached = map[string][]string{
	"oncall": {"http"}, "collector": {"http"}, "detector": {"http"}, "correlator": {"http"}, "reasoner": {"http"}, "notifier": {"http"},
	"nats": {"client", "route"},
}

func podLabels(o object) map[string]any {
	labels, _ := o.at("spec", "template", "metadata", "labels").(map[string]any)
	return labels
}

// listening are the ports of a pod by name.
func listening(t *testing.T, spec object) map[string]any {
	t.Helper()
	out := map[string]any{}
	for _, c := range containers(spec) {
		for _, p := range c.list("ports") {
			name, _ := p.at("name").(string)
			if name == "" {
				t.Errorf("port %v of %v has no name, so that no policy or Service can follow it", p.at("containerPort"), c.at("name"))
			}
			if out[name] != nil {
				t.Errorf("two ports are called %s", name)
			}
			out[name] = p.at("containerPort")
		}
	}
	return out
}

func TestAPolicyLetsInWhatMustBeReachedAndNothingElse(t *testing.T) {
	pods(t, func(t *testing.T, _ string, all []object, o, spec object) {
		open := map[string]bool{}
		ports := listening(t, spec)
		for _, p := range all {
			match, _ := p.at("spec", "podSelector", "matchLabels").(map[string]any)
			if p.kind() != "NetworkPolicy" || !selects(match, podLabels(o)) {
				continue
			}
			for _, rule := range p.list("spec", "ingress") {
				if len(rule.list("from")) == 0 || len(rule.list("ports")) == 0 {
					t.Errorf("policy %s lets in anybody, or to any port: %v", p.name(), rule)
				}
				for _, port := range rule.list("ports") {
					name := fmt.Sprint(port.at("port"))
					if ports[name] == nil {
						t.Errorf("policy %s opens %s, where nothing listens", p.name(), name)
					}
					open[name] = true
				}
			}
		}
		var want []string
		for _, name := range reached[o.name()] {
			if ports[name] != nil {
				want = append(want, name)
			}
		}
		if got := slices.Sorted(maps.Keys(open)); !slices.Equal(got, slices.Sorted(slices.Values(want))) || len(got) == 0 {
			t.Errorf("ports %v are let in, want %v", got, want)
		}
	})
}

func TestServicesAndPoliciesHoldOfPodsThatExist(t *testing.T) {
	for _, overlay := range overlays {
		all := load(t, overlay)
		var workloads []object
		for _, o := range all {
			if o.podSpec() != nil {
				workloads = append(workloads, o)
			}
		}
		// chosen are the pods that a selector, expressions included, chooses.
		chosen := func(selector object) []object {
			match, _ := selector.at("matchLabels").(map[string]any)
			return slices.DeleteFunc(slices.Clone(workloads), func(o object) bool {
				if !selects(match, podLabels(o)) {
					return true
				}
				for _, e := range selector.list("matchExpressions") {
					values, _ := e.at("values").([]any)
					if e.at("operator") != "In" || !slices.Contains(values, podLabels(o)[fmt.Sprint(e.at("key"))]) {
						return true
					}
				}
				return false
			})
		}
		// ours are the pods of a rule's peer; nil of one in other namespaces.
		peer := func(p object) (object, bool) {
			s, ok := p.at("podSelector").(map[string]any)
			return s, ok && p.at("namespaceSelector") == nil
		}
		for _, o := range all {
			switch o.kind() {
			case "Service":
				selector := object{"matchLabels": o.at("spec", "selector")}
				pods := chosen(selector)
				if len(pods) != 1 {
					t.Errorf("%s: %s leads to %d kinds of pods, want one", overlay, o.id(), len(pods))
					continue
				}
				for _, p := range o.list("spec", "ports") {
					if name := fmt.Sprint(p.at("targetPort")); listening(t, pods[0].podSpec())[name] == nil {
						t.Errorf("%s: %s leads to port %s of %s, which is not there", overlay, o.id(), name, pods[0].id())
					}
				}
			case "NetworkPolicy":
				selector, _ := o.at("spec", "podSelector").(map[string]any)
				if len(chosen(selector)) == 0 {
					t.Errorf("%s: %s holds of no pod: %v", overlay, o.id(), selector)
				}
				for _, rule := range append(o.list("spec", "ingress"), o.list("spec", "egress")...) {
					for _, p := range append(rule.list("from"), rule.list("to")...) {
						if s, ok := peer(p); ok && len(chosen(s)) == 0 {
							t.Errorf("%s: %s names pods that are not there: %v", overlay, o.id(), s)
						}
					}
				}
				// A port of ours that a pod may go to has to exist there.
				for _, rule := range o.list("spec", "egress") {
					for _, to := range rule.list("to") {
						s, ok := peer(to)
						if !ok {
							continue
						}
						for _, pod := range chosen(s) {
							for _, p := range rule.list("ports") {
								if name := fmt.Sprint(p.at("port")); listening(t, pod.podSpec())[name] == nil {
									t.Errorf("%s: %s may go to port %s of %s, which is not there", overlay, o.id(), name, pod.id())
								}
							}
						}
					}
				}
			}
		}
	}
}
