package correlator

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

// Policy is policies/correlation.yaml.
type Policy struct {
	// Quiet is how long after its last anomaly has ended an incident resolves.
	Quiet time.Duration `yaml:"quiet"`
	// Silence is how long an anomaly may say nothing before it counts as ended.
	// Detectors repeat themselves every five minutes.
	Silence time.Duration `yaml:"silence"`
	// Lookback is how long before an incident opens something may have happened
	// that belongs to it.
	Lookback time.Duration `yaml:"lookback"`
	// ChangeLookback is the same for changes.
	ChangeLookback time.Duration `yaml:"change_lookback"`
	// Reopen is how long after it resolved an incident is reopened by trouble of
	// the same thing.
	Reopen time.Duration `yaml:"reopen"`
	// MaxFlaps is how often an incident may reopen before it counts as flapping:
	// it then resolves later each time, up to Reopen, and is a line in the
	// digest as long as it has no symptom. One that has is never held back.
	MaxFlaps int `yaml:"max_flaps"`
	// FalsePagesPerWeek is that of policies/slo.yaml.
	FalsePagesPerWeek float64 `yaml:"-"`
	// Storm is how many incidents within two minutes are one.
	Storm int `yaml:"storm"`
	// TrustedDetectors are third parties' detectors that may weigh in a page, by
	// the rank of what they claim among their own claims of four weeks.
	TrustedDetectors []string `yaml:"trusted_detectors"`
}

// PolicyFile is the policy's name below policies/.
const PolicyFile = "correlation.yaml"

// Validate checks the fields.
func (p *Policy) Validate() error {
	var errs []error
	for _, f := range []struct {
		path        string
		v           time.Duration
		least, most time.Duration
	}{
		{"quiet", p.Quiet, 10 * time.Second, time.Hour},
		{"silence", p.Silence, 6 * time.Minute, 24 * time.Hour},
		{"lookback", p.Lookback, 0, 24 * time.Hour},
		{"change_lookback", p.ChangeLookback, 0, 24 * time.Hour},
		{"reopen", p.Reopen, 0, 24 * time.Hour},
	} {
		if f.v < f.least || f.v > f.most {
			errs = append(errs, &policy.FieldError{Path: f.path, Value: f.v, Problem: fmt.Sprintf("is not between %v and %v", f.least, f.most)})
		}
	}
	if p.MaxFlaps < 1 {
		errs = append(errs, &policy.FieldError{Path: "max_flaps", Value: p.MaxFlaps, Problem: "is not at least 1", Fix: "write 3"})
	}
	if p.Storm < 2 {
		errs = append(errs, &policy.FieldError{Path: "storm", Value: p.Storm, Problem: "is not at least 2", Fix: "write 5"})
	}
	return errors.Join(errs...)
}

// LoadPolicy reads the policy in force.
func LoadPolicy(s *policy.Store) (Policy, error) {
	var p Policy
	b, _ := s.File(PolicyFile)
	promises, err := slo.Load(s)
	p.FalsePagesPerWeek = promises.FalsePagesPerWeek
	err = errors.Join(policy.Decode("policies/"+PolicyFile, b, &p), err)
	return p, err
}
