package kube

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Target is a port of a Service, as people name it for a port forward:
// svc/monitoring/prometheus:9090.
type Target struct {
	Namespace string
	Service   string
	Port      string // its number or its name
	Scheme    string // http or https; "" to go by the port
	Path      string // prefix of the API behind it, such as /prometheus for Mimir; "" for what its labels say
}

// TargetForm is how a Target is written, for messages.
const TargetForm = "[https:]svc/NAMESPACE/NAME:PORT[/PREFIX]"

// apiName is what a name of the API may be: it becomes part of a path.
var apiName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// plainPath is a path of plain segments.
var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)

// ParseTarget reads a Target. The error says what is wrong with it, without the
// text itself.
func ParseTarget(s string) (Target, error) {
	var t Target
	for _, scheme := range []string{"https", "http"} {
		if rest, ok := strings.CutPrefix(s, scheme+":"); ok {
			t.Scheme, s = scheme, rest
			break
		}
	}
	kind, rest, _ := strings.Cut(s, "/")
	if kind != "svc" && kind != "service" && kind != "services" {
		return Target{}, fmt.Errorf("is not %s", TargetForm)
	}
	var ok bool
	if t.Namespace, rest, ok = strings.Cut(rest, "/"); !ok {
		return Target{}, fmt.Errorf("has no namespace; write %s", TargetForm)
	}
	if t.Service, rest, ok = strings.Cut(rest, ":"); !ok {
		return Target{}, fmt.Errorf("has no port; write %s", TargetForm)
	}
	t.Port = rest
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		t.Port, t.Path = rest[:i], strings.TrimRight(rest[i:], "/")
	}
	switch n, err := strconv.Atoi(t.Port); {
	case !apiName.MatchString(t.Namespace) || !apiName.MatchString(t.Service):
		return Target{}, fmt.Errorf("holds what is not a name; write %s", TargetForm)
	case err == nil && (n < 1 || n > 65535), err != nil && !apiName.MatchString(t.Port):
		return Target{}, fmt.Errorf("has a port that is neither a number up to 65535 nor a name")
	case !plainPath.MatchString(t.Path):
		return Target{}, fmt.Errorf("has a path prefix that is not a path")
	}
	return t, nil
}

// String writes a target as [ParseTarget] reads it.
func (t Target) String() string {
	s := "svc/" + t.Namespace + "/" + t.Service + ":" + t.Port + t.Path
	if t.Scheme != "" {
		s = t.Scheme + ":" + s
	}
	return s
}

// Target is the port of a Service that was found.
func (f Found) Target() Target {
	return Target{Namespace: f.Namespace, Service: f.Service, Port: itoa(f.Port), Scheme: f.Scheme, Path: f.Path}
}
