package notifier

import (
	"slices"
	"strings"
	"unicode"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// maxCauses is how many causes are remembered as told.
const maxCauses = 8

// Told is what a channel knows of an incident. Its zero value knows nothing.
type Told struct {
	Revision int            `json:"revision,omitempty"` // of the last report
	Priority event.Priority `json:"priority,omitempty"` // the most urgent one it was told
	Causes   []string       `json:"causes,omitempty"`   // keys of the likely causes it was told, oldest first
	Resolved bool           `json:"resolved,omitempty"` // its last report was of the end
}

// After is what the channel knows once it has been given r.
func (t Told) After(r event.Report) Told {
	if t.Priority == "" || r.Priority.Worse(t.Priority) {
		t.Priority = r.Priority
	}
	if k := causeKey(r); k != "" && !slices.Contains(t.Causes, k) {
		t.Causes = append(slices.Clone(t.Causes), k)
		t.Causes = t.Causes[max(0, len(t.Causes)-maxCauses):]
	}
	t.Revision, t.Resolved = r.Revision, r.State == event.Resolved
	return t
}

// News says what r adds to what the channel knows: opened, severity, cause or
// resolved, each of which is worth disturbing somebody, or updated, which is
// not. A cause is news once, however often it comes back, and only when there
// is more than a low confidence in it.
func (t Told) News(r event.Report) string {
	switch {
	case r.State == event.Resolved && t.Revision > 0 && t.Resolved:
		return "updated"
	case r.State == event.Resolved:
		return "resolved"
	case t.Revision == 0 || t.Resolved:
		return "opened"
	case r.Priority.Worse(t.Priority):
		return "severity"
	case causeKey(r) != "" && !slices.Contains(t.Causes, causeKey(r)):
		return "cause"
	}
	return "updated"
}

// causeKey identifies the likely cause of a report across its revisions:
// numbers in its wording may move. "" when there is none worth telling.
func causeKey(r event.Report) string {
	if len(r.Causes) == 0 || r.Causes[0].Confidence == event.Low {
		return ""
	}
	digit := false
	text := strings.Map(func(c rune) rune {
		was := digit
		if digit = unicode.IsDigit(c) || digit && (c == '.' || c == ','); !digit {
			return c
		}
		if was {
			return -1
		}
		return '#'
	}, r.Causes[0].Text)
	return r.Causes[0].Entity.String() + ": " + text
}
