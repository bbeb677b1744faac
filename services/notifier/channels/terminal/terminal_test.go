package terminal_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/notifier/channels/terminal"
	"github.com/oncall-copilot/oncall/services/notifier/notifiertest"
)

func TestAReportIsWrittenWhole(t *testing.T) {
	for name, cfg := range map[string]terminal.Config{"plain": {}, "in colour": {Color: "always"}} {
		r := notifiertest.Report()
		var out, want bytes.Buffer
		if _, err := terminal.New(cfg, &out).Send(t.Context(), notifiertest.Notification(r, "opened"), notifier.Thread{}); err != nil {
			t.Fatal(err)
		}
		want.WriteByte('\n')
		if err := render.Report(&want, render.Table, r, render.Options{Color: cfg.Color == "always", Width: 100}); err != nil {
			t.Fatal(err)
		}
		if out.String() != want.String() {
			t.Errorf("%s: got\n%s\nwant\n%s", name, out.String(), want.String())
		}
		if first := strings.TrimSpace(out.String()); !strings.Contains(first[:min(130, len(first))], "P1 prod-eu-1 shop/deployment/checkout: 12% of requests fail (burn 18x) since 02:51") {
			t.Errorf("%s: severity, cluster, entity, symptom and since do not come first: %q", name, first)
		}
		if escapes := strings.Contains(out.String(), "\x1b["); escapes != (cfg.Color == "always") {
			t.Errorf("%s: colours %v, without a terminal", name, escapes)
		}
	}
}

func TestBriefLinesAndDigests(t *testing.T) {
	var out bytes.Buffer
	if _, err := terminal.New(terminal.Config{Brief: true}, &out).Send(t.Context(), notifiertest.Notification(notifiertest.Report(), "opened"), notifier.Thread{}); err != nil {
		t.Fatal(err)
	}
	notifiertest.Golden(t, "brief.txt", out.Bytes())
	out.Reset()
	if _, err := terminal.New(terminal.Config{}, &out).Send(t.Context(), notifiertest.Notification(notifiertest.Digest(), "digest"), notifier.Thread{}); err != nil {
		t.Fatal(err)
	}
	notifiertest.Golden(t, "digest.txt", out.Bytes())
}
