package event

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Kind binds a Go type to its CloudEvents type, its stream, its subject and
// its id. Kinds are values, declared once in kinds.go; everything else is
// derived from them.
type Kind[T any] struct {
	Type    string           // CloudEvents type: dev.oncall.anomaly.detected.v1
	Doc     string           // one sentence, for docs/events.md
	Stream  *Stream          // where it is stored
	Address string           // AsyncAPI address; tokens in braces come from Params
	Schema  string           // file below schemas/, and the last part of ce-dataschema
	Params  func(T) []string // in the order of the braces; nil when there are none
	ID      func(T) string   // Nats-Msg-Id and ce-id
	Time    func(T) time.Time
	About   func(T) string   // ce-subject; nil for none
	Level   func(T) Severity // severity extensions; nil for none
	Wire    Wire[T]          // how the data is written; JSON when it is the zero value
	// Barrier kinds are published only when everything before them is stored:
	// they say of it that it is there.
	Barrier bool
}

// Wire says how the data of a kind is written when it is not JSON.
type Wire[T any] struct {
	ContentType     string
	ContentEncoding string
	Marshal         func(T) ([]byte, error)
	// Unmarshal reads the payload. What the payload does not carry comes from
	// the message's attributes.
	Unmarshal  func([]byte, Attributes) (T, error)
	Extensions func(T) map[string]string // further CloudEvents extensions, printable ASCII
}

// Attributes are the CloudEvents attributes of a message, as far as readers
// need them.
type Attributes struct {
	ID          string
	Type        string
	Source      string
	About       string // ce-subject
	Subject     string // NATS subject
	Time        time.Time
	Extensions  map[string]string // without the ce- prefix
	Traceparent string
}

// Event is one decoded event.
type Event[T any] struct {
	Attributes
	Data T
}

// Subject is the NATS subject on which v travels.
func (k Kind[T]) Subject(v T) string {
	if k.Params == nil {
		return k.Address
	}
	params := k.Params(v)
	out := strings.Split(k.Address, ".")
	for i, tok := range out {
		if strings.HasPrefix(tok, "{") {
			out[i], params = Token(params[0]), params[1:]
		}
	}
	return strings.Join(out, ".")
}

// Filter is the subject filter that matches every event of the kind's address.
func (k Kind[T]) Filter() string { return filterOf(k.Address) }

// Out makes v ready to publish.
func (k Kind[T]) Out(v T) Outgoing {
	o := Outgoing{
		Type: k.Type, Subject: k.Subject(v), ID: k.ID(v), Time: k.Time(v).UTC(),
		Schema: SchemaURL(k.Schema), ContentType: "application/json", Stream: k.Stream, Barrier: k.Barrier,
		data: v, marshal: func() ([]byte, error) { return json.Marshal(v) },
	}
	if k.About != nil {
		o.About = k.About(v)
	}
	if k.Level != nil {
		o.Severity = k.Level(v)
	}
	if k.Wire.Marshal != nil {
		o.ContentType, o.ContentEncoding = k.Wire.ContentType, k.Wire.ContentEncoding
		o.marshal = func() ([]byte, error) { return k.Wire.Marshal(v) }
		if k.Wire.Extensions != nil {
			o.Extensions = k.Wire.Extensions(v)
		}
	}
	return o
}

// Decode reads an event of this kind. The error names the event.
func (k Kind[T]) Decode(a Attributes, payload []byte) (Event[T], error) {
	e := Event[T]{Attributes: a}
	var err error
	if k.Wire.Unmarshal != nil {
		e.Data, err = k.Wire.Unmarshal(payload, a)
	} else {
		err = json.Unmarshal(payload, &e.Data)
	}
	if err != nil {
		return e, fmt.Errorf("decode %s %s: %w", k.Type, a.ID, err)
	}
	return e, nil
}

