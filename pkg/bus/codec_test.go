package bus_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
)

func cloudEvent(t testing.TB, id, subject string, ext map[string]string) cloudevents.Event {
	t.Helper()
	e := cloudevents.New()
	e.SetID(id)
	e.SetType("dev.oncall.report.drafted.v1")
	e.SetSource("//test/codec")
	e.SetSubject(subject)
	e.SetTime(noon)
	for k, v := range ext {
		e.SetExtension(k, v)
	}
	if err := e.SetData("application/json", map[string]int{"n": 1}); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAttributesArePercentEncodedAsTheBindingSays(t *testing.T) {
	for value, want := range map[string]string{
		"plain":            "plain",
		"two words":        "two%20words",
		`say "hi"`:         "say%20%22hi%22",
		"100%":             "100%25",
		"Euro € 😀":         "Euro%20%E2%82%AC%20%F0%9F%98%80",
		"shop/pod/web~1!#": "shop/pod/web~1!#",
	} {
		m, err := bus.ToMsg("reports.a.drafted", cloudEvent(t, "id", value, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Header["ce-subject"][0]; got != want {
			t.Errorf("%q is written as %q, want %q", value, got, want)
		}
		back, err := bus.FromMsg(m)
		if err != nil || back.Subject() != value {
			t.Errorf("%q comes back as %q, %v", value, back.Subject(), err)
		}
	}
}

func TestWhatThirdPartiesWriteIsRead(t *testing.T) {
	binary := func(h map[string]string) *nats.Msg {
		m := &nats.Msg{Subject: "x", Header: nats.Header{}, Data: []byte("{}")}
		for k, v := range map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "//s"} {
			m.Header[k] = []string{v}
		}
		for k, v := range h {
			m.Header[k] = []string{v}
		}
		return m
	}
	structured := func(contentType, body string) *nats.Msg {
		return &nats.Msg{Subject: "x", Header: nats.Header{"Content-Type": {contentType}}, Data: []byte(body)}
	}
	for name, tc := range map[string]struct {
		msg     *nats.Msg
		subject string
		wrong   string // part of the error; "" for none
	}{
		"headers in another case":             {binary(map[string]string{"Ce-Subject": "s"}), "s", ""},
		"of two spellings the lower-case one": {binary(map[string]string{"CE-SUBJECT": "loud", "ce-subject": "s", "Ce-Subject": "Title"}), "s", ""},
		"a percent sign that is none":         {binary(map[string]string{"ce-subject": "50% of 7%zz"}), "50% of 7%zz", ""},
		"lower-case codes":                    {binary(map[string]string{"ce-subject": "%e2%82%ac"}), "€", ""},
		"structured mode":                     {structured("application/cloudevents+json", `{"specversion":"1.0","id":"1","type":"t","source":"//s","subject":"s","data":{"a":1}}`), "s", ""},
		"structured mode with a charset":      {structured("application/cloudevents+json; charset=UTF-8", `{"specversion":"1.0","id":"1","type":"t","source":"//s","subject":"s","data":{"a":1}}`), "s", ""},
		"a batch is none":                     {structured("application/cloudevents-batch+json", `[]`), "", "structured"},
		"codes that are not UTF-8":            {binary(map[string]string{"ce-subject": "%ff%fe"}), "", "not UTF-8"},
		"a line break in an attribute":        {binary(map[string]string{"ce-subject": "a%0D%0Ab"}), "", "control character"},
		"another version":                     {binary(map[string]string{"ce-specversion": "0.3"}), "", "specversion"},
		"no id":                               {binary(map[string]string{"ce-id": ""}), "", "id"},
		"a time that is none":                 {binary(map[string]string{"ce-time": "noon"}), "", "noon"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // maps have no order; the answer must have one
				e, err := bus.FromMsg(tc.msg)
				switch {
				case tc.wrong == "" && err != nil:
					t.Fatal(err)
				case tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)):
					t.Fatalf("err = %v, want one about %q", err, tc.wrong)
				case tc.wrong == "" && e.Subject() != tc.subject:
					t.Fatalf("subject %q, want %q", e.Subject(), tc.subject)
				}
			}
		})
	}
}

func TestStructuredEventsOfThirdPartiesAreConsumed(t *testing.T) {
	b := bustest.Start(t)
	body := `{"specversion":"1.0","id":"r:x:1","type":"dev.oncall.report.drafted.v1","source":"//third/party","time":"2026-11-24T12:00:00Z",
		"datacontenttype":"application/json","data":{"incident":"x","revision":1}}`
	h := map[string][]string{"Content-Type": {"application/cloudevents+json"}, "Nats-Msg-Id": {"r:x:1"}}
	if err := b.Republish(t.Context(), "reports.x.drafted", h, []byte(body)); err != nil {
		t.Fatal(err)
	}
	got := read(t, b, event.Reports)
	if len(got) != 1 || got[0].ID != "r:x:1" || !got[0].Time.Equal(noon) {
		t.Fatalf("read %+v", got)
	}
	if r, ok := got[0].Data.(event.Report); !ok || r.Incident != "x" {
		t.Errorf("data %#v", got[0].Data)
	}
}

func FuzzFromMsg(f *testing.F) {
	f.Add("ce-subject", "shop/pod/a%20b", "application/json", []byte("{}"))
	f.Add("Ce-Time", "2026-11-24T12:00:00Z", "application/cloudevents+json", []byte(`{"specversion":"1.0","id":"1","type":"t","source":"/s"}`))
	f.Add("ce-severitynumber", "13", "text/plain", []byte("\xff"))
	f.Fuzz(func(t *testing.T, name, value, contentType string, data []byte) {
		m := &nats.Msg{Subject: "x", Data: data, Header: nats.Header{
			"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-type": {"t"}, "ce-source": {"//s"}, "content-type": {contentType}, name: {value},
		}}
		e, err := bus.FromMsg(m)
		if err != nil {
			return
		}
		again, err := bus.ToMsg("x", e)
		if err != nil {
			return // valid to read, and not to write: a type of the extension that has no text
		}
		back, err := bus.FromMsg(again)
		if err != nil {
			t.Fatalf("read, written and not read again: %v", err)
		}
		if back.ID() != e.ID() || back.Subject() != e.Subject() || back.Source() != e.Source() || !back.Time().Equal(e.Time()) || string(back.Data()) != string(e.Data()) {
			t.Errorf("%v, then %v", e, back)
		}
	})
}

func FuzzToMsg(f *testing.F) {
	f.Add("id", "subject", "value")
	f.Add("r:a b:1", "shop/pod/\x00", "100% \xff €")
	f.Fuzz(func(t *testing.T, id, subject, value string) {
		e := cloudevents.New()
		e.SetID(id)
		e.SetType("t")
		e.SetSource("//s")
		e.SetSubject(subject)
		e.SetTime(time.Unix(0, 0))
		e.SetExtension("ext", value)
		m, err := bus.ToMsg("x", e)
		if err != nil {
			return
		}
		for name, values := range m.Header {
			for i := range len(values[0]) {
				if c := values[0][i]; c <= ' ' || c > '~' || c == '"' {
					t.Fatalf("header %s: %q holds what a header must not", name, values[0])
				}
			}
		}
		back, err := bus.FromMsg(m)
		if err != nil {
			t.Fatalf("written, and not read: %v", err)
		}
		if utf8.ValidString(id) && !strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) && back.ID() != id {
			t.Errorf("id %q comes back as %q", id, back.ID())
		}
	})
}
