package reasoner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/grounding"
)

// answer is what a model may say.
type answer struct {
	Summary  []claim `json:"summary"`
	Status   string  `json:"status"`
	Causes   []claim `json:"causes"`
	Findings []claim `json:"findings"`
}

type claim struct {
	Text     string   `json:"text"`
	Entity   string   `json:"entity"`
	Evidence []string `json:"evidence"`
}

// parseAnswer reads an answer strictly: one JSON object with known fields. A
// fence around it, which small models write, is taken off.
func parseAnswer(text string) (answer, error) {
	var a answer
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "```"); ok {
		rest = strings.TrimPrefix(rest, "json")
		text = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "```"))
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return answer{}, fmt.Errorf("answer: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return answer{}, errors.New("answer: text behind the object")
	}
	return a, nil
}

// The outcomes of a claim, beside the faults of pkg/grounding.
const (
	claimKept     = "kept"
	claimUncited  = "uncited"
	claimUnknown  = "unknown_evidence"
	claimEntity   = "unknown_entity"
	claimLong     = "too_long"
	claimMany     = "too_many"
	claimRepeated = "repeated"
	claimJargon   = "jargon"
	claimAdvice   = "advice"
)

// claimOutcomes are the label values of oncall_reasoner_claims_total.
func claimOutcomes() []string {
	out := []string{claimKept, claimUncited, claimUnknown, claimEntity, claimLong, claimMany, claimRepeated, claimJargon, claimAdvice}
	for _, f := range grounding.Faults {
		out = append(out, string(f))
	}
	return out
}

// advice is what a claim must not give: something to do, or that nothing need
// be done. It is what an injected instruction would be after.
var advice = regexp.MustCompile(`(?i)\b(?:please|you (?:should|must|can|may|need)|(?:should|must|can) (?:be )?(?:ignore|delet|restart|remov|disabl|scal|silenc|clos|stopp|reset|roll)\w*|ignore|no (?:action|need|further|reason to)|false (?:alarm|positive)|nothing (?:is wrong|to do|to worry)|(?:everything|all) is (?:fine|ok|okay|normal|well|good)|not an incident|go (?:back )?to (?:sleep|bed)|system prompt|(?:previous|prior) instructions)\b|^\s*(?:delete|restart|run|execute|scale|disable|remove|apply|patch|drain|kill|stop|call|contact|visit|open|click|send|post|reboot|silence|close|resolve)\b`)

// adopt takes over of an answer what the evidence shows, and tells the outcome
// of every claim. It says whether the report has gained something. A claim is
// kept whole or dropped whole; what is kept changes no confidence, no command
// and no order of the rules' own.
func adopt(r event.Report, a answer, count func(outcome string)) (event.Report, bool) {
	gained := false
	use := &event.ModelUse{}
	if r.Model != nil {
		use = &event.ModelUse{Name: r.Model.Name, Tokens: r.Model.Tokens}
	}
	r.Model = use
	drop := func(outcome string) {
		count(outcome)
		use.Dropped = append(use.Dropped, outcome)
	}
	said := func(text string) bool {
		low := strings.ToLower(trimDot(text))
		return slices.ContainsFunc(r.Findings, func(f event.Finding) bool { return strings.Contains(strings.ToLower(f.Title), low) }) ||
			slices.ContainsFunc(r.Causes, func(c event.Cause) bool { return strings.Contains(strings.ToLower(c.Text), low) })
	}
	about := entities(r)
	// check returns the claim in its place, or the outcome that drops it.
	check := func(c claim, entity bool) (event.Entity, string) {
		e, outcome := r.Entity, ""
		if entity {
			i := slices.IndexFunc(about, func(x event.Entity) bool { return x.String() == c.Entity })
			if i < 0 {
				return e, claimEntity
			}
			e = about[i]
		}
		facts, ok := factsOf(r, e, c.Evidence)
		switch {
		case len(c.Evidence) == 0:
			outcome = claimUncited
		case !ok:
			outcome = claimUnknown
		case len([]rune(c.Text)) > maxClaim:
			outcome = claimLong
		case strings.TrimSpace(c.Text) == "" || strings.ContainsAny(c.Text, "\n\r\t"):
			outcome = string(grounding.Markup)
		default:
			if !entity {
				facts.Add(clock(r.Onset)) // a summary may say since when
			}
			if ps := facts.Check(c.Text); len(ps) > 0 {
				outcome = string(ps[0].Fault)
			} else if advice.MatchString(c.Text) {
				outcome = claimAdvice
			}
		}
		return e, outcome
	}

	// The original slices are the rules' report, which stays as it is.
	r.Causes, r.Findings = slices.Clone(r.Causes), slices.Clone(r.Findings)
	for i, c := range a.Causes {
		e, outcome := check(c, true)
		switch {
		case outcome != "":
			drop(outcome)
		case i >= maxModelCauses:
			drop(claimMany)
		case said(c.Text):
			drop(claimRepeated)
		default:
			count(claimKept)
			gained = true
			// A model's hypothesis is a hint, below all that the rules state.
			r.Causes = append(r.Causes, event.Cause{Text: trimDot(c.Text), Entity: e, Confidence: event.Low, Evidence: c.Evidence})
		}
	}
	for i, c := range a.Findings {
		e, outcome := check(c, true)
		switch {
		case outcome != "":
			drop(outcome)
		case i >= maxModelFindings:
			drop(claimMany)
		case said(c.Text):
			drop(claimRepeated)
		default:
			count(claimKept)
			gained = true
			r.Findings = append(r.Findings, event.Finding{
				ID: event.FindingID("model "+c.Text, e), Rule: "model", Entity: e, Urgency: event.Broken, Severity: event.Info,
				Title: trimDot(c.Text), Confidence: event.Low, Evidence: c.Evidence, Model: true,
			})
		}
	}
	// The summary is reworded as a whole: with a sentence dropped it could say
	// something else.
	var sentences []string
	whole := len(a.Summary) > 0
	for i, c := range a.Summary {
		_, outcome := check(c, false)
		if outcome == "" && i >= maxModelSummary {
			outcome = claimMany
		}
		if outcome != "" {
			drop(outcome)
			whole = false
			continue
		}
		count(claimKept)
		sentences = append(sentences, trimDot(c.Text)+".")
	}
	if whole {
		if t := strings.Join(sentences, " "); t != r.TLDR && keepsSymptom(r, t) {
			r.TLDR, gained = t, true
		}
	}
	if a.Status = strings.TrimSpace(a.Status); a.Status != "" && a.Status != r.Status {
		if outcome := checkStatus(r, a.Status); outcome != "" {
			drop(outcome)
		} else {
			count(claimKept)
			r.Status, gained = a.Status, true
		}
	}
	return r, gained
}

