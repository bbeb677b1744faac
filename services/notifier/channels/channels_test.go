package channels_test

import (
	"testing"

	"github.com/oncall-copilot/oncall/services/notifier"
	_ "github.com/oncall-copilot/oncall/services/notifier/channels"
	"github.com/oncall-copilot/oncall/services/notifier/notifiertest"
)

func TestEveryChannelKeepsItsPromises(t *testing.T) {
	all := notifier.Builtin.All()
	if len(all) < 5 {
		t.Errorf("%d kinds of channels are registered, want at least 5", len(all))
	}
	for _, info := range all {
		t.Run(info.Name, func(t *testing.T) {
			t.Parallel()
			notifiertest.Run(t, info)
		})
	}
}
