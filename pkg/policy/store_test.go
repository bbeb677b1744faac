package policy_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/oncall-copilot/oncall/pkg/policy"
)

func TestReloadSeesWhatAUserWrote(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "slo.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a: 1\n")
	s, err := policy.NewStore(fstest.MapFS{"slo.yaml": {Data: []byte("a: 0\n")}, "canary.yaml": {Data: []byte("b: 0\n")}}, os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	before := s.Hash()
	if changed, err := s.Reload(); err != nil || changed || s.Hash() != before {
		t.Errorf("nothing was written: changed %t, %v", changed, err)
	}
	write("a: 2\n")
	if changed, err := s.Reload(); err != nil || !changed || s.Hash() == before {
		t.Errorf("a file was written: changed %t, %v", changed, err)
	}
	if b, _ := s.File("slo.yaml"); string(b) != "a: 2\n" {
		t.Errorf("slo.yaml is %q", b)
	}
	if got := s.Changed(); !slices.Equal(got, []string{"slo.yaml"}) {
		t.Errorf("changed %v", got)
	}
	write("a: 1\n")
	if _, err := s.Reload(); err != nil || len(s.Changed()) > 0 {
		t.Errorf("changed %v after it was changed back, %v", s.Changed(), err)
	}
	write("a: 2\n")
	if _, err := s.Reload(); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(); err == nil {
		t.Error("a folder that is gone is no error")
	}
	if b, _ := s.File("slo.yaml"); string(b) != "a: 2\n" {
		t.Errorf("after a failed reload slo.yaml is %q", b)
	}
}
