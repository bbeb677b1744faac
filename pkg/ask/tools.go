package ask

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/runbook"
	"github.com/oncall-copilot/oncall/pkg/triage"
)

// Spec describes a tool to a model.
type Spec struct {
	Name, Doc string
	Schema    json.RawMessage // JSON Schema of the arguments
}

// Sources are what tools read. All but Kubernetes may be nil, and the tools that
// need them are then not offered.
type Sources struct {
	Kubernetes evidence.Retriever
	Prometheus evidence.Retriever
	Loki       evidence.Retriever
	// Triage looks closely at one workload or pod.
	Triage func(ctx context.Context, e event.Entity) (*triage.Result, error)
	// Health examines a namespace, or with "" all.
	Health   func(ctx context.Context, namespace string) (*check.Result, error)
	Runbooks *runbook.Shelf
	// Incidents are those that a pipeline has recorded.
	Incidents func(ctx context.Context) ([]event.Incident, error)
	// Parse has PromQL parsed by who will evaluate it; nil leaves that to the
	// evaluation.
	Parse  func(ctx context.Context, expr string) error
	Redact evidence.Redactor
	Now    func() time.Time
}

// Toolbox are the tools of one question.
type Toolbox struct {
	Scope Scope
	tools []*tool
	src   Sources
	seen  map[event.Entity]*triage.Result
}

// tool is one read-only look-up.
type tool struct {
	Spec
	// args makes the zero arguments; check says what is wrong with them, and
	// fills in defaults.
	args  func() any
	check func(any) error
	run   func(context.Context, any) (event.Evidence, error)
}

// define makes a tool whose arguments are A.
func define[A any](name, doc, properties string, check func(*A) error, run func(context.Context, A) (event.Evidence, error)) *tool {
	return &tool{
		Spec:  Spec{Name: name, Doc: doc, Schema: json.RawMessage(`{"type":"object","additionalProperties":false,"properties":{` + properties + `}}`)},
		args:  func() any { return new(A) },
		check: func(a any) error { return check(a.(*A)) },
		run:   func(ctx context.Context, a any) (event.Evidence, error) { return run(ctx, *a.(*A)) },
	}
}

// Specs are the tools that are there.
func (b *Toolbox) Specs() []Spec {
	out := make([]Spec, len(b.tools))
	for i, t := range b.tools {
		out[i] = t.Spec
	}
	return out
}

// parse finds a tool and checks its arguments. Nothing is asked of anybody.
func (b *Toolbox) parse(name, arguments string) (*tool, any, error) {
	i := slices.IndexFunc(b.tools, func(t *tool) bool { return t.Name == name })
	if i < 0 {
		var names []string
		for _, t := range b.tools {
			names = append(names, t.Name)
		}
		return nil, nil, fmt.Errorf("there is no tool %q; there are %s", clip(name, 40), strings.Join(names, ", "))
	}
	t := b.tools[i]
	if len(arguments) > maxArguments {
		return nil, nil, fmt.Errorf("%s: arguments of %d bytes, more than %d", name, len(arguments), maxArguments)
	}
	if strings.TrimSpace(arguments) == "" {
		arguments = "{}"
	}
	args := t.args()
	dec := json.NewDecoder(bytes.NewReader([]byte(arguments)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(args); err != nil {
		return nil, nil, fmt.Errorf("%s: arguments: %s", name, strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("%s: arguments: text behind the object", name)
	}
	if err := t.check(args); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, args, nil
}

// maxArguments bounds the arguments of a call, in bytes.
const maxArguments = 2000

// Bounds of what a tool reads.
const (
	maxMinutes = 24 * 60
	maxSeries  = 20
)

// object names one thing. Its fields are checked before they become part of a
// path or a query.
type object struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// check checks an object's names. Kinds are those of kinds.
func (b *Toolbox) object(o *object, kinds []string) error {
	i := slices.IndexFunc(kinds, func(k string) bool { return strings.EqualFold(k, o.Kind) })
	if i < 0 {
		return fmt.Errorf("kind %q is not one of %s", clip(o.Kind, 40), strings.Join(kinds, ", "))
	}
	o.Kind = kinds[i]
	if len(validation.IsDNS1123Subdomain(o.Name)) > 0 {
		return fmt.Errorf("name %q is not a name that Kubernetes allows", clip(o.Name, 63))
	}
	if slices.Contains(unscoped, o.Kind) {
		if o.Namespace != "" {
			return fmt.Errorf("a %s has no namespace", o.Kind)
		}
		return nil
	}
	if o.Namespace == "" {
		return errors.New("namespace is missing")
	}
	return b.Scope.holds(o.Namespace)
}

func (o object) entity() event.Entity {
	return event.Entity{Namespace: o.Namespace, Kind: o.Kind, Name: o.Name}
}

// unscoped are the kinds that no namespace holds. Of these only nodes and
// volumes are looked at.
var unscoped = []string{"Node", "PersistentVolume"}

// workloads are the kinds that have pods.
var workloads = []string{"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "Pod"}

// described are the kinds that can be described. Secrets are none of them, and
// of ConfigMaps nothing is read.
var described = slices.Concat(workloads, []string{"ReplicaSet", "Service", "Ingress", "HorizontalPodAutoscaler", "PersistentVolumeClaim", "PodDisruptionBudget", "NetworkPolicy", "ResourceQuota"}, unscoped)

const (
	kindDoc = `"kind":{"type":"string"},"namespace":{"type":"string"},"name":{"type":"string"}`
	timeDoc = `"minutes":{"type":"integer","minimum":1,"maximum":1440}`
)

// NewToolbox makes the tools that the sources allow.
func NewToolbox(src Sources, scope Scope) *Toolbox {
	b := &Toolbox{Scope: scope, src: src, seen: map[event.Entity]*triage.Result{}}
	add := func(there bool, t *tool) {
		if there {
			b.tools = append(b.tools, t)
		}
	}
	add(src.Health != nil, b.health())
	add(src.Triage != nil, b.triage())
	add(src.Triage != nil, b.metrics())
	add(src.Prometheus != nil, b.promql())
	add(src.Loki != nil || src.Kubernetes != nil, b.logs())
	add(src.Kubernetes != nil, b.events())
	add(src.Kubernetes != nil, b.describe())
	add(src.Triage != nil, b.changes())
	add(src.Runbooks != nil, b.runbooks())
	add(src.Incidents != nil, b.incidents())
	return b
}

// minutes checks a time back from now.
func minutes(m *int, instead int) error {
	if *m == 0 {
		*m = instead
	}
	if *m < 1 || *m > maxMinutes {
		return fmt.Errorf("minutes %d is not between 1 and %d", *m, maxMinutes)
	}
	return nil
}

// span is the time that minutes back mean.
func (b *Toolbox) span(minutes int) (start, end time.Time) {
	end = b.src.Now().UTC().Truncate(time.Second)
	return end.Add(-time.Duration(minutes) * time.Minute), end
}

// found is a tool's result as evidence.
func (b *Toolbox) found(source, expr string, e event.Entity, lines []string) event.Evidence {
	for i, l := range lines {
		lines[i] = b.src.Redact.Line(l)
	}
	return evidence.New(evidence.Query{Source: source, Expr: expr, End: b.src.Now().UTC(), Entity: e, Limit: evidence.MaxLimit}, lines, nil)
}
