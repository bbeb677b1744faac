// Command pack makes the archives and the manifest by which krew installs
// kubectl oncall, of the binaries that make dist has built:
//
//	pack DIST VERSION
//
// Equal binaries give equal archives.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
)

//go:embed oncall.yaml.tmpl
var manifest string

// archive is one platform's entry of the manifest.
type archive struct{ OS, Arch, File, SHA256 string }

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "pack: write pack DIST VERSION")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// pack writes the archives and oncall.yaml into the folder of the binaries.
func pack(dist, version string) error {
	binaries, err := filepath.Glob(filepath.Join(dist, "oncall-*-*"))
	if err != nil {
		return err
	}
	if len(binaries) == 0 {
		return fmt.Errorf("%s holds no binary oncall-OS-ARCH; make dist builds them", dist)
	}
	completion, err := os.ReadFile(filepath.Join("deploy", "krew", "kubectl_complete-oncall"))
	if err != nil {
		return err
	}
	license, err := os.ReadFile("LICENSE")
	if err != nil {
		return err
	}
	var all []archive
	for _, path := range binaries {
		parts := strings.Split(filepath.Base(path), "-")
		binary, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		a := archive{OS: parts[1], Arch: parts[2]}
		a.File = fmt.Sprintf("kubectl-oncall-%s-%s.tar.gz", a.OS, a.Arch)
		body, err := pressed([]entry{{"LICENSE", 0o644, license}, {"kubectl-oncall", 0o755, binary}, {"kubectl_complete-oncall", 0o755, completion}})
		if err != nil {
			return fmt.Errorf("%s: %w", a.File, err)
		}
		a.SHA256 = fmt.Sprintf("%x", sha256.Sum256(body))
		if err := os.WriteFile(filepath.Join(dist, a.File), body, 0o644); err != nil {
			return err
		}
		all = append(all, a)
	}
	t, err := template.New("oncall.yaml").Parse(manifest)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, map[string]any{"Version": semantic(version), "Archives": all}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dist, "oncall.yaml"), out.Bytes(), 0o644)
}

type entry struct {
	name string
	mode int64
	body []byte
}

// pressed is a tar.gz of entries without times and owners.
func pressed(entries []entry) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.body)), Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.body); err != nil {
			return nil, err
		}
	}
	err := errors.Join(w.Close(), z.Close())
	return b.Bytes(), err
}

var (
	released = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)
	unfit    = regexp.MustCompile(`[^0-9A-Za-z.-]+`)
)

// semantic is a version as krew takes it; one that is no release's becomes a
// pre-release of nothing.
func semantic(version string) string {
	if released.MatchString(version) {
		return version
	}
	return "v0.0.0-g" + unfit.ReplaceAllString(version, "-")
}
