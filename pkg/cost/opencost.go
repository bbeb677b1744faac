package cost

import (
	"encoding/json"
	"fmt"
	"math"
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

// OpenCostPath and OpenCostWindow are what is asked of OpenCost's API: the assets
// of the last day.
const (
	OpenCostPath   = "/assets"
	OpenCostWindow = "1d"
)

// OpenCostPrices makes prices of the answer of OpenCost's assets API: the rate of
// each node, the mean price of a GiB of disk and of a load balancer.
func OpenCostPrices(body []byte, currency string) (Prices, error) {
	p := Prices{Source: "OpenCost", Currency: currency, byNode: map[string]Rate{}}
	var answer struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return p, fmt.Errorf("opencost: answer: %w", err)
	}
	if answer.Code >= 400 {
		return p, fmt.Errorf("opencost: answered %d: %s", answer.Code, answer.Message)
	}
	sets := []map[string]asset{{}}
	if err := json.Unmarshal(answer.Data, &sets[0]); err != nil {
		// Some versions answer with a list of such sets, one for each day.
		if json.Unmarshal(answer.Data, &sets) != nil {
			return p, fmt.Errorf("opencost: answer: data is neither a set of assets nor a list of such: %w", err)
		}
	}
	var disk, balancer struct{ cost, amount float64 }
	var cpu, memory struct{ cost, hours float64 }
	for _, set := range sets {
		for _, a := range set {
			switch a.Type {
			case "Node":
				if !(a.CPUCoreHours > 0) || !(a.RAMByteHours > 0) || a.Properties.Name == "" {
					continue
				}
				left, gibHours := 1-min(max(a.Discount, 0), 1), a.RAMByteHours/gib
				p.byNode[a.Properties.Name] = Rate{price(a.CPUCost * left / a.CPUCoreHours), price(a.RAMCost * left / gibHours)}
				cpu.cost, cpu.hours = cpu.cost+a.CPUCost*left, cpu.hours+a.CPUCoreHours
				memory.cost, memory.hours = memory.cost+a.RAMCost*left, memory.hours+gibHours
			case "Disk":
				disk.cost, disk.amount = disk.cost+a.TotalCost, disk.amount+a.ByteHours/gib
			case "LoadBalancer":
				balancer.cost, balancer.amount = balancer.cost+a.TotalCost, balancer.amount+a.Minutes/60
			}
		}
	}
	if len(p.byNode) == 0 {
		return p, fmt.Errorf("opencost: knows no nodes in the last %s", OpenCostWindow)
	}
	// Nodes that it does not know yet cost what the others do.
	p.Rate = Rate{price(cpu.cost / cpu.hours), price(memory.cost / memory.hours)}
	if disk.amount > 0 {
		p.StorageGiBMonth = price(disk.cost / disk.amount * MonthHours)
	}
	if balancer.amount > 0 {
		p.LoadBalancerHour = price(balancer.cost / balancer.amount)
	}
	return p, nil
}

// price is v, or 0 where a division made no number of it.
func price(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return 0
	}
	return v
}
