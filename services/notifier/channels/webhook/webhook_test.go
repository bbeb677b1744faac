package webhook_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/notifier/channels/webhook"
	"github.com/oncall-copilot/oncall/services/notifier/notifiertest"
)

const (
	first  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	second = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func build(t *testing.T, cfg webhook.Config) notifier.Channel {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	ch, err := webhook.New(cfg, notifier.Env{Log: slog.New(slog.DiscardHandler), HTTP: notifier.NewClient(5 * time.Second), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	write(t, name, content)
	return name
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func deliver(t *testing.T, far *notifiertest.Far, ch notifier.Channel) notifiertest.Request {
	t.Helper()
	if _, err := ch.Send(t.Context(), notifiertest.Notification(notifiertest.Report(), "opened"), notifier.Thread{}); err != nil {
		t.Fatal(err)
	}
	reqs := far.Requests()
	if len(reqs) != 1 {
		t.Fatalf("got %d requests, want 1", len(reqs))
	}
	return reqs[0]
}

func verify(t *testing.T, secret string, r notifiertest.Request) error {
	t.Helper()
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return w.Verify([]byte(r.Body), r.Header)
}

func TestTheStandardLibraryVerifiesASignature(t *testing.T) {
	far := notifiertest.NewFar(t)
	secret := file(t, first+"\n")
	ch := build(t, webhook.Config{URL: far.URL + "/hook", SecretFile: secret})
	r := deliver(t, far, ch)
	if err := verify(t, first, r); err != nil {
		t.Errorf("the secret's own signature: %v", err)
	}
	if err := verify(t, second, r); !errors.Is(err, standardwebhooks.ErrNoMatchingSignature) {
		t.Errorf("another secret: got %v, want no match", err)
	}
	if r.Header.Get("webhook-id") != "n:9kdq3vz7m2xha:1:test" {
		t.Errorf("got id %q, want the notification's", r.Header.Get("webhook-id"))
	}
	tampered := r
	tampered.Body = strings.Replace(r.Body, "P1", "P4", 1)
	if err := verify(t, first, tampered); err == nil {
		t.Error("a changed body is verified")
	}
	tampered = r
	tampered.Header = r.Header.Clone()
	tampered.Header.Set("webhook-id", "n:other:1:test")
	if err := verify(t, first, tampered); err == nil {
		t.Error("a changed id is verified")
	}
}

func TestAReceiverMayChangeSecretsAtItsLeisure(t *testing.T) {
	far := notifiertest.NewFar(t)
	secret := file(t, first)
	ch := build(t, webhook.Config{URL: far.URL, SecretFile: secret})
	write(t, secret, "\n"+second+"\n"+first+"\n")
	both := deliver(t, far, ch)
	if err := errors.Join(verify(t, first, both), verify(t, second, both)); err != nil {
		t.Errorf("with two secrets: %v", err)
	}
	write(t, secret, second)
	if r := deliver(t, far, ch); verify(t, second, r) != nil || verify(t, first, r) == nil {
		t.Error("after the change only the new secret is to match")
	}
}

func TestWithoutAUsableSecretNothingIsSent(t *testing.T) {
	for name, content := range map[string]string{"an empty file": "\n", "not base64": "whsec_!!!\n", "one of two is not": first + "\nplain secret\n"} {
		far := notifiertest.NewFar(t)
		ch := build(t, webhook.Config{URL: far.URL, SecretFile: file(t, content)})
		_, err := ch.Send(t.Context(), notifiertest.Notification(notifiertest.Report(), "opened"), notifier.Thread{})
		if err == nil || !notifier.IsUnsent(err) || len(far.Requests()) != 0 {
			t.Errorf("%s: got %v, want an error before anything is sent", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "plain secret") {
			t.Errorf("%s: the error holds the secret", name)
		}
	}
}

func TestTheBodyIsACloudEvent(t *testing.T) {
	far := notifiertest.NewFar(t)
	auth := file(t, "Bearer abc\n")
	ch := build(t, webhook.Config{URL: far.URL, Headers: map[string]string{"X-Env": "prod"}, HeaderFiles: map[string]string{"Authorization": auth}})
	r := deliver(t, far, ch)
	if ct := r.Header.Get("Content-Type"); ct != "application/cloudevents+json" {
		t.Errorf("got content type %q, want CloudEvents' structured mode", ct)
	}
	if r.Header.Get("X-Env") != "prod" || r.Header.Get("Authorization") != "Bearer abc" {
		t.Errorf("got headers %v, want the configured ones", r.Header)
	}
	e := cloudevents.New()
	if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	var n event.Notification
	if err := e.DataAs(&n); err != nil {
		t.Fatal(err)
	}
	if n.Report.Headline != notifiertest.Report().Headline || e.ID() != r.Header.Get("webhook-id") || e.Type() != event.NotificationQueued.Type {
		t.Errorf("got event %s of type %s, report %q", e.ID(), e.Type(), n.Report.Headline)
	}
	notifiertest.GoldenJSON(t, "opened.json", []byte(r.Body))
}

func TestConfigurationErrorsSayWhatToWrite(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  webhook.Config
		want string
	}{
		"no URL":            {webhook.Config{}, "url: "},
		"not a web address": {webhook.Config{URL: "file:///etc/passwd"}, "is not an http or https URL; write https://host/path"},
		"our own headers":   {webhook.Config{URL: "http://a", Headers: map[string]string{"Webhook-Id": "1"}}, "headers.Webhook-Id: is set by the channel"},
		"in files, too":     {webhook.Config{URL: "http://a", HeaderFiles: map[string]string{"content-type": "1"}}, "header_files.content-type: is set by the channel"},
	} {
		if err := c.cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// The receiver of the documentation: it verifies, and drops what it has seen.
func TestAReceiverThatDropsSeenIdsActsOnce(t *testing.T) {
	far := notifiertest.NewFar(t)
	var mu sync.Mutex // the server answers on goroutines of its own
	acted := map[string]int{}
	var lose atomic.Bool
	lose.Store(true)
	far.Answer(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if id := r.Header.Get("webhook-id"); acted[id] == 0 {
			acted[id]++
		}
		mu.Unlock()
		if lose.Load() {
			notifiertest.Drop(w, r)
		}
	})
	ch := build(t, webhook.Config{URL: far.URL})
	n := notifiertest.Notification(notifiertest.Report(), "opened")
	if _, err := ch.Send(t.Context(), n, notifier.Thread{}); err == nil || notifier.IsUnsent(err) {
		t.Fatalf("got %v, want an error that leaves it open", err)
	}
	lose.Store(false)
	if _, err := ch.Send(t.Context(), n, notifier.Thread{Pending: "n:9kdq3vz7m2xha:1:test"}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(far.Requests()) != 2 || len(acted) != 1 || acted["n:9kdq3vz7m2xha:1:test"] != 1 {
		t.Errorf("got actions %v, want one for two requests", acted)
	}
}
