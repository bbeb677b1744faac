package logpattern

import (
	"slices"
	"strings"
	"testing"
)

func TestTheFilterOfATemplateFindsItsLinesAndNoOthers(t *testing.T) {
	for name, tc := range map[string]struct {
		template, sample string
		want             []string
		not              string // a line that the filter must not find
	}{
		"a line that says not": {
			`level=error msg="request not served" path=/items/<*> status=500 err="dial tcp: connection refused"`,
			`level=error msg="request not served" path=/items/17 status=500 err="dial tcp: connection refused"`,
			[]string{`level=error msg="request not served" path=/items/`, `status=500 err="dial tcp: connection refused"`},
			`level=info msg="request served" path=/items/17 status=200 took=40ms`,
		},
		"spaces that the template does not keep": {
			`ERROR payment for order <*> was refused`, "ERROR  payment for order 7 was\trefused", []string{"ERROR", "payment", "refused"}, "INFO payment for order 7 was taken",
		},
		"punctuation between values finds nothing": {`<*> - <*> : <*> lost`, `a - b : c lost`, []string{"lost"}, "a - b : c found"},
		"a pseudonym is in no line of the source":  {`login of <email:1f0c2a> denied`, "login of <email:1f0c2a> denied", []string{"login of", "denied"}, ""},
		"nor is what a mask is called":             {"Authorization Bearer secret <*> retry <*>", "Authorization: Bearer <secret:4ahckd> retry 7", []string{"Authorization", "Bearer", "retry"}, ""},
		"only the longest":                         {`aaa <*> bbbb <*> ccc <*> ddddd <*> eeee`, `aaa 1 bbbb 2 ccc 3 ddddd 4 eeee`, []string{"bbbb", "ddddd", "eeee"}, "bbbb ddddd"},
		"a template that is not known":             {"", "anything", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Phrases(tc.template, tc.sample)
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			all := func(line string) bool {
				return !slices.ContainsFunc(got, func(p string) bool { return !strings.Contains(line, p) })
			}
			if !all(tc.sample) {
				t.Errorf("%q does not find the sample %q", got, tc.sample)
			}
			if tc.not != "" && all(tc.not) {
				t.Errorf("%q finds %q too", got, tc.not)
			}
		})
	}
}
