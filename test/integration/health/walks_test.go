//go:build e2e

package health

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// passing is what differs from one zoo to the next: ages, and the names that
// controllers make up.
var passing = regexp.MustCompile(` \d+(s|m|h\d+m|h|d)\b|-[a-f0-9]{8,10}-[a-z0-9]{5}\b| {2,}`)

// walk holds the walks of docs/walkthroughs.md against what the program prints of
// the zoo: each line of it that they quote, and that each command they type is
// one that is printed behind a "next:".
func walk(ctx context.Context, t *testing.T, bin, kubeconfig string) {
	t.Helper()
	doc, err := os.ReadFile("../../../docs/walkthroughs.md")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(ctx, bin, "health", "-A", "-v", "--kubeconfig", kubeconfig).Output()
	if err != nil {
		t.Fatalf("oncall health -A -v: %v", err)
	}
	plain := func(l string) string { return strings.TrimSpace(passing.ReplaceAllString(l, " ")) }
	printed := map[string]bool{}
	for l := range strings.Lines(string(out)) {
		l = plain(l)
		printed[l] = true
		if command, ok := strings.CutPrefix(l, "next: "); ok {
			command, _, _ = strings.Cut(command, " # ")
			printed["$ "+command] = true
		}
	}
	quoted := 0
	for l := range strings.Lines(string(doc)) {
		l = plain(strings.TrimRight(l, "\n"))
		switch head, _, _ := strings.Cut(l, " "); head {
		case "BROKEN", "SOON", "next:", "$":
			if quoted++; !printed[l] {
				t.Errorf("docs/walkthroughs.md has a line that the program does not print: %s", l)
			}
		}
	}
	if quoted == 0 {
		t.Error("docs/walkthroughs.md quotes no line of the program")
	}
}
