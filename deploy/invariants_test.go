package deploy_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// pods calls f with every pod template of every overlay.
func pods(t *testing.T, f func(t *testing.T, overlay string, all []object, o, spec object)) {
	t.Helper()
	for _, overlay := range overlays {
		all, n := load(t, overlay), 0
		for _, o := range all {
			if spec := o.podSpec(); spec != nil {
				n++
				t.Run(overlay+"/"+o.name(), func(t *testing.T) { f(t, overlay, all, o, spec) })
			}
		}
		if n == 0 {
			t.Errorf("overlay %s makes no pods", overlay)
		}
	}
}

func containers(spec object) []object {
	return append(spec.list("initContainers"), spec.list("containers")...)
}

// TestEveryPod holds of every pod that is shipped, whichever way.
func TestEveryPod(t *testing.T) {
	rules := map[string]func(spec object) string{
		"runs as somebody other than root": func(spec object) string {
			if spec.at("securityContext", "runAsNonRoot") != true || spec.at("securityContext", "runAsUser") == nil || spec.at("securityContext", "runAsUser") == 0.0 {
				return fmt.Sprint(spec.at("securityContext"))
			}
			return ""
		},
		"has the runtime's seccomp profile": func(spec object) string {
			if got := spec.at("securityContext", "seccompProfile", "type"); got != "RuntimeDefault" {
				return fmt.Sprint(got)
			}
			return ""
		},
		"gets no token it did not ask for": func(spec object) string {
			if got := spec.at("automountServiceAccountToken"); got != false {
				return fmt.Sprint(got)
			}
			return ""
		},
		"shares nothing with its node": func(spec object) string {
			for _, key := range []string{"hostNetwork", "hostPID", "hostIPC"} {
				if spec.at(key) != nil {
					return key
				}
			}
			for _, v := range spec.list("volumes") {
				if v.at("hostPath") != nil {
					return fmt.Sprint(v)
				}
			}
			return ""
		},
		"has containers that cannot gain rights or write their image": func(spec object) string {
			for _, c := range containers(spec) {
				sec := object{"s": c.at("securityContext")}
				if sec.at("s", "allowPrivilegeEscalation") != false || sec.at("s", "readOnlyRootFilesystem") != true || fmt.Sprint(sec.at("s", "capabilities", "drop")) != "[ALL]" || sec.at("s", "privileged") != nil || sec.at("s", "capabilities", "add") != nil {
					return fmt.Sprint(c.at("name"), ": ", sec.at("s"))
				}
			}
			return ""
		},
		"says what it needs, and how much memory it may take": func(spec object) string {
			for _, c := range containers(spec) {
				if c.at("resources", "requests", "cpu") == nil || c.at("resources", "requests", "memory") == nil || c.at("resources", "limits", "memory") == nil {
					return fmt.Sprint(c.at("name"), ": ", c.at("resources"))
				}
			}
			return ""
		},
		"is probed": func(spec object) string {
			for _, c := range spec.list("containers") {
				if c.list("ports") == nil {
					continue // it serves nobody
				}
				paths := map[string]string{"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
				if c.at("name") == "nats" {
					paths["readinessProbe"] = "/healthz"
				}
				for probe, want := range paths {
					if got, _ := c.at(probe, "httpGet", "path").(string); !strings.HasPrefix(got, want) {
						return fmt.Sprintf("%v: %s: %q", c.at("name"), probe, got)
					}
				}
			}
			return ""
		},
		"names its image's version": func(spec object) string {
			for _, c := range containers(spec) {
				image, _ := c.at("image").(string)
				if _, tag, ok := strings.Cut(image, ":"); !ok || tag == "latest" || tag == "" {
					return image
				}
			}
			return ""
		},
	}
	pods(t, func(t *testing.T, _ string, _ []object, _, spec object) {
		for _, name := range slices.Sorted(maps.Keys(rules)) {
			if wrong := rules[name](spec); wrong != "" {
				t.Errorf("that it %s does not hold: %s", name, wrong)
			}
		}
	})
}

func TestOnlyTheReaderOfTheClusterHasAnAccountAndAToken(t *testing.T) {
	pods(t, func(t *testing.T, _ string, _ []object, o, spec object) {
		may := o.name() == "collector" || o.name() == "oncall"
		if got := spec.at("serviceAccountName") == "collector"; got != may {
			t.Errorf("has the collector's account: %v, want %v", got, may)
		}
		token := false
		for _, v := range spec.list("volumes") {
			for _, s := range v.list("projected", "sources") {
				if s.at("serviceAccountToken") == nil {
					continue
				}
				token = true
				if got := s.at("serviceAccountToken", "expirationSeconds"); got != 3600.0 {
					t.Errorf("token expires after %v s, want 3600", got)
				}
			}
		}
		if token != may {
			t.Errorf("has a token: %v, want %v", token, may)
		}
		for _, c := range containers(spec) {
			for _, m := range c.list("volumeMounts") {
				if m.at("name") == "kube-api" && c.at("name") == "streams" {
					t.Error("the init container has the token, which it does not need")
				}
			}
		}
	})
}

func TestEveryPodHasItsNetworkPolicyAndDisruptionBudget(t *testing.T) {
	pods(t, func(t *testing.T, _ string, all []object, o, _ object) {
		labels, _ := o.at("spec", "template", "metadata", "labels").(map[string]any)
		own, budget := 0, 0
		for _, x := range all {
			switch x.kind() {
			case "NetworkPolicy":
				if m, _ := x.at("spec", "podSelector", "matchLabels").(map[string]any); m["app.kubernetes.io/component"] != nil && selects(m, labels) && slices.Contains(x.at("spec", "policyTypes").([]any), any("Egress")) {
					own++
				}
			case "PodDisruptionBudget":
				if m, _ := x.at("spec", "selector", "matchLabels").(map[string]any); len(m) > 0 && selects(m, labels) {
					budget++
				}
			}
		}
		if own != 1 || budget != 1 {
			t.Errorf("%d network policies of its own and %d budgets, want one each; labels %v", own, budget, labels)
		}
	})
	for _, overlay := range overlays {
		if !slices.ContainsFunc(load(t, overlay), func(o object) bool {
			return o.kind() == "NetworkPolicy" && len(o.at("spec", "podSelector").(map[string]any)) == 0 && fmt.Sprint(o.at("spec", "policyTypes")) == "[Ingress Egress]" && o.at("spec", "ingress") == nil && o.at("spec", "egress") == nil
		}) {
			t.Errorf("overlay %s denies nothing by default", overlay)
		}
	}
}

func selects(match, labels map[string]any) bool {
	for k, v := range match {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func TestNamespaceEnforcesTheRestrictedProfile(t *testing.T) {
	for _, overlay := range overlays {
		for _, o := range load(t, overlay) {
			switch o.kind() {
			case "Namespace":
				labels, _ := o.at("metadata", "labels").(map[string]any)
				if got := labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
					t.Errorf("%s: enforces %v", overlay, got)
				}
			case "ClusterRole", "ClusterRoleBinding":
			default:
				if ns := o.at("metadata", "namespace"); ns != "oncall" {
					t.Errorf("%s: %s is in namespace %v", overlay, o.id(), ns)
				}
			}
		}
	}
}

func TestRightsAreToReadAndNothingSecret(t *testing.T) {
	for _, overlay := range overlays {
		roles := 0
		for _, o := range load(t, overlay) {
			switch o.kind() {
			case "Role", "RoleBinding", "Secret":
				t.Errorf("%s: has %s", overlay, o.id())
			case "ClusterRoleBinding":
				if fmt.Sprint(o.at("subjects")) != "[map[kind:ServiceAccount name:collector namespace:oncall]]" || o.at("roleRef", "name") != "oncall-collector" {
					t.Errorf("%s: %s binds %v to %v", overlay, o.id(), o.at("subjects"), o.at("roleRef"))
				}
			case "ClusterRole":
				roles++
				for _, r := range o.list("rules") {
					for _, v := range r.at("verbs").([]any) {
						if !slices.Contains([]any{"get", "list", "watch"}, v) {
							t.Errorf("%s: verb %v", overlay, v)
						}
					}
					for _, res := range append(r.at("resources").([]any), r.at("apiGroups").([]any)...) {
						if s := fmt.Sprint(res); strings.Contains(s, "*") || s == "secrets" || strings.Contains(s, "/") && s != "pods/log" {
							t.Errorf("%s: resource %v", overlay, res)
						}
					}
					if r.at("nonResourceURLs") != nil {
						t.Errorf("%s: %v", overlay, r)
					}
				}
			}
		}
		if roles != 1 {
			t.Errorf("%s: %d cluster roles, want one", overlay, roles)
		}
	}
}

func TestNATSOfProductionKeepsWhatItAcknowledged(t *testing.T) {
	all := load(t, "prod")
	var conf string
	for _, o := range all {
		if o.kind() == "ConfigMap" && strings.HasPrefix(o.name(), "nats-config") {
			conf, _ = o.at("data", "nats.conf").(string)
		}
		if o.id() != "StatefulSet/nats" {
			continue
		}
		spec := o.podSpec()
		c := spec.list("containers")[0]
		for what, ok := range map[string]bool{
			"three servers":        o.at("spec", "replicas") == 3.0,
			"version 2.15.2":       strings.HasPrefix(fmt.Sprint(c.at("image")), "nats:2.15.2"),
			"a volume":             len(o.list("spec", "volumeClaimTemplates")) == 1,
			"a node each":          len(spec.list("affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution")) == 1,
			"spread over zones":    fmt.Sprint(spec.list("topologySpreadConstraints")[0].at("topologyKey")) == "topology.kubernetes.io/zone",
			"lame duck at the end": strings.Contains(fmt.Sprint(c.at("lifecycle", "preStop", "exec", "command")), "ldm="),
			"a minute to end":      spec.at("terminationGracePeriodSeconds") == 60.0,
			"all started at once":  o.at("spec", "podManagementPolicy") == "Parallel",
		} {
			if !ok {
				t.Errorf("StatefulSet nats does not have %s", what)
			}
		}
	}
	for _, line := range []string{"sync_interval: always", "include \"permissions.conf\"", "authorization {"} {
		if !strings.Contains(conf, line) {
			t.Errorf("nats.conf does not have %s", line)
		}
	}
	for _, line := range []string{"no_auth_user", "authorization: {"} {
		if strings.Contains(conf, line) {
			t.Errorf("nats.conf has %s", line)
		}
	}
}

// configuration is the file that an overlay gives its services.
func configuration(t *testing.T, overlay string) []byte {
	t.Helper()
	for _, o := range load(t, overlay) {
		if s, ok := o.at("data", "config.yaml").(string); ok {
			return []byte(s)
		}
	}
	t.Fatalf("overlay %s has no config.yaml", overlay)
	return nil
}

func TestSingleIsOnePodOf512Mi(t *testing.T) {
	pods := 0
	for _, o := range load(t, "single") {
		spec := o.podSpec()
		if spec == nil {
			continue
		}
		pods++
		c := spec.list("containers")
		if o.kind() != "StatefulSet" || o.at("spec", "replicas") != 1.0 || len(c) != 1 || c[0].at("resources", "limits", "memory") != "512Mi" {
			t.Errorf("%s: %v replicas, %d containers, limit %v", o.id(), o.at("spec", "replicas"), len(c), c[0].at("resources", "limits", "memory"))
		}
		if len(o.list("spec", "volumeClaimTemplates")) != 1 {
			t.Error("has no volume for its data")
		}
	}
	if pods != 1 {
		t.Errorf("%d workloads, want one", pods)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(configuration(t, "single"), &doc); err != nil {
		t.Fatal(err)
	}
	if doc["collector"] != nil {
		t.Error("sources are written in the configuration, so none would be found by their labels")
	}
}
