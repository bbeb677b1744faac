// Package notifiertest checks the promises of notifier.Channel for any
// implementation, in the manner of testing/fstest: against far sides that
// agree, refuse, hang and lie, and with reports that somebody hostile wrote.
package notifiertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/notifier"
)

// now is the clock of channels under test.
var now = Onset.Add(3 * time.Minute)

const (
	// secret is in every address, token and key that a channel under test gets.
	secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
	// maxMessage bounds what a surface for people is sent at once.
	maxMessage = 256 << 10
)

// Run checks a kind of channel with each of its examples.
func Run(t *testing.T, info notifier.Info) {
	for i, example := range info.Examples {
		t.Run(fmt.Sprintf("example %d", i+1), func(t *testing.T) {
			t.Run("the example is valid, and a misspelt key is not", func(t *testing.T) { checkExample(t, info, example) })
			s := &suite{info: info, example: example}
			t.Run("a revision is delivered, and a repeat is the same message", s.delivers)
			t.Run("the highest revision is told, whichever comes first", s.latest)
			t.Run("hostile text is inert and within bounds", s.inert)
			t.Run("incidents are told at the same time", s.concurrent)
			if !s.talks(t) {
				return // it writes; there is nobody to misbehave
			}
			t.Run("answers are sorted", s.sorted)
			t.Run("a redirect is not followed", s.redirected)
			t.Run("what does not end is given up", s.bounded)
			t.Run("nobody there is certainly not sent", s.absent)
			t.Run("secrets are read at every delivery", s.rotated)
		})
	}
}

func checkExample(t *testing.T, info notifier.Info, example string) {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(example), &n); err != nil {
		t.Fatal(err)
	}
	if err := info.Check("example.yaml", n.Content[0]); err != nil {
		t.Errorf("example refused: %v", err)
	}
	if err := yaml.Unmarshal([]byte(example+"misspelt: true\n"), &n); err != nil {
		t.Fatal(err)
	}
	err := info.Check("example.yaml", n.Content[0])
	if err == nil || !strings.Contains(err.Error(), "example.yaml:") || !strings.Contains(err.Error(), "misspelt") {
		t.Errorf("unknown key: got error %v, want one with file, line and the key", err)
	}
}

type suite struct {
	info    notifier.Info
	example string
}

// made is a channel under test, with what it can reach.
type made struct {
	notifier.Channel
	far   *Far
	out   *bytes.Buffer
	files map[string]string // keys of the configuration to files of secrets
}

// make builds the channel of the example, its addresses and files replaced.
func (s *suite) make(t testing.TB) *made {
	t.Helper()
	m := &made{far: NewFar(t), out: &bytes.Buffer{}, files: map[string]string{}}
	m.Channel = s.connect(t, m, m.far.URL)
	return m
}

