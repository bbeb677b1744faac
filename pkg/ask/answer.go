package ask

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/grounding"
)

// Why sentences are dropped, beside the faults of pkg/grounding.
const (
	DroppedUncited = "uncited"          // it cites nothing
	DroppedUnknown = "unknown_evidence" // it cites what is not there
	DroppedLong    = "too_long"
	DroppedMany    = "too_many"
	DroppedAdvice  = "advice" // it tells somebody to change something
)

// Bounds of an answer.
const (
	maxSentences = 8
	maxSentence  = 400
)

var (
	cited   = regexp.MustCompile(`\[\s*(e\d+(?:\s*[,;]\s*e\d+)*)\s*\]`)
	citedID = regexp.MustCompile(`e\d+`)
	orders  = regexp.MustCompile(`(?i)^(?:please|try|consider|run|execute|roll|restart|delete|scale|increase|decrease|apply|patch|drain|ignore|check|make|set|remove|add)\b|\b(?:please|you (?:should|must|need to|can)|we (?:should|must)|should be (?:rolled|restarted|scaled|deleted|changed|increased)|recommend)`)
)

// answer keeps of an answer what its evidence shows.
func (l *Loop) answer(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("the model answers with nothing")
	}
	for _, s := range sentences(text) {
		claim, why := l.check(s)
		if why == "" && len(l.out.Sentences) == maxSentences {
			why = DroppedMany
		}
		if why != "" {
			l.out.Dropped[why]++
			continue
		}
		if !slices.ContainsFunc(l.out.Sentences, func(o Sentence) bool { return o.Text == claim.Text }) {
			l.out.Sentences = append(l.out.Sentences, claim)
		}
	}
	if len(l.out.Sentences) == 0 {
		return errors.New("nothing that the model says is shown by what it cites")
	}
	return nil
}

// check is a sentence with its evidence, or why it is dropped.
func (l *Loop) check(s string) (Sentence, string) {
	var c Sentence
	for _, group := range cited.FindAllString(s, -1) {
		for _, id := range citedID.FindAllString(group, -1) {
			if !slices.Contains(c.Evidence, id) {
				c.Evidence = append(c.Evidence, id)
			}
		}
	}
	c.Text = tidy(cited.ReplaceAllString(s, ""))
	facts := &grounding.Facts{}
	for _, id := range c.Evidence {
		i := slices.IndexFunc(l.out.Evidence, func(e event.Evidence) bool { return e.ID == id })
		if i < 0 {
			return c, DroppedUnknown
		}
		facts.AddEvidence(l.out.Evidence[i])
	}
	switch {
	case c.Text == "":
		return c, DroppedUncited
	case len(c.Evidence) == 0:
		return c, DroppedUncited
	case len([]rune(c.Text)) > maxSentence:
		return c, DroppedLong
	}
	if ps := facts.Check(c.Text); len(ps) > 0 {
		return c, string(ps[0].Fault)
	}
	if orders.MatchString(c.Text) {
		return c, DroppedAdvice
	}
	return c, ""
}

func tidy(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	s = strings.NewReplacer(" .", ".", " ,", ",", " ;", ";").Replace(s)
	s = strings.TrimLeft(s, "-*• ")
	return strings.TrimSpace(s)
}

// sentences splits text where a sentence ends. Ids behind a full stop belong to
// the sentence before it. A full stop within a name or a number ends nothing.
func sentences(text string) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		r := []rune(line)
		start := 0
		for i := 0; i < len(r); i++ {
			if r[i] != '.' && r[i] != '!' && r[i] != '?' {
				continue
			}
			if i+1 < len(r) && !unicode.IsSpace(r[i+1]) && r[i+1] != '[' {
				continue
			}
			end := i + 1
			rest := string(r[end:])
			if at := cited.FindStringIndex(rest); at != nil && strings.TrimSpace(rest[:at[0]]) == "" {
				end += len([]rune(rest[:at[1]]))
				for end < len(r) && r[end] == '.' {
					end++
				}
			}
			if s := strings.TrimSpace(string(r[start:end])); s != "" {
				out = append(out, s)
			}
			start, i = end, end-1
		}
		if s := strings.TrimSpace(string(r[start:])); s != "" {
			out = append(out, s)
		}
	}
	return out
}
