//go:build e2e

package deploy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// certManagerCRDs is the folder of cert-manager's own definitions, in the module
// of its release.
func certManagerCRDs(t *testing.T) string {
	t.Helper()
	const version, sum = "v1.21.2", "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68="
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "github.com/cert-manager/cert-manager@"+version)
	cmd.Dir = t.TempDir() // of no module
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod download: %v: %s", err, out)
	}
	var m struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	if m.Sum != sum {
		t.Fatalf("cert-manager %s has the sum %s, want %s", version, m.Sum, sum)
	}
	return filepath.Join(m.Dir, "deploy", "crds")
}

// certManager has the API server judge production with the certificates that
// cert-manager is asked for, by cert-manager's own definitions.
func (c cluster) certManager() {
	c.t.Helper()
	crds, err := filepath.Glob(filepath.Join(certManagerCRDs(c.t), "cert-manager.io_*.yaml"))
	if err != nil || len(crds) == 0 {
		c.t.Fatalf("cert-manager has no definitions: %v", err)
	}
	for _, f := range crds {
		if _, said, ok := c.kubectl("", "apply", "--server-side", "-f", f); !ok {
			c.t.Fatal(said)
		}
	}
	if _, said, ok := c.kubectl("", "wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"); !ok {
		c.t.Fatal(said)
	}
	// As whoever installs it is told to: one line is taken in.
	tree := filepath.Join(c.t.TempDir(), "kustomize")
	if err := os.CopyFS(tree, os.DirFS("kustomize")); err != nil {
		c.t.Fatal(err)
	}
	overlay := filepath.Join(tree, "overlays", "prod")
	b, err := os.ReadFile(filepath.Join(overlay, "kustomization.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	const line = "- ../../components/cert-manager"
	if strings.Count(string(b), "# "+line) != 1 {
		c.t.Fatalf("the overlay prod does not offer %s", line)
	}
	write(c.t, filepath.Join(overlay, "kustomization.yaml"), strings.Replace(string(b), "# "+line, line, 1))
	manifests, said, ok := c.kubectl("", "kustomize", overlay)
	if !ok {
		c.t.Fatal(said)
	}
	out, said, ok := c.kubectl(manifests, "apply", "--dry-run=server", "-f", "-")
	if !ok || strings.Contains(said, "Warning") && !strings.Contains(said, "last-applied-configuration") {
		c.t.Errorf("kubectl apply --dry-run=server: %s", said)
	}
	for _, want := range []string{"issuer.cert-manager.io/nats-self-signed", "issuer.cert-manager.io/nats-ca", "certificate.cert-manager.io/nats-ca", "certificate.cert-manager.io/nats"} {
		if !strings.Contains(out, want+" created (server dry run)\n") {
			c.t.Errorf("%s was not judged:\n%s", want, out)
		}
	}
	for _, o := range parse(c.t, []byte(manifests)) {
		if strings.HasPrefix(o.at("apiVersion").(string), "cert-manager.io/") && o.at("metadata", "namespace") != "oncall" {
			c.t.Errorf("%s is in namespace %v", o.id(), o.at("metadata", "namespace"))
		}
	}
	if _, said, ok := c.kubectl(strings.Replace(manifests, "rotationPolicy: Always", "rotationPolicy: Sometimes", 1), "apply", "--dry-run=server", "-f", "-"); ok || !strings.Contains(said, "rotationPolicy") {
		c.t.Errorf("a certificate that cert-manager does not know was taken, or refused for another reason: %s", said)
	}
}
