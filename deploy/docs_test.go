package deploy_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/bus/access"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// rightsTable is what the collector may do, a line for each resource.
func rightsTable() string {
	verbs := map[string][]string{}
	for _, r := range kube.Needed() {
		name := r.Resource
		if r.Subresource != "" {
			name += "/" + r.Subresource
		}
		if r.Group != "" {
			name += "." + r.Group
		}
		verbs[name] = append(verbs[name], r.Verb)
	}
	lines := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(verbs)) {
		slices.Sort(verbs[name])
		v := strings.Join(verbs[name], ", ")
		lines[v] = append(lines[v], "`"+name+"`")
	}
	var b strings.Builder
	b.WriteString("| verbs | resources |\n|---|---|\n")
	for _, v := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintf(&b, "| %s | %s |\n", v, strings.Join(lines[v], ", "))
	}
	return b.String()
}

func identitiesTable() string {
	var b strings.Builder
	b.WriteString("| identity | what it does |\n|---|---|\n")
	for _, i := range access.Identities() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", i.Name, i.Doc)
	}
	return b.String()
}

// TestTablesInTheDocsAreThoseOfTheCode writes them between their marks.
func TestTablesInTheDocsAreThoseOfTheCode(t *testing.T) {
	for file, tables := range map[string]map[string]string{
		"../docs/operations.md": {"rights": rightsTable()},
		"../docs/security.md":   {"identities": identitiesTable()},
	} {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for mark, table := range tables {
			between := regexp.MustCompile(`(?s)(<!-- ` + mark + ` -->\n).*(<!-- /` + mark + ` -->)`)
			if !between.Match(page) {
				t.Errorf("%s has no place for %s", file, mark)
			}
			page = between.ReplaceAll(page, []byte("${1}"+table+"${2}"))
		}
		golden(t, file, page)
	}
}

// TestFilesThatTheDocsNameExist finds a path that was moved.
func TestFilesThatTheDocsNameExist(t *testing.T) {
	path := regexp.MustCompile("`((?:deploy|docs|pkg|services)/[a-zA-Z0-9_./-]+)`")
	link := regexp.MustCompile(`\]\(([a-z/.-]+)(?:#([a-z-]+))?\)`)
	for _, file := range []string{"../docs/operations.md", "../docs/security.md", "../docs/queries/burn-rate.md"} {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range path.FindAllStringSubmatch(string(page), -1) {
			if _, err := os.Stat("../" + m[1]); err != nil {
				t.Errorf("%s names %s, which is not there", file, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(string(page), -1) {
			target := "../docs/" + m[1]
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", file, m[1])
			} else if m[2] != "" && !slices.Contains(anchors(t, target), m[2]) {
				t.Errorf("%s links to %s#%s, which is no heading", file, m[1], m[2])
			}
		}
	}
}
