package check

import (
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Exemptions is policies/exemptions.yaml: findings that somebody has decided
// not to be told, with why and until when.
type Exemptions struct {
	Exemptions []Exemption `yaml:"exemptions"`
}

// Exemption covers findings. Empty patterns match everything, but not all of
// them may be empty.
type Exemption struct {
	// Check is the check, as a pattern of path.Match: pods, service_*.
	Check string `yaml:"check"`
	// Entity is what is exempt, as health prints it, as a pattern: shop/deploy/*,
	// node/spot-*.
	Entity string `yaml:"entity"`
	// Why says why it is all right.
	Why string `yaml:"why"`
	// Who decided it.
	Who string `yaml:"who"`
	// Until is the last day it counts, as 2026-12-31. It ends by itself.
	Until string `yaml:"until"`
}

// LoadExemptions reads policies/exemptions.yaml.
func LoadExemptions(s *policy.Store) (Exemptions, error) {
	var x Exemptions
	b, _ := s.File("exemptions.yaml")
	err := policy.Decode("policies/exemptions.yaml", b, &x)
	return x, err
}

// endSoon is how long before its end an exemption is spoken of.
const endSoon = 7 * 24 * time.Hour

// Validate checks the fields.
func (x *Exemptions) Validate() error {
	var errs []error
	for i, e := range x.Exemptions {
		at := fmt.Sprintf("exemptions[%d].", i)
		bad := func(field string, value any, problem, fix string) {
			errs = append(errs, &policy.FieldError{Path: at + field, Value: value, Problem: problem, Fix: fix})
		}
		if e.Check == "" && e.Entity == "" {
			bad("check", nil, "and entity are both empty, which would exempt everything", "write entity: shop/deploy/legacy")
		}
		for field, pattern := range map[string]string{"check": e.Check, "entity": e.Entity} {
			if _, err := path.Match(pattern, "x"); err != nil {
				bad(field, pattern, "is not a pattern", `write names with * and ?, such as shop/deploy/*`)
			}
		}
		if e.Why == "" {
			bad("why", nil, "is missing", "say why it is all right, for whoever reads it next year")
		}
		if e.Who == "" {
			bad("who", nil, "is missing", "name who decided it")
		}
		if _, err := time.Parse(time.DateOnly, e.Until); err != nil {
			bad("until", e.Until, "is not a day", "write 2026-12-31; an exemption without an end is a setting")
		}
	}
	return errors.Join(errs...)
}

// end is the moment after the exemption's last day.
func (e Exemption) end() time.Time {
	t, _ := time.Parse(time.DateOnly, e.Until) // validated
	return t.Add(24 * time.Hour)
}

func (e Exemption) covers(check string, about event.Entity) bool {
	match := func(pattern, s string) bool {
		ok, err := path.Match(pattern, s)
		return pattern == "" || err == nil && ok
	}
	return match(e.Check, check) && match(e.Entity, Name(about))
}

// apply takes out what is exempt, counts it, and says of exemptions that cover
// something that they end soon, or have ended.
func (x Exemptions) apply(problems []Problem, now time.Time) (left []Problem, exempt int, ending []string) {
	told := map[int]bool{}
	for _, p := range problems {
		covered := false
		for i, e := range x.Exemptions {
			if !e.covers(p.check, p.Root) && !e.covers(p.check, p.Entity) {
				continue
			}
			over := !now.Before(e.end())
			if !told[i] && (over || e.end().Sub(now) < endSoon) {
				told[i] = true
				verb := "ends"
				if over {
					verb = "ended"
				}
				ending = append(ending, fmt.Sprintf("exemption of %s (%s, %s) %s %s", Name(p.Root), e.Why, e.Who, verb, e.Until))
			}
			covered = covered || !over
		}
		if covered {
			exempt++
			continue
		}
		left = append(left, p)
	}
	return left, exempt, ending
}
