package slack_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/notifier/channels/slack"
	"github.com/oncall-copilot/oncall/services/notifier/notifiertest"
)

func env() notifier.Env {
	return notifier.Env{
		Log: slog.New(slog.DiscardHandler), HTTP: notifier.NewClient(5 * time.Second),
		Now: func() time.Time { return notifiertest.Onset },
	}
}

func bot(t *testing.T, s *notifiertest.Slack) notifier.Channel {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(s.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ch, err := slack.New(slack.Config{TokenFile: token, Channel: s.Channel, APIURL: s.URL + "/api/"}, env())
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// life are an incident's reports with why each is told.
func life() []event.Notification {
	r := notifiertest.Report()
	r.Priority = event.P2
	var out []event.Notification
	add := func(update string) {
		out = append(out, notifiertest.Notification(r, update))
		r.Revision++
	}
	add("opened")
	add("updated")
	r.Priority = event.P1
	add("severity")
	r.Causes = slices.Clone(r.Causes)
	slices.Reverse(r.Causes)
	add("cause")
	add("quiet")
	r = notifiertest.Resolved(r)
	add("resolved")
	add("updated")
	return out
}

func send(t *testing.T, ch notifier.Channel, n event.Notification, th notifier.Thread) notifier.Thread {
	t.Helper()
	next, err := ch.Send(t.Context(), n, th)
	if err != nil {
		t.Fatalf("revision %d: %v", n.Revision, err)
	}
	return after(next, n)
}

// after is the thread as the notifier keeps it.
func after(th notifier.Thread, n event.Notification) notifier.Thread {
	th.Told, th.Pending = th.Told.After(n.Report), ""
	return th
}

func TestAnIncidentIsOneMessageWithItsNewsInTheThread(t *testing.T) {
	s := notifiertest.NewSlack(t)
	ch := bot(t, s)
	var th notifier.Thread
	var answers []int
	for _, n := range life() {
		th = send(t, ch, n, th)
		answers = append(answers, len(s.Thread(th.Ref)))
	}
	if main := s.Main(); len(main) != 1 || main[0].Edits != 6 || !strings.HasPrefix(main[0].Text, "Resolved after 21m: P1 prod-eu-1 shop/deployment/checkout: 12% of requests fail") {
		t.Errorf("got %d messages %+v, want one, edited for each revision after the first", len(main), main)
	}
	// Details at first; then severity, cause and resolve disturb, and nothing else.
	if want := []int{1, 1, 2, 3, 3, 4, 4}; !slices.Equal(answers, want) {
		t.Errorf("answers in the thread after each revision: got %v, want %v", answers, want)
	}
}

func TestAnIncidentThatOpensAgainIsSaidInItsThread(t *testing.T) {
	s := notifiertest.NewSlack(t)
	ch := bot(t, s)
	var th notifier.Thread
	all := life()
	for _, n := range all {
		th = send(t, ch, n, th)
	}
	r := notifiertest.Report()
	r.Revision = all[len(all)-1].Revision + 1
	th = send(t, ch, notifiertest.Notification(r, "opened"), th)
	answers := s.Thread(th.Ref)
	if last := answers[len(answers)-1]; len(s.Main()) != 1 || !strings.HasPrefix(last.Text, "Open again: P1") {
		t.Errorf("got %d messages and %q, want the same one and an answer", len(s.Main()), last.Text)
	}
}

func TestNothingIsSaidTwiceWhateverHappensToAnAnswer(t *testing.T) {
	lost := notifiertest.Fault{Late: true, Answer: notifiertest.Drop}
	late500 := notifiertest.Fault{Late: true, Answer: notifiertest.Status(500)}
	page := notifiertest.Fault{Late: true, Answer: notifiertest.Status(200)}
	unsent := notifiertest.Fault{Answer: notifiertest.Limited(3)}
	failed := notifiertest.Fault{Answer: notifiertest.Status(502)}
	for name, c := range map[string]map[string][]notifiertest.Fault{
		"the answer to the message is lost":               {"chat.postMessage": {lost}},
		"the message is posted and answered 500":          {"chat.postMessage": {late500}},
		"the message is posted and answered with a page":  {"chat.postMessage": {page}},
		"the message is not posted":                       {"chat.postMessage": {failed, failed}},
		"the message is limited, then lost":               {"chat.postMessage": {unsent, lost, unsent}},
		"it is lost, and the search for it is limited":    {"chat.postMessage": {lost}, "conversations.history": {unsent, failed}},
		"the thread's answer cannot be looked for":        {"chat.postMessage": {lost}, "conversations.replies": {failed, unsent}},
		"the edit is lost":                                {"chat.update": {lost, late500}},
		"everything is limited":                           {"chat.postMessage": {unsent, unsent}, "chat.update": {unsent, unsent}, "conversations.replies": {unsent}},
		"Slack says in a 200 that it is limited":          {"chat.postMessage": {{Answer: notifiertest.Says("ratelimited")}}, "chat.update": {{Answer: notifiertest.Says("ratelimited")}}},
		"Slack has an internal error, having posted":      {"chat.postMessage": {{Late: true, Answer: notifiertest.Says("internal_error")}}},
		"the message is there, its details are limited":   {"chat.postMessage": {lost, unsent, lost}},
		"each of the first five calls of a kind is lost":  {"chat.postMessage": {lost, lost, lost, lost, lost}, "chat.update": {lost, lost, lost, lost, lost}},
		"each of the first calls gets a page or a cut":    {"chat.postMessage": {page, {Late: true, Answer: notifiertest.Cut}, page}, "chat.update": {page}},
		"the details are lost and history is cut at once": {"chat.postMessage": {lost, lost}, "conversations.history": {{Answer: notifiertest.Cut}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := notifiertest.NewSlack(t)
			ch := bot(t, s)
			for method, faults := range c {
				s.Inject(method, faults...)
			}
			var th notifier.Thread
			for _, n := range life() {
				th = persist(t, ch, n, th)
			}
			if main := s.Main(); len(main) != 1 {
				t.Errorf("got %d messages of one incident", len(main))
			}
			var said []string
			for _, a := range s.Thread(th.Ref) {
				said = append(said, strings.Fields(a.Text)[0])
			}
			if want := []string{"Details", "Severity", "The", "Resolved"}; !slices.Equal(said, want) {
				t.Errorf("got answers %v, want %v", said, want)
			}
		})
	}
}

// persist tries until it is delivered, keeping the thread as the notifier does.
func persist(t *testing.T, ch notifier.Channel, n event.Notification, th notifier.Thread) notifier.Thread {
	t.Helper()
	for range 20 {
		next, err := ch.Send(t.Context(), n, th)
		if err == nil {
			return after(next, n)
		}
		if _, rejected := errors.AsType[*bus.RejectError](err); rejected {
			t.Fatalf("revision %d rejected: %v", n.Revision, err)
		}
		pending := th.Pending
		if !notifier.IsUnsent(err) {
			pending = event.NotificationID(n.Incident, n.Revision, n.Channel)
		}
		next.Told, next.Pending = th.Told, pending
		th = next
	}
	t.Fatalf("revision %d is not delivered after 20 attempts", n.Revision)
	return th
}

func TestAnEarlierAttemptIsFoundBehindWhatOthersSaid(t *testing.T) {
	s := notifiertest.NewSlack(t)
	ch := bot(t, s)
	s.Inject("chat.postMessage", notifiertest.Fault{Late: true, Answer: notifiertest.Drop})
	n := life()[0]
	_, err := ch.Send(t.Context(), n, notifier.Thread{})
	if err == nil || notifier.IsUnsent(err) {
		t.Fatalf("got %v, want an error that leaves it open", err)
	}
	for i := range 450 {
		s.Say(fmt.Sprintf("chatter %d", i))
	}
	th := send(t, ch, n, notifier.Thread{Pending: event.NotificationID(n.Incident, 1, "test")})
	if got := len(s.Main()) - 450; got != 1 || th.Ref == "" {
		t.Errorf("got %d messages, want the one of before", got)
	}
}

func TestAMessageThatIsGoneOrFixedIsNoDeadEnd(t *testing.T) {
	t.Run("a deleted message is posted anew", func(t *testing.T) {
		s := notifiertest.NewSlack(t)
		ch := bot(t, s)
		all := life()
		th := send(t, ch, all[0], notifier.Thread{})
		old := th.Ref
		s.Delete(old)
		th = send(t, ch, all[1], th)
		if th.Ref == old || len(s.Main()) != 1 {
			t.Errorf("got reference %s and %d messages, want a new one", th.Ref, len(s.Main()))
		}
	})
	for _, code := range []string{"edit_window_closed", "cant_update_message"} {
		t.Run(code+" leaves the message and answers the thread", func(t *testing.T) {
			s := notifiertest.NewSlack(t)
			ch := bot(t, s)
			all := life()
			th := send(t, ch, all[0], notifier.Thread{})
			s.Inject("chat.update", notifiertest.Fault{Answer: notifiertest.Says(code)})
			send(t, ch, all[2], th)
			if got := len(s.Thread(th.Ref)); got != 2 || len(s.Main()) != 1 {
				t.Errorf("got %d answers and %d messages, want 2 and 1", got, len(s.Main()))
			}
		})
	}
	t.Run("blocks that Slack refuses are left out", func(t *testing.T) {
		s := notifiertest.NewSlack(t)
		ch := bot(t, s)
		s.Inject("chat.postMessage", notifiertest.Fault{Answer: notifiertest.Says("invalid_blocks")})
		send(t, ch, life()[0], notifier.Thread{})
		if main := s.Main(); len(main) != 1 || main[0].Blocks != nil || main[0].Text == "" {
			t.Errorf("got %+v, want the text alone", main)
		}
	})
}

func TestErrorsOfSlackAreSorted(t *testing.T) {
	type sort struct{ rejected, refused, unsent bool }
	for code, want := range map[string]sort{
		"token_revoked":      {true, true, true},
		"invalid_auth":       {true, true, true},
		"account_inactive":   {true, true, true},
		"missing_scope":      {true, true, true},
		"channel_not_found":  {true, true, true},
		"not_in_channel":     {true, true, true},
		"is_archived":        {true, true, true},
		"msg_too_long":       {true, false, true},
		"something new":      {true, false, true},
		"\x1b[31m<!channel>": {true, false, true},
		"ratelimited":        {false, false, true},
		"internal_error":     {false, false, false},
		"fatal_error":        {false, false, false},
	} {
		s := notifiertest.NewSlack(t)
		s.Inject("chat.postMessage", notifiertest.Fault{Answer: func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"ok": false, "error": code})
		}})
		_, err := bot(t, s).Send(t.Context(), life()[0], notifier.Thread{})
		_, rejected := errors.AsType[*bus.RejectError](err)
		if got := (sort{rejected, notifier.IsRefused(err), notifier.IsUnsent(err)}); got != want {
			t.Errorf("%q: got %+v (%v), want %+v", code, got, err, want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x1b") {
			t.Errorf("%q: got %q, unescaped", code, err)
		}
	}
}