func (s *suite) connect(t testing.TB, m *made, base string) notifier.Channel {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(s.example), &doc); err != nil {
		t.Fatal(err)
	}
	m.replace(t, doc.Content[0], "", base, t.TempDir())
	ch, err := s.info.New("example.yaml", doc.Content[0], notifier.Env{
		Log: slog.New(slog.DiscardHandler), HTTP: notifier.NewClient(10 * time.Second), Out: m.out, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// replace points addresses to base, and makes the files that the example
// names: of an address where the key says so, else of a secret.
func (m *made) replace(t testing.TB, n *yaml.Node, key, base, dir string) {
	t.Helper()
	for i := range n.Content {
		under := key
		if n.Kind == yaml.MappingNode {
			if i%2 == 0 {
				continue
			}
			if under = n.Content[i-1].Value; strings.HasSuffix(key, "_files") {
				under += "_file"
			}
		}
		m.replace(t, n.Content[i], under, base, dir)
	}
	if n.Kind != yaml.ScalarNode {
		return
	}
	if u, err := url.Parse(n.Value); err == nil && u.Host != "" {
		n.Value = base + u.Path
	}
	if strings.HasSuffix(key, "_file") {
		n.Value = filepath.Join(dir, key)
		m.files[key] = n.Value
		m.write(t, key, base, secret)
	}
}

func (m *made) write(t testing.TB, key, base, secret string) {
	t.Helper()
	content := "whsec_" + secret
	if strings.Contains(key, "url") {
		content = base + "/services/" + secret
	}
	if err := os.WriteFile(m.files[key], []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// talks says whether the channel sends requests.
func (s *suite) talks(t *testing.T) bool {
	m := s.make(t)
	if _, err := m.Send(t.Context(), Notification(Report(), "opened"), notifier.Thread{}); err != nil {
		t.Fatal(err)
	}
	return len(m.far.Requests()) > 0
}

func (s *suite) delivers(t *testing.T) {
	m := s.make(t)
	n := Notification(Report(), "opened")
	th, err := m.Send(t.Context(), n, notifier.Thread{})
	if err != nil {
		t.Fatal(err)
	}
	if th.Ref == "" {
		t.Error("the thread has no reference")
	}
	first, written := sent(m.far.Requests()), m.out.String()
	if len(first) == 0 && written == "" {
		t.Fatal("nothing was sent")
	}
	m.out.Reset()
	if _, err := m.Send(t.Context(), n, notifier.Thread{Pending: id(n)}); err != nil {
		t.Fatal(err)
	}
	if again := sent(m.far.Requests()); !slices.Equal(again, first) || m.out.String() != written {
		t.Errorf("the repeat differs: got %q, want %q", again, first)
	}
	for _, update := range []string{"updated", "quiet", "severity", "cause", "resolved"} {
		r := Report()
		if update == "resolved" {
			r = Resolved(r)
		}
		r.Revision++
		if th, err = m.Send(t.Context(), Notification(r, update), th); err != nil {
			t.Errorf("%s: %v", update, err)
		}
	}
	d := Notification(Digest(), "digest")
	if _, err := m.Send(t.Context(), d, notifier.Thread{}); err != nil {
		t.Errorf("digest: %v", err)
	}
}

// sent are the bodies of the requests that change something.
func sent(reqs []Request) []string {
	var out []string
	for _, r := range reqs {
		if r.Method == http.MethodPost && !strings.Contains(r.Path, "conversations.") {
			out = append(out, r.Body)
		}
	}
	return out
}

func id(n event.Notification) string {
	return event.NotificationID(n.Incident, n.Revision, n.Channel)
}

func (s *suite) concurrent(t *testing.T) {
	m := s.make(t)
	errs := make(chan error, 8)
	for i := range 8 {
		go func() {
			r := Report()
			r.Incident = fmt.Sprintf("incident%05d", i)
			_, err := m.Send(t.Context(), Notification(r, "opened"), notifier.Thread{})
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func (s *suite) sorted(t *testing.T) {
	const (
		sent = iota
		retried
		rejected
		refused // and so rejected
		unsure  // as the protocol has it; never rejected
	)
	in90 := now.Add(90 * time.Second).UTC().Format(http.TimeFormat)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   int
		unsent bool
		wait   time.Duration
	}{
		"200":                        {answer: Agree, want: sent},
		"400 is about the message":   {answer: Status(400), want: rejected, unsent: true},
		"413 is about the message":   {answer: Status(413), want: rejected, unsent: true},
		"401 is about us":            {answer: Status(401), want: refused, unsent: true},
		"403 is about us":            {answer: Status(403), want: refused, unsent: true},
		"404 is about us":            {answer: Status(404), want: refused, unsent: true},
		"410 is about us":            {answer: Status(410), want: refused, unsent: true},
		"301 without a place":        {answer: Status(301), want: refused, unsent: true},
		"408 may pass":               {answer: Status(408), want: retried},
		"429 in seconds":             {answer: Status(429, "Retry-After", "7"), want: retried, unsent: true, wait: 7 * time.Second},
		"429 as a date":              {answer: Status(429, "Retry-After", in90), want: retried, unsent: true, wait: 90 * time.Second},
		"429 for a year":             {answer: Status(429, "Retry-After", "31536000"), want: retried, unsent: true, wait: time.Hour},
		"429 without a time":         {answer: Status(429), want: retried, unsent: true},
		"429 with nonsense":          {answer: Status(429, "Retry-After", "-5 soon"), want: retried, unsent: true},
		"500 may have been done":     {answer: Status(500), want: retried},
		"502 may have been done":     {answer: Status(502), want: retried},
		"503 was not done":           {answer: Status(503), want: retried, unsent: true},
		"503 says when":              {answer: Status(503, "Retry-After", "3"), want: retried, unsent: true, wait: 3 * time.Second},
		"no answer":                  {answer: Drop, want: retried},
		"an answer that is cut":      {answer: Cut, want: unsure},
		"200 with a page":            {answer: Status(200), want: unsure},
		"200 with another's JSON":    {answer: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"ok":"yes","ts":{}}`) }, want: unsure},
		"200 with nothing":           {answer: func(http.ResponseWriter, *http.Request) {}, want: unsure},
		"200 with the wrong charset": {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("\xff\xfe{\x00")) }, want: unsure},
	} {
		t.Run(name, func(t *testing.T) {
			m := s.make(t)
			m.far.Answer(c.answer)
			_, err := m.Send(t.Context(), Notification(Report(), "opened"), notifier.Thread{})
			m.keepsSecrets(t, err)
			_, isRejected := errors.AsType[*bus.RejectError](err)
			retry, isRetry := errors.AsType[*bus.RetryError](err)
			switch {
			case c.want == sent && err != nil:
				t.Errorf("got %v, want none", err)
			case c.want == retried && (err == nil || isRejected):
				t.Errorf("got %v, want an error that is tried again", err)
			case c.want >= rejected && c.want <= refused && !isRejected:
				t.Errorf("got %v, want a rejection", err)
			case notifier.IsRefused(err) != (c.want == refused):
				t.Errorf("got %v, refused %v", err, notifier.IsRefused(err))
			case c.want == unsure && isRejected:
				t.Errorf("got %v, want an error that is tried again, or none", err)
			}
			if c.unsent != notifier.IsUnsent(err) {
				t.Errorf("got %v, certainly unsent %v, want %v", err, notifier.IsUnsent(err), c.unsent)
			}
			var wait time.Duration
			if isRetry {
				wait = retry.After
			}
			if wait != c.wait {
				t.Errorf("got a wait of %v, want %v", wait, c.wait)
			}
		})
	}
}

// keepsSecrets fails the test when an error says what nobody may read.
func (m *made) keepsSecrets(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, s := range []string{secret, "/services/", "Upstream says no", "\x1b"} {
		if strings.Contains(err.Error(), s) {
			t.Errorf("the error says %q: %v", s, err)
		}
	}
}

func (s *suite) redirected(t *testing.T) {
	other := NewFar(t)
	for _, code := range []int{301, 302, 303, 307, 308} {
		m := s.make(t)
		m.far.Answer(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL+"/elsewhere", code) })
		_, err := m.Send(t.Context(), Notification(Report(), "opened"), notifier.Thread{})
		m.keepsSecrets(t, err)
		if _, ok := errors.AsType[*bus.RejectError](err); !ok {
			t.Errorf("%d: got %v, want a rejection", code, err)
		}
		if n := len(other.Requests()); n > 0 {
			t.Errorf("%d: followed to another place", code)
		}
	}
}

func (s *suite) bounded(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{"an answer that never comes": Hang, "an answer without an end": Flood} {
		t.Run(name, func(t *testing.T) {
			m := s.make(t)
			m.far.Answer(answer)
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("the deadline of the test"))
			defer cancel()
			started := time.Now()
			_, err := m.Send(ctx, Notification(Report(), "opened"), notifier.Thread{})
			if took := time.Since(started); took > 8*time.Second {
				t.Errorf("came back after %v, want the deadline of 1s", took)
			}
			m.keepsSecrets(t, err)
			if _, ok := errors.AsType[*bus.RejectError](err); ok {
				t.Errorf("got %v, want an error that is tried again", err)
			}
			if name == "an answer that never comes" && (err == nil || notifier.IsUnsent(err) || !strings.Contains(err.Error(), "the deadline of the test")) {
				t.Errorf("got %v, want the deadline's cause, and no claim that it was not sent", err)
			}
		})
	}
}

func (s *suite) absent(t *testing.T) {
	m := s.make(t)
	m.far.Close()
	_, err := m.Send(t.Context(), Notification(Report(), "opened"), notifier.Thread{})
	m.keepsSecrets(t, err)
	if err == nil || !notifier.IsUnsent(err) || notifier.IsRefused(err) {
		t.Errorf("got %v, want one that says it was not sent", err)
	}
}

func (s *suite) rotated(t *testing.T) {
	m := s.make(t)
	n := Notification(Report(), "opened")
	for key, file := range m.files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		_, err := m.Send(t.Context(), n, notifier.Thread{})
		m.keepsSecrets(t, err)
		if _, rejected := errors.AsType[*bus.RejectError](err); err == nil || rejected {
			t.Errorf("%s is not there: got %v, want an error that is tried again", key, err)
		}
		m.write(t, key, m.far.URL, "bmV3LXNlY3JldC1uZXctc2VjcmV0LW5ldw==")
	}
	m.far.Requests()
	if _, err := m.Send(t.Context(), n, notifier.Thread{}); err != nil {
		t.Fatal(err)
	}
	for _, r := range m.far.Requests() {
		if all := fmt.Sprint(r); strings.Contains(all, secret) {
			t.Errorf("the old secret is used: %s", notifier.Clip(all, 300))
		}
	}
}
