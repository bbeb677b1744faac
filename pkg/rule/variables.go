package rule

import (
	"encoding/json"
	"fmt"
	"regexp"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"k8s.io/apimachinery/pkg/api/resource"
)

// variables are what a condition can read. docs/rules.md lists them for
// people.
func variables(in Input) (map[string]any, error) {
	vars := map[string]any{
		"entity":    map[string]string{"namespace": in.Entity.Namespace, "kind": in.Entity.Kind, "name": in.Entity.Name},
		"anomalies": []any{}, "changes": []any{}, "pods": []any{}, "containers": []any{}, "events": []any{}, "logs": []string{}, "crash": []string{},
		"object": map[string]any{}, "node": map[string]any{}, "hpa": map[string]any{},
	}
	for name, v := range map[string]any{"anomalies": in.Anomalies, "changes": in.Changes} {
		plain, err := jsonValue(v)
		if err != nil {
			return nil, fmt.Errorf("rules: %s: %w", name, err)
		}
		if plain != nil {
			vars[name] = plain
		}
	}
	for name, e := range in.Evidence {
		if e.Failed != "" {
			continue
		}
		switch name {
		case "logs", "crash":
			lines := make([]string, len(e.Excerpt))
			for i, l := range e.Excerpt {
				lines[i] = stamp.ReplaceAllString(l, "")
			}
			vars[name] = lines
		case "pods":
			if items, ok := e.Values["items"].([]any); ok {
				vars[name], vars["containers"] = items, containers(items)
			}
		case "events":
			if items, ok := e.Values["items"].([]any); ok {
				vars[name] = items
			}
		case "object", "node", "hpa":
			if o, ok := e.Values["object"].(map[string]any); ok {
				vars[name] = o
			}
		}
	}
	return vars, nil
}

// stamp is the time that look-ups put before a line.
var stamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z `)

// jsonValue is a value as JSON would carry it, so that rules see the field
// names of the published schemas.
func jsonValue(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out any
	return out, json.Unmarshal(b, &out)
}

// containers flattens the containers of pods: what is wanted and how it is, in
// one map each, so that rules need not join three lists. A container that never
// ended has code -1.
func containers(pods []any) []any {
	out := []any{}
	for _, p := range pods {
		pod, _ := p.(map[string]any)
		spec, status := child(pod, "spec"), child(pod, "status")
		for _, lists := range [][2]string{{"initContainers", "initContainerStatuses"}, {"containers", "containerStatuses"}} {
			wanted := map[string]map[string]any{}
			for _, c := range children(spec, lists[0]) {
				wanted[text(c["name"])] = c
			}
			for _, c := range children(status, lists[1]) {
				want := wanted[text(c["name"])]
				limits := child(child(want, "resources"), "limits")
				state, last := child(c, "state"), child(c, "lastState")
				waiting, end := child(state, "waiting"), child(state, "terminated")
				if len(end) == 0 {
					end = child(last, "terminated")
				}
				ready, _ := c["ready"].(bool)
				restarts, _ := c["restartCount"].(float64)
				code, ended := end["exitCode"].(float64)
				if !ended {
					code = -1
				}
				out = append(out, map[string]any{
					"pod": str(child(pod, "metadata"), "name"), "node": str(spec, "nodeName"), "name": str(c, "name"), "init": lists[0] == "initContainers",
					"image": str(want, "image"), "memory": str(limits, "memory"), "cpu": str(limits, "cpu"),
					"ready": ready, "restarts": restarts, "waiting": str(waiting, "reason"), "message": str(waiting, "message"),
					"ended": str(end, "reason"), "code": code, "last_words": str(end, "message"),
				})
			}
		}
	}
	return out
}

func child(o map[string]any, key string) map[string]any {
	c, _ := o[key].(map[string]any)
	return c
}

func children(o map[string]any, key string) []map[string]any {
	list, _ := o[key].([]any)
	var out []map[string]any
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func str(o map[string]any, key string) string {
	s, _ := o[key].(string)
	return s
}

// quantities is quantity("512Mi") in CEL: a quantity of Kubernetes as a number.
var quantities = cel.Function("quantity", cel.Overload("quantity_string", []*cel.Type{cel.StringType}, cel.DoubleType,
	cel.UnaryBinding(func(v ref.Val) ref.Val {
		s, _ := v.Value().(string)
		q, err := resource.ParseQuantity(s)
		if err != nil {
			return types.NewErr("%q is not a quantity", s)
		}
		return types.Double(q.AsApproximateFloat64())
	})))
