// Package rule says what evidence means: conditions in CEL over an entity, its
// anomalies, changes and look-ups, with the finding, the next checks and the
// roll-back that follow. Commands and reports share it.
package rule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Rule is one entry of policies/rules/*.yaml.
type Rule struct {
	// ID is unique over all files.
	ID string `yaml:"id"`
	// Doc says in a sentence what the rule recognises.
	Doc string `yaml:"doc"`
	// Kinds limits the rule to kinds of entities. Empty: all, but rules that need
	// pods are not for nodes.
	Kinds []string `yaml:"kinds"`
	// Needs are the look-ups the condition reads, of [Lookups]. The rule is not
	// asked when all of them have failed: no access is not absence.
	Needs []string `yaml:"needs"`
	// When is a CEL expression that gives true or false.
	When string `yaml:"when"`
	// Values are CEL expressions that give strings or numbers for the templates.
	Values map[string]string `yaml:"values"`
	// Title and Detail are templates: {{namespace}}, {{name}}, {{kind}},
	// {{entity}} and the Values. What they claim has to stand in the look-ups:
	// numbers and names come from Values, not from the rule's author.
	Title  string `yaml:"title"`
	Detail string `yaml:"detail"`
	// Urgency is broken, soon or hygiene. Default: broken.
	Urgency event.Urgency `yaml:"urgency"`
	// Severity is info, warning or critical. Default: warning.
	Severity event.Severity `yaml:"severity"`
	// Confidence is high, medium or low. Default: medium.
	Confidence event.Confidence `yaml:"confidence"`
	// Cause says that the finding explains what is wrong.
	Cause bool `yaml:"cause"`
	// Checks are commands that only read. Rollback changes something, and is
	// printed for a human.
	Checks   []Command `yaml:"next_checks"`
	Rollback []Command `yaml:"rollback"`
	// Tags find runbooks.
	Tags []string `yaml:"tags"`

	file   string
	line   int
	when   cel.Program
	values map[string]cel.Program
}

// Command is a template of a command.
type Command struct {
	Why     string `yaml:"why"`
	Command string `yaml:"command"`
}

// File is the content of one file of rules.
type File struct {
	Rules []Rule `yaml:"rules"`
}

// UnmarshalYAML keeps the line for error messages.
func (r *Rule) UnmarshalYAML(n *yaml.Node) error {
	type plain Rule
	if err := n.Decode((*plain)(r)); err != nil {
		return err
	}
	r.line = n.Line
	return nil
}

// Lookups are the look-ups that rules can need: the pods of the entity, the
// entity's own object, events about it and what it owns, lines of its logs that
// look like trouble, the last lines of a container that crashed, the node that
// its troubled pods share, and the autoscaler of its name.
var Lookups = []string{"pods", "object", "events", "logs", "crash", "node", "hpa"}

var idRE = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Validate checks every rule, CEL included.
func (f *File) Validate() error {
	env, err := environment()
	if err != nil {
		return err
	}
	var errs []error
	bad := func(path string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path, Value: value, Problem: problem, Fix: fix})
	}
	for i := range f.Rules {
		r := &f.Rules[i]
		path := fmt.Sprintf("rules[%d].", i)
		if !idRE.MatchString(r.ID) {
			bad(path+"id", r.ID, "is not a name of lower-case letters, digits and _", "write oom_killed")
		}
		if r.Doc == "" || r.Title == "" {
			bad(path+"title", nil, "and doc are both needed", "")
		}
		for _, n := range r.Needs {
			if !slices.Contains(Lookups, n) {
				bad(path+"needs", n, "is not a look-up", "write one of "+strings.Join(Lookups, ", "))
			}
		}
		r.Urgency = orDefault(r.Urgency, event.Broken)
		r.Severity = orDefault(r.Severity, event.Warning)
		r.Confidence = orDefault(r.Confidence, event.Medium)
		if !slices.Contains([]event.Urgency{event.Broken, event.Soon, event.Hygiene}, r.Urgency) {
			bad(path+"urgency", r.Urgency, "is not broken, soon or hygiene", "write broken")
		}
		if r.Severity.Number() == 0 {
			bad(path+"severity", r.Severity, "is not info, warning or critical", "write warning")
		}
		if !slices.Contains([]event.Confidence{event.High, event.Medium, event.Low}, r.Confidence) {
			bad(path+"confidence", r.Confidence, "is not high, medium or low", "write medium")
		}
		if r.when, err = compile(env, r.When, cel.BoolType); err != nil {
			bad(path+"when", nil, err.Error(), "")
		}
		r.values = map[string]cel.Program{}
		for name, expr := range r.Values {
			p, err := compile(env, expr, nil)
			if err != nil {
				bad(path+"values."+name, nil, err.Error(), "")
			}
			r.values[name] = p
		}
		for _, text := range r.templates() {
			for _, g := range placeholder.FindAllStringSubmatch(text, -1) {
				if _, ok := r.Values[g[1]]; !ok && !slices.Contains(builtinNames, g[1]) {
					bad(path+"values", "{{"+g[1]+"}}", "is used and not defined", "add it to values")
				}
			}
		}
		for j, c := range r.Checks {
			if err := ReadOnly(placeholder.ReplaceAllString(c.Command, "x")); err != nil {
				bad(fmt.Sprintf("%snext_checks[%d].command", path, j), c.Command, err.Error(), "a check only reads; put what changes something into rollback")
			}
		}
	}
	return errors.Join(errs...)
}

func orDefault[T ~string](v, d T) T {
	if v == "" {
		return d
	}
	return v
}

func (r *Rule) templates() []string {
	out := []string{r.Title, r.Detail}
	for _, c := range slices.Concat(r.Checks, r.Rollback) {
		out = append(out, c.Command, c.Why)
	}
	return out
}

// costLimit bounds the work of one expression, so that a rule cannot stall a
// report however much evidence there is.
const costLimit = 5_000_000

func environment() (*cel.Env, error) {
	return cel.NewEnv(
		cel.OptionalTypes(), ext.Strings(), ext.Lists(), ext.Math(), ext.Sets(), ext.Bindings(), ext.Regex(), quantities,
		cel.Variable("entity", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("anomalies", cel.ListType(cel.DynType)),
		cel.Variable("changes", cel.ListType(cel.DynType)),
		cel.Variable("pods", cel.ListType(cel.DynType)),
		cel.Variable("object", cel.DynType),
		cel.Variable("node", cel.DynType),
		cel.Variable("events", cel.ListType(cel.DynType)),
		cel.Variable("logs", cel.ListType(cel.StringType)),
		cel.Variable("containers", cel.ListType(cel.DynType)),
		cel.Variable("crash", cel.ListType(cel.StringType)),
		cel.Variable("hpa", cel.DynType),
	)
}

func compile(env *cel.Env, expr string, want *cel.Type) (cel.Program, error) {
	if strings.TrimSpace(expr) == "" {
		return nil, errors.New("is empty; write a CEL expression")
	}
	ast, issues := env.Compile(expr)
	if issues.Err() != nil {
		e := issues.Errors()[0]
		return nil, fmt.Errorf("is not valid CEL at line %d, column %d: %s", e.Location.Line(), e.Location.Column()+1, e.Message)
	}
	if want != nil && !ast.OutputType().IsExactType(want) && !ast.OutputType().IsExactType(cel.DynType) {
		return nil, fmt.Errorf("gives a %s, not a %s", ast.OutputType(), want)
	}
	// Without the last, an expression would be compiled again for every line it is
	// tried on.
	return env.Program(ast, cel.CostLimit(costLimit), cel.InterruptCheckFrequency(100), cel.OptimizeRegex(interpreter.MatchesRegexOptimization))
}

// Engine holds compiled rules.
type Engine struct{ rules []Rule }

// Load reads and compiles policies/rules.
func Load(s *policy.Store) (*Engine, error) {
	e := &Engine{}
	var errs []error
	for _, name := range s.Glob("rules", ".yaml") {
		b, _ := s.File(name)
		var f File
		if err := policy.Decode("policies/"+name, b, &f); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, r := range f.Rules {
			if i := slices.IndexFunc(e.rules, func(o Rule) bool { return o.ID == r.ID }); i >= 0 {
				errs = append(errs, &policy.Error{File: "policies/" + name, Problems: []policy.Problem{{
					Line: r.line, Text: fmt.Sprintf("id: %s stands in %s:%d too; rename one", r.ID, e.rules[i].file, e.rules[i].line),
				}}})
			}
			r.file = "policies/" + name
			e.rules = append(e.rules, r)
		}
	}
	return e, errors.Join(errs...)
}

// Rules lists the rules in the order of their files.
func (e *Engine) Rules() []Rule { return slices.Clone(e.rules) }
