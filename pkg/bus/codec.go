package bus

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// The NATS binding of CloudEvents in binary mode: attributes are headers with
// the prefix ce-, in lower case, because NATS headers are case-sensitive;
// readers take any case. Values are percent-encoded where they are not
// printable ASCII, as the binding says. Structured mode is read and never
// written.

const (
	headerPrefix    = "ce-"
	headerMsgID     = nats.MsgIdHdr
	headerType      = "content-type"
	headerEncoding  = "content-encoding"
	headerTrace     = "traceparent"
	structuredMedia = "application/cloudevents"
	attrContentType = "datacontenttype"

	extSeverityText   = "severitytext"
	extSeverityNumber = "severitynumber"
	extRecordedTime   = "recordedtime"
	extTraceparent    = "traceparent"
)

// ToMsg writes a CloudEvent as a NATS message in binary mode.
func ToMsg(subject string, e cloudevents.Event) (*nats.Msg, error) {
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("event %s: %w", e.ID(), err)
	}
	m := &nats.Msg{Subject: subject, Header: make(nats.Header, 12), Data: e.Data()}
	set := func(name, value string) {
		if value != "" {
			m.Header[headerPrefix+name] = []string{encode(value)}
		}
	}
	m.Header[headerMsgID] = []string{encode(e.ID())}
	set("specversion", e.SpecVersion())
	set("id", e.ID())
	set("type", e.Type())
	set("source", e.Source())
	set("subject", e.Subject())
	set("dataschema", e.DataSchema())
	if t := e.Time(); !t.IsZero() {
		set("time", types.FormatTime(t))
	}
	if ct := e.DataContentType(); ct != "" {
		// The binding's own, and the one that everybody else knows.
		set(attrContentType, ct)
		m.Header[headerType] = []string{ct}
	}
	for name, v := range e.Extensions() {
		s, err := types.Format(v)
		if err != nil {
			return nil, fmt.Errorf("event %s: extension %s: %w", e.ID(), name, err)
		}
		set(name, s)
	}
	return m, nil
}

// FromMsg reads a CloudEvent of either mode from a NATS message.
func FromMsg(m *nats.Msg) (cloudevents.Event, error) {
	e := cloudevents.New()
	if structured(m) {
		if err := e.UnmarshalJSON(m.Data); err != nil {
			return e, fmt.Errorf("structured event: %w", err)
		}
		return e, e.Validate()
	}
	ctx := &cloudevents.EventContextV1{}
	var errs []error
	version := ""
	for attr, value := range headerAttributes(m.Header) {
		v, err := decode(value)
		if err != nil {
			errs = append(errs, fmt.Errorf("attribute %s: %w", attr, err))
			continue
		}
		switch attr {
		case "specversion":
			version = v
		case "id":
			ctx.ID = v
		case "type":
			ctx.Type = v
		case "subject":
			ctx.Subject = &v
		case attrContentType:
			ctx.DataContentType = &v
		case "source":
			errs = append(errs, ctx.SetSource(v))
		case "dataschema":
			errs = append(errs, ctx.SetDataSchema(v))
		case "time":
			t, err := types.ParseTime(v)
			errs = append(errs, err)
			if err == nil {
				ctx.Time = &types.Timestamp{Time: t}
			}
		default:
			errs = append(errs, ctx.SetExtension(attr, v))
		}
	}
	if version != cloudevents.CloudEventsVersionV1 {
		errs = append(errs, fmt.Errorf("specversion %q is not %s", version, cloudevents.CloudEventsVersionV1))
	}
	if ct := header(m.Header, headerType); ct != "" && ctx.DataContentType == nil {
		ctx.DataContentType = &ct
	}
	if err := errors.Join(errs...); err != nil {
		return e, fmt.Errorf("event %q: %w", ctx.ID, err)
	}
	e.Context = ctx
	e.DataEncoded = m.Data
	if err := e.Validate(); err != nil {
		return e, fmt.Errorf("event %q: %w", ctx.ID, err)
	}
	return e, nil
}

// structured says whether a message carries the whole event in its payload: its
// content type says so, or it has no attribute and no content type at all, as
// version 1.0.2 of the binding had it and its SDK still writes.
func structured(m *nats.Msg) bool {
	if ct := header(m.Header, headerType); ct != "" {
		return strings.HasPrefix(strings.ToLower(ct), structuredMedia)
	}
	return header(m.Header, headerPrefix+"specversion") == "" && bytes.HasPrefix(bytes.TrimLeft(m.Data, " \t\r\n"), []byte("{"))
}

