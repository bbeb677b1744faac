// Package policy loads what users edit: YAML files of policies and
// configuration. An error names file, line, field, value, what is allowed and
// what to write instead, because somebody reads it at three in the morning.
package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// FieldError is one wrong field. A Validate method returns one, or several
// joined by errors.Join; [Decode] adds file and line.
type FieldError struct {
	Path    string // as in objectives[0].target; "" for the whole document
	Value   any    // what was there; nil leaves it out
	Problem string // "is not between 0 and 1"
	Fix     string // "write 0.999"; "" when there is nothing to suggest
}

func (e *FieldError) Error() string {
	var b strings.Builder
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	if e.Value != nil {
		fmt.Fprintf(&b, "%v ", e.Value)
	}
	b.WriteString(e.Problem)
	if e.Fix != "" {
		b.WriteString("; " + e.Fix)
	}
	return b.String()
}

// Error is everything that is wrong with one file, a line each, in order.
type Error struct {
	File     string
	Problems []Problem
}

// Problem is one line of an [Error].
type Problem struct {
	Line int // 0 when it is not known
	Text string
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		if p.Line > 0 {
			lines[i] = fmt.Sprintf("%s:%d: %s", e.File, p.Line, p.Text)
		} else {
			lines[i] = fmt.Sprintf("%s: %s", e.File, p.Text)
		}
	}
	return strings.Join(lines, "\n")
}

// Validator is implemented by what can check itself after decoding.
type Validator interface{ Validate() error }

// Decode reads one YAML document into the value that into points to, which
// holds the defaults. Unknown fields are errors. When the value is a
// [Validator] it is asked, and its FieldErrors get the lines they speak of.
// Every error is an *[Error].
func Decode(file string, data []byte, into any) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return syntaxError(file, err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return syntaxError(file, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return &Error{File: file, Problems: []Problem{{Text: "more than one YAML document; put the second into a file of its own"}}}
	}
	if err := finite(file, &doc); err != nil {
		return err
	}
	v, ok := into.(Validator)
	if !ok {
		return nil
	}
	return Locate(file, &doc, v.Validate())
}

// finite refuses .nan and .inf wherever they stand: no field means one, and of .nan
// every comparison that looks for what is wrong is false.
func finite(file string, doc *yaml.Node) error {
	out := &Error{File: file}
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!float" {
			if x, err := strconv.ParseFloat(strings.Replace(n.Value, ".", "", 1), 64); err == nil && (math.IsNaN(x) || math.IsInf(x, 0)) {
				out.Problems = append(out.Problems, Problem{Line: n.Line, Text: (&FieldError{Path: path, Value: n.Value, Problem: "is no number to reckon with", Fix: "write one"}).Error()})
			}
		}
		for i, c := range n.Content {
			switch {
			case n.Kind == yaml.SequenceNode:
				walk(c, fmt.Sprintf("%s[%d]", path, i))
			case n.Kind != yaml.MappingNode:
				walk(c, path)
			case i%2 == 1:
				walk(c, strings.TrimPrefix(path+"."+n.Content[i-1].Value, "."))
			}
		}
	}
	walk(doc, "")
	if len(out.Problems) == 0 {
		return nil
	}
	return out
}

// Locate gives the FieldErrors joined in err the lines of doc that they speak
// of. A nil err stays nil.
func Locate(file string, doc *yaml.Node, err error) error {
	if err == nil {
		return nil
	}
	out := &Error{File: file}
	for _, e := range flatten(err) {
		p := Problem{Text: e.Error()}
		if fe, ok := errors.AsType[*FieldError](e); ok {
			p.Line = lineOf(doc, fe.Path)
		}
		out.Problems = append(out.Problems, p)
	}
	return out
}

func flatten(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range j.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []error{err}
}

// yamlLine finds the position in yaml's own messages.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)

// unknownField is how yaml words a key that the Go type lacks.
var unknownField = regexp.MustCompile(`^field (\S+) not found in type \S+$`)

func syntaxError(file string, err error) error {
	out := &Error{File: file}
	msgs := []string{err.Error()}
	if te, ok := errors.AsType[*yaml.TypeError](err); ok {
		msgs = te.Errors
	}
	for _, m := range msgs {
		p := Problem{Text: strings.TrimPrefix(m, "yaml: ")}
		if g := yamlLine.FindStringSubmatch(m); g != nil {
			p.Line, _ = strconv.Atoi(g[1])
			p.Text = g[2]
		}
		if g := unknownField.FindStringSubmatch(p.Text); g != nil {
			p.Text = g[1] + ": unknown field; remove it or correct its name"
		}
		out.Problems = append(out.Problems, p)
	}
	return out
}

// lineOf walks a path as in a.b[2].c through a document and returns the line
// of the deepest part that is there.
func lineOf(doc *yaml.Node, path string) int {
	n := doc
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	line := n.Line
	for part := range strings.SplitSeq(strings.ReplaceAll(path, "[", ".["), ".") {
		if part == "" {
			continue
		}
		var next *yaml.Node
		if strings.HasPrefix(part, "[") {
			i, err := strconv.Atoi(strings.Trim(part, "[]"))
			if err != nil || n.Kind != yaml.SequenceNode || i < 0 || i >= len(n.Content) {
				return line
			}
			next = n.Content[i]
			line = next.Line
		} else {
			if n.Kind != yaml.MappingNode {
				return line
			}
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == part {
					next, line = n.Content[i+1], n.Content[i].Line
				}
			}
			if next == nil {
				return line
			}
		}
		n = next
	}
	return line
}

// DecodeNode is [Decode] for a section of a document that was parsed before;
// lines are those of the document.
func DecodeNode(file string, section *yaml.Node, into any) error {
	// yaml.Node.Decode has no KnownFields, so the section is written out and
	// read back; the padding keeps its lines where they were.
	body, err := yaml.Marshal(section)
	if err != nil {
		return &Error{File: file, Problems: []Problem{{Line: section.Line, Text: err.Error()}}}
	}
	strict := yaml.NewDecoder(bytes.NewReader(body))
	strict.KnownFields(true)
	if err := strict.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		// The lines are those of the copy; the same error without strictness
		// would have the document's.
		if loose := section.Decode(into); loose != nil {
			return syntaxError(file, loose)
		}
		return unknownFields(file, section, err)
	}
	if err := finite(file, section); err != nil {
		return err
	}
	if v, ok := into.(Validator); ok {
		return Locate(file, section, v.Validate())
	}
	return nil
}

// unknownFields words the errors of a strict decode of a copied section with
// the lines of the original, found by the fields' names.
func unknownFields(file string, section *yaml.Node, err error) error {
	var e *Error
	if !errors.As(syntaxError(file, err), &e) {
		return err
	}
	for i, p := range e.Problems {
		name, _, _ := strings.Cut(p.Text, ":")
		e.Problems[i].Line = keyLine(section, name)
	}
	return e
}

func keyLine(n *yaml.Node, key string) int {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i].Line
			}
		}
	}
	for _, c := range n.Content {
		if l := keyLine(c, key); l > 0 {
			return l
		}
	}
	return 0
}

// Syntax words an error of the YAML parser with the file and line it speaks of.
func Syntax(file string, err error) error { return syntaxError(file, err) }
