package detectors

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

// statedValue is what is kept of one value of a statement: what kind of value it is,
// by what was seen of it and not by its name, and how it is distributed.
type statedValue struct {
	key   uint64
	name  string
	place int
	form  logpattern.Form
	unit  string

	// Until the kind is known:
	n, nums    uint32
	ups, downs uint32 // from one line of a pod to the next
	top        *stat.Top

	kind   kind
	codes  bool // three digits: told apart by the first
	blocks float64

	hist            stat.Histogram // of numbers, of the usual blocks
	median, high    float64        // the usual, to which the shares belong
	over, up, under stat.Shift     // shares of numbers above high, above the median, and not above it
	classes         []stateShare   // of states and codes
	fresh           stat.Shift     // share of the lines with states that were not seen an hour ago
	farthest        float64        // any share of a state went, in units of its deviation
	evicted         float64        // states that had to make room, forgotten slowly
	closed          int64          // minute of the last block that was learnt
	unsure          int            // blocks that are only learnt, after a gap

	block block
	last  [4]lastOfPod
	odd   *oddValue
}

// kind is what can be said of a value.
type kind uint8

const (
	numbers kind = 1 << iota // quantities, with quantiles
	states                   // few that differ, with shares
	opaque                   // ids, counters, times, texts: nothing
)

// stateShare is one state of a value and its share of the lines.
type stateShare struct {
	text   string
	hash   uint32
	shift  stat.Shift
	since  float64 // block in which it was new
	k      float64 // lines of the block
	comes  int     // lines of it after one of another state, by the same pod
	leaves int     // and the other way round
	first  int64   // when there were more than usual, in milliseconds
}

// block is what was stated in the minutes that are being counted.
type block struct {
	start           int64 // minute
	n               float64
	nums            float64 // those that are numbers
	hist            stat.Histogram
	over, up, under float64
	first           int64 // when more were over than usual, in milliseconds
}

// lastOfPod is what a pod stated last.
type lastOfPod struct {
	pod   uint32 // a part of its id
	class uint32 // a hash of the state
	value float64
}

// oddValue is what is odd of a value since its onset.
type oddValue struct {
	onset     int64 // in milliseconds
	p         float64
	class     string // state that comes oftener; "" for numbers that moved
	observed  float64
	low, high float64 // expected
	lines     float64
	said      string
	sample    string
}

const (
	// decidedBy is how many values show what kind they are of.
	decidedBy = 200
	// maxStates is how many different texts states are at most, and nearly all a
	// share of all that is as good as all.
	maxStates = 16
	nearlyAll = 0.98
	mostly    = 0.9

	// A block is a minute, or as many as have so many lines, ten at most. Blocks
	// that are older when the next line comes say nothing of now.
	blockLines  = 50
	longBlock   = 10
	staleBlock  = 15
	fewestBlock = 60 // blocks that are learnt from before one is judged, and
	afterGap    = 10 // after a gap
	// longGap is after how many minutes without a block values may have become
	// others, unseen.
	longGap = 60

	// isNews is for how many blocks a state is new.
	isNews = 60
	// fewestOdd is how many lines are odd at least.
	fewestOdd = 10
)

// shiftSpan is a day of minutes, and an hour.
var shiftSpan = stat.ShiftSpan{Usual: logHorizon, Recent: 60}

func newStatedValue(key uint64, f *logpattern.Field) *statedValue {
	return &statedValue{key: key, name: strings.Clone(f.Name), place: f.Place, form: f.Form, unit: strings.Clone(f.Unit), top: &stat.Top{}}
}

// add counts the value of a line that came at a time, in milliseconds.
func (v *statedValue) add(f *logpattern.Field, pod uint64, at int64) {
	who := uint32(pod>>32) | 1 // zero is nobody
	last := &v.last[pod%uint64(len(v.last))]
	if v.kind == 0 {
		v.learnKind(f, last, who)
		return
	}
	b := &v.block
	if b.n == 0 {
		b.start = at / minute
	}
	b.n++
	if f.IsNum {
		b.nums++
		if v.kind&numbers != 0 {
			b.hist.Add(f.Value)
			switch {
			case f.Value > v.high:
				b.over++
				b.up++
				if b.first == 0 && b.over > blockLines*v.over.Mean() {
					b.first = at
				}
			case f.Value > v.median:
				b.up++
			default:
				b.under++
			}
		}
	}
	if v.kind&states != 0 {
		c := &v.classes[v.state(v.classOf(f.Text))]
		c.k++
		if c.first == 0 && c.k > blockLines*c.shift.Mean() {
			c.first = at
		}
		if last.pod == who && last.class != c.hash {
			c.comes++
			for j := range v.classes {
				if v.classes[j].hash == last.class {
					v.classes[j].leaves++
				}
			}
		}
		last.class = c.hash
	}
	last.pod = who
}

