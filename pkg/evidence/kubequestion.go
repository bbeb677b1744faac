package evidence

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// kubeQuestion is a parsed expression.
type kubeQuestion struct {
	verb      string
	kind      string // as the API spells it
	namespace string
	name      string
	container string
	previous  bool
}

// parseKube reads the grammar of [Query] for Kubernetes. Words are parts of
// paths of the API, so they hold nothing but what names may hold.
func parseKube(expr string) (kubeQuestion, error) {
	wrong := func(problem string) (kubeQuestion, error) {
		return kubeQuestion{}, fmt.Errorf("query %q: %s; write object KIND NAMESPACE/NAME, pods NAMESPACE KIND/NAME, events NAMESPACE KIND/NAME or logs NAMESPACE/POD CONTAINER [previous]", clip(expr, 100), problem)
	}
	w := strings.Fields(expr)
	if len(w) < 2 {
		return wrong("is too short")
	}
	q := kubeQuestion{verb: w[0]}
	switch w[0] {
	case "object":
		if len(w) != 3 {
			return wrong("object takes a kind and a name")
		}
		q.kind = w[1]
		if ns, name, ok := strings.Cut(w[2], "/"); ok {
			q.namespace, q.name = ns, name
		} else {
			q.name = w[2]
		}
	case "pods", "events":
		target := w[len(w)-1]
		switch {
		case len(w) == 3:
			q.namespace = w[1]
		case len(w) != 2:
			return wrong(w[0] + " takes a namespace and kind/name")
		}
		var ok bool
		if q.kind, q.name, ok = strings.Cut(target, "/"); !ok {
			return wrong(target + " is not kind/name")
		}
	case "logs":
		var ok bool
		if q.namespace, q.name, ok = strings.Cut(w[1], "/"); !ok {
			return wrong(w[1] + " is not namespace/pod")
		}
		q.kind = "Pod"
		rest := w[2:]
		if len(rest) > 0 && rest[len(rest)-1] == "previous" {
			q.previous, rest = true, rest[:len(rest)-1]
		}
		if len(rest) > 1 {
			return wrong("logs takes one container")
		}
		if len(rest) == 1 {
			q.container = rest[0]
		}
	default:
		return wrong(w[0] + " is not a question")
	}
	if q.namespace == "-" || q.namespace == event.ClusterToken {
		q.namespace = ""
	}
	for _, part := range []string{q.kind, q.namespace, q.name, q.container} {
		if !isName(part) {
			return wrong(strconv.Quote(part) + " is not a name")
		}
	}
	if q.name == "" || q.kind == "" {
		return wrong("a name is missing")
	}
	if strings.EqualFold(q.kind, "Rollout") && q.verb != "object" {
		q.kind = "Rollout"
		return q, nil
	}
	kind, err := kube.KindOf(q.kind)
	if err != nil {
		return wrong(err.Error())
	}
	q.kind = kind.Name
	if kind.Namespaced && q.namespace == "" {
		return wrong("a " + kind.Name + " has a namespace")
	}
	if !kind.Namespaced {
		q.namespace = ""
	}
	return q, nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == ':') {
			return false
		}
	}
	return len(s) <= 253 && s != "." && s != ".."
}
