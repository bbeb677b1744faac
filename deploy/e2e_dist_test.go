//go:build e2e

package deploy_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// dist makes the release for this platform of a checkout, and returns its binary
// and its checksums.
func dist(t *testing.T, checkout string) (binary, sums string) {
	t.Helper()
	platform, dir := runtime.GOOS+"/"+runtime.GOARCH, filepath.Join(t.TempDir(), "dist")
	cmd := exec.CommandContext(t.Context(), "make", "dist", "DIST="+dir, "PLATFORMS="+platform, "VERSION=v0.0.0-e2e")
	cmd.Dir = checkout
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make dist: %v: %s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "oncall-"+strings.ReplaceAll(platform, "/", "-")), string(b)
}

// TestTheReleaseIsTheSameWhereverItIsBuilt builds it here, and from a copy of the
// sources in another folder, which is no checkout of git.
func TestTheReleaseIsTheSameWhereverItIsBuilt(t *testing.T) {
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Skip("not a checkout of git: ", err)
	}
	other := filepath.Join(t.TempDir(), "elsewhere")
	for name := range bytes.SplitSeq(bytes.TrimRight(out, "\x00"), []byte{0}) {
		copied(t, filepath.Join("..", string(name)), filepath.Join(other, string(name)))
	}
	binary, sums := dist(t, "..")
	if _, again := dist(t, other); again != sums {
		t.Errorf("built in two folders:\n%s%s", sums, again)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 90e6 {
		t.Errorf("the binary has %d bytes, want 90 MB at most", info.Size())
	}
	// What it takes of a processor, which is the time on a machine that is idle.
	best := time.Hour
	for range 10 {
		cmd := exec.CommandContext(t.Context(), binary, "version")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "oncall v0.0.0-e2e ") {
			t.Fatalf("oncall version: %v: %s", err, out)
		}
		best = min(best, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	if best > 100*time.Millisecond {
		t.Errorf("oncall version takes %v, want 100ms at most", best)
	}
	t.Logf("%d bytes, oncall version in %v: %s", info.Size(), best, sums)
}

// copied copies a file with its mode; one that git lists and is deleted is passed
// over.
func copied(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
