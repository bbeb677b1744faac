package service

import (
	"errors"
	"testing"
)

type part struct {
	name string
	err  error
}

func (p part) PartName() string { return p.name }
func (p part) Complete() error  { return p.err }

func TestPartsAreFoundByNameAndRegisteredOnce(t *testing.T) {
	var r Registry[part]
	r.Register(part{name: "webhook"})
	r.Register(part{name: "slack"})
	if p, ok := r.Lookup("slack"); !ok || p.name != "slack" {
		t.Errorf("slack: %v %v", p, ok)
	}
	if _, ok := r.Lookup("pigeon"); ok {
		t.Error("found what nobody registered")
	}
	if got := r.Names(); got != "slack, webhook" {
		t.Errorf("names %q", got)
	}
	for want, p := range map[string]part{"slack is registered twice": {name: "slack"}, "it has no Doc": {name: "x", err: errors.New("it has no Doc")}} {
		func() {
			defer func() {
				if got := recover(); got != want {
					t.Errorf("panic %v, want %q", got, want)
				}
			}()
			r.Register(p)
		}()
	}
	if len(r.All()) != 2 {
		t.Errorf("%v, want the first two alone", r.All())
	}
}