func TestARateLimitInA200IsWaitedFor(t *testing.T) {
	s := notifiertest.NewSlack(t)
	s.Inject("chat.postMessage", notifiertest.Fault{Answer: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "11")
		notifiertest.Says("ratelimited")(w, r)
	}})
	_, err := bot(t, s).Send(t.Context(), life()[0], notifier.Thread{})
	if retry, ok := errors.AsType[*bus.RetryError](err); !ok || retry.After != 11*time.Second || !notifier.IsUnsent(err) {
		t.Errorf("got %v, want a wait of 11s and that it was not sent", err)
	}
}

// The fake refuses blocks beyond Slack's limits, and would get the text alone.
func TestHostileReportsStayWithinSlacksLimits(t *testing.T) {
	for _, update := range []string{"opened", "severity", "cause", "resolved", "digest"} {
		s := notifiertest.NewSlack(t)
		r := notifiertest.Hostile()
		if update == "resolved" {
			r = notifiertest.Resolved(r)
		}
		th := send(t, bot(t, s), notifiertest.Notification(r, update), notifier.Thread{})
		for _, m := range append(s.Main(), s.Thread(th.Ref)...) {
			if m.Blocks == nil {
				t.Errorf("%s: blocks refused", update)
			}
			// Only links of ours are in angle brackets, and the rest is verbatim.
			var blocks []struct {
				Text     *struct{ Verbatim bool }
				Elements []struct{ Verbatim bool }
			}
			if err := json.Unmarshal(m.Blocks, &blocks); err != nil {
				t.Fatal(err)
			}
			for _, b := range blocks {
				if b.Text != nil && !b.Text.Verbatim || len(b.Elements) > 0 && !b.Elements[0].Verbatim {
					t.Errorf("%s: a block is not verbatim: Slack would make links and mentions", update)
				}
			}
		}
	}
}

