package main

import (
	"fmt"
	"strconv"

	"github.com/oncall-copilot/oncall/pkg/cost"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// rows are the report as a table: a line for every container, and for every thing
// that has none; or a line for every team.
func (x *costed) rows(f *costFlags) (head []string, rows [][]string) {
	money := func(a cost.Amount) string {
		if a.Money == nil {
			return ""
		}
		return fmt.Sprintf("%.2f", *a.Money)
	}
	decimal := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	if f.by == "team" {
		head = []string{"team", "workloads", "requested_cores", "requested_gib", "requested_money_month", "used_cores", "used_gib", "used_money_month", "waste_cores", "waste_gib", "waste_money_month"}
		for _, t := range x.Teams {
			row := []string{t.Team, strconv.Itoa(t.Workloads), decimal(t.Requested.Cores), decimal(t.Requested.GiB), money(t.Requested), "", "", ""}
			if t.Used != nil {
				row[5], row[6], row[7] = decimal(t.Used.Cores), decimal(t.Used.GiB), money(*t.Used)
			}
			rows = append(rows, append(row, decimal(t.Waste.Cores), decimal(t.Waste.GiB), money(t.Waste)))
		}
		return head, rows
	}
	head = []string{
		"namespace", "kind", "name", "team", "container", "pods", "cpu_request_cores", "cpu_limit_cores", "cpu_p95_cores", "cpu_p99_cores", "cpu_max_cores",
		"memory_request_bytes", "memory_limit_bytes", "memory_max_bytes", "throttled_share", "oom_killed_days", "history_hours",
		"cpu_request_to", "cpu_limit_to", "memory_request_to", "memory_limit_to", "saves_cores", "saves_gib", "saves_money_month", "finding", "waste_money_month", "risk", "why",
	}
	found := map[event.Entity][]cost.Item{}
	waste := map[event.Entity]cost.Amount{}
	for _, i := range x.Waste {
		waste[i.Entity] = i.Amount
	}
	for _, list := range [][]cost.Item{x.Waste, x.Shortages} {
		for _, i := range list {
			found[i.Entity] = append(found[i.Entity], i)
		}
	}
	of := func(e event.Entity, row []string, container string, first bool) []string {
		var cpu, memory cost.Advice
		var saves cost.Amount
		why := ""
		for _, i := range found[e] {
			for _, a := range i.Advice {
				if a.Container != container || container == "" {
					continue
				}
				if saves = saves.Plus(a.Saves); a.Resource == "cpu" {
					cpu = a
				} else {
					memory = a
				}
				if why != "" {
					why += "; "
				}
				why += a.String()
			}
		}
		row = append(row, cpu.Request.To, cpu.Limit.To, memory.Request.To, memory.Limit.To, decimal(saves.Cores), decimal(saves.GiB), money(saves))
		// What is said of the whole stands once, so that sums are right.
		finding, wasted, risk := "", "", ""
		if items := found[e]; first && len(items) > 0 {
			finding, risk = items[0].Title, items[0].Risk.Level+": "+items[0].Risk.Why
			if a, ok := waste[e]; ok {
				wasted = money(a)
			}
		}
		return append(row, finding, wasted, risk, why)
	}
	number := func(v *float64) string {
		if v == nil {
			return ""
		}
		return decimal(*v)
	}
	given := func(v float64) string {
		if v == 0 {
			return "" // there is none
		}
		return decimal(v)
	}
	told := map[event.Entity]bool{}
	for _, u := range x.Measured {
		told[u.Entity] = true
		for i, m := range u.Containers {
			rows = append(rows, of(u.Entity, []string{
				u.Entity.Namespace, u.Entity.Kind, u.Entity.Name, u.Team, m.Container, strconv.Itoa(u.Pods), given(m.CPURequest), given(m.CPULimit), number(m.CPUP95), number(m.CPUP99), number(m.CPUMax),
				given(m.MemoryRequest), given(m.MemoryLimit), number(m.MemoryMax), number(m.Throttled), strconv.Itoa(m.OOMKilledDays), decimal(m.HistoryHours),
			}, m.Container, i == 0))
		}
	}
	for _, list := range [][]cost.Item{x.Waste, x.Shortages} {
		for _, i := range list {
			if told[i.Entity] {
				continue
			}
			told[i.Entity] = true
			row := make([]string, 17)
			row[0], row[1], row[2], row[3] = i.Entity.Namespace, i.Entity.Kind, i.Entity.Name, i.Team
			rows = append(rows, of(i.Entity, row, "", true))
		}
	}
	return head, rows
}
