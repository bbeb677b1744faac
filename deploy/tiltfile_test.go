package deploy_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
	"go.yaml.in/yaml/v3"
)

// call is one call of a built-in of Tilt.
type call struct {
	name string
	args []any
	kw   map[string]any
}

// tilt evaluates the Tiltfile with built-ins that note what they are asked.
func tilt(t *testing.T) []call {
	t.Helper()
	var calls []call
	note := func(name string, result func(call) (starlark.Value, error)) *starlark.Builtin {
		return starlark.NewBuiltin(name, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			c := call{name: name, kw: map[string]any{}}
			for _, a := range args {
				c.args = append(c.args, value(a))
			}
			for _, k := range kwargs {
				c.kw[string(k[0].(starlark.String))] = value(k[1])
			}
			calls = append(calls, c)
			if result == nil {
				return starlark.None, nil
			}
			return result(c)
		})
	}
	text := func(what string) func(call) (starlark.Value, error) {
		return func(c call) (starlark.Value, error) { return starlark.String(what + fmt.Sprint(c.args)), nil }
	}
	builtins := starlark.StringDict{
		"allow_k8s_contexts": note("allow_k8s_contexts", nil), "local_resource": note("local_resource", nil), "docker_build": note("docker_build", nil),
		"k8s_yaml": note("k8s_yaml", nil), "k8s_resource": note("k8s_resource", nil), "sync": note("sync", text("sync")), "link": note("link", text("link")),
		"kustomize": note("kustomize", func(c call) (starlark.Value, error) {
			b, err := os.ReadFile("rendered/" + filepath.Base(fmt.Sprint(c.args[0])) + ".yaml")
			return starlark.String(b), err
		}),
		"decode_yaml_stream": note("decode_yaml_stream", func(c call) (starlark.Value, error) {
			var out []starlark.Value
			for _, o := range parse(t, []byte(c.args[0].(string))) {
				out = append(out, star(map[string]any(o)))
			}
			return starlark.NewList(out), nil
		}),
		"encode_yaml_stream": note("encode_yaml_stream", func(c call) (starlark.Value, error) {
			var b strings.Builder
			for _, o := range c.args[0].([]any) {
				y, err := yaml.Marshal(o)
				if err != nil {
					return nil, err
				}
				b.WriteString("---\n" + string(y))
			}
			return starlark.String(b.String()), nil
		}),
	}
	thread := &starlark.Thread{Name: "Tiltfile", Load: func(_ *starlark.Thread, module string) (starlark.StringDict, error) {
		if module != "ext://uibutton" {
			return nil, fmt.Errorf("unknown extension %s", module)
		}
		places := starlark.NewDict(1)
		if err := places.SetKey(starlark.String("NAV"), starlark.String("nav")); err != nil {
			return nil, err
		}
		return starlark.StringDict{"cmd_button": note("cmd_button", nil), "location": attributesOf(places)}, nil
	}}
	src, err := os.ReadFile("../Tiltfile")
	if err != nil {
		t.Fatal(err)
	}
	// Tilt lets statements like for stand at the top level.
	opts := &syntax.FileOptions{TopLevelControl: true, GlobalReassign: true}
	if _, err := starlark.ExecFileOptions(opts, thread, "Tiltfile", src, builtins); err != nil {
		t.Fatal(err)
	}
	return calls
}

// attributes is a value with attributes, as location.NAV needs.
type attributes struct{ *starlark.Dict }

func attributesOf(d *starlark.Dict) starlark.Value { return attributes{d} }

func (a attributes) Attr(name string) (starlark.Value, error) {
	v, ok, err := a.Get(starlark.String(name))
	if !ok {
		return nil, err
	}
	return v, nil
}

// value and star turn Starlark's values into Go's and back.
func value(v starlark.Value) any {
	switch v := v.(type) {
	case starlark.String:
		return string(v)
	case starlark.Int:
		n, _ := v.Int64()
		return float64(n)
	case starlark.Float:
		return float64(v)
	case starlark.Bool:
		return bool(v)
	case *starlark.Dict:
		out := map[string]any{}
		for _, kv := range v.Items() {
			out[string(kv[0].(starlark.String))] = value(kv[1])
		}
		return out
	case starlark.Iterable:
		out := []any{}
		for e := range starlark.Elements(v) {
			out = append(out, value(e))
		}
		return out
	}
	return nil
}

func star(v any) starlark.Value {
	switch v := v.(type) {
	case string:
		return starlark.String(v)
	case bool:
		return starlark.Bool(v)
	case float64:
		if v == float64(int64(v)) {
			return starlark.MakeInt64(int64(v))
		}
		return starlark.Float(v)
	case map[string]any:
		d := starlark.NewDict(len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			_ = d.SetKey(starlark.String(k), star(v[k])) // a string is always a key
		}
		return d
	case []any:
		var out []starlark.Value
		for _, e := range v {
			out = append(out, star(e))
		}
		return starlark.NewList(out)
	}
	return starlark.None
}

func strs(v any) []string {
	var out []string
	all, _ := v.([]any)
	for _, e := range all {
		out = append(out, fmt.Sprint(e))
	}
	return out
}