// Outgoing is an event ready to publish. Two Outgoings with one ID are the
// same event.
type Outgoing struct {
	Type            string
	Subject         string // NATS subject
	ID              string
	About           string // ce-subject
	Time            time.Time
	Schema          string // ce-dataschema
	ContentType     string
	ContentEncoding string
	Severity        Severity
	Stream          *Stream
	Extensions      map[string]string
	Barrier         bool
	Traceparent     string // of the trace that caused it; "" for none

	data    any
	marshal func() ([]byte, error)
}

// Data is the value that will be written.
func (o Outgoing) Data() any { return o.data }

// Payload writes the data. The same data gives the same bytes.
func (o Outgoing) Payload() ([]byte, error) {
	b, err := o.marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", o.Type, o.ID, err)
	}
	return b, nil
}

// SchemaBase is the prefix of every ce-dataschema.
const SchemaBase = "https://schemas.oncall.dev/"

// SchemaURL is the ce-dataschema of a schema file.
func SchemaURL(file string) string { return SchemaBase + file }

// Registered is a Kind with its type parameter erased: what generators and
// readers of mixed streams need.
type Registered struct {
	Type        string
	Doc         string
	Stream      *Stream
	Address     string
	Schema      string
	ContentType string
	Data        reflect.Type
	Decode      func(Attributes, []byte) (any, error) // the value is a Data
}

// Filter is the subject filter that matches every event of the address.
func (r Registered) Filter() string { return filterOf(r.Address) }

// Params are the names in the braces of the address.
func (r Registered) Params() []string {
	var out []string
	for tok := range strings.SplitSeq(r.Address, ".") {
		if strings.HasPrefix(tok, "{") {
			out = append(out, strings.Trim(tok, "{}"))
		}
	}
	return out
}

var registered []Registered

// define enters a kind in the table. It panics on a table that contradicts
// itself, which any test of the package finds.
func define[T any](k Kind[T]) Kind[T] {
	var zero T
	n := 0
	if k.Params != nil {
		n = len(k.Params(zero))
	}
	switch {
	case k.Type == "" || k.Doc == "" || k.Stream == nil || k.ID == nil || k.Time == nil || k.Schema == "":
		panic(fmt.Sprintf("event: incomplete kind %q", k.Type))
	case n != strings.Count(k.Address, "{"):
		panic(fmt.Sprintf("event: %s: %d params for the braces in %s", k.Type, n, k.Address))
	case slices.ContainsFunc(registered, func(r Registered) bool { return r.Type == k.Type }):
		panic(fmt.Sprintf("event: %s is defined twice", k.Type))
	case !k.Stream.holds(filterOf(k.Address)):
		panic(fmt.Sprintf("event: %s: stream %s does not hold %s", k.Type, k.Stream.Name, k.Address))
	}
	contentType := "application/json"
	if k.Wire.Marshal != nil {
		contentType = k.Wire.ContentType
	}
	registered = append(registered, Registered{
		Type: k.Type, Doc: k.Doc, Stream: k.Stream, Address: k.Address, Schema: k.Schema,
		ContentType: contentType, Data: reflect.TypeFor[T](),
		Decode: func(a Attributes, b []byte) (any, error) {
			e, err := k.Decode(a, b)
			return e.Data, err
		},
	})
	return k
}

// Kinds returns every kind, in the order of the table.
func Kinds() []Registered { return slices.Clone(registered) }

// Lookup finds a kind by its CloudEvents type.
func Lookup(typ string) (Registered, bool) {
	i := slices.IndexFunc(registered, func(r Registered) bool { return r.Type == typ })
	if i < 0 {
		return Registered{}, false
	}
	return registered[i], true
}

func filterOf(address string) string {
	out := strings.Split(address, ".")
	for i, tok := range out {
		if strings.HasPrefix(tok, "{") {
			out[i] = "*"
		}
	}
	return strings.Join(out, ".")
}

// MatchSubject says whether a subject matches a NATS filter with * and >.
func MatchSubject(filter, subject string) bool {
	f, s := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, tok := range f {
		if tok == ">" {
			return len(s) > i
		}
		if i >= len(s) || tok != "*" && tok != s[i] {
			return false
		}
	}
	return len(f) == len(s)
}
