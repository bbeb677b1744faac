package cost

import (
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

// Patch is a strategic merge patch of one workload's resources.
type Patch struct {
	Entity event.Entity
	Advice []Advice
	Body   map[string]any
}

// patched are the kinds for which Kubernetes merges lists of containers by name.
// In a custom resource the list would be replaced as a whole.
var patched = map[string]string{"Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "CronJob": "batch/v1"}

// Patches are the patches for what is recommended, in the order of the report.
func (r *Report) Patches() []Patch {
	var out []Patch
	at := map[event.Entity]int{}
	for _, list := range [][]Item{r.Waste, r.Shortages} {
		for _, i := range list {
			if _, ok := patched[i.Entity.Kind]; !ok || len(i.Advice) == 0 {
				continue
			}
			n, ok := at[i.Entity]
			if !ok {
				n = len(out)
				at[i.Entity] = n
				out = append(out, Patch{Entity: i.Entity})
			}
			out[n].Advice = append(out[n].Advice, i.Advice...)
		}
	}
	for i := range out {
		out[i].Body = body(out[i].Entity.Kind, out[i].Advice)
	}
	return out
}

// body is the patch of one workload.
func body(kind string, all []Advice) map[string]any {
	type object = map[string]any
	lists := map[string][]any{}
	at := map[string]object{}
	for _, a := range all {
		list := "containers"
		if a.Init {
			list = "initContainers"
		}
		resources := at[list+"/"+a.Container]
		if resources == nil {
			resources = object{}
			at[list+"/"+a.Container] = resources
			lists[list] = append(lists[list], object{"name": a.Container, "resources": resources})
		}
		set := func(of, to string) {
			if to == "" {
				return
			}
			values, _ := resources[of].(object)
			if values == nil {
				values = object{}
				resources[of] = values
			}
			values[a.Resource] = to
		}
		set("requests", a.Request.To)
		set("limits", a.Limit.To)
	}
	spec := object{}
	for list, containers := range lists {
		spec[list] = containers
	}
	out := object{"spec": object{"template": object{"spec": spec}}}
	if kind == "CronJob" {
		out = object{"spec": object{"jobTemplate": out}}
	}
	return out
}

// Kubectl writes the patches as commands, each below what it is for. context is
// the kubectl context to name; "" leaves it out.
func Kubectl(patches []Patch, context string) (string, error) {
	var b strings.Builder
	with := ""
	if context != "" {
		with = "--context " + rule.Quote(context) + " "
	}
	for _, p := range patches {
		text, err := json.Marshal(p.Body)
		if err != nil {
			return "", fmt.Errorf("patch of %s: %w", p.Entity, err)
		}
		reasons(&b, "", p)
		fmt.Fprintf(&b, "kubectl %s-n %s patch %s %s --type strategic -p %s\n", with, rule.Quote(p.Entity.Namespace), strings.ToLower(p.Entity.Kind), rule.Quote(p.Entity.Name), rule.Quote(string(text)))
	}
	return b.String(), nil
}

// Kustomize writes the patches as a component, which an overlay names among its
// components.
func Kustomize(patches []Patch) (string, error) {
	var b strings.Builder
	b.WriteString("apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n")
	if len(patches) == 0 {
		b.WriteString("patches: []\n")
		return b.String(), nil
	}
	b.WriteString("patches:\n")
	for _, p := range patches {
		doc := map[string]any{"apiVersion": patched[p.Entity.Kind], "kind": p.Entity.Kind, "metadata": map[string]any{"name": p.Entity.Name, "namespace": p.Entity.Namespace}}
		for k, v := range p.Body {
			doc[k] = v
		}
		text, err := yaml.Marshal(doc)
		if err != nil {
			return "", fmt.Errorf("patch of %s: %w", p.Entity, err)
		}
		reasons(&b, "", p)
		fmt.Fprintf(&b, "- patch: |-\n    %s\n", strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    "))
	}
	return b.String(), nil
}

// reasons are comments that say what each value is for.
func reasons(b *strings.Builder, indent string, p Patch) {
	fmt.Fprintf(b, "%s# %s\n", indent, visible(p.Entity.String()))
	for _, a := range p.Advice {
		fmt.Fprintf(b, "%s#   %s: %s\n", indent, visible(a.Container), visible(a.String()))
	}
}

// visible keeps text from ending the comment that it stands in.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
}

// String is the advice in a line, such as "cpu request 500m -> 120m: highest use in
// 14 d: 0.11 cores".
func (a Advice) String() string {
	out := a.Resource
	change := func(what string, c Change) {
		if c.To == "" || c.To == c.From {
			return
		}
		if out != a.Resource {
			out += ","
		}
		if c.From == "" {
			out += fmt.Sprintf(" %s %s", what, c.To)
			return
		}
		out += fmt.Sprintf(" %s %s -> %s", what, c.From, c.To)
	}
	change("request", a.Request)
	change("limit", a.Limit)
	return out + ": " + a.Why
}
