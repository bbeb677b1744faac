package sources_test

import (
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/services/collector"
)

// TestTheExamplesOfTheDocumentationAreValid reads every section of
// docs/sources.md that is ours; those of other programs begin with a comment.
func TestTheExamplesOfTheDocumentationAreValid(t *testing.T) {
	text, err := os.ReadFile("../../../docs/sources.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, block := range strings.Split(string(text), "```yaml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		if strings.HasPrefix(block, "#") {
			continue
		}
		n++
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(block), &doc); err != nil {
			t.Errorf("%v in\n%s", err, block)
			continue
		}
		cfg, err := collector.Spec.Check("docs/sources.md", doc.Content[0])
		if err != nil {
			t.Errorf("%v in\n%s", err, block)
			continue
		}
		c := cfg.(collector.Config)
		if c.Sources() == 0 {
			t.Errorf("no source in\n%s", block)
		}
	}
	if n < 5 {
		t.Errorf("%d examples", n)
	}
}
