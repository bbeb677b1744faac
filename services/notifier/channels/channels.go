// Package channels is what is in the box: importing it registers every channel
// that we ship.
package channels

import (
	_ "github.com/oncall-copilot/oncall/services/notifier/channels/alertmanager"
	_ "github.com/oncall-copilot/oncall/services/notifier/channels/slack"
	_ "github.com/oncall-copilot/oncall/services/notifier/channels/teams"
	_ "github.com/oncall-copilot/oncall/services/notifier/channels/terminal"
	_ "github.com/oncall-copilot/oncall/services/notifier/channels/webhook"
)
