package carried_test

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/oncall-copilot/oncall/pkg/bus/access"
	_ "github.com/oncall-copilot/oncall/pkg/carried"
)

// asked is set in the process that only says, by its exit code, whether it trusts
// a public authority.
const asked = "ONCALL_TEST_TRUSTS"

func TestMain(m *testing.M) {
	if os.Getenv(asked) == "" {
		os.Exit(m.Run())
	}
	for c := range bundle.Roots() {
		if root, err := x509.ParseCertificate(c.Certificate); err == nil && c.Constraint == nil && time.Now().Before(root.NotAfter) {
			if _, err := root.Verify(x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(2)
}

func TestAuthorities(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("here the system's own store decides, which no variable replaces")
	}
	dir := t.TempDir()
	none, own := filepath.Join(dir, "none"), filepath.Join(dir, "own.pem")
	c, err := access.NewCertificate([]string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, c.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file string
		want int
	}{
		"where there are none, public ones are trusted": {none, 0},
		"where one is named, it alone is trusted":       {own, 1},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), exe)
			cmd.Env = append(os.Environ(), asked+"=1", "SSL_CERT_FILE="+test.file, "SSL_CERT_DIR="+none)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != test.want {
				t.Errorf("exit code %d, want %d: %s", got, test.want, out)
			}
		})
	}
}
