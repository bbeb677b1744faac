package ask

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Scope is what the tools may be asked about. It is made from the command line
// and the question, before anything is read.
type Scope struct {
	// Namespaces are the only ones; none means the whole cluster, as far as the
	// user's own rights go.
	Namespaces []string
}

// String says it to the model.
func (s Scope) String() string {
	if len(s.Namespaces) == 0 {
		return "Scope: the whole cluster."
	}
	return "Scope: only the namespaces " + strings.Join(s.Namespaces, ", ") + "; nodes, too. Nothing else can be asked about."
}

// holds checks a namespace that a tool was called with.
func (s Scope) holds(namespace string) error {
	switch {
	case len(validation.IsDNS1123Label(namespace)) > 0:
		return fmt.Errorf("namespace %q is not a name that Kubernetes allows", clip(namespace, 63))
	case len(s.Namespaces) > 0 && !slices.Contains(s.Namespaces, namespace):
		return fmt.Errorf("namespace %s is outside the scope, which is %s", namespace, strings.Join(s.Namespaces, ", "))
	}
	return nil
}

// matchers confine PromQL; "" for the whole cluster.
func (s Scope) matchers() string {
	if len(s.Namespaces) == 0 {
		return ""
	}
	// Names of namespaces hold nothing that a regular expression acts on.
	return fmt.Sprintf("namespace=~%q", strings.Join(s.Namespaces, "|"))
}