// learnKind counts a value of which it is not known of what kind it is.
func (v *statedValue) learnKind(f *logpattern.Field, last *lastOfPod, who uint32) {
	v.n++
	v.top.Add(f.Text, maxStates)
	if f.IsNum {
		v.nums++
		v.hist.Add(f.Value)
		if last.pod == who && f.Value > last.value {
			v.ups++
		} else if last.pod == who && f.Value < last.value {
			v.downs++
		}
		last.value = f.Value
	}
	last.pod = who
	if v.n >= decidedBy {
		v.decide()
	}
}

// decide says what kind of value it is. What nearly always grows from one line to
// the next is a counter or a clock; what differs each time is an id.
func (v *statedValue) decide() {
	isNum := float64(v.nums) >= nearlyAll*float64(v.n)
	turns := v.ups + v.downs
	counter := isNum && turns >= 20 && float64(max(v.ups, v.downs)) >= mostly*float64(turns)
	switch {
	case counter:
		v.kind = opaque
	default:
		if isNum {
			v.kind |= numbers
			v.median, v.high = v.hist.Quantile(0.5), v.hist.Quantile(0.95)
		}
		if v.top.Sure() >= nearlyAll {
			v.kind |= states
			v.codes = isNum && !slices.ContainsFunc(v.top.Texts, func(t stat.TopText) bool { return !isCode(t.Text) })
			for _, t := range v.top.Texts {
				v.state(v.classOf(t.Text))
			}
		}
		if v.kind == 0 {
			v.kind = opaque
		}
	}
	v.top = nil
	if v.kind&numbers == 0 {
		v.hist = stat.Histogram{}
	}
}

func isCode(s string) bool {
	return len(s) == 3 && s[0] >= '1' && s[0] <= '9' && s[1] <= '9' && s[2] <= '9'
}

// classOf is the state that a text is: of a code its first digit.
func (v *statedValue) classOf(text string) string {
	if v.codes && isCode(text) {
		return codeClasses[text[0]-'1']
	}
	return text
}

func hashOfState(s string) uint32 { return uint32(event.HashStrings(s)) }

var codeClasses = [9]string{"1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx"}

// state is where a state is kept. A new one was there no time before, and takes the
// place of the rarest when there is none left.
func (v *statedValue) state(class string) int {
	for i := range v.classes {
		if v.classes[i].text == class {
			return i
		}
	}
	c := stateShare{text: strings.Clone(class), hash: hashOfState(class), since: v.blocks}
	if len(v.classes) > 0 {
		like := &v.classes[0].shift
		c.shift = stat.Shift{T: like.T}
		c.shift.Usual.N, c.shift.Usual.T, c.shift.Usual.Pairs = like.Usual.N, like.Usual.T, like.Usual.Pairs
	}
	if len(v.classes) < maxStates {
		v.classes = append(v.classes, c)
		return len(v.classes) - 1
	}
	rarest := 0
	for i := range v.classes {
		if v.classes[i].shift.Usual.K+v.classes[i].k < v.classes[rarest].shift.Usual.K+v.classes[rarest].k {
			rarest = i
		}
	}
	v.evicted++
	v.classes[rarest] = c
	return rarest
}

