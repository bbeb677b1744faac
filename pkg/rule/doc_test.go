package rule_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

func TestTheRuleInTheDocumentationIsOne(t *testing.T) {
	b, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/rules.md holds no example")
	}
	s, err := policy.NewStore(fstest.MapFS{"rules/doc.yaml": {Data: []byte(example)}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := rule.Load(s)
	if err != nil || len(e.Rules()) != 1 {
		t.Errorf("%v", err)
	}
	for _, l := range rule.Lookups {
		if !strings.Contains(string(b), "`"+l+"`") {
			t.Errorf("docs/rules.md says nothing of the look-up %s", l)
		}
	}
}
