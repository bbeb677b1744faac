package logpattern

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// maxPhrases bounds the filters of a query.
const maxPhrases = 3

// values are what stands in a template for what differs, and the pseudonyms of
// what was redacted, which no line of the source holds.
var (
	values = regexp.MustCompile(`<\*>|` + mask)
	masks  = regexp.MustCompile(mask)
)

// mask is how what was redacted looks: a digit begins its pseudonym.
const mask = `<[a-z0-9_-]+(?::[0-9][0-9a-z]{3,5})?>`

// Phrases are the longest parts of a template that are the same in every line
// of it, in their order: what finds its lines and no others. A single word is
// in lines that say the opposite, too. The sample says whether a part stands in
// lines as it does in the template, which does not keep all spaces.
func Phrases(template, sample string) []string {
	var parts []string
	sample = masks.ReplaceAllString(sample, "\x00") // the name of a mask is in no line either
	for _, constant := range values.Split(template, -1) {
		constant = strings.TrimSpace(constant)
		switch {
		case len(constant) < 3: // punctuation between values
		case strings.Contains(sample, constant):
			parts = append(parts, constant)
		default:
			parts = append(parts, slices.DeleteFunc(strings.Fields(constant), func(w string) bool { return len(w) < 3 || !strings.Contains(sample, w) })...)
		}
	}
	byLength := slices.Clone(parts)
	slices.SortStableFunc(byLength, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	best := byLength[:min(maxPhrases, len(byLength))]
	var out []string
	for _, p := range parts {
		if slices.Contains(best, p) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
