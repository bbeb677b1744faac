package service_test

import (
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/service"
)

// FuzzParse: a configuration file is taken, or refused with its name.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "---", "# nothing", "cluster: shop", "cluster: [shop]", "bus: {url: nats://127.0.0.1:4222, max_pending: 8}", "obs: {listen: ':9090'}",
		"other: {}", "mine: {}", "- bus", "a: &a {b: *a}", "? {a: b} : c", "bus: !!binary x", "cluster: shop\n---\ncluster: two",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := service.Parse("oncall.yaml", b, []string{"mine"})
		if err != nil && !strings.Contains(err.Error(), "oncall.yaml") {
			t.Errorf("%q: %v: does not name the file", b, err)
		}
		if (c == nil) != (err != nil) {
			t.Errorf("%q: %v with %v", b, c, err)
		}
	})
}