// close ends a block that is full or old, judges it and learns it, and says how
// many hypotheses were tested.
func (v *statedValue) close(now int64, judged bool, cfg *LogValueShiftConfig) (tested int64) {
	b := &v.block
	age := now - b.start
	if v.kind == 0 || b.n == 0 || age < 1 || b.n < blockLines && age < longBlock {
		return 0
	}
	if v.closed != 0 && b.start-v.closed > longGap {
		v.unsure = afterGap
		v.eachShift(func(s *stat.Shift, _, _ float64) { s.Pause() })
	}
	var odd *oddValue
	if judged && v.unsure == 0 && age <= staleBlock && b.n >= cfg.MinLines && v.blocks >= fewestBlock {
		odd = v.judge(cfg)
		tested = int64(len(v.classes)) + 1
	}
	switch {
	case odd == nil:
		v.odd = nil
		v.learn()
		v.closed, v.unsure = b.start, max(0, v.unsure-1)
	case v.odd != nil && b.start*minute-v.odd.onset >= becomesUsual:
		// It is the usual now, and is learnt from the beginning.
		*v = statedValue{key: v.key, name: v.name, place: v.place, form: v.form, unit: v.unit, top: &stat.Top{}}
		return tested
	default:
		if v.odd != nil {
			odd.onset = v.odd.onset
			if odd.class == v.odd.class {
				odd.sample = v.odd.sample
			}
		}
		v.odd = odd
		v.eachShift(func(s *stat.Shift, k, n float64) { s.Seen(stat.Window{K: k, N: n, Hour: b.start / 60}) })
	}
	hist := b.hist
	hist.Reset()
	*b = block{hist: hist}
	for i := range v.classes {
		c := &v.classes[i]
		c.k, c.comes, c.leaves, c.first = 0, 0, 0, 0
	}
	return tested
}

// eachShift calls f with what is learnt of each share, and that of the block.
func (v *statedValue) eachShift(f func(s *stat.Shift, k, n float64)) {
	b := &v.block
	if v.kind&numbers != 0 {
		f(&v.over, b.over, b.nums)
		f(&v.up, b.up, b.nums)
		f(&v.under, b.under, b.nums)
	}
	if v.kind&states != 0 {
		f(&v.fresh, v.news(), b.n)
		for i := range v.classes {
			f(&v.classes[i].shift, v.classes[i].k, b.n)
		}
	}
}

// news is how many lines of the block have a state that is new.
func (v *statedValue) news() (n float64) {
	for i := range v.classes {
		if v.isNew(&v.classes[i]) {
			n += v.classes[i].k
		}
	}
	return n
}

// isNew says whether a state was not there an hour ago; those of the beginning were.
func (v *statedValue) isNew(c *stateShare) bool { return c.since > 0 && v.blocks-c.since < isNews }

// learn folds the block into what is usual.
func (v *statedValue) learn() {
	b := &v.block
	v.farthest *= 1 - 1.0/logHorizon
	for i := range v.classes {
		if c := &v.classes[i]; c.k >= fewestOdd && v.blocks >= afterGap {
			v.farthest = max(v.farthest, v.distance(c))
		}
	}
	v.eachShift(func(s *stat.Shift, k, n float64) { s.Add(stat.Window{K: k, N: n, Hour: b.start / 60}, shiftSpan) })
	v.blocks++
	if v.evicted *= 1 - 1.0/isNews; v.evicted > maxStates {
		v.kind &^= states // there is no end of them
		v.classes = nil
	}
	if v.kind&numbers == 0 {
		if v.kind == 0 {
			v.kind = opaque
		}
		return
	}
	v.hist.Merge(&b.hist)
	if v.hist.N > maxNumbers {
		v.hist.Halve()
	}
	v.settle()
}

// maxNumbers is how many numbers make a distribution; then half of them are
// forgotten.
const maxNumbers = 20_000

// settle moves the usual quantiles after the distribution, once they are no longer
// near them.
func (v *statedValue) settle() {
	if share := v.hist.Above(v.high); share > 0.1 || share < 0.02 {
		v.high = v.hist.Quantile(0.95)
		v.over.Move(v.hist.Above(v.high))
	}
	if share := v.hist.Above(v.median); share > 0.6 || share < 0.4 {
		if m := v.hist.Quantile(0.5); m != v.median {
			v.median = m
			v.up.Move(v.hist.Above(m))
			v.under.Move(1 - v.hist.Above(m))
		}
	}
}

// title is what a value is called: its key, or where it stands.
func (v *statedValue) title() string {
	switch {
	case v.form != logpattern.Word:
		return v.name
	case v.name == "":
		return fmt.Sprintf("value %d", v.place)
	case v.place > 1:
		return fmt.Sprintf("value %d after %q", v.place, v.name)
	}
	return fmt.Sprintf("value after %q", v.name)
}

// stating is how a line states a state.
func (v *statedValue) stating(class string) string {
	if v.form == logpattern.Word {
		return v.title() + " " + class
	}
	return v.name + "=" + class
}
