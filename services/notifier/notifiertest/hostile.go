package notifiertest

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/services/notifier"
)

func (s *suite) inert(t *testing.T) {
	for _, update := range []string{"opened", "updated", "severity", "cause", "resolved", "digest"} {
		m := s.make(t)
		r := Hostile()
		if update == "resolved" {
			r = Resolved(r)
		}
		if _, err := m.Send(t.Context(), Notification(r, update), notifier.Thread{}); err != nil {
			t.Fatalf("%s: %v", update, err)
		}
		for _, req := range m.far.Requests() {
			if s.info.Raw {
				if !json.Valid([]byte(req.Body)) {
					t.Errorf("%s: the body is not JSON", update)
				}
				continue
			}
			if len(req.Body) > maxMessage {
				t.Errorf("%s: %d bytes in one message", update, len(req.Body))
			}
			for _, text := range texts(req) {
				if !Inert(t, update, text) {
					break
				}
			}
		}
		for line := range strings.Lines(m.out.String()) {
			if !Readable(t, update, strings.TrimSuffix(line, "\n")) {
				break
			}
		}
	}
}

// texts are all strings of a request: of a JSON body, or of JSON in a form.
func texts(r Request) []string {
	var out []string
	collect := func(s string) {
		var v any
		if json.Unmarshal([]byte(s), &v) == nil {
			out = append(out, stringsIn(v)...)
		} else {
			out = append(out, s)
		}
	}
	if strings.Contains(r.Header.Get("Content-Type"), "form") {
		q, err := url.ParseQuery(r.Body)
		if err == nil {
			for _, vs := range q {
				for _, v := range vs {
					collect(v)
				}
			}
			return out
		}
	}
	collect(r.Body)
	return out
}

func stringsIn(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			out = append(out, stringsIn(e)...)
		}
		return out
	case map[string]any:
		var out []string
		for k, e := range v {
			if k == "codeSnippet" {
				continue // of a Teams card, shown as it is; see its own test
			}
			out = append(append(out, k), stringsIn(e)...)
		}
		return out
	}
	return nil
}

// Readable fails a test when text could do more to a terminal, or to its
// reader, than be read: escape sequences, and marks that hide or turn text.
func Readable(t testing.TB, where, text string) bool {
	t.Helper()
	for _, r := range text {
		if r < ' ' && r != '\n' || r >= 0x7f && r <= 0x9f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200b || r == 0xfeff {
			t.Errorf("%s: character %U in %q", where, r, notifier.Clip(text, 200))
			return false
		}
	}
	return true
}

// Inert is Readable for what is shown by a program that knows markup: there
// is no mention and no tag in it either.
func Inert(t testing.TB, where, text string) bool {
	t.Helper()
	for _, bad := range []string{"<!channel", "<!here", "<!everyone", "<@U", "<#C", "<script", "<img", "<at>", "<https://evil", "javascript:"} {
		if strings.Contains(text, bad) {
			t.Errorf("%s: %q in %q", where, bad, notifier.Clip(text, 200))
			return false
		}
	}
	return Readable(t, where, text)
}
