package redact

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"regexp"
	"regexp/syntax"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Settings are what [Load] needs.
type Settings struct {
	Policies *policy.Store
	KeyFile  string   // install key; "" takes the one on the bus
	Bus      *bus.Bus // keeps the install key; nil makes one for this process
	Now      func() time.Time
}

// Policy is policies/redaction.yaml.
type Policy struct {
	// IPs masks IP addresses too. Default: false.
	IPs bool `yaml:"ips"`
	// Rules are tried after the built-in ones.
	Rules []UserRule `yaml:"rules"`
}

// Validate checks the fields.
func (p *Policy) Validate() error {
	var errs []error
	for i, r := range p.Rules {
		if r.Name == "" {
			errs = append(errs, &policy.FieldError{Path: fmt.Sprintf("rules[%d].name", i), Problem: "is missing", Fix: "write what the mask should say"})
		} else if !ruleName.MatchString(r.Name) {
			errs = append(errs, &policy.FieldError{
				Path: fmt.Sprintf("rules[%d].name", i), Value: r.Name, Problem: "is no name of a mask", Fix: "write small letters, digits and hyphens, as in customer-id",
			})
		}
		if _, err := regexp.Compile(r.Pattern); err != nil || r.Pattern == "" {
			errs = append(errs, &policy.FieldError{Path: fmt.Sprintf("rules[%d].pattern", i), Value: r.Pattern, Problem: "is not an RE2 expression", Fix: fmt.Sprint(err)})
		} else if n := steps(r.Pattern); n > mostSteps {
			errs = append(errs, &policy.FieldError{
				Path: fmt.Sprintf("rules[%d].pattern", i), Value: r.Pattern, Problem: fmt.Sprintf("is an expression of %d steps, more than %d: each could be taken for each character of each line", n, mostSteps),
				Fix: "repeat less: {8,} instead of {8,400}",
			})
		}
	}
	return errors.Join(errs...)
}

// ruleName is what a mask can be called and still be known for one.
var ruleName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// mostSteps bounds an expression of the user's. RE2 takes time in the number of
// characters times that of steps, and no more; our own have a few hundred at most.
const mostSteps = 2000

// steps is how many there are in what an expression is compiled to.
func steps(pattern string) int {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0
	}
	return len(prog.Inst)
}

// ReadPolicy reads policies/redaction.yaml, which need not be there.
func ReadPolicy(store *policy.Store) (p Policy, err error) {
	if b, ok := store.File("redaction.yaml"); ok {
		err = policy.Decode("policies/redaction.yaml", b, &p)
	}
	return p, err
}

// Unkeyed makes a Redactor of the same rules whose masks are no pseudonyms: for
// what a command shows to who typed it, or asks a model.
func Unkeyed(store *policy.Store) (*Redactor, error) {
	p, err := ReadPolicy(store)
	if err != nil {
		return nil, err
	}
	return New(Options{IPs: p.IPs, Extra: p.Rules}), nil
}

// keyName is where the install key lies in the bus's configuration bucket.
const keyName = "redaction.key"

// Load makes the Redactor of an installation.
func Load(ctx context.Context, s Settings) (*Redactor, error) {
	p, err := ReadPolicy(s.Policies)
	if err != nil {
		return nil, err
	}
	key, err := installKey(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("redaction key: %w", err)
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	return New(Options{Key: key, IPs: p.IPs, Extra: p.Rules, Day: func() string { return s.Now().UTC().Format(time.DateOnly) }}), nil
}

func installKey(ctx context.Context, s Settings) ([]byte, error) {
	if s.KeyFile != "" {
		b, err := os.ReadFile(s.KeyFile)
		if err == nil && len(b) < 16 {
			err = fmt.Errorf("%s holds less than 16 bytes", s.KeyFile)
		}
		return b, err
	}
	fresh := make([]byte, 32)
	if _, err := rand.Read(fresh); err != nil || s.Bus == nil {
		return fresh, err
	}
	kv, err := s.Bus.KV(ctx, bus.BucketConfig)
	if err != nil {
		return nil, err
	}
	if _, err := kv.Update(ctx, keyName, fresh, 0); err != nil && !errors.Is(err, bus.ErrConflict) {
		return nil, err
	}
	key, _, err := kv.Get(ctx, keyName) // ours, or that of whoever was first
	return key, err
}
