package triage

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// TroubleWords are the words of lines that look like trouble, whatever level
// they state, as a regular expression of RE2.
const TroubleWords = `(?i)error|fatal|panic|exception|refused|timeout|timed out|denied|killed|no such host|no space|too many|expired|unavailable|traceback|segfault|cannot `

var troubleRE = regexp.MustCompile(TroubleWords)

// mild are lines that only speak of trouble: error=nil, 0 errors.
var mild = regexp.MustCompile(`(?i)\b(no|0|without) (errors?|exceptions?|timeouts?)\b|\berrors?["']?\s*[=:]\s*(0\b|null|nil|none|<nil>|""|false)`)

// line is one line of a log, redacted.
type line struct {
	at       time.Time // zero when it has none
	text     string
	where    string // pod and container
	pod      string
	previous bool
	loki     bool // it is Loki that has it
}

// parseLine reads a line of an answer: a time and the text.
func parseLine(s string) (time.Time, string) {
	stamp, rest, ok := strings.Cut(s, " ")
	if !ok {
		return time.Time{}, s
	}
	at, err := time.Parse("2006-01-02T15:04:05.000Z", stamp)
	if err != nil {
		return time.Time{}, s
	}
	return at, rest
}

const (
	// maxPatterns is how many patterns are told.
	maxPatterns = 6
	// maxOfPattern is how many lines are kept of one, to know those of Loki by.
	maxOfPattern = 20
)

// LooksLikeTrouble says whether a line does, by its level or else its words.
func LooksLikeTrouble(text string, level logpattern.Level) bool {
	if level >= logpattern.Error {
		return true
	}
	return level != logpattern.Debug && level != logpattern.Info && troubleRE.MatchString(text) && !mild.MatchString(text)
}

// patterns groups lines by the statement that wrote them: those that look like
// trouble first, the most frequent first. It gives the lines that look like
// trouble, oldest first, too.
func patterns(lines []line) (out []Pattern, trouble []line) {
	m := logpattern.New(logpattern.Config{MaxTemplates: 2000})
	type group struct {
		Pattern
		level logpattern.Level
	}
	found := make([]uint64, len(lines))
	levels := make([]logpattern.Level, len(lines))
	for i, l := range lines {
		match := m.Add(l.text)
		found[i], levels[i] = match.ID, match.Level
	}
	groups := map[uint64]*group{}
	var order []uint64
	for i, l := range lines {
		id := m.Resolve(found[i]) // templates become one while they are learnt
		bad := LooksLikeTrouble(l.text, levels[i])
		g := groups[id]
		if g == nil {
			g = &group{Pattern: Pattern{Template: m.Template(id)}}
			groups[id] = g
			order = append(order, id)
		}
		g.Count++
		g.level = max(g.level, levels[i])
		if !l.at.IsZero() && (g.First.IsZero() || l.at.Before(g.First)) {
			g.First = l.at
		}
		// The last line is the example; a line that looks like trouble before one
		// that does not.
		if g.Example == "" || bad && !g.Trouble || bad == g.Trouble && !l.at.Before(g.Last) {
			g.Example, g.Where, g.Previous = l.text, l.where, l.previous
		}
		if l.at.After(g.Last) {
			g.Last = l.at
		}
		g.Trouble = g.Trouble || bad
		if len(g.lines) < maxOfPattern && !slices.Contains(g.lines, l.text) {
			g.lines = append(g.lines, l.text)
		}
		if bad {
			trouble = append(trouble, l)
		}
	}
	slices.SortStableFunc(trouble, func(a, b line) int { return a.at.Compare(b.at) })
	for _, id := range order {
		g := groups[id]
		if g.level != logpattern.Unknown {
			g.Level = g.level.String()
		}
		out = append(out, g.Pattern)
	}
	slices.SortStableFunc(out, func(a, b Pattern) int {
		return cmp.Or(boolRank(b.Trouble)-boolRank(a.Trouble), levelRank(b)-levelRank(a), b.Count-a.Count, b.Last.Compare(a.Last))
	})
	return out[:min(len(out), maxPatterns)], trouble
}

// levelRank puts what ends a program before what it only complains of.
func levelRank(p Pattern) int {
	if p.Trouble && p.Level == logpattern.Fatal.String() {
		return 1
	}
	return 0
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// lines reads the lines of all logs. A line that Kubernetes and Loki both have
// counts once.
func (g *gathered) lines() []line {
	type same struct {
		pod, text string
		second    int64
	}
	seen := map[same]int{}
	var out []line
	for i, k := range g.containers {
		for _, raw := range g.logs[i].Excerpt {
			at, text := parseLine(raw)
			out = append(out, line{at: at, text: text, where: k.pod + " " + k.name, pod: k.pod, previous: k.previous})
			seen[same{k.pod, text, at.Unix()}]++
		}
	}
	for _, raw := range g.loki.Excerpt {
		at, text := parseLine(raw)
		pod, rest, ok := strings.Cut(text, " ")
		if !ok || !strings.HasPrefix(pod, g.root.Name) {
			pod, rest = "", text // a stream without that label
		}
		k := same{pod, rest, at.Unix()}
		if seen[k] > 0 {
			seen[k]--
			continue
		}
		out = append(out, line{at: at, text: rest, where: strings.TrimSpace(pod + " (Loki)"), pod: pod, loki: true})
	}
	return out
}

// eventsOf are the events of an answer.
func eventsOf(e event.Evidence) []event.KubeEvent {
	items, _ := e.Values["items"].([]any)
	return decode[event.KubeEvent](items)
}