func TestAnIncomingWebhookGetsWhatIsWorthAMessage(t *testing.T) {
	far := notifiertest.NewFar(t)
	far.Answer(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(far.URL+"/services/T0/B0/secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	ch, err := slack.New(slack.Config{WebhookURLFile: file}, env())
	if err != nil {
		t.Fatal(err)
	}
	var th notifier.Thread
	var texts []string
	for _, n := range life() {
		th = send(t, ch, n, th)
	}
	for _, r := range far.Requests() {
		var m struct{ Text string }
		if err := json.Unmarshal([]byte(r.Body), &m); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, m.Text)
	}
	if len(texts) != 4 || !strings.HasPrefix(texts[3], "Resolved after 21m: ") {
		t.Errorf("got %d messages %q, want opened, severity, cause and resolved", len(texts), texts)
	}
}

func TestConfigurationErrorsSayWhatToWrite(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  slack.Config
		want string
	}{
		"neither":           {slack.Config{}, "either token_file and channel, or webhook_url_file"},
		"both":              {slack.Config{TokenFile: "a", Channel: "C1", WebhookURLFile: "b"}, "either token_file and channel, or webhook_url_file"},
		"no channel":        {slack.Config{TokenFile: "a"}, "channel: is missing; write the channel's id"},
		"a name":            {slack.Config{TokenFile: "a", Channel: "#alerts"}, "channel: #alerts is a name; write the channel's id"},
		"a webhook's":       {slack.Config{WebhookURLFile: "a", Channel: "C1"}, "channel: C1 is decided by the webhook; remove it"},
		"API without slash": {slack.Config{TokenFile: "a", Channel: "C1", APIURL: "https://slack.com/api"}, "api_url: https://slack.com/api is not a URL that ends in /"},
	} {
		if err := c.cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestGoldenMessages(t *testing.T) {
	s := notifiertest.NewSlack(t)
	ch := bot(t, s)
	all := life()
	th := send(t, ch, all[0], notifier.Thread{})
	golden(t, "opened", s.Main()[0])
	golden(t, "opened-thread", s.Thread(th.Ref)[0])
	for _, n := range all[1:] {
		th = send(t, ch, n, th)
	}
	golden(t, "resolved", s.Main()[0])
	for i, name := range []string{"severity-thread", "cause-thread", "resolved-thread"} {
		golden(t, name, s.Thread(th.Ref)[i+1])
	}
	send(t, ch, notifiertest.Notification(notifiertest.Digest(), "digest"), notifier.Thread{})
	golden(t, "digest", s.Main()[1])
}

func golden(t *testing.T, name string, m notifiertest.SlackMessage) {
	t.Helper()
	m.TS, m.ThreadTS = "", ""
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	notifiertest.GoldenJSON(t, name+".json", b)
}
