package notifiertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// Slack is the part of Slack's Web API that the bot uses, with the limits and
// the errors of the real one, for one channel.
type Slack struct {
	*httptest.Server
	Token   string
	Channel string

	mu       sync.Mutex
	revoked  bool
	messages []SlackMessage // oldest first
	faults   map[string][]Fault
	calls    []string
	last     int // messages ever
}

// SlackMessage is a message in the channel.
type SlackMessage struct {
	TS       string          `json:"ts"`
	ThreadTS string          `json:"thread_ts,omitempty"`
	Text     string          `json:"text"`
	Blocks   json.RawMessage `json:"blocks,omitempty"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
	Edits    int             `json:"-"`
}

// Fault is what goes wrong with one call.
type Fault struct {
	Late   bool // the call takes effect first
	Answer http.HandlerFunc
}

// NewSlack starts a Slack on loopback. It ends with the test.
func NewSlack(t testing.TB) *Slack {
	s := &Slack{Token: "xoxb-" + secret, Channel: "C0123456789", faults: map[string][]Fault{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// Inject makes the next calls of a method go wrong, one each.
func (s *Slack) Inject(method string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[method] = append(s.faults[method], faults...)
}

// Revoke revokes the token, or takes that back.
func (s *Slack) Revoke(revoked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = revoked
}

// Delete removes a message, as a person might.
func (s *Slack) Delete(ts string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = slices.DeleteFunc(s.messages, func(m SlackMessage) bool { return m.TS == ts })
}

// Say adds a message of somebody else's.
func (s *Slack) Say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, SlackMessage{TS: s.next(), Text: text})
}

// Main are the messages of the channel, and Thread the answers to one.
func (s *Slack) Main() []SlackMessage { return s.Thread("") }

// Thread are the answers to a message, oldest first.
func (s *Slack) Thread(ts string) []SlackMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []SlackMessage
	for _, m := range s.messages {
		if m.ThreadTS == ts {
			out = append(out, m)
		}
	}
	return out
}

// Calls are the methods that were called since the last time.
func (s *Slack) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.calls
	s.calls = nil
	return out
}

// next is the id of the next message: a time, later than any test.
func (s *Slack) next() string { s.last++; return fmt.Sprintf("4000000000.%06d", s.last) }

// Says answers 200 with an error of Slack's.
func Says(code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"ok":false,"error":%q}`, code) }
}

