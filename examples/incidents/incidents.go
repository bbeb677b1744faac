// Package incidents holds recorded real incidents, for the demo and for tests.
// Each has a folder that says how it was made.
package incidents

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/bundle"
)

//go:embed *
var files embed.FS

// Default is the incident that the demo shows.
const Default = "oom-after-rollout"

// Names lists the incidents.
func Names() []string {
	found, _ := fs.Glob(files, "*.tar.zst") // the pattern is well formed
	for i, f := range found {
		found[i] = strings.TrimSuffix(f, ".tar.zst")
	}
	return found
}

// Open opens an incident by name.
func Open(name string) (*bundle.Bundle, error) {
	b, err := files.ReadFile(name + ".tar.zst")
	if err != nil {
		return nil, fmt.Errorf("incident %s is not in this binary; it has %s", name, strings.Join(Names(), ", "))
	}
	return bundle.OpenArchive(bytes.NewReader(b), name+".tar.zst")
}