// keepsSymptom says whether a summary still says what is wrong: with the figures
// and names of the symptom, or at least a word of it.
func keepsSymptom(r event.Report, summary string) bool {
	s, _, _ := strings.Cut(r.Symptom, ";")
	s = lasted.ReplaceAllString(s, "")
	if s == "" {
		return true
	}
	if needed := grounding.Needed(s); len(needed) > 0 {
		said := grounding.Of(summary)
		return !slices.ContainsFunc(needed, func(w string) bool { return len(said.Check(w)) > 0 })
	}
	low := strings.ToLower(summary)
	return slices.ContainsFunc(strings.Fields(strings.ToLower(s)), func(w string) bool { return len(w) > 3 && strings.Contains(low, w) })
}

// factsOf are what claims about an entity may speak of when they cite these ids;
// false when one of the ids is not in the report, or gave no answer.
func factsOf(r event.Report, e event.Entity, ids []string) (*grounding.Facts, bool) {
	f := &grounding.Facts{}
	f.AddEntity(e)
	for _, id := range ids {
		i := slices.IndexFunc(r.Evidence, func(x event.Evidence) bool { return x.ID == id })
		if i < 0 || r.Evidence[i].Failed != "" {
			return f, false
		}
		f.AddEvidence(r.Evidence[i])
	}
	return f, true
}

// maxStatus bounds a status draft, in characters.
const maxStatus = 400

// technical are words that a stakeholder does not know.
var technical = regexp.MustCompile(`(?i)\b(?:pods?|nodes?|deployments?|kubernetes|clusters?|containers?|oom\w*|memory limit|rollouts?|roll-?backs?|namespaces?|replicas?|crash\w*|exit code|slo|latency|p99|cpu|dns|tls|http|database|restart\w*)\b`)

// checkStatus says why a status draft is not for stakeholders; "" when it is.
// It may name the service and the times of the report.
func checkStatus(r event.Report, s string) string {
	f := grounding.Of(r.Status, clock(r.Onset), clock(r.Time), r.Entity.Name, "30 minutes")
	switch ps := f.Check(s); {
	case len([]rune(s)) > maxStatus:
		return claimLong
	case strings.ContainsAny(s, "\n\r\t"):
		return string(grounding.Markup)
	case len(ps) > 0:
		return string(ps[0].Fault)
	case technical.MatchString(s):
		return claimJargon
	case advice.MatchString(s):
		return claimAdvice
	}
	return ""
}
