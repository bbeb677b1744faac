package cost

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// asset is one of OpenCost's assets, of which nodes, disks and load balancers
// are read.
type asset struct {
	Type       string `json:"type"`
	Properties struct {
		Name string `json:"name"`
	} `json:"properties"`
	Minutes      float64 `json:"minutes"`
	CPUCoreHours float64 `json:"cpuCoreHours"`
	RAMByteHours float64 `json:"ramByteHours"`
	ByteHours    float64 `json:"byteHours"`
	Discount     float64 `json:"discount"`
	CPUCost      float64 `json:"cpuCost"`
	RAMCost      float64 `json:"ramCost"`
	TotalCost    float64 `json:"totalCost"`
}

// OpenCostWindow is the time that OpenCost is asked about.
const OpenCostWindow = "1d"

// OpenCostCall is a question to OpenCost's API and what reads the answer.
type OpenCostCall struct {
	Path   string
	Params url.Values
	Read   func(body []byte, currency string) (Prices, error)
}

// OpenCostCalls are tried in turn until one is there: the assets of OpenCost and
// of Kubecost, and where there are none, what the pods of each node were allotted.
func OpenCostCalls() []OpenCostCall {
	assets, nodes := url.Values{"window": {OpenCostWindow}}, url.Values{"window": {OpenCostWindow}, "aggregate": {"node"}}
	return []OpenCostCall{
		{"/assets", assets, OpenCostPrices},
		{"/model/assets", assets, OpenCostPrices},
		{"/allocation/compute", nodes, OpenCostAllocations},
		{"/model/allocation", nodes, OpenCostAllocations},
	}
}

// answerOf is the data of an answer of OpenCost's, a list of sets of things by
// name. A single set is a list of one.
func answerOf[T any](body []byte, what string) ([]map[string]T, error) {
	var answer struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	}
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
		return nil, errors.New("opencost: answered with a page, and not with JSON; is it the address of its API, which is port 9003?")
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("opencost: answer: %w", err)
	}
	if answer.Code >= 400 {
		return nil, fmt.Errorf("opencost: answered %d: %s", answer.Code, answer.Message)
	}
	one := map[string]T{}
	err := json.Unmarshal(answer.Data, &one)
	if err == nil {
		return []map[string]T{one}, nil
	}
	// Some versions answer with a list of such sets, one for each day.
	var sets []map[string]T
	if json.Unmarshal(answer.Data, &sets) != nil {
		return nil, fmt.Errorf("opencost: answer: data is neither a set of %s nor a list of such: %w", what, err)
	}
	return sets, nil
}

// allocation is what was allotted to the pods of a node.
type allocation struct {
	Properties struct {
		Node string `json:"node"`
	} `json:"properties"`
	CPUCoreHours float64 `json:"cpuCoreHours"`
	RAMByteHours float64 `json:"ramByteHours"`
	PVByteHours  float64 `json:"pvByteHours"`
	CPUCost      float64 `json:"cpuCost"`
	RAMCost      float64 `json:"ramCost"`
	PVCost       float64 `json:"pvCost"`
}

// OpenCostAllocations makes prices of the answer of OpenCost's allocation API by
// node: what an hour of a core and of a GiB cost there.
func OpenCostAllocations(body []byte, currency string) (Prices, error) {
	p := Prices{Source: "OpenCost", Currency: currency, byNode: map[string]Rate{}}
	sets, err := answerOf[allocation](body, "allocations")
	if err != nil {
		return p, err
	}
	var sum nodeCosts
	var disk struct{ cost, amount float64 }
	for _, set := range sets {
		for name, a := range set {
			if strings.HasPrefix(name, "__") {
				continue // __idle__, __unallocated__
			}
			p.node(cmp.Or(a.Properties.Node, name), a.CPUCost, a.CPUCoreHours, a.RAMCost, a.RAMByteHours/gib, &sum)
			if a.PVByteHours > 0 && sane(a.PVCost/a.PVByteHours*gib) {
				disk.cost, disk.amount = disk.cost+a.PVCost, disk.amount+a.PVByteHours/gib
			}
		}
	}
	if err := p.mean(sum); err != nil {
		return p, err
	}
	if disk.amount > 0 {
		p.StorageGiBMonth = disk.cost / disk.amount * MonthHours
	}
	return p, nil
}

// nodeCosts are what all nodes cost.
type nodeCosts struct{ cpu, cores, memory, gibs float64 }

// node adds a node, if its price is one.
func (p *Prices) node(name string, cpu, coreHours, memory, gibHours float64, sum *nodeCosts) {
	if name == "" || !(coreHours > 0) || !(gibHours > 0) || !sane(cpu/coreHours) || !sane(memory/gibHours) {
		return
	}
	p.byNode[name] = Rate{cpu / coreHours, memory / gibHours}
	sum.cpu, sum.cores, sum.memory, sum.gibs = sum.cpu+cpu, sum.cores+coreHours, sum.memory+memory, sum.gibs+gibHours
}

// mean is what nodes cost that OpenCost does not know yet: what the others do.
func (p *Prices) mean(sum nodeCosts) error {
	if len(p.byNode) == 0 {
		return fmt.Errorf("opencost: knows no nodes with a price in the last %s", OpenCostWindow)
	}
	p.Rate = Rate{sum.cpu / sum.cores, sum.memory / sum.gibs}
	return nil
}

// sane says whether a number is a price of an hour: as in a price file.
func sane(v float64) bool { return v >= 0 && v <= maxPrice }

// OpenCostPrices makes prices of the answer of OpenCost's assets API: the rate of
// each node, the mean price of a GiB of disk and of a load balancer.
func OpenCostPrices(body []byte, currency string) (Prices, error) {
	p := Prices{Source: "OpenCost", Currency: currency, byNode: map[string]Rate{}}
	sets, err := answerOf[asset](body, "assets")
	if err != nil {
		return p, err
	}
	var disk, balancer struct{ cost, amount float64 }
	var sum nodeCosts
	for _, set := range sets {
		for _, a := range set {
			switch a.Type {
			case "Node":
				left := 1 - min(max(a.Discount, 0), 1)
				p.node(a.Properties.Name, a.CPUCost*left, a.CPUCoreHours, a.RAMCost*left, a.RAMByteHours/gib, &sum)
			case "Disk":
				if a.ByteHours > 0 && sane(a.TotalCost/a.ByteHours*gib) {
					disk.cost, disk.amount = disk.cost+a.TotalCost, disk.amount+a.ByteHours/gib
				}
			case "LoadBalancer":
				if a.Minutes > 0 && sane(a.TotalCost/a.Minutes*60) {
					balancer.cost, balancer.amount = balancer.cost+a.TotalCost, balancer.amount+a.Minutes/60
				}
			}
		}
	}
	if err := p.mean(sum); err != nil {
		return p, err
	}
	if disk.amount > 0 {
		p.StorageGiBMonth = disk.cost / disk.amount * MonthHours
	}
	if balancer.amount > 0 {
		p.LoadBalancerHour = balancer.cost / balancer.amount
	}
	return p, nil
}
