package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// plugin is krew's v1alpha2, as far as a manifest may go.
type plugin struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Version          string `json:"version"`
		Homepage         string `json:"homepage"`
		ShortDescription string `json:"shortDescription"`
		Description      string `json:"description"`
		Caveats          string `json:"caveats"`
		Platforms        []struct {
			URI      string `json:"uri"`
			SHA256   string `json:"sha256"`
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
			Bin string `json:"bin"`
		} `json:"platforms"`
	} `json:"spec"`
}

func TestTheManifestIsOneThatKrewTakes(t *testing.T) {
	t.Chdir(filepath.Join("..", "..", ".."))
	dist := t.TempDir()
	for _, name := range []string{"oncall-linux-amd64", "oncall-darwin-arm64"} {
		if err := os.WriteFile(filepath.Join(dist, name), []byte("binary of "+name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := pack(dist, "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dist, "oncall.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var p plugin
	if err := yaml.UnmarshalStrict(text, &p); err != nil {
		t.Fatal(err)
	}
	if p.APIVersion != "krew.googlecontainertools.github.com/v1alpha2" || p.Kind != "Plugin" || p.Metadata.Name != "oncall" || p.Spec.Version != "v1.2.3" {
		t.Errorf("head %+v", p)
	}
	// krew-index refuses longer ones, and those that end with a full stop.
	if s := p.Spec.ShortDescription; s == "" || len(s) > 50 || strings.HasSuffix(s, ".") {
		t.Errorf("short description %q", s)
	}
	if len(p.Spec.Platforms) != 2 {
		t.Fatalf("platforms %+v", p.Spec.Platforms)
	}
	for _, one := range p.Spec.Platforms {
		file := filepath.Base(one.URI)
		body, err := os.ReadFile(filepath.Join(dist, file))
		if err != nil {
			t.Fatal(err)
		}
		if one.SHA256 != fmt.Sprintf("%x", sha256.Sum256(body)) || !regexp.MustCompile(`^https://.*/v1\.2\.3/kubectl-oncall-(linux|darwin)-(amd64|arm64)\.tar\.gz$`).MatchString(one.URI) {
			t.Errorf("platform %+v", one)
		}
		got := unpacked(t, body)
		want := "binary of oncall-" + one.Selector.MatchLabels["os"] + "-" + one.Selector.MatchLabels["arch"]
		if string(got[one.Bin]) != want || len(got["LICENSE"]) == 0 || !bytes.Contains(got["kubectl_complete-oncall"], []byte("__complete")) {
			t.Errorf("%s holds %q as %s", file, got[one.Bin], one.Bin)
		}
	}
	before := string(text)
	if err := pack(dist, "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	if text, _ = os.ReadFile(filepath.Join(dist, "oncall.yaml")); string(text) != before {
		t.Error("equal binaries give other archives")
	}
}

func unpacked(t *testing.T, body []byte) map[string][]byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != "LICENSE" && h.Mode != 0o755 {
			t.Errorf("%s cannot be executed", h.Name)
		}
		if out[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVersionsAreSemantic(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3": "v1.2.3", "v1.2.3-rc.1": "v1.2.3-rc.1", "54272ae": "v0.0.0-g54272ae", "54272ae-dirty": "v0.0.0-g54272ae-dirty", "": "v0.0.0-g", "a_b": "v0.0.0-ga-b",
	} {
		if got := semantic(version); got != want {
			t.Errorf("%q is %s, want %s", version, got, want)
		}
	}
}
