package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/services/detector"
)

// listed is a detector as `oncall detectors` shows it.
type listed struct {
	Name  string            `json:"name"`
	Input string            `json:"input"`
	Class event.SignalClass `json:"class"`
	Doc   string            `json:"doc"`
	From  string            `json:"from"` // where it comes from
	Hold  string            `json:"hold"` // how long a series must be normal until its anomaly has ended
	// Default is its section of the configuration file when nothing is written.
	Default any `json:"default,omitempty"`
	// Policies are the policy files that it reads besides.
	Policies []string `json:"policies,omitempty"`
}

func newDetectors(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "detectors", Short: "List the detectors: those in this binary, and those of policies/detectors.", Args: exactArgs(0, "no arguments"),
		Long: `List the detectors: those in this binary, and those of policies/detectors.

-o json, yaml and markdown show what each reads, how long it holds, and the
defaults of its section in the configuration file.`,
		RunE: func(*cobra.Command, []string) error {
			store, _, err := o.store()
			if err != nil {
				return err
			}
			declared, err := detector.Declared(store)
			if err != nil {
				return err
			}
			var all []listed
			for _, i := range detector.Builtin.All() {
				l := listing(i, "built in")
				if l.Default, err = plain(i.Default()); err != nil {
					return fmt.Errorf("detector %s: %w", i.Name, err)
				}
				all = append(all, l)
			}
			for _, i := range declared {
				all = append(all, listing(i, "policies/detectors"))
			}
			if o.format() == render.MD {
				return o.detectorPages(all)
			}
			var rows [][]string
			for _, l := range all {
				rows = append(rows, []string{l.Name, l.Input, string(l.Class), l.From, l.Doc})
			}
			return o.list(all, []string{"name", "reads", "class", "from", "what it finds"}, rows)
		},
	}
}

func listing(i detector.Info, from string) listed {
	return listed{Name: i.Name, Input: string(i.Input), Class: i.Class, Doc: i.Doc, From: from, Hold: i.Hold.String(), Policies: i.Policies}
}

// plain is a configuration as its YAML says it, so that fields have the names
// that a user writes.
func plain(cfg any) (any, error) {
	b, err := yaml.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, yaml.Unmarshal(b, &out)
}

// detectorPages writes a section for each detector.
func (o *options) detectorPages(all []listed) error {
	var b strings.Builder
	for _, l := range all {
		fmt.Fprintf(&b, "## %s\n\n%s\n\nReads %s; class %s; %s; ends after %s of normal.", render.Markdown(l.Name), render.Markdown(l.Doc), l.Input, l.Class, l.From, l.Hold)
		for _, p := range l.Policies {
			fmt.Fprintf(&b, " Policy: %s.", render.Code("policies/"+p))
		}
		b.WriteString("\n\n")
		if m, _ := l.Default.(map[string]any); len(m) > 0 {
			b.WriteString("```yaml\n")
			enc := yaml.NewEncoder(&b)
			enc.SetIndent(2)
			if err := enc.Encode(map[string]any{"detector": map[string]any{l.Name: m}}); err != nil {
				return err
			}
			b.WriteString("```\n\n")
		}
	}
	_, err := fmt.Fprint(o.out, strings.TrimRight(b.String(), "\n")+"\n")
	return err
}
