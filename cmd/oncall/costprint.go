package main

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/cost"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
)

// shownItems is how many things are shown without --all.
const shownItems = 10

func (x *costed) print(o *options, f *costFlags, notes io.Writer) error {
	switch {
	case f.patch != "":
		return x.patches(o, f, notes)
	case o.format() == render.JSON, o.format() == render.YAML:
		if f.by != "" {
			return render.Value(o.out, o.format(), x.Teams)
		}
		return render.Value(o.out, o.format(), x)
	case o.output == csvFormat:
		head, rows := x.rows(f)
		w := csv.NewWriter(o.out)
		_ = w.Write(head) // its error is Error's
		for _, r := range rows {
			for i := range r {
				r[i] = spreadsheet(r[i])
			}
			_ = w.Write(r)
		}
		w.Flush()
		return w.Error()
	}
	p := &costPage{page: &page{now: x.Time, o: o.terminal(), md: o.format() == render.MD}, x: x, f: f}
	p.whole()
	_, err := io.WriteString(o.out, p.b.String())
	return err
}

// spreadsheet keeps a text from being taken for a formula, and from hiding what
// it says.
func spreadsheet(s string) string {
	s = render.Plain(s)
	if _, err := strconv.ParseFloat(s, 64); err != nil && s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// patches prints what would change, and says on the side what it is.
func (x *costed) patches(o *options, f *costFlags, notes io.Writer) error {
	all := x.Patches()
	write := func() (string, error) { return cost.Kubectl(all, f.context) }
	if f.patch == "kustomize" {
		write = func() (string, error) { return cost.Kustomize(all) }
	}
	text, err := write()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(notes, "oncall: nothing to change: "+cmp.Or(x.noAdvice(), "no request is far from the use"))
	} else {
		fmt.Fprintf(notes, "oncall: %s, printed and not applied; pods restart when one is\n", patchCount(len(all)))
	}
	_, err = io.WriteString(o.out, text)
	return err
}

func patchCount(n int) string {
	if n == 1 {
		return "1 patch"
	}
	return fmt.Sprintf("%d patches", n)
}

// noAdvice is why nothing is recommended at all, or "".
func (x *costed) noAdvice() string {
	switch {
	case x.Used == nil:
		for _, u := range x.Unchecked {
			if strings.HasPrefix(u.What, "use of containers") {
				return u.Why
			}
		}
		return "nothing is known of the use"
	case !x.Window.Enough:
		return fmt.Sprintf("Prometheus has %s of history, and advice takes %s: enough on %s UTC", hours(x.Window.HistoryHours), cost.Span(cost.MinHistory), x.Window.EnoughAt.Format("2 January 15:04"))
	}
	return ""
}

func hours(h float64) string { return cost.Span(time.Duration(h * float64(time.Hour))) }

// costPage writes a report.
type costPage struct {
	*page
	x *costed
	f *costFlags
}

func (p *costPage) line(text string) {
	if p.md {
		fmt.Fprintf(&p.b, "%s\n\n", p.show(text))
		return
	}
	fmt.Fprintln(&p.b, p.show(text))
}

// sum is an amount for people: 12.0 cores, 48 GiB, EUR 310.
func (x *costed) sum(a cost.Amount) string {
	out := fmt.Sprintf("%s cores, %s GiB", number(a.Cores), number(a.GiB))
	if a.Money != nil {
		out += ", " + x.money(*a.Money)
	}
	return out
}

func (x *costed) money(v float64) string {
	text := fmt.Sprintf("%.2f", v)
	if v >= 100 || v <= -100 {
		text = fmt.Sprintf("%.0f", v)
	}
	return strings.TrimSpace(x.Currency + " " + text)
}

func number(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10 || v == 0:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	}
	return strings.TrimSuffix(fmt.Sprintf("%.2f", v), ".00")
}

