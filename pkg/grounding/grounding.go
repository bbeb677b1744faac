// Package grounding checks that a claim says nothing that its evidence does
// not: every number, name, reason and quotation in it occurs in the evidence
// that it cites, and it carries nothing that acts on a reader's surface (a
// command, a link, a mention, markup).
//
// It holds for what rules write, in tests, and for what a language model
// writes, at run time. It is strict on purpose: a true claim that is dropped
// costs a sentence, an invented one costs the reader's trust.
package grounding

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Fault says what is wrong with a claim.
type Fault string

// The faults.
const (
	Number  Fault = "number"  // a number or time that is not in the evidence
	Name    Fault = "name"    // an entity, identifier or reason that is not in the evidence
	Quote   Fault = "quote"   // a quotation that is not in the evidence
	Command Fault = "command" // something to run
	Link    Fault = "link"    // an address
	Mention Fault = "mention" // something that pings people
	Markup  Fault = "markup"  // HTML, Markdown links, control characters
)

// Faults lists the faults, for the labels of a metric.
var Faults = []Fault{Number, Name, Quote, Command, Link, Mention, Markup}

// Problem is one thing in a claim that must not be there.
type Problem struct {
	Fault Fault
	Token string
}

func (p Problem) Error() string { return fmt.Sprintf("%s %q", p.Fault, p.Token) }

// Facts is what a claim may speak of. The zero value holds nothing.
type Facts struct {
	numbers map[string]bool
	words   map[string]bool // lower case
	text    strings.Builder // lower case, blanks collapsed
}

// Of makes facts of texts.
func Of(texts ...string) *Facts {
	f := &Facts{}
	f.Add(texts...)
	return f
}

// Add adds what texts say.
func (f *Facts) Add(texts ...string) {
	if f.words == nil {
		f.numbers, f.words = map[string]bool{}, map[string]bool{}
	}
	for _, s := range texts {
		low := strings.ToLower(s)
		f.text.WriteString(strings.Join(strings.Fields(low), " "))
		f.text.WriteByte('\n')
		for _, w := range strings.FieldsFunc(low, separates) {
			f.word(w)
		}
	}
}

// word adds a word and the words it is made of.
func (f *Facts) word(w string) {
	w = strings.Trim(w, edges)
	if w == "" {
		return
	}
	f.words[w] = true
	if stamp := timestamp.FindStringSubmatch(w); stamp != nil {
		// What people write of 2026-11-24T02:48:03.120Z is its time of day, and
		// its digits are not numbers of anything.
		f.words[stamp[1]], f.words[stamp[2]], f.words[stamp[3]] = true, true, true
		return
	}
	if n, ok := number(w); ok {
		f.numbers[n] = true
	}
	if parts := split(w); len(parts) > 1 {
		var numbers []string
		for _, p := range parts {
			p = strings.Trim(p, edges)
			f.words[p] = true
			if n, ok := number(p); ok {
				numbers = append(numbers, n)
			}
		}
		// Digits in a name or in a time of day count nothing.
		if len(numbers) == len(parts) && !clockTime.MatchString(w) {
			for _, n := range numbers {
				f.numbers[n] = true
			}
		}
	}
	// A path is also every tail and head of it: shop/deployment/web is
	// deployment/web.
	for i := range w {
		if w[i] == '/' {
			f.words[w[:i]], f.words[w[i+1:]] = true, true
		}
	}
}

// AddEvidence adds what a piece of evidence shows: its lines, its values, what
// was asked, about what, and when.
func (f *Facts) AddEvidence(e event.Evidence) {
	f.Add(e.Excerpt...)
	f.Add(e.Query)
	f.AddEntity(e.Entity)
	for k, v := range e.Values {
		switch v := v.(type) {
		case float64:
			f.Add(k, strconv.FormatFloat(v, 'f', -1, 64), strconv.FormatFloat(v, 'g', 4, 64))
		case string:
			f.Add(k, v)
		case int, bool:
			f.Add(k, fmt.Sprint(v))
		}
	}
}

// AddEntity adds the ways an entity is written.
func (f *Facts) AddEntity(e event.Entity) {
	if e.IsZero() {
		return
	}
	f.Add(e.String(), e.Name, e.Namespace, e.Kind+"/"+e.Name, e.Namespace+"/"+e.Name)
}

// Check returns what a claim says beyond the facts, in the order of the claim;
// nothing when it is grounded.
func (f *Facts) Check(claim string) []Problem {
	out := acts(claim)
	low := strings.ToLower(claim)
	for _, q := range quotations(low) {
		if !strings.Contains(f.text.String(), strings.Join(strings.Fields(q), " ")) {
			out = append(out, Problem{Quote, q})
		}
	}
	words := strings.FieldsFunc(claim, separates)
	for i, w := range words {
		w = strings.Trim(w, edges)
		switch {
		case w == "" || f.holds(strings.ToLower(w)):
		case hasDigit(w):
			if !f.counted(w) {
				out = append(out, Problem{faultOf(w), w})
			}
		case identifier(w):
			out = append(out, Problem{Name, w})
		case amounts[strings.ToLower(w)] != "":
			if !f.numbers[amounts[strings.ToLower(w)]] {
				out = append(out, Problem{Number, w})
			}
		default:
			if p, ok := f.neighbour(words, i); !ok {
				out = append(out, p)
			}
		}
	}
	return out
}

// Needed are the words of a claim that its evidence has to show.
func Needed(claim string) []string {
	var out []string
	for _, p := range Of("").Check(claim) {
		out = append(out, p.Token)
	}
	return out
}

func faultOf(w string) Fault {
	if _, ok := number(w); ok || !strings.ContainsFunc(w, unicode.IsLetter) {
		return Number
	}
	for _, p := range split(strings.ToLower(w)) {
		if _, ok := number(p); !ok && strings.ContainsFunc(p, unicode.IsLetter) {
			return Name
		}
	}
	return Number
}

// holds says whether a word is in the facts as it stands. Bare digits are
// numbers, and counted as such: the 7 of node-7 is none.
func (f *Facts) holds(w string) bool {
	return f.words[w] && strings.ContainsFunc(w, func(r rune) bool { return !unicode.IsDigit(r) })
}

// counted says whether a word with digits is a number, or several joined, that
// the facts hold.
func (f *Facts) counted(w string) bool {
	w = strings.ToLower(w)
	if n, ok := number(w); ok {
		return f.numbers[n]
	}
	parts := split(w)
	if len(parts) < 2 {
		return false
	}
	for _, p := range parts {
		p = strings.Trim(p, edges)
		n, ok := number(p)
		if p != "" && !f.holds(p) && !(ok && f.numbers[n]) {
			return false
		}
	}
	// A time of day has to be there as a whole: 02 and 48 are not 02:48.
	return !clockTime.MatchString(w)
}

// neighbour finds plain words that are used as a name: what stands before or
// behind "service", "pod" and the like.
func (f *Facts) neighbour(words []string, i int) (Problem, bool) {
	w := strings.ToLower(strings.Trim(words[i], edges))
	if kindNouns[w] || plainWords[w] || participles[w] || strings.HasSuffix(w, "ed") || strings.HasSuffix(w, "ly") {
		return Problem{}, true
	}
	at := func(j int) string {
		if j < 0 || j >= len(words) {
			return ""
		}
		return strings.ToLower(words[j]) // untrimmed: a comma ends the neighbourhood
	}
	if kindNouns[at(i-1)] && !verbs[w] || kindNouns[strings.Trim(at(i+1), edges)] && !strings.ContainsAny(words[i], ",;.:") {
		return Problem{Name, w}, false
	}
	return Problem{}, true
}
