package rule

import (
	"context"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Input is what rules look at: one entity with everything known about it.
type Input struct {
	Entity    event.Entity
	Anomalies []event.Anomaly
	Changes   []event.Change
	// Evidence are the answers by the names of [Lookups]. A look-up that failed,
	// or was not made, is empty to a rule.
	Evidence map[string]event.Evidence
	// Context is the kubectl context to print in commands; "" leaves it out.
	Context string
}

// Match is one rule that holds.
type Match struct {
	Finding event.Finding
	Tags    []string
	// Evidence names the look-ups that the rule read.
	Evidence []string
}

// Eval returns the findings of the rules that hold, in the order of the rules.
// A rule that fails on the evidence (a field that is not there) does not hold;
// only a done context is an error.
func (e *Engine) Eval(ctx context.Context, in Input) ([]Match, error) {
	vars, err := variables(in)
	if err != nil {
		return nil, err
	}
	var out []Match
	for i := range e.rules {
		r := &e.rules[i]
		if !r.speaksOf(in.Entity.Kind) || !r.answerable(in) {
			continue
		}
		v, _, err := r.when.ContextEval(ctx, vars)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil || v.Value() != true {
			continue
		}
		m, ok := r.match(ctx, in, vars)
		if ok {
			out = append(out, m)
		}
	}
	return out, nil
}

// speaksOf says whether the rule is for a kind of entity. The pods of a node
// are its guests: a rule about pods speaks of their node only if it says so.
func (r *Rule) speaksOf(kind string) bool {
	if len(r.Kinds) == 0 {
		return kind != "Node" || !slices.Contains(r.Needs, "pods")
	}
	return slices.Contains(r.Kinds, kind)
}

// answerable says whether at least one look-up that the rule needs has an
// answer.
func (r *Rule) answerable(in Input) bool {
	return len(r.Needs) == 0 || slices.ContainsFunc(r.Needs, func(n string) bool {
		e, ok := in.Evidence[n]
		return ok && e.Failed == ""
	})
}

func (r *Rule) match(ctx context.Context, in Input, vars map[string]any) (Match, bool) {
	values := map[string]string{"namespace": in.Entity.Namespace, "kind": strings.ToLower(in.Entity.Kind), "name": in.Entity.Name, "entity": in.Entity.String()}
	for _, name := range sortedKeys(r.values) {
		v, _, err := r.values[name].ContextEval(ctx, vars)
		if err != nil {
			return Match{}, false // the condition held on other evidence than the text needs
		}
		values[name] = text(v.Value())
	}
	f := event.Finding{
		ID: event.FindingID(r.ID, in.Entity), Rule: r.ID, Entity: in.Entity, Urgency: r.Urgency, Severity: r.Severity, Confidence: r.Confidence,
		Cause: r.Cause, Title: strings.TrimSpace(fill(r.Title, values, plain)), Detail: strings.TrimSpace(fill(r.Detail, values, plain)), Since: since(in),
	}
	for _, c := range r.Checks {
		f.Checks = r.print(f.Checks, c, in, values)
	}
	for _, c := range r.Rollback {
		f.Rollback = r.print(f.Rollback, c, in, values)
	}
	return Match{Finding: f, Tags: r.Tags, Evidence: r.Needs}, true
}

// revised are the kinds that `kubectl rollout` knows.
var revised = []string{"Deployment", "StatefulSet", "DaemonSet", "Workload"}

// print adds a command for an entity to a list, in the words of the entity's
// kind, or leaves it out where the kind has no such command.
func (r *Rule) print(list []event.Check, c Command, in Input, values map[string]string) []event.Check {
	template, values := c.Command, maps.Clone(values)
	if strings.Contains(template, " rollout ") && !slices.Contains(revised, in.Entity.Kind) {
		if in.Entity.Kind != "Rollout" {
			return list
		}
		// Argo Rollouts has its own plug-in for kubectl.
		if strings.Contains(template, "rollout undo") {
			template = "kubectl argo rollouts -n {{namespace}} undo {{name}}"
		} else {
			template = "kubectl -n {{namespace}} describe rollout {{name}}"
		}
	}
	if in.Entity.Kind == "Workload" {
		values["kind"] = "deployment" // the likeliest of those that the name may be
	}
	return append(list, event.Check{Why: fill(c.Why, values, plain), Command: command(template, values, in.Context)})
}

func since(in Input) time.Time {
	var t time.Time
	for _, a := range in.Anomalies {
		if t.IsZero() || a.Onset.Before(t) {
			t = a.Onset
		}
	}
	return t
}

var (
	placeholder  = regexp.MustCompile(`\{\{(\w+)\}\}`)
	builtinNames = []string{"namespace", "kind", "name", "entity"}
)

func fill(template string, values map[string]string, quote func(string) string) string {
	return placeholder.ReplaceAllStringFunc(template, func(p string) string { return quote(values[p[2:len(p)-2]]) })
}

func plain(s string) string { return s }

// command fills a command's template: every value is quoted for the shell,
// since names and messages are written by whoever may write to the cluster.
func command(template string, values map[string]string, kubeContext string) string {
	c := fill(template, values, Quote)
	if kubeContext != "" {
		c = strings.ReplaceAll(c, "kubectl ", "kubectl --context "+Quote(kubeContext)+" ")
	}
	return c
}

var safeWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// Quote makes s one word of a POSIX shell.
func Quote(s string) string {
	if safeWord.MatchString(s) && !strings.HasPrefix(s, "-") {
		return s
	}
	// A newline in a name would end the command that is copied.
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// maxValue bounds what one value adds to a text.
const maxValue = 300

func text(v any) string {
	var s string
	switch v := v.(type) {
	case string:
		s = v
	case float64:
		s = strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64)
	case int64:
		s = strconv.FormatInt(v, 10)
	default:
		s = fmt.Sprint(v)
	}
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxValue {
		s = strings.ToValidUTF8(s[:maxValue], "") + "…"
	}
	return s
}

func sortedKeys(m map[string]cel.Program) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
