package compat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/grafana/alloy/syntax/ast"
	"github.com/grafana/alloy/syntax/parser"
	"github.com/grafana/alloy/syntax/vm"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/loki"
)

// The arguments of the components, as Alloy's reference has them. Of what is not
// listed here Alloy's language says that it is not known.
type (
	target map[string]string

	kubernetes struct {
		Role      string     `alloy:"role,attr"`
		Selectors []selector `alloy:"selectors,block,optional"`
	}
	selector struct {
		Role  string `alloy:"role,attr"`
		Label string `alloy:"label,attr,optional"`
		Field string `alloy:"field,attr,optional"`
	}
	relabel struct {
		Targets []target `alloy:"targets,attr"`
		Rules   []rule   `alloy:"rule,block,optional"`
	}
	rule struct {
		SourceLabels []string `alloy:"source_labels,attr,optional"`
		Separator    *string  `alloy:"separator,attr,optional"`
		Regex        *string  `alloy:"regex,attr,optional"`
		TargetLabel  string   `alloy:"target_label,attr,optional"`
		Replacement  *string  `alloy:"replacement,attr,optional"`
		Action       string   `alloy:"action,attr,optional"`
	}
	fileMatch struct {
		PathTargets []target `alloy:"path_targets,attr"`
	}
	sourceFile struct {
		Targets   []target `alloy:"targets,attr"`
		ForwardTo []string `alloy:"forward_to,attr"`
	}
	process struct {
		ForwardTo []string `alloy:"forward_to,attr"`
		CRI       struct{} `alloy:"stage.cri,block"` // the kubelet's log files are in CRI's form
	}
	write struct {
		Endpoint struct {
			URL      string `alloy:"url,attr"`
			TenantID string `alloy:"tenant_id,attr,optional"`
		} `alloy:"endpoint,block"`
	}
)

// agent evaluates a configuration for pods, as far as the labels of lines go.
type agent struct {
	found   []target // what Kubernetes tells of the pods
	files   func(glob string) []string
	exports map[string]any    // by the segments of a component's name
	next    map[string]string // from a receiver to where it forwards
	read    []target          // what is read, with the file in __path__
	first   string            // the receiver of what is read
	pushed  map[string]string // the URL of each receiver that writes
	field   string            // what it asks of Kubernetes
}

// component evaluates one block, whose references have to be exports of blocks
// that came before it.
func (a *agent) component(b *ast.BlockStmt) error {
	eval := func(into any) error { return vm.New(b.Body).Evaluate(vm.NewScope(a.exports), into) }
	name := strings.Join(b.Name, ".")
	receiver := name + "." + b.Label
	export := func(values map[string]any) {
		at := a.exports
		for _, segment := range b.Name {
			inner, ok := at[segment].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[segment] = inner
			}
			at = inner
		}
		at[b.Label] = values
	}
	switch name {
	case "discovery.kubernetes":
		var args kubernetes
		if err := eval(&args); err != nil {
			return err
		}
		if args.Role != "pod" || len(args.Selectors) != 1 || args.Selectors[0].Role != args.Role {
			return fmt.Errorf("looks for %+v, want the pods of one node", args)
		}
		a.field = args.Selectors[0].Field
		export(map[string]any{"targets": a.found})
	case "discovery.relabel":
		var args relabel
		if err := eval(&args); err != nil {
			return err
		}
		var out []target
		for _, t := range args.Targets {
			after, err := apply(args.Rules, t)
			if err != nil {
				return err
			}
			out = append(out, after)
		}
		export(map[string]any{"output": out})
	case "local.file_match":
		var args fileMatch
		if err := eval(&args); err != nil {
			return err
		}
		var out []target
		for _, t := range args.PathTargets {
			for _, f := range a.files(t["__path__"]) {
				one := target{"__path__": f}
				for k, v := range t {
					if !strings.HasPrefix(k, "__") {
						one[k] = v
					}
				}
				out = append(out, one)
			}
		}
		export(map[string]any{"targets": out})
	case "loki.source.file":
		var args sourceFile
		if err := eval(&args); err != nil {
			return err
		}
		if len(args.ForwardTo) != 1 {
			return fmt.Errorf("forwards to %v, want one receiver", args.ForwardTo)
		}
		a.read, a.first = args.Targets, args.ForwardTo[0]
	case "loki.process":
		var args process
		if err := eval(&args); err != nil {
			return err
		}
		if len(args.ForwardTo) != 1 {
			return fmt.Errorf("forwards to %v, want one receiver", args.ForwardTo)
		}
		a.next[receiver] = args.ForwardTo[0]
		export(map[string]any{"receiver": receiver})
	case "loki.write":
		var args write
		if err := eval(&args); err != nil {
			return err
		}
		a.pushed[receiver] = args.Endpoint.URL
		export(map[string]any{"receiver": receiver})
	default:
		return errors.New("is no component that this test knows the arguments of; add it")
	}
	return nil
}

// apply applies rules as Prometheus' relabelling does, of which they use replace.
func apply(rules []rule, in target) (target, error) {
	out := target{}
	for k, v := range in {
		out[k] = v
	}
	or := func(s *string, otherwise string) string {
		if s != nil {
			return *s
		}
		return otherwise
	}
	for _, r := range rules {
		if r.Action != "" && r.Action != "replace" {
			return nil, fmt.Errorf("action %s: add it to this test", r.Action)
		}
		re, err := regexp.Compile("^(?s:" + or(r.Regex, "(.*)") + ")$")
		if err != nil {
			return nil, err
		}
		var values []string
		for _, l := range r.SourceLabels {
			values = append(values, out[l])
		}
		joined := strings.Join(values, or(r.Separator, ";"))
		m := re.FindStringSubmatchIndex(joined)
		if m == nil {
			continue
		}
		if v := string(re.ExpandString(nil, or(r.Replacement, "$1"), joined, m)); v != "" {
			out[r.TargetLabel] = v
		} else {
			delete(out, r.TargetLabel)
		}
	}
	return out, nil
}

