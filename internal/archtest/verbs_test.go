package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The two verbs of the command line. Nothing but cmd/oncall may make what sends
// them, and no service's binary may contain it.
var commandLineOnly = []string{"NewForwarder", "NewReviewer"}

// sendsRequests are methods of client-go's and of net/http's that send
// something other than a get.
var sendsRequests = []string{"Post", "PostForm", "Put", "Patch", "Delete", "Verb"}

// reflectors is the one file outside of pkg/kube that holds a client of
// client-go: one whose every request passes the guard, for lists and watches.
const reflectors = "services/collector/kubernetes/watch.go"

// source calls f with every Go file below the folders that is not a test.
func source(t *testing.T, f func(path string, file *ast.File, set *token.FileSet), below ...string) {
	t.Helper()
	root := filepath.Join("..", "..")
	seen := 0
	for _, dir := range below {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err == nil {
				seen++
				f(filepath.ToSlash(rel), file, set)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 20 {
		t.Fatalf("only %d files below %v", seen, below)
	}
}

// selected calls f with every x.Name of a file.
func selected(file *ast.File, f func(s *ast.SelectorExpr)) {
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			f(s)
		}
		return true
	})
}

func TestOnlyTheClusterPackageSpeaksToTheCluster(t *testing.T) {
	source(t, func(path string, file *ast.File, set *token.FileSet) {
		if strings.HasPrefix(path, "pkg/kube/") {
			return
		}
		for _, i := range file.Imports {
			imported, _ := strconv.Unquote(i.Path.Value)
			if strings.HasPrefix(imported, "k8s.io/client-go") && path != reflectors {
				t.Errorf("%s imports %s; a client that can only read is pkg/kube", set.Position(i.Pos()), imported)
			}
		}
		selected(file, func(s *ast.SelectorExpr) {
			if path == reflectors && slices.Contains(sendsRequests, s.Sel.Name) {
				t.Errorf("%s: %s where only lists and watches are sent", set.Position(s.Pos()), s.Sel.Name)
			}
			if s.Sel.Name == "REST" && !strings.HasPrefix(path, filepath.ToSlash(filepath.Dir(reflectors))+"/") {
				t.Errorf("%s: REST is for reflectors; Get and List of pkg/kube are bounded", set.Position(s.Pos()))
			}
			if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "kube" && slices.Contains(commandLineOnly, s.Sel.Name) && !strings.HasPrefix(path, "cmd/oncall/") {
				t.Errorf("%s: kube.%s is for the command line alone", set.Position(s.Pos()), s.Sel.Name)
			}
		})
	}, "pkg", "services", "internal", "cmd")
}

func TestTheClusterPackageHasTwoPermissionsAndEachItsPlace(t *testing.T) {
	clients := 0
	source(t, func(path string, file *ast.File, set *token.FileSet) {
		if filepath.ToSlash(filepath.Dir(path)) != "pkg/kube" {
			return
		}
		place := filepath.Base(path)
		selected(file, func(s *ast.SelectorExpr) {
			x, ok := s.X.(*ast.Ident)
			if !ok || x.Name != "http" || !strings.HasPrefix(s.Sel.Name, "Method") || s.Sel.Name == "MethodGet" {
				return
			}
			// A create of a portforward, one of a review, and what the guard calls one.
			if s.Sel.Name != "MethodPost" || !slices.Contains([]string{"forward.go", "rights.go", "guard.go"}, place) {
				t.Errorf("%s: http.%s", set.Position(s.Pos()), s.Sel.Name)
			}
		})
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name, ok := call.Fun.(*ast.Ident)
			if !ok || name.Name != "newClient" {
				return true
			}
			clients++
			permit, ok := call.Args[len(call.Args)-1].(*ast.Ident)
			switch {
			case !ok:
				t.Errorf("%s: a permission that is not named", set.Position(call.Pos()))
			case permit.Name == "readOnly", permit.Name == "reviewOnly" && place == "rights.go":
			default:
				t.Errorf("%s: a client with the permission %s", set.Position(call.Pos()), permit.Name)
			}
			return true
		})
	}, "pkg")
	if clients < 3 {
		t.Errorf("%d clients are made, want those of New, of the Forwarder and of the Reviewer", clients)
	}
}
