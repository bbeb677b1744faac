package cost

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"unicode"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/policy"
)

// PriceFile is the policy's name below policies/.
const PriceFile = "prices.yaml"

// MonthHours are the hours of a month, on average, as clouds bill it.
const MonthHours = 730

// Rate is what a node's capacity costs.
type Rate struct {
	CPUCoreHour   float64 `yaml:"cpu_core_hour"`
	MemoryGiBHour float64 `yaml:"memory_gib_hour"`
}

// Prices is policies/prices.yaml. All zero: nothing is known of money.
type Prices struct {
	// Currency stands before every amount: EUR.
	Currency string `yaml:"currency"`
	// Rate is that of nodes of which nothing else is said.
	Rate `yaml:",inline"`
	// StorageGiBMonth is the price of a GiB of volume, StorageClasses of those of
	// some classes.
	StorageGiBMonth float64            `yaml:"storage_gib_month"`
	StorageClasses  map[string]float64 `yaml:"storage_classes"`
	// LoadBalancerHour is the price of a Service of type LoadBalancer.
	LoadBalancerHour float64 `yaml:"load_balancer_hour"`
	// Nodes say what is different for nodes with certain labels. All that match
	// count, in their order.
	Nodes []NodePrice `yaml:"nodes"`

	// Source says where the prices are from.
	Source string `yaml:"-"`
	byNode map[string]Rate
}

// NodePrice is what is different for some nodes.
type NodePrice struct {
	// Match are labels that the node has.
	Match map[string]string `yaml:"match"`
	// CPUCoreHour and MemoryGiBHour replace the general ones where they are given.
	CPUCoreHour   *float64 `yaml:"cpu_core_hour"`
	MemoryGiBHour *float64 `yaml:"memory_gib_hour"`
	// Discount is the share taken off: 0.6 for spot at 40 % of the price.
	Discount float64 `yaml:"discount"`
}

// LoadPrices reads the policy in force.
func LoadPrices(s *policy.Store) (Prices, error) {
	b, ok := s.File(PriceFile)
	if !ok {
		return Prices{}, nil
	}
	return ParsePrices("policies/"+PriceFile, b)
}

// ParsePrices reads a price file; file is its name in errors.
func ParsePrices(file string, b []byte) (Prices, error) {
	p := Prices{Source: file}
	err := policy.Decode(file, b, &p)
	return p, err
}

// maxPrice is above any price of an hour or a month: what is larger was meant
// otherwise.
const maxPrice = 1000

// Validate checks the fields.
func (p *Prices) Validate() error {
	var errs []error
	price := func(path string, v float64) {
		switch {
		case math.IsNaN(v) || v < 0:
			errs = append(errs, &policy.FieldError{Path: path, Value: v, Problem: "is not a price", Fix: "write 0.031, or leave it out"})
		case v > maxPrice:
			errs = append(errs, &policy.FieldError{Path: path, Value: v, Problem: fmt.Sprintf("is above %d", maxPrice), Fix: "write the price of one core, GiB or load balancer, in whole units of the currency"})
		}
	}
	if len([]rune(p.Currency)) > 8 || slices.ContainsFunc([]rune(p.Currency), func(r rune) bool { return !unicode.IsPrint(r) }) {
		errs = append(errs, &policy.FieldError{Path: "currency", Value: fmt.Sprintf("%q", p.Currency), Problem: "is not a currency", Fix: "write EUR"})
	}
	price("cpu_core_hour", p.CPUCoreHour)
	price("memory_gib_hour", p.MemoryGiBHour)
	price("storage_gib_month", p.StorageGiBMonth)
	price("load_balancer_hour", p.LoadBalancerHour)
	for _, class := range slices.Sorted(maps.Keys(p.StorageClasses)) {
		price("storage_classes."+class, p.StorageClasses[class])
	}
	if (p.CPUCoreHour == 0) != (p.MemoryGiBHour == 0) {
		field, other := "memory_gib_hour", "cpu_core_hour"
		if p.CPUCoreHour == 0 {
			field, other = other, field
		}
		errs = append(errs, &policy.FieldError{Path: field, Problem: "is missing beside " + other, Fix: "write both: a node is paid for as a whole, and its price has to be divided"})
	}
	for i, n := range p.Nodes {
		at := fmt.Sprintf("nodes[%d].", i)
		if len(n.Match) == 0 {
			errs = append(errs, &policy.FieldError{Path: at + "match", Problem: "is missing", Fix: "write labels of nodes: {node.kubernetes.io/instance-type: m5.large}"})
		}
		if n.CPUCoreHour != nil {
			price(at+"cpu_core_hour", *n.CPUCoreHour)
		}
		if n.MemoryGiBHour != nil {
			price(at+"memory_gib_hour", *n.MemoryGiBHour)
		}
		if !(n.Discount >= 0 && n.Discount < 1) {
			fix := "write 0.6 for 60 % off"
			if n.Discount >= 1 && n.Discount < 100 {
				fix = fmt.Sprintf("write %g", n.Discount/100)
			}
			errs = append(errs, &policy.FieldError{Path: at + "discount", Value: n.Discount, Problem: "is not a share between 0 and 1", Fix: fix})
		}
		if n.CPUCoreHour == nil && n.MemoryGiBHour == nil && n.Discount == 0 {
			errs = append(errs, &policy.FieldError{Path: at + "match", Problem: "is all there is", Fix: "write cpu_core_hour and memory_gib_hour, or discount"})
		}
	}
	return errors.Join(errs...)
}

// Known says whether amounts of CPU and memory have a price.
func (p *Prices) Known() bool {
	if p.CPUCoreHour > 0 || len(p.byNode) > 0 {
		return true
	}
	return slices.ContainsFunc(p.Nodes, func(n NodePrice) bool { return n.CPUCoreHour != nil && *n.CPUCoreHour > 0 })
}

// Of is the rate of a node.
func (p *Prices) Of(n *corev1.Node) Rate {
	if r, ok := p.byNode[n.Name]; ok {
		return r
	}
	r, left := p.Rate, 1.0
	for _, o := range p.Nodes {
		if !labelled(n.Labels, o.Match) {
			continue
		}
		if o.CPUCoreHour != nil {
			r.CPUCoreHour = *o.CPUCoreHour
		}
		if o.MemoryGiBHour != nil {
			r.MemoryGiBHour = *o.MemoryGiBHour
		}
		left *= 1 - o.Discount
	}
	return Rate{r.CPUCoreHour * left, r.MemoryGiBHour * left}
}

// storage is the price of a GiB of volume of a class for a month.
func (p *Prices) storage(class string) float64 {
	return cmp.Or(p.StorageClasses[class], p.StorageGiBMonth)
}

// labelled says whether labels hold all of want.
func labelled(labels, want map[string]string) bool {
	for k, v := range want {
		if labels[k] != v {
			return false
		}
	}
	return true
}
