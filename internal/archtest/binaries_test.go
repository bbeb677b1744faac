//go:build e2e

package archtest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoServiceContainsTheVerbsOfTheCommandLine asks the linker, which leaves out
// what cannot be reached: not what a service does, but all that it could.
func TestNoServiceContainsTheVerbsOfTheCommandLine(t *testing.T) {
	for _, name := range []string{"collector", "reasoner"} { // TestLinks has the others without client-go
		binary := filepath.Join(t.TempDir(), name)
		if out, err := exec.Command("go", "build", "-o", binary, module+"services/"+name+"/cmd/"+name).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v: %s", name, err, out)
		}
		out, err := exec.Command("go", "tool", "nm", binary).Output()
		if err != nil {
			t.Fatal(err)
		}
		symbols := string(out)
		if name == "collector" && !strings.Contains(symbols, "/pkg/kube.readOnly") {
			t.Fatal("the collector's symbols are not read: its guard is missing")
		}
		for _, not := range []string{"/pkg/kube.NewForwarder", "/pkg/kube.(*Forwarder)", "/pkg/kube.NewReviewer", "/pkg/kube.(*Reviewer)", "/pkg/kube.reviewOnly", "client-go/tools/portforward.(*PortForwarder)", "client-go/tools/remotecommand"} {
			for line := range strings.SplitSeq(symbols, "\n") {
				if strings.Contains(line, not) {
					t.Errorf("%s contains %s", name, strings.TrimSpace(line))
					break
				}
			}
		}
	}
}
