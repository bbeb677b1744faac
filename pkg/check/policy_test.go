package check

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
)

func TestTheShippedPolicyAllowsEverything(t *testing.T) {
	s, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	p, err := LoadPolicy(s)
	if err != nil {
		t.Fatal(err)
	}
	if p.Registries != nil || p.LoadBalancers != nil || p.NodePorts != nil {
		t.Errorf("got %+v, want nothing declared", p)
	}
}

func TestWhereImagesMayComeFrom(t *testing.T) {
	p := &Policy{Registries: []string{"registry.example", "ghcr.io/acme", "*.internal.example", "docker.io/library", "localhost:5000"}}
	for image, want := range map[string]bool{
		"registry.example/shop/cart:v1":                  true,
		"registry.example.evil.example/shop/cart:v1":     false,
		"registry.example:5000/shop/cart:v1":             false,
		"ghcr.io/acme/cart@sha256:0123":                  true,
		"ghcr.io/acme-imitated/cart:v1":                  false,
		"ghcr.io/other/cart:v1":                          false,
		"eu.internal.example/cart":                       true,
		"internal.example/cart":                          false,
		"nginx:1.27":                                     true,
		"docker.io/library/nginx":                        true,
		"acme/cart:v1":                                   false,
		"localhost:5000/cart:v1":                         true,
		"localhost:5000/cart:v1@sha256:0123456789abcdef": true,
	} {
		if got := p.allowed(image); got != want {
			t.Errorf("%s: allowed %v, want %v (it comes from %s)", image, got, want, whence(image))
		}
	}
	if !(&Policy{}).allowed("nginx") {
		t.Error("where no registry is declared an image is refused")
	}
}

func TestAWrongPolicyIsRefusedWithWhatToWrite(t *testing.T) {
	for text, want := range map[string]string{
		"registries: []":                         "policies/health.yaml:1: registries: is empty, which would allow no image; leave it out",
		"registries: [https://registry.example]": "registries[0]: https://registry.example is an address, and images name none; write registry.example",
		"registries: [registry.example/app:v1]":  "registries[0]: registry.example/app:v1 is an image, and not where images come from; leave out its version",
		"registries: [acme]":                     "registries[0]: acme does not begin with a host; write docker.io/acme",
		"registries: [registry.example/]":        "registries[0]: registry.example/ is no host with or without a path",
		"registries: ['registry.*.example']":     "registries[0]: registry.*.example is no host with or without a path",
		"load_balancers: [web]":                  "load_balancers[0]: web is not a namespace and a name; write ingress/* or shop/web",
		"node_ports: ['shop/[']":                 "node_ports[0]: shop/[ is not a namespace and a name",
		"registry: [a.example]":                  "registry",
	} {
		s, err := policy.NewStore(fstest.MapFS{"health.yaml": {Data: []byte(text + "\n")}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LoadPolicy(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// FuzzWhence: every image comes from somewhere, which it names without a version.
func FuzzWhence(f *testing.F) {
	for _, s := range []string{"nginx", "a.example:5000/b/c:v1@sha256:0", "/", ":", "@", "localhost/x:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, image string) {
		from := whence(image)
		if !strings.Contains(from, "/") || strings.Contains(from, "@") {
			t.Errorf("%q comes from %q", image, from)
		}
	})
}
