package terminal_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/notifier/channels/terminal"
	"github.com/oncall-copilot/oncall/services/notifier/notifiertest"
)

func TestReportsOnATerminal(t *testing.T) {
	for name, c := range map[string]struct {
		cfg    terminal.Config
		update string
	}{
		"opened.txt":   {terminal.Config{}, "opened"},
		"resolved.txt": {terminal.Config{}, "resolved"},
		"digest.txt":   {terminal.Config{}, "digest"},
		"brief.txt":    {terminal.Config{Brief: true}, "opened"},
		"color.txt":    {terminal.Config{Color: "always"}, "opened"},
	} {
		var out bytes.Buffer
		r := notifiertest.Report()
		switch c.update {
		case "resolved":
			r = notifiertest.Resolved(r)
		case "digest":
			r = notifiertest.Digest()
		}
		if _, err := terminal.New(c.cfg, &out).Send(t.Context(), notifiertest.Notification(r, c.update), notifier.Thread{}); err != nil {
			t.Fatal(err)
		}
		notifiertest.Golden(t, name, out.Bytes())
		if escapes := strings.Contains(out.String(), "\x1b["); escapes != (c.cfg.Color == "always") {
			t.Errorf("%s: colours %v, without a terminal", name, escapes)
		}
	}
}
