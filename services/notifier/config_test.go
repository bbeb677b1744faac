package notifier_test

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/services/notifier"
)

func TestAWrongConfigurationNamesLineFieldValueAndFix(t *testing.T) {
	for config, want := range map[string]string{
		"mode: loud\n":                                             `oncall.yaml:1: mode: loud is not shadow, enrich or page; start with shadow`,
		"digest: eight\n":                                          `oncall.yaml:1: digest: eight is not a time of day; write 08:00`,
		"timeout: 1h\n":                                            `oncall.yaml:1: timeout: 1h0m0s is not between 1s and 5m; write 20s`,
		"max_per_minute: 0\n":                                      `oncall.yaml:1: max_per_minute: 0 is not at least 1; write 20`,
		"give_up_after: 48h\n":                                     `oncall.yaml:1: give_up_after: 48h0m0s is not between 1m and 23h; write 6h`,
		"channels:\n  a: {type: slak}\n":                           `oncall.yaml:2: channels.a: slak is not a type of channel; write type: one of alertmanager, slack, teams, terminal, webhook`,
		"channels:\n  a.b: {type: terminal}\n":                     `channels.a.b: is not a name of letters, digits, - and _; rename the channel`,
		"channels:\n  none: {type: terminal}\n":                    `oncall.yaml:2: channels.none: is not a name of letters, digits, - and _; rename the channel`,
		"channels: {a: terminal}\n":                                `oncall.yaml:1: a channel is a mapping with a type`,
		"channels:\n  a:\n    type: webhook\n    url: nowhere\n":   `oncall.yaml:4: channels.a.url: nowhere is not an http or https URL; write https://host/path`,
		"channels:\n  a:\n    type: teams\n    colour: red\n":      `oncall.yaml:4: channels.a.colour: unknown field; remove it or correct its name`,
		"channels:\n  a: {type: slack}\n":                          `oncall.yaml:2: channels.a: needs either token_file and channel, or webhook_url_file`,
		"routes:\n- {channels: [a]}\n":                             `oncall.yaml:2: routes[0]: has no name; write name: payments`,
		"routes:\n- {name: x, channels: [a]}\n":                    `oncall.yaml:2: routes[0].channels: a is not a channel; name one of `,
		"channels:\n  a: {type: terminal}\nroutes:\n- {name: x}\n": `oncall.yaml:4: routes[0]: has no channels; name one of a`,
		"channels:\n  a: {type: terminal}\nroutes:\n- {name: x, channels: [a], least: P9}\n":                     `oncall.yaml:4: routes[0].least: P9 is not P1, P2, P3 or P4; write P3`,
		"channels:\n  a: {type: terminal}\nroutes:\n- {name: x, channels: [a]}\n- {name: x, channels: [a]}\n":    `oncall.yaml:5: routes[1].name: x is used twice; rename one of the routes`,
		"channels:\n  a:\n    type: alertmanager\n    urls: [http://a:9093]\n    repeat: 1m\n    patience: 1m\n": `oncall.yaml:6: channels.a.patience: 1m0s is less than three times repeat; write 3m0s`,
	} {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(config), &doc); err != nil {
			t.Fatal(err)
		}
		_, err := notifier.Spec.Check("oncall.yaml", doc.Content[0])
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", config, err, want)
		}
	}
}
