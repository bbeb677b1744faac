package deploy_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// withReceivers is prod with the component that lets others push.
func withReceivers(t *testing.T) []object {
	t.Helper()
	dir, err := os.MkdirTemp("kustomize", "with-receivers-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	write(t, filepath.Join(dir, "kustomization.yaml"), "namespace: oncall\nresources: [../overlays/prod]\ncomponents: [../components/receivers]\n")
	return parse(t, render(t, "../"+filepath.Base(dir)))
}

func TestReceiversAreReachedByNameFromWhoMayPush(t *testing.T) {
	all := withReceivers(t)
	ports := map[string]any{}
	mounted := false
	for _, o := range all {
		if o.id() == "Deployment/collector" {
			ports = listening(t, o.podSpec())
			mounted = slices.ContainsFunc(o.podSpec().list("volumes"), func(v object) bool { return v.at("secret", "secretName") == "oncall-receivers" })
		}
	}
	if !mounted {
		t.Error("the collector has no tokens to compare with")
	}
	open := map[string]string{}
	for _, o := range all {
		if o.id() != "NetworkPolicy/receivers" {
			continue
		}
		for _, rule := range o.list("spec", "ingress") {
			if len(rule.list("from")) == 0 || len(rule.list("ports")) != 1 {
				t.Errorf("lets in anybody, or to any port: %v", rule)
				continue
			}
			open[fmt.Sprint(rule.list("ports")[0].at("port"))] = fmt.Sprint(rule.list("from")[0].at("podSelector"))
		}
	}
	if len(open) != 2 || !strings.Contains(open["remote-write"], "prometheus") || !strings.Contains(open["webhook"], "alertmanager") {
		t.Errorf("let in: %v", open)
	}
	page, err := os.ReadFile("../docs/sources.md")
	if err != nil {
		t.Fatal(err)
	}
	for port := range open {
		if url := fmt.Sprintf("http://oncall-collector.oncall:%v/", ports[port]); ports[port] == nil || !strings.Contains(string(page), url) {
			t.Errorf("docs/sources.md does not send to %s", url)
		}
	}
	servicesAndPolicies(t, "prod with receivers", all)
}

func TestServicesAndPoliciesHoldOfPodsThatExist(t *testing.T) {
	for _, overlay := range overlays {
		servicesAndPolicies(t, overlay, load(t, overlay))
	}
}

// servicesAndPolicies checks that what manifests select is among them.
func servicesAndPolicies(t *testing.T, overlay string, all []object) {
	t.Helper()
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