func TestTiltfileDeclaresWhatTheDevOverlayHolds(t *testing.T) {
	calls := tilt(t)
	find := func(name string) []call {
		return slices.DeleteFunc(slices.Clone(calls), func(c call) bool { return c.name != name })
	}
	if len(calls) == 0 || calls[0].name != "allow_k8s_contexts" || !slices.Equal(strs(calls[0].args), []string{"kind-oncall"}) {
		t.Fatal("the cluster that may be touched is not the first thing that is said")
	}

	// What is applied is the overlay, every object of it.
	applied := find("k8s_yaml")
	if len(applied) != 1 {
		t.Fatalf("k8s_yaml is called %d times, want once", len(applied))
	}
	var workloads, ids []string
	shipped := map[string]object{}
	for _, o := range load(t, "dev") {
		ids = append(ids, o.id())
		shipped[o.id()] = o
		if o.podSpec() != nil {
			workloads = append(workloads, o.name())
		}
	}
	var got []string
	images := map[string]bool{}
	for _, o := range parse(t, []byte(applied[0].args[0].(string))) {
		got = append(got, o.id())
		spec := o.podSpec()
		if spec == nil {
			continue
		}
		for _, c := range containers(spec) {
			images[strings.Split(fmt.Sprint(c.at("image")), ":")[0]] = true
			if c.at("securityContext", "readOnlyRootFilesystem") != true {
				t.Errorf("%s: the development loop drops the security settings", o.id())
			}
		}
		if o.kind() == "Deployment" {
			c := spec.list("containers")[0]
			if want := []string{"/run.sh", o.name()}; !slices.Equal(strs(c.at("command")), want) {
				t.Errorf("%s runs %v, want %v", o.id(), c.at("command"), want)
			}
			if len(c.list("volumeMounts")) != len(shipped[o.id()].podSpec().list("containers")[0].list("volumeMounts"))+1 {
				t.Errorf("%s: wants the mounts that are shipped and one more", o.id())
			}
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("applied %v, want %v", got, ids)
	}

	// Every workload is a resource, and waits for NATS.
	var resources []string
	labels := map[string]bool{}
	for i, c := range find("k8s_resource") {
		labels[strings.Join(strs(c.kw["labels"]), ",")] = true
		if c.kw["new_name"] != nil {
			for _, o := range strs(c.kw["objects"]) {
				name, kind, _ := strings.Cut(o, ":")
				if !slices.ContainsFunc(ids, func(id string) bool { return strings.EqualFold(id, kind+"/"+name) }) {
					t.Errorf("object %s is not in the overlay", o)
				}
			}
			continue
		}
		name := fmt.Sprint(c.args[0])
		resources = append(resources, name)
		if name == "nats" {
			if i > 1 {
				t.Error("nats is not declared first")
			}
			continue
		}
		if deps := strs(c.kw["resource_deps"]); !slices.Contains(deps, "nats") || !slices.Contains(deps, "build") {
			t.Errorf("%s waits for %v, want build and nats", name, deps)
		}
	}
	slices.Sort(resources)
	slices.Sort(workloads)
	if !slices.Equal(resources, workloads) {
		t.Errorf("resources %v, want %v", resources, workloads)
	}
	if !labels["pipeline"] || !labels["data"] {
		t.Errorf("labels %v, want pipeline and data", labels)
	}

	// One build outside of containers, put into the running ones.
	builds := find("local_resource")
	if len(builds) != 1 || strings.Count(fmt.Sprint(builds[0].kw["cmd"]), "go build") != 1 {
		t.Errorf("%d local builds, want one go build", len(builds))
	}
	for _, d := range strs(builds[0].kw["deps"]) {
		exists(t, d)
	}
	for _, p := range strings.Fields(fmt.Sprint(builds[0].kw["cmd"])) {
		if strings.HasPrefix(p, "./") {
			exists(t, p)
		}
	}
	docker := find("docker_build")
	if len(docker) != 1 || !images[fmt.Sprint(docker[0].args[0])] {
		t.Fatalf("docker_build %v, want one of an image that is used: %v", docker, images)
	}
	exists(t, fmt.Sprint(docker[0].kw["dockerfile"]))
	if live := strs(docker[0].kw["live_update"]); len(live) != 1 || !strings.Contains(live[0], "/app/") {
		t.Errorf("live update %v, want a sync into /app/", live)
	}

	var buttons []string
	for _, c := range find("cmd_button") {
		buttons = append(buttons, fmt.Sprint(c.args[0]))
		for _, a := range strs(c.kw["argv"]) {
			if strings.Contains(a, "/") {
				exists(t, a)
			}
		}
	}
	if want := []string{"demo", "e2e", "break-it"}; !slices.Equal(buttons, want) {
		t.Errorf("buttons %v, want %v", buttons, want)
	}
}

func exists(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join("..", path)); err != nil {
		t.Errorf("the Tiltfile names %s, which is not there", path)
	}
}

// TestImageHoldsEveryCommandThatManifestsRun reads the Dockerfile, and what make
// image would put beside it.
func TestImageHoldsEveryCommandThatManifestsRun(t *testing.T) {
	b, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"FROM scratch", "COPY . /", "USER 65532:65532"} {
		if strings.Count(string(b), "\n"+line+"\n") != 1 {
			t.Errorf("the image has no line %s", line)
		}
	}
	file, err := exec.CommandContext(t.Context(), "make", "-n", "-C", "..", "image", "BUILDER=buildah").Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("make is not installed")
	}
	if err != nil {
		t.Fatalf("make -n image: %v: %s", err, file)
	}
	built := map[string]bool{}
	for _, w := range strings.Fields(string(file)) {
		if strings.HasPrefix(w, "./cmd/") || strings.HasPrefix(w, "./services/") {
			exists(t, w)
			built["/"+filepath.Base(w)] = true
		}
	}
	pods(t, func(t *testing.T, _ string, _ []object, _, spec object) {
		for _, c := range containers(spec) {
			if !strings.HasPrefix(fmt.Sprint(c.at("image")), "oncall:") {
				continue
			}
			if command := strs(c.at("command")); len(command) == 0 || !built[command[0]] {
				t.Errorf("%v runs %v, which the image does not have", c.at("name"), command)
			}
		}
	})
}
