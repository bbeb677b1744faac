package teams_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/notifier/channels/teams"
	"github.com/oncall-copilot/oncall/services/notifier/notifiertest"
)

// card is what Teams gets: an envelope of one card.
type card struct {
	Type        string
	Attachments []struct {
		ContentType string
		Content     struct {
			Type, Version, FallbackText string
			Body                        []struct {
				Type, Text, CodeSnippet, Color string
				Wrap                           bool
			}
			Actions []struct{ Type, Title, URL string }
		}
	}
}

func send(t *testing.T, n event.Notification) (string, card) {
	t.Helper()
	far := notifiertest.NewFar(t)
	far.Answer(notifiertest.Status(202)) // as workflows do
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(far.URL+"/workflows/secret?sig=secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ch, err := teams.New(teams.Config{URLFile: file}, notifier.Env{Log: slog.New(slog.DiscardHandler), HTTP: notifier.NewClient(5 * time.Second), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Send(t.Context(), n, notifier.Thread{}); err != nil {
		t.Fatal(err)
	}
	reqs := far.Requests()
	if len(reqs) == 0 {
		return "", card{}
	}
	var c card
	if err := json.Unmarshal([]byte(reqs[0].Body), &c); err != nil {
		t.Fatal(err)
	}
	if c.Type != "message" || len(c.Attachments) != 1 || c.Attachments[0].ContentType != "application/vnd.microsoft.card.adaptive" {
		t.Fatalf("got %s, want a message with one adaptive card", notifier.Clip(reqs[0].Body, 300))
	}
	return reqs[0].Body, c
}

func TestThereIsACardForWhatIsWorthOne(t *testing.T) {
	for update, want := range map[string]bool{"opened": true, "severity": true, "cause": true, "resolved": true, "updated": false, "quiet": false} {
		r := notifiertest.Report()
		if update == "resolved" {
			r = notifiertest.Resolved(r)
		}
		if body, _ := send(t, notifiertest.Notification(r, update)); (body != "") != want {
			t.Errorf("%s: a card is sent: %v, want %v", update, body != "", want)
		}
	}
}

func TestGoldenCards(t *testing.T) {
	opened, c := send(t, notifiertest.Notification(notifiertest.Report(), "opened"))
	notifiertest.GoldenJSON(t, "opened.json", []byte(opened))
	if got := c.Attachments[0].Content.Body[0].Text; !strings.HasPrefix(got, "P1 prod-eu-1 shop/deployment/checkout: 12% of requests fail") {
		t.Errorf("got title %q, want severity, cluster, entity and symptom first", got)
	}
	resolved, _ := send(t, notifiertest.Notification(notifiertest.Resolved(notifiertest.Report()), "resolved"))
	notifiertest.GoldenJSON(t, "resolved.json", []byte(resolved))
	digest, _ := send(t, notifiertest.Notification(notifiertest.Digest(), "digest"))
	notifiertest.GoldenJSON(t, "digest.json", []byte(digest))
}

// What Markdown would make a link, an image, emphasis, code or a table of.
var unescaped = regexp.MustCompile("(^|[^\\\\])(\\\\\\\\)*[\\[\\]`]|https?://")

func TestHostileReportsFitACardAndWriteNoMarkdown(t *testing.T) {
	for _, update := range []string{"opened", "resolved", "digest"} {
		r := notifiertest.Hostile()
		if update == "resolved" {
			r = notifiertest.Resolved(r)
		}
		body, c := send(t, notifiertest.Notification(r, update))
		if len(body) > 28<<10 {
			t.Errorf("%s: %d bytes, and Teams takes 28 KB", update, len(body))
		}
		content := c.Attachments[0].Content
		if len(content.Body) < 2 {
			t.Errorf("%s: only %d elements are left", update, len(content.Body))
		}
		for _, e := range content.Body {
			if bad := unescaped.FindString(e.Text); bad != "" {
				t.Errorf("%s: %q in %q", update, bad, notifier.Clip(e.Text, 300))
				break
			}
			notifiertest.Readable(t, update, e.CodeSnippet)
		}
		for _, a := range content.Actions {
			if a.Type != "Action.OpenUrl" || !strings.HasPrefix(a.URL, "https://grafana.example.com/") {
				t.Errorf("%s: a button leads to %q", update, a.URL)
			}
		}
	}
}
