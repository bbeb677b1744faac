package reasoner

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Model is a language model: it answers one prompt. A report never needs it,
// and nothing it says is believed without evidence. An answer is text of any
// kind; an error says that there is none. Complete is safe for concurrent use
// and heeds its context.
type Model interface {
	// Name is the model's name, as reports state it.
	Name() string
	Complete(ctx context.Context, p Prompt) (Completion, error)
}

// Prompt is one question to a model. The data in it is quoted between marks
// that nobody can guess, so that it cannot pose as instructions.
type Prompt struct {
	System    string
	User      string
	Schema    []byte // JSON Schema of the answer
	MaxTokens int    // of the answer
	Hash      string // identifies the question, whatever the marks are
}

// Completion is a model's answer.
type Completion struct {
	Text   string
	Tokens int // of question and answer
}

// ModelConfig is `reasoner.model:` in the configuration. Without a URL no model
// is asked, and nothing leaves the cluster.
type ModelConfig struct {
	// URL is the base of an OpenAI-compatible API, up to and with /v1.
	// Default: none, which asks no model.
	URL string `yaml:"url"`
	// Name of the model. Needed when url is set.
	Name string `yaml:"name"`
	// APIKeyFile holds the key; it is read for every request, so that a rotated
	// key is taken over. Default: what the environment variable ONCALL_MODEL_KEY
	// holds, if it is set.
	APIKeyFile string `yaml:"api_key_file"`
	// Timeout bounds one answer. Default: 30s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxTokens bounds the answer for one report. Default: 1500.
	MaxTokens int `yaml:"max_tokens"`
	// DailyTokens bounds questions and answers of one UTC day; what is beyond is
	// not asked. Default: 200000.
	DailyTokens int `yaml:"daily_tokens"`
	// Least is the least urgent priority that the model is asked about.
	// Default: P2, which is what pages.
	Least event.Priority `yaml:"least"`

	// Recorded takes answers from the EVIDENCE stream alone: for a replay.
	Recorded bool `yaml:"-"`
}

// On says whether answers of a model are wanted.
func (c ModelConfig) On() bool { return c.URL != "" || c.Recorded }

// validate checks the fields; paths begin with model.
func (c ModelConfig) validate() error {
	if c.URL == "" {
		return nil
	}
	var errs []error
	bad := func(path string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: "model." + path, Value: value, Problem: problem, Fix: fix})
	}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		bad("url", c.URL, "is not a URL", "write https://host/v1")
	} else if u.User != nil {
		bad("url", nil, "holds a password", "put the key into a file and name it as api_key_file")
	}
	if c.Name == "" {
		bad("name", nil, "is missing", "write the name that the server knows the model by")
	}
	if c.Timeout < time.Second || c.Timeout > 5*time.Minute {
		bad("timeout", c.Timeout, "is not between 1s and 5m", "write 30s")
	}
	if c.MaxTokens < 200 || c.MaxTokens > 16000 {
		bad("max_tokens", c.MaxTokens, "is not between 200 and 16000", "write 1500")
	}
	if c.DailyTokens < c.MaxTokens {
		bad("daily_tokens", c.DailyTokens, "is less than max_tokens, so nothing would ever be asked", fmt.Sprintf("write %d or more", 100*c.MaxTokens))
	}
	switch c.Least {
	case event.P1, event.P2, event.P3, event.P4:
	default:
		bad("least", c.Least, "is not P1, P2, P3 or P4", "write P2")
	}
	return errors.Join(errs...)
}
