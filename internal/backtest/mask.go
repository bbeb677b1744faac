package backtest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oncall-copilot/oncall/pkg/redact"
)

// keyFile holds the key of pseudonyms beside the state: with another key the
// series of the rest would have other names.
const keyFile = "backtest.key"

// redactor masks as the collector does, with pseudonyms that hold for the whole
// of the history.
func (o *Options) redactor() (*redact.Redactor, error) {
	p, err := redact.ReadPolicy(o.Policies)
	if err != nil {
		return nil, err
	}
	name := o.RedactionKey
	if name == "" {
		name = filepath.Join(o.Dir, keyFile)
	}
	key, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && o.RedactionKey == "" {
		key = make([]byte, 32)
		_, _ = rand.Read(key) // it never fails
		err = errors.Join(os.MkdirAll(o.Dir, 0o700), os.WriteFile(name, key, 0o600))
	}
	if err != nil {
		return nil, fmt.Errorf("redaction key: %w", err)
	}
	return redact.New(redact.Options{Key: key, IPs: p.IPs, Extra: p.Rules}), nil
}
