package access

import (
	"slices"
	"strings"
	"testing"
)

func TestCoveringLeavesOutOnlyWhatAnotherSubjectReaches(t *testing.T) {
	for name, test := range map[string]struct{ given, want string }{
		"the same twice is once":                    {"a.b a.b", "a.b"},
		"a tail reaches a name":                     {"a.> a.b", "a.>"},
		"a tail reaches a star":                     {"a.> a.*", "a.>"},
		"a star reaches a name":                     {"a.* a.b", "a.*"},
		"a star does not reach a tail":              {"a.* a.>", "a.>"},
		"a star does not reach two tokens":          {"a.* a.b.c", "a.* a.b.c"},
		"a tail does not reach what stands before":  {"a.b.> a.b", "a.b a.b.>"},
		"a name with a star inside it is no filter": {"a.det-* a.det-1", "a.det-* a.det-1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(covering(strings.Fields(test.given)), " "); got != test.want {
				t.Errorf("covering(%s) = %s, want %s", test.given, got, test.want)
			}
		})
	}
}

func TestNoIdentityMayDoEverything(t *testing.T) {
	for _, i := range Identities() {
		for _, s := range slices.Concat(i.Publish, i.Subscribe) {
			first, rest, _ := strings.Cut(s, ".")
			if first == ">" || first == "*" || strings.HasPrefix(s, "$JS.EVENT.") || strings.HasPrefix(s, "$SYS") || first == "$JS" && (rest == ">" || rest == "API.>") {
				t.Errorf("%s may use %s", i.Name, s)
			}
			if strings.HasPrefix(s, "$JS.API.STREAM.DELETE") {
				t.Errorf("%s may delete streams: %s", i.Name, s)
			}
		}
		if len(i.Subscribe) == 0 || i.Doc == "" {
			t.Errorf("%s gets no answers, or says nothing of itself", i.Name)
		}
	}
}
