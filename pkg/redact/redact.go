// Package redact takes secrets and personal data out of text before it leaves
// the process that read it.
//
// A value is masked and its key kept: password=hunter2 becomes
// password=<secret:1fgcka>. The mask is a pseudonym, the same for the same
// value on the same day, so that correlation still works and nothing can be
// traced over months. What an engineer needs stays: image digests, commit and
// trace ids, UUIDs, pod names, addresses.
package redact

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Redactor masks text. It is safe for concurrent use.
type Redactor struct {
	rules []rule
	key   []byte
	day   func() string // UTC day of the pseudonyms
	ips   bool
	masks *atomic.Int64
}

// rule masks one group of what its expression matches.
type rule struct {
	name string // of the mask: secret, email, card …
	// words are lower-case and at least four bytes long, except in rules of the
	// user; the expression is tried only on text that holds one of them.
	words []string
	by    by // tried by characters, where there are no words
	// may says of text that holds a word whether the expression could match: it
	// is never false where it does. nil: always.
	may   func(string) bool
	re    *regexp.Regexp
	find  func(string, func(from, to int)) // in place of an expression
	group int                              // what is masked
	keep  func(string) bool                // a match that must stay; nil: none
}

// by is what a text must hold for a rule without words to be tried.
type by int

const (
	byWords   by = iota
	byAt         // an at sign
	byPlus       // a plus sign
	byDigits     // 13 digits, spaces and hyphens between them aside
	byTilde      // a tilde
	byLong       // 16 letters and digits in a row
	byParen      // a digit behind an opening parenthesis
	byPercent    // a percent sign
	byGroups     // two groups of four capitals and digits
	byLast
)

// Options say how to mask.
type Options struct {
	Key []byte        // of the pseudonyms; nil masks without pseudonyms
	Day func() string // UTC day that pseudonyms hold for, of what has no time of its own; nil: one for ever
	IPs bool          // mask IP addresses too
	// Extra rules, tried after the built-in ones.
	Extra []UserRule
}

// UserRule is a rule of policies/redaction.yaml.
type UserRule struct {
	// Name is what the mask says: <name:1fgcka>.
	Name string `yaml:"name"`
	// Pattern is an RE2 expression. Its first group is masked, or the whole
	// match when it has none.
	Pattern string `yaml:"pattern"`
	// Words are tried first; a text without any is not searched.
	Words []string `yaml:"words"`
}

// New makes a Redactor. The patterns of extra rules must compile.
func New(o Options) *Redactor {
	r := &Redactor{rules: builtin, key: o.Key, day: o.Day, ips: o.IPs, masks: new(atomic.Int64)}
	if r.day == nil {
		r.day = func() string { return "" }
	}
	for _, u := range o.Extra {
		re := regexp.MustCompile(u.Pattern)
		var words []string
		for _, w := range u.Words {
			words = append(words, strings.ToLower(w))
		}
		r.rules = append(r.rules[:len(r.rules):len(r.rules)], rule{name: u.Name, words: words, re: re, group: min(1, re.NumSubexp())})
	}
	if o.IPs {
		r.rules = append(r.rules[:len(r.rules):len(r.rules)], rule{name: "ip", re: ipv4, group: 0})
	}
	return r
}

// Masker masks what it is given.
type Masker interface {
	Line(string) string
	Labels(event.Labels) event.Labels
}

// On masks with the pseudonyms of the day of a time: what is read once more, or
// long after it was written, has the masks that it had.
func (r *Redactor) On(t time.Time) Masker {
	day := t.UTC().Format(time.DateOnly)
	if r.key == nil || r.day() == "" || r.day() == day {
		return r
	}
	on := *r
	on.day = func() string { return day }
	return &on
}

// Masked is how many values were masked so far, on whatever day.
func (r *Redactor) Masked() int64 { return r.masks.Load() }

// maxLine bounds what is searched: what lies beyond is cut off, since it could
// hold anything.
const maxLine = 256 << 10

// longestWord is how far before the bound a blank is looked for to cut at.
const longestWord = 4 << 10