// Limited answers as Slack does to who calls too often.
func Limited(seconds int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"ok":false,"error":"ratelimited"}`)
	}
}

func (s *Slack) serve(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/api/")
	if err := r.ParseForm(); err != nil {
		Says("invalid_form_data")(w, r)
		return
	}
	s.mu.Lock()
	s.calls = append(s.calls, method)
	var fault *Fault
	if f := s.faults[method]; len(f) > 0 {
		fault, s.faults[method] = &f[0], f[1:]
	}
	var answer any
	if fault == nil || fault.Late {
		answer = s.call(method, r)
	}
	s.mu.Unlock()
	if fault != nil {
		fault.Answer(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(answer)
}

func refuse(code string) any { return map[string]any{"ok": false, "error": code} }

func (s *Slack) call(method string, r *http.Request) any {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token == "" {
		token = r.Form.Get("token")
	}
	switch {
	case token == "":
		return refuse("not_authed")
	case token != s.Token:
		return refuse("invalid_auth")
	case s.revoked:
		return refuse("token_revoked")
	case r.Form.Get("channel") != s.Channel:
		return refuse("channel_not_found")
	}
	switch method {
	case "chat.postMessage":
		if code := checkMessage(r.Form, 40000); code != "" {
			return refuse(code)
		}
		m := SlackMessage{TS: s.next(), ThreadTS: r.Form.Get("thread_ts")}
		m.set(r.Form)
		s.messages = append(s.messages, m)
		return map[string]any{"ok": true, "channel": s.Channel, "ts": m.TS, "message": m}
	case "chat.update":
		if code := checkMessage(r.Form, 4000); code != "" {
			return refuse(code)
		}
		for i := range s.messages {
			if m := &s.messages[i]; m.TS == r.Form.Get("ts") {
				m.set(r.Form)
				m.Edits++
				return map[string]any{"ok": true, "channel": s.Channel, "ts": m.TS, "text": m.Text}
			}
		}
		return refuse("message_not_found")
	case "conversations.history":
		newest := slices.Clone(s.messages)
		slices.Reverse(newest)
		return page(r.Form, newest, func(m SlackMessage) bool { return m.ThreadTS == "" && m.TS >= r.Form.Get("oldest") })
	case "conversations.replies":
		return page(r.Form, s.messages, func(m SlackMessage) bool { return m.ThreadTS == r.Form.Get("ts") || m.TS == r.Form.Get("ts") })
	}
	return refuse("unknown_method")
}

func (m *SlackMessage) set(form url.Values) {
	m.Text, m.Blocks = form.Get("text"), json.RawMessage(form.Get("blocks"))
	if len(m.Blocks) == 0 {
		m.Blocks = nil
	}
	if meta := form.Get("metadata"); meta != "" {
		m.Metadata = json.RawMessage(meta)
	}
}

// page answers with a part of the messages, as the cursor says; metadata is
// there for who asks for it.
func page(form url.Values, all []SlackMessage, want func(SlackMessage) bool) any {
	start, _ := strconv.Atoi(form.Get("cursor"))
	limit, err := strconv.Atoi(form.Get("limit"))
	if err != nil || limit > 999 {
		return refuse("invalid_limit")
	}
	var kept []SlackMessage
	for _, m := range all {
		if want(m) {
			if form.Get("include_all_metadata") != "true" && form.Get("include_all_metadata") != "1" {
				m.Metadata = nil
			}
			kept = append(kept, m)
		}
	}
	end, next := min(start+limit, len(kept)), ""
	if end < len(kept) {
		next = strconv.Itoa(end)
	}
	return map[string]any{
		"ok": true, "messages": kept[min(start, end):end], "has_more": next != "", "response_metadata": map[string]any{"next_cursor": next},
	}
}

// checkMessage refuses what Slack refuses.
func checkMessage(form url.Values, maxText int) string {
	if form.Get("text") == "" && form.Get("blocks") == "" {
		return "no_text"
	}
	if utf8.RuneCountInString(form.Get("text")) > maxText {
		return "msg_too_long"
	}
	if meta := form.Get("metadata"); meta != "" {
		var m struct {
			Type    string         `json:"event_type"`
			Payload map[string]any `json:"event_payload"`
		}
		if json.Unmarshal([]byte(meta), &m) != nil || m.Type == "" || m.Payload == nil {
			return "invalid_metadata_schema"
		}
	}
	if form.Get("blocks") == "" {
		return ""
	}
	type text struct {
		Type, Text string
	}
	var blocks []struct {
		Type     string
		Text     *text
		Elements []text
	}
	if err := json.Unmarshal([]byte(form.Get("blocks")), &blocks); err != nil {
		return "invalid_blocks_format"
	}
	good := func(t text) bool {
		n := utf8.RuneCountInString(t.Text)
		return (t.Type == "mrkdwn" || t.Type == "plain_text") && n > 0 && n <= 3000
	}
	for _, b := range blocks {
		switch {
		case b.Type == "section" && b.Text != nil && good(*b.Text):
		case b.Type == "context" && len(b.Elements) > 0 && len(b.Elements) <= 10 && !slices.ContainsFunc(b.Elements, func(t text) bool { return !good(t) }):
		default:
			return "invalid_blocks"
		}
	}
	if len(blocks) == 0 || len(blocks) > 50 {
		return "invalid_blocks"
	}
	return ""
}
