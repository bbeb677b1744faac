package service

import (
	"slices"
	"strings"
)

// Part is one of what a service has several of: a source, a detector, a channel.
type Part interface {
	// PartName is how the configuration calls it.
	PartName() string
	// Complete says what its registration lacks.
	Complete() error
}

// Registry holds the parts of a service by name. The zero value is ready to use.
type Registry[P Part] struct{ parts []P }

// Register adds a part. It panics on a duplicate or an incomplete one: a
// programming error that any test importing the package finds.
func (r *Registry[P]) Register(p P) {
	if err := p.Complete(); err != nil {
		panic(err.Error())
	}
	if _, ok := r.Lookup(p.PartName()); ok {
		panic(p.PartName() + " is registered twice")
	}
	r.parts = append(r.parts, p)
}

// Lookup finds a part by name.
func (r *Registry[P]) Lookup(name string) (p P, ok bool) {
	i := slices.IndexFunc(r.parts, func(p P) bool { return p.PartName() == name })
	if i < 0 {
		return p, false
	}
	return r.parts[i], true
}

// All returns the parts by name.
func (r *Registry[P]) All() []P {
	return slices.SortedFunc(slices.Values(r.parts), func(a, b P) int { return strings.Compare(a.PartName(), b.PartName()) })
}

// Names lists the parts, for error messages.
func (r *Registry[P]) Names() string {
	var names []string
	for _, p := range r.All() {
		names = append(names, p.PartName())
	}
	return strings.Join(names, ", ")
}
