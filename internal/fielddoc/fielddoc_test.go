package fielddoc

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "collect the comments anew")

// TestEveryConfigurationFieldHasItsComment collects the comments of all
// structs with yaml tags and compares them with what is embedded.
func TestEveryConfigurationFieldHasItsComment(t *testing.T) {
	got := map[string]string{}
	for _, root := range []string{"pkg", "services"} {
		err := filepath.WalkDir(filepath.Join("..", "..", root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			return collect(path, got)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := yaml.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("fields.yaml", b, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(b, fields) {
		t.Error("fields.yaml is not what the source says; run: go test ./internal/fielddoc -update")
	}
}

// collect adds the comments of the tagged fields of one file.
func collect(path string, into map[string]string) error {
	src, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(src, []byte("`yaml:")) {
		return err
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments)
	if err != nil {
		return err
	}
	dir, err := filepath.Rel(filepath.Join("..", ".."), filepath.Dir(path))
	if err != nil {
		return err
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		s, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, field := range s.Fields.List {
			if field.Tag == nil || !strings.Contains(field.Tag.Value, `yaml:"`) {
				continue
			}
			doc := field.Doc.Text()
			if doc == "" {
				doc = field.Comment.Text()
			}
			for _, name := range field.Names {
				if doc != "" {
					into[module+filepath.ToSlash(dir)+"."+spec.Name.Name+"."+name.Name] = strings.TrimSpace(doc)
				}
			}
		}
		return true
	})
	return nil
}

func TestNodeWritesDurationsShortAndHidesSecrets(t *testing.T) {
	type inner struct {
		Wait    time.Duration     `yaml:"wait"`
		Headers map[string]string `yaml:"headers"`
		HTTP    config.BasicAuth  `yaml:"http"`
		hidden  int
	}
	in := inner{
		Wait: 2 * time.Hour, Headers: map[string]string{"X-Api-Key": "hunter2", "Accept": "text/plain"},
		HTTP: config.BasicAuth{Username: "me", Password: "hunter2"}, hidden: 1,
	}
	n, err := Node(in)
	if err != nil {
		t.Fatal(err)
	}
	b, err := yaml.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b)
	for _, want := range []string{"wait: 2h\n", "Accept: text/plain", "X-Api-Key: <secret>", "username: me", "password: <secret>"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "hunter2") || strings.Contains(got, "hidden") {
		t.Errorf("a secret or an unexported field in\n%s", got)
	}
}

func TestOfAnUnknownFieldIsNothing(t *testing.T) {
	if got := Of(reflect.TypeFor[time.Time](), "wall"); got != "" {
		t.Errorf("got %q", got)
	}
}