func (p *costPage) whole() {
	x := p.x
	first := "allocatable " + x.sum(x.Allocatable)
	if x.Allocatable.Money != nil {
		first += " a month"
	}
	first += "; requested " + x.sum(x.Requested)
	if x.Used != nil {
		first += "; used " + x.sum(*x.Used)
	} else {
		first += "; used: not known"
	}
	switch {
	case x.Idle != nil:
		first += "; idle " + x.sum(*x.Idle)
	case x.Namespace != "":
		first += "; idle: of the whole cluster (-A)"
	}
	p.line(first)
	where := x.Cluster
	if x.Namespace != "" {
		where += "/" + x.Namespace
	}
	second := fmt.Sprintf("%s: %s, %s, %s; %.1f s", where, counted(x.Pods, "pod"), counted(x.Nodes, "node"), counted(x.Workloads, "workload"), x.Seconds)
	if x.Used != nil {
		second += fmt.Sprintf("; use of %d d, of which Prometheus has %s", x.Window.Days, hours(x.Window.HistoryHours))
	}
	second += "; "
	if x.PricedBy != "" {
		second += "prices: " + x.PricedBy
	} else {
		second += "no prices (--prices FILE, --opencost URL): cores and GiB alone"
	}
	p.line(second)
	p.line(p.headline())
	if p.f.by == "team" {
		p.teams()
	} else {
		p.waste()
		p.shortages()
		p.next()
	}
	for _, u := range x.Unchecked {
		p.line("not checked: " + u.What + ": " + u.Why)
	}
}

// headline says what there is to gain.
func (p *costPage) headline() string {
	x := p.x
	if why := x.noAdvice(); why != "" {
		return "no advice: " + why
	}
	if x.Unused == nil {
		return "requests are as the use is; nothing to gain from lower ones"
	}
	out := x.sum(*x.Unused) + " requested above the highest use that was seen"
	var frees []cost.Amount
	for _, i := range x.Waste {
		var sum cost.Amount
		for _, a := range i.Advice {
			sum = sum.Plus(a.Saves)
		}
		if len(i.Advice) > 0 {
			frees = append(frees, sum)
		}
	}
	if len(frees) == 0 {
		return out + "; all of it is left alone, --all says why"
	}
	worth := func(a cost.Amount) float64 {
		if a.Money != nil {
			return *a.Money
		}
		return a.Cores + a.GiB/4
	}
	slices.SortFunc(frees, func(a, b cost.Amount) int { return cmp.Compare(worth(b), worth(a)) })
	total, got, few := 0.0, 0.0, 0
	for _, a := range frees {
		total += worth(a)
	}
	for got < 0.8*total && few < len(frees) {
		got += worth(frees[few])
		few++
	}
	out += fmt.Sprintf("; %s free %s of it", counted(len(frees), "change"), x.sum(x.Changes.Frees))
	if len(frees) == 1 {
		out = strings.Replace(out, "1 change free", "1 change frees", 1)
	}
	if few < len(frees) {
		out += fmt.Sprintf(", %d of them 80 %%", few)
	}
	return out + fmt.Sprintf(", none below the highest use in %s", hours(x.Window.HistoryHours))
}

func (p *costPage) section(title string) {
	if p.md {
		fmt.Fprintf(&p.b, "## %s\n\n", title)
		return
	}
	fmt.Fprintf(&p.b, "\n%s\n", p.o.Paint("1", title))
}

// worth is what stands before a thing: its money, or its cores and memory.
func (p *costPage) worth(a cost.Amount) string {
	if a.Cores+a.GiB == 0 && (a.Money == nil || *a.Money == 0) {
		return "-"
	}
	if a.Money != nil {
		return p.x.money(*a.Money)
	}
	return number(a.Cores) + " c " + number(a.GiB) + " G"
}

