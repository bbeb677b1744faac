package compat

import (
	"bufio"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// plain is the PromQL of a server without feature flags, the least that any
// Prometheus 3 reads.
var plain = parser.NewParser(parser.Options{})

// everything also reads what is behind flags.
var everything = parser.NewParser(parser.Options{EnableExperimentalFunctions: true, EnableBinopFillModifiers: true})

func TestEveryQueryOfTheCatalogueParses(t *testing.T) {
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	families, err := prometheus.LoadFamilies(store)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		for _, q := range f.Queries {
			if q.Ratio != nil {
				continue
			}
			n++
			injected(t, plain, strings.ReplaceAll(q.Expr, "$window", "2m"))
		}
	}
	if n < 30 {
		t.Errorf("only %d queries", n)
	}
}

func TestEveryDetectorInYAMLParses(t *testing.T) {
	names, err := fs.Glob(policies.FS, "detectors/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d detectors, %v", len(names), err)
	}
	for _, name := range names {
		b, err := fs.ReadFile(policies.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Expr string `yaml:"expr"`
		}
		if err := yaml.Unmarshal(b, &d); err != nil {
			t.Fatal(err)
		}
		if d.Expr != "" {
			injected(t, plain, strings.ReplaceAll(d.Expr, "$window", "2m"))
		}
	}
}

// injected checks that a matcher reaches every selector of an expression and
// changes nothing else.
func injected(t *testing.T, p parser.Parser, expr string) {
	t.Helper()
	before, err := p.ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v", expr, err)
		return
	}
	got := upstream.InjectPromQL(expr, `extra_matcher="yes"`)
	after, err := p.ParseExpr(got)
	if err != nil {
		t.Errorf("%s\nbecame\n%s\n%v", expr, got, err)
		return
	}
	parser.Inspect(after, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		rest, found := v.LabelMatchers[:0:0], false
		for _, m := range v.LabelMatchers {
			if m.Name == "extra_matcher" && m.Value == "yes" {
				found = true
				continue
			}
			rest = append(rest, m)
		}
		if !found {
			t.Errorf("%s: selector %s of\n%s has no extra matcher", expr, v, got)
		}
		v.LabelMatchers = rest
		return nil
	})
	if a, b := before.String(), after.String(); a != b {
		t.Errorf("%s\nmeans another thing:\n%s\n%s", expr, a, b)
	}
}

// TestInjectionHoldsOnPrometheusOwnTests takes every expression that Prometheus
// tests itself with.
func TestInjectionHoldsOnPrometheusOwnTests(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "promql", "promqltest", "testdata", "*.test"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	n := 0
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(f)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			expr, ok := expression(sc.Text())
			if !ok {
				continue
			}
			e, err := everything.ParseExpr(expr)
			if err != nil || !named(e) {
				continue
			}
			n++
			injected(t, everything, expr)
		}
		if err := sc.Err(); err != nil {
			t.Error(err)
		}
		_ = f.Close()
	}
	if n < 500 {
		t.Errorf("only %d expressions", n)
	}
	t.Logf("%d expressions of %d files", n, len(files))
}

// expression reads "eval[_fail|_warn|…] instant at 5m EXPR" and "eval range from
// 0 to 5m step 1m EXPR".
func expression(line string) (string, bool) {
	w := strings.Fields(line)
	skip := 0
	switch {
	case len(w) > 4 && strings.HasPrefix(w[0], "eval") && w[1] == "instant":
		skip = 4
	case len(w) > 8 && strings.HasPrefix(w[0], "eval") && w[1] == "range":
		skip = 8
	default:
		return "", false
	}
	rest := line
	for range skip {
		rest = strings.TrimLeft(rest, " \t")
		rest = rest[strings.IndexAny(rest, " \t"):]
	}
	return strings.TrimSpace(rest), true
}

// named says whether no word that is an operator is used as a metric's name
// without braces, which only a parser can tell apart.
func named(e parser.Expr) bool {
	ok := true
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if v, is := n.(*parser.VectorSelector); is {
			switch strings.ToLower(v.Name) {
			case "and", "or", "unless", "offset", "bool", "by", "without", "on", "ignoring", "group_left", "group_right", "atan2", "inf", "nan", "anchored", "smoothed":
				ok = false
			}
		}
		return nil
	})
	return ok
}