// Line masks one line or a longer text. A clean line is returned as it is,
// without an allocation.
func (r *Redactor) Line(s string) string {
	if len(s) > maxLine {
		// Not within a word, which could be half of a secret that nothing tells.
		most := maxLine
		if i := strings.LastIndexAny(s[maxLine-longestWord:maxLine], " \t\r\n"); i >= 0 {
			most += i - longestWord
		}
		s = s[:most] + "<cut>"
	}
	f := builtinIndex.scan(s)
	if !f.any() && len(r.rules) == len(builtin) {
		return s
	}
	// What a token or a key says is known more exactly than what an expression
	// finds in it; but a header's value goes before the key that it stands in.
	if f.tokens {
		s = r.tokens(s)
	}
	f.each(func(i int) {
		if ru := &r.rules[i]; ru.may == nil || ru.may(s) {
			s, _ = r.apply(ru, s)
		}
	})
	if f.names || f.provider {
		s = r.assignments(s, f.provider)
	}
	lower := ""
	for i := len(builtin); i < len(r.rules); i++ {
		ru := &r.rules[i]
		if len(ru.words) > 0 {
			if lower == "" {
				lower = strings.ToLower(s)
			}
			if !containsAny(lower, ru.words) {
				continue
			}
		}
		if masked, ok := r.apply(ru, s); ok {
			s, lower = masked, ""
		}
	}
	return s
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

func (r *Redactor) apply(ru *rule, s string) (string, bool) {
	var b strings.Builder
	last, changed := 0, false
	found := func(from, to int) {
		if from < last || from == to {
			return
		}
		value := s[from:to]
		if maskRE.MatchString(value) || insideMask(s, from) || ru.keep != nil && ru.keep(value) {
			return
		}
		b.WriteString(s[last:from])
		b.WriteString(r.mask(ru.name, value))
		last, changed = to, true
	}
	if ru.find != nil {
		ru.find(s, found)
	} else {
		for _, m := range ru.re.FindAllStringSubmatchIndex(s, -1) {
			found(m[2*ru.group], m[2*ru.group+1])
		}
	}
	if !changed {
		return s, false
	}
	b.WriteString(s[last:])
	return b.String(), true
}

// maskForm is how our own masks look. Without a pseudonym only names of built-in
// rules count: <b> is a tag.
const maskForm = `<(?:[a-z0-9-]+:[0-9a-z][a-z]{5}|secret|email|phone|card|iban|ip|cookie|jwt|sas|webhook|[a-z0-9]+-(?:token|key|webhook|secret|password|seed|hash))>`

// maskRE recognises our own masks, so that redacting twice changes nothing.
var (
	maskRE  = regexp.MustCompile(`^` + maskForm + `$`)
	maskAt0 = regexp.MustCompile(`^` + maskForm)
)

// insideMask says whether position i of s lies in one of our masks.
func insideMask(s string, i int) bool {
	from := strings.LastIndexByte(s[:min(i+1, len(s))], '<')
	if from < 0 {
		return false
	}
	m := maskAt0.FindString(s[from:])
	return m != "" && i < from+len(m)
}

func (r *Redactor) mask(name, value string) string {
	r.masks.Add(1)
	if r.key == nil {
		return "<" + name + ">"
	}
	h := hmac.New(sha256.New, r.key)
	h.Write([]byte(r.day()))
	h.Write([]byte{0})
	h.Write([]byte(value))
	sum := h.Sum(nil)
	// One digit, by which a miner of templates knows it for a value, and letters, so
	// that the mask looks like no number and no hash.
	return "<" + name + ":" + string('0'+sum[3]%10) + strings.NewReplacer("0", "g", "1", "h", "2", "k", "3", "m", "4", "n", "5", "p", "6", "r", "7", "s", "8", "t", "9", "v").
		Replace(hex.EncodeToString(sum[:3])[1:]) + ">"
}

// Labels masks the values of labels. The names and values that identify
// Kubernetes objects are left alone: a namespace is not a secret, and masking
// one would cut it from everything else that speaks of it.
func (r *Redactor) Labels(ls event.Labels) event.Labels {
	var out event.Labels
	for i, l := range ls {
		if identity[l.Name] {
			continue
		}
		v := r.Line(l.Value)
		if v == l.Value && sensitiveEnd(l.Name) && v != "" && !maskRE.MatchString(v) && !states(v) && !(strings.EqualFold(l.Name, "secret") && isObject(v)) {
			v = r.mask("secret", v)
		}
		if v != l.Value {
			if out == nil {
				out = append(event.Labels(nil), ls...)
			}
			out[i].Value = v
		}
	}
	if out == nil {
		return ls
	}
	return out
}

var identity = map[string]bool{
	event.LabelName: true, event.LabelNamespace: true, event.LabelWorkload: true, event.LabelKind: true, event.LabelPod: true,
	event.LabelNode: true, event.LabelContainer: true, event.LabelSource: true, event.LabelFamily: true, event.LabelEntity: true,
	event.LabelUnit: true, event.LabelClass: true, event.LabelSLO: true, event.LabelDetected: true,
}
