package cost

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/owner"
)

// Options are what [Examine] uses beside the cluster.
type Options struct {
	Prices Prices
	// Usage is what Prometheus says; nil when it says nothing.
	Usage *Usage
	// Days is the length of the window.
	Days   int
	Owners owner.Policy
	Redact evidence.Redactor
	// Context is the kubectl context to print in commands; "" leaves it out.
	Context string
}

// Report is what a cluster has, pays for and does not use.
type Report struct {
	Cluster   string    `json:"cluster"`
	Namespace string    `json:"namespace,omitempty"` // the only one that was looked at
	Time      time.Time `json:"time"`
	Window    Window    `json:"window"`
	Currency  string    `json:"currency,omitempty"`
	PricedBy  string    `json:"priced_by,omitempty"` // where the prices are from; absent where there are none
	Pods      int       `json:"pods"`
	Nodes     int       `json:"nodes"`
	Workloads int       `json:"workloads"`

	// Allocatable is what nodes have for pods, of the whole cluster. Requested is
	// what pods hold of it, Used what they used on average in the window, Idle what
	// is neither requested nor used. Used and Idle are absent where nobody knows.
	Allocatable Amount  `json:"allocatable"`
	Requested   Amount  `json:"requested"`
	Used        *Amount `json:"used,omitempty"`
	Idle        *Amount `json:"idle,omitempty"`
	// Unused is what is requested above the highest use that was seen, with what is
	// added to that.
	Unused *Amount `json:"unused,omitempty"`
	// Changes is what the recommended values free together, without those that take
	// more.
	Changes Changes `json:"changes"`

	Waste     []Item            `json:"waste"`     // what is paid for and of no use, largest first
	Shortages []Item            `json:"shortages"` // what has too little, or could not be placed
	Teams     []Team            `json:"teams"`     // largest waste first
	LeftAlone []Left            `json:"left_alone"`
	Measured  []Usages          `json:"measured"`
	Evidence  []event.Evidence  `json:"evidence"`
	Unchecked []check.Unchecked `json:"not_checked"`
}

// Window is the time over which use was read.
type Window struct {
	Days         int       `json:"days"` // asked for
	HistoryHours float64   `json:"history_hours"`
	Enough       bool      `json:"enough"` // there is a week, without which nothing is recommended
	EnoughAt     time.Time `json:"enough_at,omitzero"`
	RateSeconds  float64   `json:"rate_seconds,omitempty"` // over which CPU use is averaged
}

// Changes is what the recommended values come to.
type Changes struct {
	Workloads int    `json:"workloads"`
	Frees     Amount `json:"frees"`
	Takes     Amount `json:"takes"` // of those that have too little
}

// Item is one thing that somebody would have to change, with everything that was
// found about it.
type Item struct {
	Entity   event.Entity    `json:"entity"`
	Team     string          `json:"team,omitempty"`
	Amount   Amount          `json:"amount"` // what it wastes; of a shortage, what enough of it takes
	Title    string          `json:"title"`
	Risk     Risk            `json:"risk"`
	Findings []event.Finding `json:"findings"`
	Advice   []Advice        `json:"advice,omitempty"`
	Left     []LeftAlone     `json:"left_alone,omitempty"`
}

// Risk is what may go wrong when the advice is followed.
type Risk struct {
	Level string `json:"level"` // low, medium, high, or unknown where it is left alone
	Why   string `json:"why"`
}

// Unknown is the risk of changing what is left alone.
const Unknown = "unknown"

// Team is what a team's workloads hold and waste.
type Team struct {
	Team      string  `json:"team"` // "" for what nobody answers for
	Workloads int     `json:"workloads"`
	Requested Amount  `json:"requested"`
	Used      *Amount `json:"used,omitempty"`
	Waste     Amount  `json:"waste"`
}

// Left is a workload of which something is left alone, with why.
type Left struct {
	Entity event.Entity `json:"entity"`
	LeftAlone
}

