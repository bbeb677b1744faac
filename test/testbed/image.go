package testbed

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// image is a container image FROM scratch with one static program of
// workloads/.
type image struct {
	name    string // with its tag: localhost/checkout:v1
	program string // folder below workloads/
	args    []string
}

// images are what a real node has. There is no registry: any other image
// cannot be pulled.
var images = []image{
	{name: "localhost/pause:1", program: "pause"},
	{name: "localhost/checkout:v1", program: "checkout"},
	{name: "localhost/checkout:v2", program: "checkout", args: []string{"-leak", "65536"}}, // 1.3 MB a second
	{name: "localhost/checkout:v3", program: "checkout", args: []string{"-crash", "2s"}},
	{name: "localhost/shop/storefront:v230", program: "shop", args: []string{"storefront"}},
	{name: "localhost/shop/catalog:v87", program: "shop", args: []string{"service"}},
	{name: "localhost/shop/checkout:v411", program: "shop", args: []string{"service"}},
	{name: "localhost/shop/checkout:v412", program: "shop", args: []string{"service", "-keep", "262144", "-room", "41943040"}}, // 1.7 MB a second and pod
	{name: "localhost/checkout:v4", program: "checkout", args: []string{"-errors", "0.4"}},
}

// writeImages builds the programs and writes one archive of all images, in the
// form of docker save.
func writeImages(ctx context.Context, dir string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	t := tar.NewWriter(&out)
	add := func(name string, content []byte) error {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err := t.Write(content)
		return err
	}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	layers := map[string]string{} // program to digest
	for _, i := range images {
		digest, ok := layers[i.program]
		if !ok {
			layer, err := programLayer(ctx, root, dir, i.program)
			if err != nil {
				return "", err
			}
			digest = sum(layer)
			layers[i.program] = digest
			if err := add(digest+".tar", layer); err != nil {
				return "", err
			}
		}
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Entrypoint": append([]string{"/" + i.program}, i.args...)},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest}},
		})
		if err != nil {
			return "", err
		}
		if err := add(sum(config)+".json", config); err != nil {
			return "", err
		}
		manifest = append(manifest, entry{sum(config) + ".json", []string{i.name}, []string{digest + ".tar"}})
	}
	b, err := json.Marshal(manifest)
	if err != nil {
		return "", err
	}
	if err := add("manifest.json", b); err != nil {
		return "", err
	}
	if err := t.Close(); err != nil {
		return "", err
	}
	name := filepath.Join(dir, "images.tar")
	return name, os.WriteFile(name, out.Bytes(), 0o644)
}

// programLayer is a file system that holds one static program.
func programLayer(ctx context.Context, root, dir, program string) ([]byte, error) {
	bin := filepath.Join(dir, program)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags="+ldflags, "-o", bin, "./test/testbed/workloads/"+program)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build workload %s: %w\n%s", program, err, b)
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	t := tar.NewWriter(&out)
	if err := t.WriteHeader(&tar.Header{Name: program, Mode: 0o755, Size: int64(len(b))}); err != nil {
		return nil, err
	}
	if _, err := t.Write(b); err != nil {
		return nil, err
	}
	return out.Bytes(), t.Close()
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
