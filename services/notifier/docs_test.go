package notifier_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/notifier/channels/webhook"
	"github.com/oncall-copilot/oncall/services/notifier/notifiertest"
)

// fenced are the blocks of a language in docs/notifications.md.
func fenced(t *testing.T, language string) []string {
	t.Helper()
	page, err := os.ReadFile(filepath.FromSlash("../../docs/notifications.md"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(page, -1) {
		out = append(out, string(m[1]))
	}
	if len(out) == 0 {
		t.Fatalf("no block of %s in the documentation", language)
	}
	return out
}

func TestTheDocumentedConfigurationIsValid(t *testing.T) {
	shown := map[string]bool{}
	for _, block := range fenced(t, "yaml") {
		cfg := struct {
			Notifier notifier.Config `yaml:"notifier"`
		}{notifier.DefaultConfig()}
		if err := policy.Decode("docs/notifications.md", []byte(block), &cfg); err != nil {
			t.Errorf("%s\n%v", block, err)
			continue
		}
		if err := cfg.Notifier.Validate(); err != nil {
			t.Errorf("%s\n%v", block, err)
		}
		for _, c := range cfg.Notifier.Channels {
			shown[c.Type] = true
		}
	}
	for _, info := range notifier.Builtin.All() {
		if !shown[info.Name] {
			t.Errorf("channels of type %s are not documented", info.Name)
		}
	}
}

// signed is a request as the webhook channel sends it.
func signed(t *testing.T, url string, secret string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	ch, err := webhook.New(webhook.Config{URL: url, SecretFile: file}, notifier.Env{HTTP: notifier.NewClient(5 * time.Second), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ch.Send(t.Context(), notifiertest.Notification(notifiertest.Report(), "opened"), notifier.Thread{})
	return err
}

const (
	docSecret   = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

var (
	hook, _ = standardwebhooks.NewWebhook(docSecret)
	done    sync.Map
	acted   [][]byte
)

func act(body []byte) { acted = append(acted, body) }

// receive is the receiver of the documentation, and the test says so.
func receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 2<<20))
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	if err := hook.Verify(body, r.Header); err != nil { // hook, _ := standardwebhooks.NewWebhook(secret)
		http.Error(w, "not signed by us", http.StatusUnauthorized)
		return
	}
	if _, seen := done.LoadOrStore(r.Header.Get("webhook-id"), true); !seen { // keep for a day
		act(body)
	}
}

func TestTheDocumentedReceiverInGo(t *testing.T) {
	source, err := os.ReadFile("docs_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range fenced(t, "go") {
		if !strings.Contains(string(source), block) {
			t.Errorf("the documentation shows another receiver than the one tested here:\n%s", block)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(receive))
	defer s.Close()
	if err := errors.Join(signed(t, s.URL, docSecret), signed(t, s.URL, docSecret)); err != nil {
		t.Fatal(err)
	}
	if err := signed(t, s.URL, otherSecret); err == nil || !notifier.IsRefused(err) {
		t.Errorf("another secret: got %v, want a refusal", err)
	}
	if len(acted) != 1 {
		t.Errorf("acted %d times on a message and its repeat, want once", len(acted))
	}
}

func TestTheDocumentedReceiverInPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on this machine")
	}
	far := notifiertest.NewFar(t)
	if err := signed(t, far.URL, otherSecret+"\n"+docSecret); err != nil { // changing over
		t.Fatal(err)
	}
	r := far.Requests()[0]
	script := fenced(t, "python")[0] + `
import sys
ident, stamp, signature = sys.argv[1:4]
body = sys.stdin.buffer.read()
headers = {"webhook-id": ident, "webhook-timestamp": stamp, "webhook-signature": signature}
secret, other = "` + docSecret + `", "` + "whsec_" + strings.Repeat("QUJD", 8) + `"
print(verify(secret, headers, body), verify(other, headers, body), verify(secret, headers, body + b" "), verify(secret, headers, body, now=int(stamp) + 301))
`
	cmd := exec.CommandContext(t.Context(), python, "-c", script, r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), r.Header.Get("webhook-signature"))
	cmd.Stdin = strings.NewReader(r.Body)
	out, err := cmd.CombinedOutput()
	if got, want := strings.TrimSpace(string(out)), "True False False False"; got != want {
		t.Errorf("got %q (%v), want %q: signed, another secret, another body, too old", got, err, want)
	}
}