// Usages is what the containers of a workload used.
type Usages struct {
	Entity     event.Entity `json:"entity"`
	Team       string       `json:"team,omitempty"`
	Pods       int          `json:"pods"`
	Requested  Amount       `json:"requested"`
	Containers []Measured   `json:"containers"`
}

// examiner makes a report.
type examiner struct {
	*survey
	out   *Report
	waste map[event.Entity]*Item
	short map[event.Entity]*Item
	cited map[string]string
}

// Examine says what of a cluster is wasted. It changes nothing of it.
func Examine(c *check.Cluster, o Options) *Report {
	s := newSurvey(c, o)
	out := &Report{
		Namespace: c.Namespace, Time: c.Now.UTC().Truncate(time.Second), Window: Window{Days: o.Days}, Pods: len(c.Pods), Nodes: len(c.Nodes), Workloads: len(s.workloads),
		Waste: []Item{}, Shortages: []Item{}, Teams: []Team{}, LeftAlone: []Left{}, Measured: []Usages{}, Evidence: []event.Evidence{}, Unchecked: []check.Unchecked{},
	}
	if o.Prices.Known() {
		out.Currency, out.PricedBy = o.Prices.Currency, o.Prices.Source
	}
	x := &examiner{survey: s, out: out, waste: map[event.Entity]*Item{}, short: map[event.Entity]*Item{}, cited: map[string]string{}}
	x.totals()
	for _, w := range s.workloads {
		x.workload(w)
	}
	x.objects()
	x.spread()
	x.unread()
	out.Waste, out.Shortages = x.items(x.waste), x.items(x.short)
	x.teams()
	x.round()
	return out
}

// totals are the figures of the first line.
func (x *examiner) totals() {
	out := x.out
	for _, n := range x.c.Nodes {
		out.Allocatable = out.Allocatable.Plus(x.o.Prices.priced(quantity(n.Status.Allocatable, "cpu"), quantity(n.Status.Allocatable, "memory")/gib, x.rates[n.Name]))
	}
	for _, w := range x.workloads {
		out.Requested = out.Requested.Plus(w.held)
	}
	u := x.o.Usage
	if u == nil {
		return
	}
	out.Window.HistoryHours, out.Window.RateSeconds = u.History.Hours(), u.RateWindow.Seconds()
	if out.Window.Enough = u.History >= MinHistory; !out.Window.Enough {
		out.Window.EnoughAt = u.EnoughAt().UTC().Truncate(time.Minute)
	}
	var used Amount
	for k, use := range u.Uses {
		if x.c.Namespace != "" && k.Namespace != x.c.Namespace {
			continue
		}
		used.Cores += zero(use.MeanCPU)
		used.GiB += zero(use.MeanMemory) / gib
	}
	used = x.o.Prices.priced(used.Cores, used.GiB, x.meanRate())
	out.Used = &used
	if x.c.Namespace == "" {
		idle := x.o.Prices.priced(max(0, out.Allocatable.Cores-max(out.Requested.Cores, used.Cores)), max(0, out.Allocatable.GiB-max(out.Requested.GiB, used.GiB)), x.meanRate())
		out.Idle = &idle
	}
}

// meanRate is what capacity costs, on average over the nodes.
func (x *examiner) meanRate() Rate {
	var cpu, memory, cpuCost, memoryCost float64
	for _, n := range x.c.Nodes {
		c, m, r := quantity(n.Status.Allocatable, "cpu"), quantity(n.Status.Allocatable, "memory")/gib, x.rates[n.Name]
		cpu, memory, cpuCost, memoryCost = cpu+c, memory+m, cpuCost+c*r.CPUCoreHour, memoryCost+m*r.MemoryGiBHour
	}
	if cpu == 0 || memory == 0 {
		return x.o.Prices.Rate
	}
	return Rate{cpuCost / cpu, memoryCost / memory}
}

