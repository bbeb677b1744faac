// Package fielddoc writes configuration as YAML that explains itself: every
// field stands under the comment that it has in the Go source. The comments
// are collected into fields.yaml by this package's test.
package fielddoc

import (
	_ "embed"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
)

//go:embed fields.yaml
var fields []byte

var docs = sync.OnceValues(func() (map[string]string, error) {
	m := map[string]string{}
	return m, yaml.Unmarshal(fields, &m)
})

// Of is the comment of a field, or "": t is the struct that declares it.
func Of(t reflect.Type, field string) string {
	m, err := docs()
	if err != nil {
		return ""
	}
	return m[t.PkgPath()+"."+t.Name()+"."+field]
}

const module = "github.com/oncall-copilot/oncall/"

// Node is a configuration as YAML, its fields under their comments. Fields
// without a yaml tag are left out. What is not of this module is written as it
// writes itself, without what is empty: so a secret that is written into the
// file, and not named by a file of its own, comes out as <secret>.
func Node(cfg any) (*yaml.Node, error) { return node(reflect.ValueOf(cfg)) }

func node(v reflect.Value) (*yaml.Node, error) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
		}
		v = v.Elem()
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		return scalar(short(time.Duration(v.Int()))), nil
	case v.Kind() == reflect.Struct && strings.HasPrefix(v.Type().PkgPath(), module):
		out := &yaml.Node{Kind: yaml.MappingNode}
		return out, structInto(out, v)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		out := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			n, err := node(v.Index(i))
			if err != nil {
				return nil, err
			}
			out.Content = append(out.Content, n)
		}
		return out, nil
	}
	return foreign(v)
}

func structInto(out *yaml.Node, v reflect.Value) error {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
			continue
		case opts == "inline":
			if err := structInto(out, v.Field(i)); err != nil {
				return err
			}
			continue
		case name == "":
			continue
		}
		n, err := node(v.Field(i))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if f.Name == "Headers" {
			mask(n)
		}
		doc := Of(t, f.Name)
		if rest, ok := strings.CutPrefix(doc, f.Name+" "); ok {
			doc = name + " " + rest // as its reader knows it
		}
		Add(out, name, n, doc)
	}
	return nil
}

// mask hides the values of headers that usually hold credentials.
func mask(headers *yaml.Node) {
	for i := 0; i+1 < len(headers.Content); i += 2 {
		name := strings.ToLower(headers.Content[i].Value)
		for _, part := range []string{"auth", "token", "key", "secret", "cookie", "password"} {
			if strings.Contains(name, part) {
				headers.Content[i+1] = scalar("<secret>")
			}
		}
	}
}

// Add adds a field to a mapping, under a comment.
func Add(to *yaml.Node, name string, value *yaml.Node, comment string) {
	key := scalar(name)
	key.HeadComment = comment
	to.Content = append(to.Content, key, value)
}

// foreign is a value as yaml writes it.
func foreign(v reflect.Value) (*yaml.Node, error) {
	var n yaml.Node
	if err := n.Encode(v.Interface()); err != nil {
		return nil, err
	}
	prune(&n)
	return &n, nil
}

// prune drops what is empty from the mappings below n.
func prune(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return
	}
	var kept []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		value := n.Content[i+1]
		prune(value)
		empty := value.Kind == yaml.MappingNode && len(value.Content) == 0 || value.Tag == "!!null" || value.Value == "" && value.Kind == yaml.ScalarNode
		if !empty {
			kept = append(kept, n.Content[i], value)
		}
	}
	n.Content = kept
	if len(kept) == 0 {
		n.Style = yaml.FlowStyle
	}
}

func scalar(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

// short is a duration as people write it: 2m, not 2m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
