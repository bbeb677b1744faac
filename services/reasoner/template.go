package reasoner

import (
	_ "embed"
	"regexp"
	"strings"
	"unicode"
)

// Text that comes from a cluster is written by whoever can write a log line or
// name an object. A model is shown templates of it: words of a closed technical
// vocabulary, and parameters that are typed by their form (numbers, times,
// names, reasons). What is neither is a placeholder. A sentence that asks for
// something loses its words.

//go:embed vocabulary.txt
var vocabularyText string

var vocabulary = func() map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(vocabularyText) {
		out[w] = true
	}
	return out
}()

// Bounds of a template.
const (
	maxTemplateWords = 48
	maxParameter     = 80
)

var (
	numberForm = regexp.MustCompile(`^[<>=~+-]?\d[\d,.]*(?:/\d+)?(?:%|x|[a-zA-Z]{1,3}|[KMGTP]i?B?)?$`)
	timeForm   = regexp.MustCompile(`^(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?$`)
	spanForm   = regexp.MustCompile(`^(?:\d+(?:\.\d+)?(?:ms|[dhms]))+$`)
	addrForm   = regexp.MustCompile(`^\[?[0-9a-fA-F:.]{3,40}\]?(?::\d+)?$`)
	// nameForm is how Kubernetes names things, and images: at least one digit or
	// joint, and no more parts than a name has.
	nameForm   = regexp.MustCompile(`^[a-z0-9]+(?:[._/:@-][a-zA-Z0-9]+){0,9}$`)
	reasonForm = regexp.MustCompile(`^[A-Z][a-z0-9]+(?:[A-Z]+[a-z0-9]*){1,5}$|^OOMKill(?:ed|ing)$`)
	codeForm   = regexp.MustCompile(`^E[A-Z]{3,14}$|^SIG[A-Z]{3,6}$`)
	metricForm = regexp.MustCompile(`^[a-z]+(?:_[a-z0-9]+){1,7}$`)
)

// template is a line as a model may see it. known are names that are let
// through though they look like words: those of the incident's own entities.
func template(line string, known map[string]bool) string {
	var out []string
	n := 0
	for w := range strings.FieldsSeq(strings.NewReplacer(`"`, " ", "'", " ", "`", " ", "=", " = ", "(", " ( ", ")", " ) ", "{", " ", "}", " ", "->", " -> ", ",", " , ", ";", " ; ").Replace(line)) {
		if n++; n > maxTemplateWords {
			out = append(out, "<more>")
			break
		}
		core := strings.Trim(w, ".:!?[]<>")
		switch {
		case core == "":
			if w == ":" || w == "->" || w == "=" || w == "," || w == ";" || w == "(" || w == ")" {
				out = append(out, w)
			}
		case strings.Contains("=,;()", w) && len(w) == 1 || w == "->":
			out = append(out, w)
		case shown(core, known):
			out = append(out, core)
		case len(out) == 0 || out[len(out)-1] != "<*>":
			out = append(out, "<*>")
		}
	}
	return strings.Join(out, " ")
}

// shown says whether a word is of the vocabulary or a parameter of a known
// form.
func shown(w string, known map[string]bool) bool {
	if len(w) > maxParameter || strings.ContainsFunc(w, func(r rune) bool { return r > unicode.MaxASCII || unicode.IsControl(r) }) {
		return false
	}
	low := strings.ToLower(w)
	if vocabulary[low] || known[low] {
		return true
	}
	if strings.Contains(w, "://") {
		return false
	}
	for _, re := range []*regexp.Regexp{numberForm, timeForm, spanForm, addrForm, reasonForm, codeForm, metricForm} {
		if re.MatchString(w) {
			return true
		}
	}
	// A joined sentence is no name: of a name's parts no more than three are
	// plain words that no object of the incident is called by.
	if !nameForm.MatchString(w) || !strings.ContainsAny(w, "0123456789-/") {
		return false
	}
	strange := 0
	for _, p := range strings.FieldsFunc(low, func(r rune) bool { return strings.ContainsRune("._/:@-", r) }) {
		if !known[p] && !vocabulary[p] && !strings.ContainsAny(p, "0123456789") {
			strange++
		}
	}
	return strange <= 3
}