func zero(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

func known(v float64) *float64 {
	if math.IsNaN(v) {
		return nil
	}
	v = math.Round(v*1e6) / 1e6
	return &v
}

// weight orders amounts: by money, or where there is none by cores, with memory in
// the relation in which the nodes have it.
func (x *examiner) weight(a Amount) float64 {
	if a.Money != nil {
		return *a.Money
	}
	each := x.out.Allocatable.GiB / x.out.Allocatable.Cores
	if !(each > 0) || math.IsInf(each, 0) {
		each = 4
	}
	return a.Cores + a.GiB/each
}

// items are in the order of what they are worth.
func (x *examiner) items(of map[event.Entity]*Item) []Item {
	out := make([]Item, 0, len(of))
	for _, i := range of {
		out = append(out, *i)
	}
	rank := map[event.Urgency]int{event.Broken: 0, event.Soon: 1, event.Hygiene: 2}
	slices.SortFunc(out, func(a, b Item) int {
		return cmp.Or(rank[a.Findings[0].Urgency]-rank[b.Findings[0].Urgency], cmp.Compare(x.weight(b.Amount), x.weight(a.Amount)), strings.Compare(a.Entity.String(), b.Entity.String()))
	})
	return out
}

// unread says of what nothing could be concluded.
func (x *examiner) unread() {
	for _, u := range x.c.Unread {
		x.out.Unchecked = append(x.out.Unchecked, check.Unchecked{What: u.Resource, Why: u.Why})
	}
	if x.o.Usage == nil {
		return
	}
	for _, m := range x.o.Usage.Measures() {
		if why := x.o.Usage.Missing[m]; why != "" {
			x.out.Unchecked = append(x.out.Unchecked, check.Unchecked{What: m + " of containers", Why: x.o.Redact.Line(why)})
		}
	}
}

func (x *examiner) teams() {
	at := map[string]*Team{}
	team := func(name string) *Team {
		if at[name] == nil {
			at[name] = &Team{Team: name}
		}
		return at[name]
	}
	for _, w := range x.workloads {
		t := team(w.team)
		t.Workloads++
		t.Requested = t.Requested.Plus(w.held)
		if x.o.Usage == nil {
			continue
		}
		var used Amount
		for _, k := range w.containers {
			if k.use != nil {
				used.Cores, used.GiB = used.Cores+zero(k.use.MeanCPU), used.GiB+zero(k.use.MeanMemory)/gib
			}
		}
		sum := x.o.Prices.priced(used.Cores, used.GiB, w.rate)
		if t.Used != nil {
			sum = t.Used.Plus(sum)
		}
		t.Used = &sum
	}
	for _, i := range x.out.Waste {
		if i.Entity.Kind != "Cluster" {
			t := team(i.Team)
			t.Waste = t.Waste.Plus(i.Amount)
		}
	}
	for _, t := range at {
		x.out.Teams = append(x.out.Teams, *t)
	}
	slices.SortFunc(x.out.Teams, func(a, b Team) int {
		return cmp.Or(cmp.Compare(x.weight(b.Waste), x.weight(a.Waste)), strings.Compare(a.Team, b.Team))
	})
}

// round leaves no more digits than anybody may believe.
func (x *examiner) round() {
	out := x.out
	for _, a := range []*Amount{&out.Allocatable, &out.Requested, out.Used, out.Idle, out.Unused, &out.Changes.Frees, &out.Changes.Takes} {
		if a != nil {
			*a = a.rounded()
		}
	}
	for _, list := range [][]Item{out.Waste, out.Shortages} {
		for i := range list {
			list[i].Amount = list[i].Amount.rounded()
			for j := range list[i].Advice {
				list[i].Advice[j].Saves = list[i].Advice[j].Saves.rounded()
			}
		}
	}
	for i := range out.Teams {
		t := &out.Teams[i]
		t.Requested, t.Waste = t.Requested.rounded(), t.Waste.rounded()
		if t.Used != nil {
			u := t.Used.rounded()
			t.Used = &u
		}
	}
	for i := range out.Measured {
		out.Measured[i].Requested = out.Measured[i].Requested.rounded()
	}
	out.Window.HistoryHours = math.Round(out.Window.HistoryHours*10) / 10
}