func (p *costPage) items(list []cost.Item) {
	width := 0
	for _, i := range list {
		width = max(width, len([]rune(p.worth(i.Amount))))
	}
	for _, i := range list {
		worth, name := p.worth(i.Amount), check.Name(i.Entity)
		if p.md {
			fmt.Fprintf(&p.b, "- **%s** %s: %s\n", p.show(worth), p.show(name), p.show(i.Title))
		} else {
			for _, l := range render.Wrap(p.show(name+": "+i.Title), p.o.Columns(), fmt.Sprintf("%*s  ", width, worth), strings.Repeat(" ", width+2)) {
				fmt.Fprintln(&p.b, l)
			}
		}
		var more []string
		for _, f := range i.Findings {
			if f.Title != i.Title {
				more = append(more, f.Title)
			}
		}
		for _, a := range i.Advice {
			more = append(more, a.Container+": "+a.String())
		}
		if (p.f.rest || len(i.Advice) == 0) && i.Risk.Level != cost.Unknown {
			for _, l := range i.Left {
				more = append(more, l.Container+": "+l.Resource+" left alone: "+l.Why)
			}
		}
		if i.Risk.Level == cost.Unknown {
			more = append(more, "left alone: "+i.Risk.Why)
		} else {
			more = append(more, "risk "+i.Risk.Level+": "+i.Risk.Why)
		}
		for _, m := range more {
			if p.md {
				fmt.Fprintf(&p.b, "  - %s\n", p.show(m))
				continue
			}
			indent := strings.Repeat(" ", width+4)
			for _, l := range render.Wrap(p.show(m), p.o.Columns(), indent, indent+"  ") {
				fmt.Fprintln(&p.b, l)
			}
		}
	}
	if p.md {
		p.b.WriteString("\n")
	}
}

// waste shows the largest of what is paid for and of no use.
func (p *costPage) waste() {
	list := p.x.Waste
	if len(list) == 0 {
		return
	}
	title := "Waste"
	if p.x.PricedBy != "" {
		title += " a month"
	}
	shown := list
	if !p.f.rest && len(list) > shownItems {
		shown = list[:shownItems]
		title = fmt.Sprintf("The %d largest of %d: %s", shownItems, len(list), strings.ToLower(title[:1])+title[1:])
	}
	p.section(title)
	p.items(shown)
}

// shortages shows what has too little; what is merely untidy is counted.
func (p *costPage) shortages() {
	var shown []cost.Item
	hygiene := 0
	for _, i := range p.x.Shortages {
		if !p.f.rest && (i.Findings[0].Urgency == event.Hygiene || len(shown) == shownItems) {
			hygiene++
			continue
		}
		shown = append(shown, i)
	}
	if len(shown) > 0 {
		p.section("Too little, with what enough takes")
		p.items(shown)
	}
	var hidden []string
	if n := len(p.x.Waste) - shownItems; n > 0 && !p.f.rest {
		hidden = append(hidden, fmt.Sprintf("%d smaller", n))
	}
	if hygiene > 0 {
		hidden = append(hidden, counted(hygiene, "workload")+" with requests or limits missing or far apart")
	}
	if n := len(p.x.LeftAlone); n > 0 && !p.f.rest {
		hidden = append(hidden, fmt.Sprintf("why %s left alone", isAre(n)))
	}
	if len(hidden) > 0 {
		if !p.md {
			p.b.WriteString("\n")
		}
		p.line("hidden: " + strings.Join(hidden, ", ") + " (--all)")
	}
}

func isAre(n int) string {
	if n == 1 {
		return "1 value is"
	}
	return fmt.Sprintf("%d values are", n)
}

func (p *costPage) next() {
	if len(p.x.Patches()) == 0 {
		return
	}
	command := "oncall cost --patch kubectl"
	if p.x.Namespace != "" {
		command += " -n " + p.x.Namespace
	}
	if p.f.context != "" {
		command += " --context " + p.f.context
	}
	if p.md {
		fmt.Fprintf(&p.b, "Next: %s\n\n", render.Code(command))
		return
	}
	fmt.Fprintf(&p.b, "\nNext checks:\n  %s   # the changes as patches, to read and to apply by hand\n", render.Plain(command))
}

func (p *costPage) teams() {
	x := p.x
	cells := func(a *cost.Amount) string {
		if a == nil {
			return "-"
		}
		return x.sum(*a)
	}
	var rows [][]string
	for _, t := range x.Teams {
		rows = append(rows, []string{cmp.Or(t.Team, "(nobody)"), strconv.Itoa(t.Workloads), x.sum(t.Requested), cells(t.Used), x.sum(t.Waste)})
	}
	head := []string{"team", "workloads", "requested", "used", "waste"}
	if p.md {
		_ = markdownTable(&p.b, head, rows) // a Builder takes everything
		p.b.WriteString("\n")
		return
	}
	_ = table(&p.b, head, rows)
}
