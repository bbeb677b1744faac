package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsMaskByTheUsersRules: what a command shows, asks a model, or notes of its
// questions is masked by policies/redaction.yaml, as what the services publish.
func TestCommandsMaskByTheUsersRules(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("redaction.yaml", "ips: true\nrules:\n  - name: customer\n    pattern: 'customer-(\\d+)'\n")
	o := &options{config: write("oncall.yaml", "policies: "+dir+"\n"), output: "table"}
	var err error
	if o.audits, err = openAudits("", "test", ""); err != nil {
		t.Fatal(err)
	}
	cfg, err := o.load()
	if err != nil {
		t.Fatal(err)
	}
	looked, err := o.lookups(cfg)
	if err != nil {
		t.Fatal(err)
	}
	signals, err := newSignals(o, "", outside{o: o})
	if err != nil {
		t.Fatal(err)
	}
	triaged, err := o.triageSources(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, mask := range map[string]func(string) string{
		"a look-up": looked.mask.Line, "a signal of health": signals.reader.Redact.Line, "triage": triaged.Redact.Line, "the record of what was asked": o.audits.mask.Line,
	} {
		if got := mask("customer-4711 from 10.1.2.3"); strings.Contains(got, "4711") || strings.Contains(got, "10.1.2.3") {
			t.Errorf("%s keeps what the user's rules mask: %q", name, got)
		}
	}
}