// headerAttributes are the attributes among the headers, still encoded. Of
// several spellings of one the lower-case one counts, else the first in order,
// so that every reader of the message sees the same.
func headerAttributes(h nats.Header) map[string]string {
	out := make(map[string]string, len(h))
	for name, values := range h {
		attr, ok := strings.CutPrefix(strings.ToLower(name), headerPrefix)
		if !ok || len(values) == 0 {
			continue
		}
		if _, twice := out[attr]; twice {
			out[attr] = header(h, headerPrefix+attr)
		} else {
			out[attr] = values[0]
		}
	}
	return out
}

// header finds a header whatever its case.
func header(h nats.Header, name string) string {
	if v, ok := h[name]; ok && len(v) > 0 {
		return v[0]
	}
	spelling, value := "", ""
	for k, v := range h {
		if strings.EqualFold(k, name) && len(v) > 0 && (spelling == "" || k < spelling) {
			spelling, value = k, v[0]
		}
	}
	return value
}

// encode percent-encodes what must not stand in a header: everything but
// printable ASCII, and of that the space, the double quote and the percent.
func encode(s string) string {
	clean := true
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '"' || s[i] == '%' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	const hex = "0123456789ABCDEF"
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar // CloudEvents has none in attributes
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// decode undoes encode. A percent sign that begins no code stands for itself:
// not every writer encodes it.
func decode(s string) (string, error) {
	if strings.Contains(s, "%") {
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			if s[i] == '%' && i+2 < len(s) {
				if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
					b = append(b, byte(v))
					i += 2
					continue
				}
			}
			b = append(b, s[i])
		}
		s = string(b)
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%q is not UTF-8", s)
	}
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return "", fmt.Errorf("%q holds a control character", s)
	}
	return s, nil
}

// cloudEvent makes a CloudEvent of an outgoing event.
func cloudEvent(o event.Outgoing, source string, recorded time.Time) (cloudevents.Event, error) {
	e := cloudevents.New()
	payload, err := o.Payload()
	if err != nil {
		return e, err
	}
	ctx := &cloudevents.EventContextV1{ID: o.ID, Type: o.Type, DataContentType: &o.ContentType, Time: &types.Timestamp{Time: o.Time}}
	if err := errors.Join(ctx.SetSource(source), ctx.SetDataSchema(o.Schema)); err != nil {
		return e, fmt.Errorf("event %s: %w", o.ID, err)
	}
	if o.About != "" {
		ctx.Subject = &o.About
	}
	ext := make(map[string]any, len(o.Extensions)+4)
	for k, v := range o.Extensions {
		ext[k] = v
	}
	ext[extRecordedTime] = types.FormatTime(recorded)
	if o.Severity != "" {
		ext[extSeverityText], ext[extSeverityNumber] = o.Severity.Text(), fmt.Sprint(o.Severity.Number())
	}
	if o.Traceparent != "" {
		ext[extTraceparent] = o.Traceparent
	}
	ctx.Extensions = ext
	e.Context, e.DataEncoded = ctx, payload
	return e, nil
}

// attributes are what readers need of a message.
func attributes(subject string, e cloudevents.Event) event.Attributes {
	a := event.Attributes{
		ID: e.ID(), Type: e.Type(), Source: e.Source(), About: e.Subject(), Subject: subject,
		Time: e.Time().UTC(), Extensions: make(map[string]string, len(e.Extensions())),
	}
	for k, v := range e.Extensions() {
		a.Extensions[k] = fmt.Sprint(v)
	}
	a.Traceparent = a.Extensions[extTraceparent]
	return a
}

// parse decodes a stored message: attributes, and data when its type is known.
// A message of an unknown type has nil Data and no error, since later versions
// may add types.
func parse(stream string, m *nats.Msg, seq uint64, received time.Time) (Message, error) {
	out := Message{Stream: stream, Sequence: seq, Received: received, Payload: m.Data}
	out.Subject = m.Subject
	e, err := FromMsg(m)
	if err != nil {
		out.ID = header(m.Header, headerMsgID)
		return out, err
	}
	out.Attributes = attributes(m.Subject, e)
	out.Payload = e.Data()
	k, ok := event.Lookup(out.Type)
	if !ok {
		return out, nil
	}
	out.Data, err = k.Decode(out.Attributes, out.Payload)
	if err != nil {
		out.Data = nil
		return out, fmt.Errorf("decode %s %s: %w", out.Type, out.ID, err)
	}
	return out, nil
}
