package testbed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// module is one wrapper module below servers/ and the programs it builds.
type module struct {
	name     string
	programs map[string]string // name of the program to its import path
	tags     string
	// source is a module whose archive lacks generated files; they are added to
	// a copy of it. Empty for none.
	source    string
	generated map[string]string // path in the module to content
}

// modules are what can be built, quickest first.
var modules = []module{
	{name: "nats", programs: map[string]string{"nats-server": "github.com/nats-io/nats-server/v2"}},
	{name: "etcd", programs: map[string]string{"server": "go.etcd.io/etcd/server/v3"}},
	{name: "prometheus", tags: "remove_all_sd,enable_kubernetes_sd", programs: map[string]string{
		"prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
		"promtool":   "github.com/prometheus/prometheus/cmd/promtool",
	}},
	{
		name: "alertmanager", programs: map[string]string{"alertmanager": "github.com/prometheus/alertmanager/cmd/alertmanager"},
		source: "github.com/prometheus/alertmanager", generated: map[string]string{"ui/app/dist/index.html": "<!doctype html><title>built without its page</title>\n"},
	},
	{name: "kube-state-metrics", programs: map[string]string{"kube-state-metrics": "k8s.io/kube-state-metrics/v2"}},
	{name: "popeye", programs: map[string]string{"popeye": "github.com/derailed/popeye"}}, // to compare with
	{name: "kwok", programs: map[string]string{"kwok": "sigs.k8s.io/kwok/cmd/kwok"}},
	{name: "kubernetes", programs: map[string]string{
		"kube-apiserver":          "k8s.io/kubernetes/cmd/kube-apiserver",
		"kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
		"kube-scheduler":          "k8s.io/kubernetes/cmd/kube-scheduler",
	}},
	{name: "loki", programs: map[string]string{"loki": "github.com/grafana/loki/v3/cmd/loki"}},
	{name: "kubernetes", programs: map[string]string{"kubelet": "k8s.io/kubernetes/cmd/kubelet"}},
}

// ldflags strip the symbols. They are part of the cache's key, as everything
// that decides what is built.
const ldflags = "-s -w"

// CacheDir is where built servers are kept: ONCALL_TESTBED_CACHE, or a folder
// of the user's cache.
func CacheDir() (string, error) {
	if d := os.Getenv("ONCALL_TESTBED_CACHE"); d != "" {
		return filepath.Abs(d)
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache of the test bed: %w; set ONCALL_TESTBED_CACHE", err)
	}
	return filepath.Join(d, "oncall-testbed"), nil
}

// Root is the folder of this repository, found upwards from the working
// directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(b, []byte("module github.com/oncall-copilot/oncall\n")) {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("the test bed runs inside the repository: no go.mod of github.com/oncall-copilot/oncall above the working directory")
		}
		dir = up
	}
}

// Program is the path of a server's program, by the name of its file: loki,
// kube-apiserver, promtool. It is built when it is not in the cache, which
// takes minutes; progress is told, and may be nil.
func Program(ctx context.Context, name string, progress io.Writer) (string, error) {
	for _, m := range modules {
		if _, ok := m.programs[name]; !ok {
			continue
		}
		dir, err := m.dir(ctx, progress)
		return filepath.Join(dir, name), err
	}
	return "", fmt.Errorf("testbed: no module below servers/ builds %q", name)
}

// Build builds everything that is not in the cache; the kubelet only where a
// real node can run.
func Build(ctx context.Context, progress io.Writer) error {
	for _, m := range modules {
		if _, ok := m.programs["kubelet"]; ok && NodeMissing() != "" {
			continue
		}
		if _, err := m.dir(ctx, progress); err != nil {
			return err
		}
	}
	return nil
}

// dir is the folder in the cache that holds the programs. One process builds
// at a time: two linkers of a Kubernetes would not fit into the memory of a
// laptop.
func (m module) dir(ctx context.Context, progress io.Writer) (string, error) {
	if progress == nil {
		progress = io.Discard
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	src := filepath.Join(root, "test", "testbed", "servers", m.name)
	key, err := m.key(src)
	if err != nil {
		return "", err
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, m.name+"-"+key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	unlock, err := lock(ctx, cache)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // another process has built it meanwhile
	}
	what := strings.Join(m.sorted(), ", ")
	fmt.Fprintf(progress, "testbed: building %s, once\n", what)
	began := time.Now()
	if err := m.build(ctx, src, dir); err != nil {
		return "", fmt.Errorf("build %s: %w", m.name, err)
	}
	fmt.Fprintf(progress, "testbed: built %s in %s\n", what, time.Since(began).Round(time.Second))
	return dir, nil
}

func (m module) sorted() []string { return slices.Sorted(maps.Keys(m.programs)) }

func (m module) key(src string) (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		f, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			return "", fmt.Errorf("testbed: %w", err)
		}
		h.Write(f)
	}
	fmt.Fprintln(h, m.sorted(), m.tags, m.generated, ldflags, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// build compiles in a copy of the module, so that the go command never writes
// into the repository.
func (m module) build(ctx context.Context, src, dir string) error {
	work, err := os.MkdirTemp(filepath.Dir(dir), "build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	for _, name := range []string{"go.mod", "go.sum"} {
		f, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(work, name), f, 0o644); err != nil {
			return err
		}
	}
	if m.source != "" {
		if err := m.complete(ctx, work); err != nil {
			return err
		}
	}
	out := filepath.Join(work, "out")
	args := []string{"build", "-trimpath", "-ldflags=" + ldflags, "-o", out + "/"}
	if m.tags != "" {
		args = append(args, "-tags="+m.tags)
	}
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	for _, name := range m.sorted() {
		args = append(args, m.programs[name])
	}
	if _, err := goCommand(ctx, work, args...); err != nil {
		return err
	}
	return os.Rename(out, dir)
}

// complete puts a copy of the source module with its generated files beside
// the build.
func (m module) complete(ctx context.Context, work string) error {
	var listed struct{ Version string }
	if err := goJSON(ctx, work, &listed, "list", "-m", "-json", m.source); err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := goJSON(ctx, work, &module, "mod", "download", "-json", m.source+"@"+listed.Version); err != nil {
		return err
	}
	copied := filepath.Join(work, "source")
	if err := os.CopyFS(copied, os.DirFS(module.Dir)); err != nil {
		return err
	}
	// The module cache is read-only, and so is a copy of it.
	if err := filepath.WalkDir(copied, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(p, 0o755)
		}
		return err
	}); err != nil {
		return err
	}
	for name, content := range m.generated {
		p := filepath.Join(copied, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			return err
		}
	}
	_, err := goCommand(ctx, work, "mod", "edit", "-replace="+m.source+"=./source")
	return err
}

// goCommand runs the go command for a wrapper module. Its error holds the end
// of what the command wrote.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=mod")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, tail(stderr.String(), 20))
	}
	return stdout.Bytes(), nil
}

// goJSON decodes what a go command prints.
func goJSON(ctx context.Context, dir string, into any, args ...string) error {
	b, err := goCommand(ctx, dir, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// tail is the last lines of a text.
func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
