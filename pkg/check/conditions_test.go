package check

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestConditions makes docs/health-checks.md of the conditions, the checks and the
// zoo, and keeps them together.
func TestConditions(t *testing.T) {
	known := map[string]bool{}
	named := map[string]bool{}
	for _, i := range All {
		known[i.Name] = true
	}
	for _, r := range rules(t).Rules() {
		known[r.ID] = true
	}
	files, err := filepath.Glob("../../test/integration/health/testdata/broken/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no broken exhibits", err)
	}
	shown := map[string]bool{}
	for _, f := range files {
		shown[strings.TrimSuffix(filepath.Base(f), ".yaml")] = false
	}
	for _, c := range Conditions {
		if len(c.By) == 0 && c.Out == "" {
			t.Errorf("%s: neither says what finds it nor why nothing does", c.Name)
		}
		if len(c.By) == 0 && len(c.Zoo) > 0 {
			t.Errorf("%s: an exhibit shows it, and nothing finds it", c.Name)
		}
		for _, b := range c.By {
			if named[b] = true; !known[b] {
				t.Errorf("%s: there is no check and no rule %s", c.Name, b)
			}
		}
		for _, z := range c.Zoo {
			if _, ok := shown[z]; !ok {
				t.Errorf("%s: there is no exhibit %s", c.Name, z)
			}
			shown[z] = true
		}
	}
	for _, i := range All {
		if !named[i.Name] {
			t.Errorf("no condition names the check %s", i.Name)
		}
	}
	for z, told := range shown {
		if !told {
			t.Errorf("no condition names the exhibit %s", z)
		}
	}
	got := document()
	const path = "../../docs/health-checks.md"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Error("docs/health-checks.md is not what the code says; run: go test ./pkg/check -run Conditions -update")
	}
}

// document is docs/health-checks.md.
func document() string {
	var b strings.Builder
	found, left := 0, 0
	for _, c := range Conditions {
		if len(c.By) > 0 {
			found++
		} else {
			left++
		}
	}
	fmt.Fprintf(&b, `# What oncall health checks

Made from the code by `+"`go test ./pkg/check -run Conditions -update`"+`; a test fails
when it is not what the code says.

The conditions are those that k8sgpt, Popeye, Robusta and the kubernetes-mixin look
for: %d are found, %d left out, with why. `+"`pods`"+` and the like are checks
(below), the others rules of `+"`policies/rules`"+`, which say why. The zoo is
`+"`test/integration/health/testdata/broken`"+`: an object for each exhibit on a real API
server with its controllers, where a test wants each found and none of the healthy
look-alikes flagged. How it compares with Popeye is in
[benchmarks.md](benchmarks.md); [walkthroughs.md](walkthroughs.md) goes from a line to
its cause.

## What no object shows

Latency and errors that left what is usual, name look-ups that fail, volumes and memory that
fill up, kubelets, nodes and API servers that are short of something, and statements that
logs did not make before are read from Prometheus and Loki:
those of `+"`--prometheus`"+`, `+"`--loki`"+` or `+"`--via-kube`"+`, else those of the configuration file, else
those that are found in the cluster (`+"`--find=false`"+` does not look). Without one the output
says what was not checked, and why.

The queries are those of [policies/queries](../policies/queries), and what is odd is said
by the detectors of the pipeline ([detectors.md](detectors.md)) over the last four hours, a
value a minute; what only has to be beyond a bound is asked as such
([below](#what-is-measured)). Of Prometheus there are at most 24 range queries, five for what
is beyond a bound and two or three that ask what there is; of Loki at most 26: the lines of the last ten minutes that look like trouble
and, of the eight most frequent statements among them, how often each was made in the four
hours before. Where Loki mines patterns, what they show to have been there as often is not
counted in its lines. All of a kind are asked at the same time, and while the objects are read: a
tenth of a second of distance costs about a second in all. What is not answered within ten
seconds is not waited for. `+"`test/integration/health`"+` runs it over a real Prometheus and a real
Loki, with look-alikes that are well.
`, found, left)
	area := ""
	for _, c := range Conditions {
		if c.Area != area {
			area = c.Area
			fmt.Fprintf(&b, "\n## %s\n\n| | condition | found by | in the zoo | remarks |\n|---|---|---|---|---|\n", area)
		}
		tick := "✓"
		if len(c.By) == 0 {
			tick = "—"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", tick, c.Name, code(c.By), strings.Join(c.Zoo, ", "), c.Out)
	}
	b.WriteString("\n## What is measured\n\nThe bounds are those of the kubernetes-mixin where it has one, and of Popeye else. A\nmeasure is asked where its metric is there.\n\n| measure | of | bound | metric |\n|---|---|---|---|\n")
	for _, m := range Measures {
		fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` |\n", m.Name, m.Of, m.Holds, m.Guard)
	}
	b.WriteString("\n## The checks\n\nEach is a function of one reading of the cluster. A check whose resources may not be\nread is skipped, and the output says so. What is measured needs no resource.\n\n| check | what it tells, and what it lets pass | reads |\n|---|---|---|\n")
	for _, i := range All {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", i.Name, strings.ReplaceAll(i.Doc, "|", `\|`), strings.Join(i.Needs, ", "))
	}
	return b.String()
}

func code(names []string) string {
	out := slices.Clone(names)
	for i, n := range out {
		out[i] = "`" + n + "`"
	}
	return strings.Join(out, ", ")
}
