// Package archtest keeps the import rules of docs/architecture.md true.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/oncall-copilot/oncall/"

// rules: a package whose path starts with From may import, of ours, only what
// starts with one of To. The first rule that fits decides.
var rules = []struct {
	From string
	To   []string
}{
	{"pkg/event", nil},
	{"pkg/stat", []string{"pkg/stat", "pkg/snapshot"}},
	{"pkg/logpattern", []string{"pkg/logpattern", "pkg/snapshot"}},
	{"pkg/bus", []string{"pkg/event", "pkg/bus", "pkg/policy"}},
	{"pkg/baseline", []string{"pkg/", "internal/tuning"}},
	{"pkg/", []string{"pkg/", "policies"}},
	{"schemas", []string{"pkg/event"}},
	{"policies", nil},
	{"services/collector", []string{"pkg/", "policies", "services/collector"}},
	{"services/detector", []string{"pkg/", "policies", "services/detector"}},
	{"services/correlator", []string{"pkg/", "policies", "services/correlator"}},
	{"services/reasoner", []string{"pkg/", "policies", "services/reasoner"}},
	{"services/notifier", []string{"pkg/", "policies", "services/notifier"}},
	{"internal/pipeline", []string{"pkg/", "services/", "policies"}},
	{"internal/backtest", []string{"pkg/", "services/", "policies"}},
	{"internal/objectives", []string{"pkg/", "services/collector"}},
	{"internal/signals", []string{"pkg/", "services/collector", "services/detector"}},
	{"cmd/", []string{"pkg/", "services/", "schemas", "policies", "internal/", "examples/"}},
}

// pure packages take no clock, context or I/O; folds take no I/O.
var forbidden = []struct {
	From string
	Not  []string
}{
	{"pkg/stat", []string{"context", "net", "net/http", "os"}},
	{"pkg/logpattern", []string{"context", "net", "net/http", "os"}},
	{"pkg/slo", []string{"context", "net", "net/http", "os"}},
	{"pkg/canary", []string{"context", "net", "net/http", "os"}},
}

// links: a binary must not contain these packages.
var links = []struct {
	Binary string
	Not    []string
}{
	{"services/notifier/cmd/notifier", []string{"k8s.io/client-go", "github.com/prometheus/client_golang/api", "github.com/nats-io/nats-server"}},
	{"services/reasoner/cmd/reasoner", []string{"github.com/nats-io/nats-server"}},
	{"services/correlator/cmd/correlator", []string{"k8s.io/client-go", "github.com/nats-io/nats-server"}},
	{"services/detector/cmd/detector", []string{"k8s.io/client-go", "github.com/nats-io/nats-server"}},
	{"services/collector/cmd/collector", []string{"github.com/nats-io/nats-server"}},
}

type pkg struct {
	ImportPath string
	Name       string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Imports,Deps"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImports(t *testing.T) {
	for _, p := range list(t, module+"...") {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, r := range rules {
			if !strings.HasPrefix(path, r.From) {
				continue
			}
			for _, imp := range p.Imports {
				dep, ours := strings.CutPrefix(imp, module)
				if ours && !hasAnyPrefix(dep, r.To) {
					t.Errorf("%s imports %s; it may import only %v", path, dep, r.To)
				}
			}
			break
		}
		for _, f := range forbidden {
			for _, not := range f.Not {
				if strings.HasPrefix(path, f.From) && slices.Contains(p.Imports, not) {
					t.Errorf("%s imports %s; it is to be pure", path, not)
				}
			}
		}
		if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "types", "model", "manager", "base"}, p.Name) {
			t.Errorf("%s: %s says nothing about what is in it", path, p.Name)
		}
	}
}

func TestLinks(t *testing.T) {
	for _, l := range links {
		for _, p := range list(t, module+l.Binary) {
			for _, not := range l.Not {
				if i := slices.IndexFunc(p.Deps, func(d string) bool { return strings.HasPrefix(d, not) }); i >= 0 {
					t.Errorf("%s links %s", l.Binary, p.Deps[i])
				}
			}
		}
	}
}

// Loki is AGPL-3.0: what the log miner is compared with, in a module of its own,
// is no part of anything here.
func TestNothingLinksLoki(t *testing.T) {
	for _, p := range list(t, module+"...") {
		if i := slices.IndexFunc(p.Deps, func(d string) bool { return strings.HasPrefix(d, "github.com/grafana/loki/v3") }); i >= 0 {
			t.Errorf("%s links %s", p.ImportPath, p.Deps[i])
		}
	}
}

func hasAnyPrefix(s string, ps []string) bool {
	return slices.ContainsFunc(ps, func(p string) bool { return strings.HasPrefix(s, p) })
}