// shipped is the configuration in the values for the chart, in an order in which
// every component comes after those that it names.
func shipped(t *testing.T) []*ast.BlockStmt {
	t.Helper()
	b, err := os.ReadFile("../../../deploy/values-alloy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		Alloy struct {
			Mounts    struct{ Varlog bool }
			ConfigMap struct{ Content string } `yaml:"configMap"`
		}
	}
	if err := yaml.Unmarshal(b, &values); err != nil {
		t.Fatal(err)
	}
	if !values.Alloy.Mounts.Varlog {
		t.Error("the logs of the node are not mounted")
	}
	file, err := parser.ParseFile("values-alloy.yaml", []byte(values.Alloy.ConfigMap.Content))
	if err != nil {
		t.Fatal(err)
	}
	var blocks, receivers []*ast.BlockStmt
	for _, s := range file.Body {
		block, ok := s.(*ast.BlockStmt)
		if !ok {
			t.Fatalf("%T is no component", s)
		}
		if strings.HasPrefix(strings.Join(block.Name, "."), "loki.") {
			receivers = append([]*ast.BlockStmt{block}, receivers...) // written in the order in which lines go
		} else {
			blocks = append(blocks, block)
		}
	}
	return append(blocks, receivers...)
}

// TestTheLogsOfAPodReachOurSourceUnderItsName follows one container's log file
// from what Kubernetes tells Alloy of its pod to the batch that our source makes.
func TestTheLogsOfAPodReachOurSourceUnderItsName(t *testing.T) {
	t.Setenv("HOSTNAME", "node-7") // the chart sets it to the node's name
	const path = "/var/log/pods/shop_web-5d8f_1b2c3d4e/nginx/0.log"
	pod := func(more target) target {
		out := target{
			"__address__": "10.0.0.1:80", "__meta_kubernetes_namespace": "shop", "__meta_kubernetes_pod_name": "web-5d8f",
			"__meta_kubernetes_pod_uid": "1b2c3d4e", "__meta_kubernetes_pod_container_name": "nginx", "__meta_kubernetes_pod_node_name": "node-7",
		}
		for k, v := range more {
			out[k] = v
		}
		return out
	}
	for name, test := range map[string]struct {
		labels target
		app    string
	}{
		"with the label that Kubernetes recommends": {target{"__meta_kubernetes_pod_label_app_kubernetes_io_name": "web", "__meta_kubernetes_pod_label_app": "old"}, "web"},
		"with the label app alone":                  {target{"__meta_kubernetes_pod_label_app": "web"}, "web"},
		"without a label":                           {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := agent{found: []target{pod(test.labels)}, exports: map[string]any{}, next: map[string]string{}, pushed: map[string]string{}, files: func(glob string) []string {
				if ok, err := filepath.Match(glob, path); err != nil || !ok {
					t.Errorf("the files of %q do not have %s; %v", glob, path, err)
				}
				return []string{path}
			}}
			for _, b := range shipped(t) {
				if err := a.component(b); err != nil {
					t.Fatalf("%s %q: %v", strings.Join(b.Name, "."), b.Label, err)
				}
			}
			if a.field != "spec.nodeName=node-7" {
				t.Errorf("reads the pods of %q, not those of its own node", a.field)
			}
			to := a.first
			for a.next[to] != "" {
				to = a.next[to]
			}
			if u, err := url.Parse(a.pushed[to]); err != nil || u.Path != "/loki/api/v1/push" {
				t.Errorf("lines end at %q, which pushes to %q", to, a.pushed[to])
			}
			if len(a.next) != 1 || len(a.read) != 1 {
				t.Fatalf("reads %v through %v", a.read, a.next)
			}
			labels := map[string]string{"filename": path} // which loki.source.file adds
			for k, v := range a.read[0] {
				if !strings.HasPrefix(k, "__") {
					labels[k] = v
				}
			}
			if labels["app"] != test.app {
				t.Errorf("app is %q, want %q", labels["app"], test.app)
			}
			got := ours(t, labels)
			for label, want := range map[string]string{event.LabelNamespace: "shop", event.LabelPod: "web-5d8f", event.LabelContainer: "nginx"} {
				if got[label] != want {
					t.Errorf("our %s is %q, want %q: %v of %v", label, got[label], want, got, labels)
				}
			}
		})
	}
}

// ours are the labels that our source keeps of a stream.
func ours(t *testing.T, labels map[string]string) map[string]string {
	t.Helper()
	at := time.Unix(1_780_000_000, 0)
	entries := []loki.Entry{{Labels: labels, Line: "GET / 200", Time: at}}
	r := loki.NewRecorded("loki", entries, time.Time{}, time.Time{}, time.Minute, collector.Env{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Redact: redact.New(redact.Options{Key: []byte("0123456789abcdef")})}, nil)
	var out map[string]string
	err := r.Run(t.Context(), nil, func(_ context.Context, e collector.Emission) error {
		for _, o := range e.Events {
			if b, ok := o.Data().(event.LogBatch); ok && len(b.Streams) == 1 {
				out = b.Streams[0].Labels.Map()
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
