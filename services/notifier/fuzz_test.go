package notifier_test

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/services/notifier"
	_ "github.com/oncall-copilot/oncall/services/notifier/channels"
)

// FuzzConfig: a notifier's section is refused by the name of its file, or every
// route of it leads to channels that can be made.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		"", "mode: page", "mode: loud", "digest: '25:00'", "channels: {a: terminal}", "channels: {a: {type: terminal}}\nroutes: [{name: x, channels: [a], least: P9}]",
		"channels:\n  a: {type: alertmanager, urls: [http://a:9093], repeat: 1m}", "channels: {a: {type: slack, token_file: t, channel: c}}", "channels: {a: {type: webhook, url: 'http://%zz'}}",
		"channels: {a: {type: teams, url_file: f}}", "channels: {a: &a {type: terminal, more: *a}}", "channels: {? {b: c} : {type: terminal}}", "routes: [{name: x, channels: [y]}]", "timeout: .nan",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var doc yaml.Node
		if err := yaml.Unmarshal(b, &doc); err != nil || len(doc.Content) == 0 {
			return
		}
		got, err := notifier.Spec.Check("oncall.yaml", doc.Content[0])
		if err != nil {
			if !strings.Contains(err.Error(), "oncall.yaml") {
				t.Errorf("%q: %v: does not name the file", b, err)
			}
			return
		}
		c := got.(notifier.Config)
		for _, r := range c.Routes {
			for _, name := range r.Channels {
				if _, ok := c.Channels[name]; !ok || r.Name == "" {
					t.Errorf("%q: route %q leads to %q, which is no channel", b, r.Name, name)
				}
			}
		}
		for name, ch := range c.Channels {
			if _, ok := notifier.Builtin.Lookup(ch.Type); !ok {
				t.Errorf("%q: channel %q is of type %q", b, name, ch.Type)
			}
		}
	})
}
