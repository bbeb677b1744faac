package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus/access"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

var update = flag.Bool("update", false, "write the generated files instead of comparing them")

// overlays are the ways to install, the first one shown first.
var overlays = []string{"single", "dev", "prod"}

// object is one manifest.
type object map[string]any

func (o object) kind() string { s, _ := o["kind"].(string); return s }
func (o object) name() string { s, _ := o.at("metadata", "name").(string); return s }
func (o object) id() string   { return o.kind() + "/" + o.name() }

// at is the value at a path of keys; nil where there is none.
func (o object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func (o object) list(path ...string) []object {
	all, _ := o.at(path...).([]any)
	var out []object
	for _, e := range all {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// podSpec is the pod's specification of what makes pods; nil of what does not.
func (o object) podSpec() object {
	if !slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet", "Job"}, o.kind()) {
		return nil
	}
	s, _ := o.at("spec", "template", "spec").(map[string]any)
	return s
}

// render is what kubectl apply -k would send.
func render(t *testing.T, overlay string) []byte {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.Command("kubectl", "kustomize", "kustomize/overlays/"+overlay)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("kubectl is not installed")
	}
	if err != nil {
		t.Fatalf("kubectl kustomize %s: %v: %s", overlay, err, said.String())
	}
	return out
}

func parse(t *testing.T, manifests []byte) []object {
	t.Helper()
	var out []object
	for dec := yaml.NewDecoder(bytes.NewReader(manifests)); ; {
		var o object
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		// The JSON form, so that numbers and maps have one type each.
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		o = nil
		if err := json.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
}

// load reads an overlay as it is committed in rendered/, which
// TestRenderedManifestsAreUpToDate keeps equal to what kubectl renders.
func load(t *testing.T, overlay string) []object {
	t.Helper()
	b, err := os.ReadFile("rendered/" + overlay + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, b)
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date; go test ./deploy -update writes it", file)
	}
}

// TestGeneratedPartsAreUpToDate writes what the code decides: the rights of the
// collector and the permissions of the bus. It stands before the rendering,
// which takes them in.
func TestGeneratedPartsAreUpToDate(t *testing.T) {
	const by = "by: go test ./deploy -update\n"
	golden(t, "kustomize/rbac/clusterrole.yaml", append([]byte("# What the collector may do in the cluster: written from pkg/kube's list of what\n# the code uses, "+by), clusterRole()...))
	golden(t, "kustomize/overlays/prod/permissions.conf", []byte("# Who may do what on the bus: written from the table of kinds and pkg/bus/access,\n# "+by+access.Config()))
}

// clusterRole writes pkg/kube's rights, those with the same verbs and group
// together.
func clusterRole() []byte {
	verbs := map[[2]string][]string{} // of a group and resource
	for _, r := range kube.Needed() {
		key := [2]string{r.Group, r.Resource}
		if r.Subresource != "" {
			key[1] += "/" + r.Subresource
		}
		verbs[key] = append(verbs[key], r.Verb)
	}
	type rule struct{ group, verbs string }
	resources := map[rule][]string{}
	for key, vs := range verbs {
		slices.Sort(vs)
		ru := rule{key[0], strings.Join(vs, ", ")}
		resources[ru] = append(resources[ru], key[1])
	}
	var b strings.Builder
	b.WriteString("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: oncall-collector\nrules:\n")
	for _, ru := range slices.SortedFunc(maps.Keys(resources), func(a, b rule) int { return strings.Compare(a.group+" "+a.verbs, b.group+" "+b.verbs) }) {
		slices.Sort(resources[ru])
		fmt.Fprintf(&b, "  - apiGroups: [%q]\n    resources: [%s]\n    verbs: [%s]\n", ru.group, strings.Join(resources[ru], ", "), ru.verbs)
	}
	return []byte(b.String())
}

func TestRenderedManifestsAreUpToDate(t *testing.T) {
	for _, overlay := range overlays {
		t.Run(overlay, func(t *testing.T) {
			golden(t, "rendered/"+overlay+".yaml", append([]byte("# Written by: go test ./deploy -update\n"), render(t, overlay)...))
		})
	}
}
