package loki

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// share is what one window may publish, in bytes: all of it, of one namespace,
// and of one stream.
type share struct{ all, namespace, stream int64 }

// shareOf is a window's part of what a day may publish.
func (c *Config) shareOf(window time.Duration) share {
	part := func(perDay int64) int64 { return max(1, int64(float64(perDay)*window.Hours()/24)) }
	return share{part(c.BytesPerDay), part(c.NamespaceBytesPerDay), part(c.StreamBytesPerDay)}
}

// sampler decides which lines of a window are kept, and how many each of them
// stands for.
//
// Bytes are shared out so that who says little keeps all of it: among
// namespaces, among the streams of one, and in a stream that has more than its
// part among skeletons, which is what tells statements apart at first sight. So
// it is the loudest statement of the loudest stream that is sampled, and what is
// seldom said beside it is not. Of a skeleton that has more than its part a line
// is kept by its hash against a rate that follows from the window's own counts:
// neither the order in which lines came nor what was kept before matters.
//
// Where there are so many skeletons that even one line of each is too much, the
// first line of one that its workload did not have before is kept as it is, and
// stands for itself alone. The skeletons that are known are its only state; it
// is saved with the cursor, so that reading again keeps the same lines.
type sampler struct {
	known []uint64 // of a workload and a skeleton, the oldest first
	index map[uint64]bool
	until time.Time // end of the last window that was sampled
	looks logpattern.Skeletons
}

const (
	// maxKnown bounds the skeletons that are remembered. What is forgotten is kept
	// once more.
	maxKnown = 4096
	// maxFresh bounds the lines that one workload is given in a window because
	// their skeleton is new. One that never says the same twice has no more.
	maxFresh = 256
	// knownFor is how long after the last sampled window they are remembered.
	knownFor = time.Hour
	// maxRate is the most that one line stands for.
	maxRate = 1_000_000
)

// newSampler reads what a cursor holds.
func newSampler(saved []byte, until time.Time) *sampler {
	s := &sampler{index: map[uint64]bool{}, until: until}
	for ; len(saved) >= 8 && len(s.known) < maxKnown; saved = saved[8:] {
		s.learn(binary.LittleEndian.Uint64(saved))
	}
	return s
}

// save is what a cursor is to hold.
func (s *sampler) save() []byte {
	var out []byte
	for _, k := range s.known {
		out = binary.LittleEndian.AppendUint64(out, k)
	}
	return out
}

func (s *sampler) learn(key uint64) {
	if s.index[key] {
		return
	}
	if len(s.known) >= maxKnown {
		delete(s.index, s.known[0])
		s.known = slices.Delete(s.known, 0, 1)
	}
	s.known, s.index[key] = append(s.known, key), true
}

// loudest is the stream of a window of whose lines the fewest were kept.
type loudest struct {
	labels event.Labels
	rate   int
}

// sample sets the rate of every line: 0 for one that is left out. Lines come
// sorted by stream, time and content.
func (s *sampler) sample(lines []line, most share, end time.Time) (worst loudest) {
	if end.Sub(s.until) > knownFor && len(s.known) > 0 {
		s.known, s.index = nil, map[uint64]bool{}
	}
	parts := partition(lines, most)
	fresh := map[uint64]int{} // by workload
	for from := 0; from < len(lines); {
		to := from + 1
		for to < len(lines) && lines[to].id == lines[from].id {
			to++
		}
		stream := lines[from:to]
		from = to
		part, over := parts[stream[0].id]
		if !over {
			for i := range stream {
				stream[i].rate = 1
			}
			continue
		}
		s.until = end
		if rate := s.stream(stream, part, fresh); rate > worst.rate {
			worst = loudest{stream[0].labels, rate}
		}
	}
	return worst
}

// stream samples the lines of one stream, and returns the highest rate.
func (s *sampler) stream(lines []line, part int64, fresh map[uint64]int) int {
	bytes := map[uint64]int64{}
	looks := make([]uint64, len(lines))
	for i, l := range lines {
		looks[i] = s.looks.Of(l.Text)
		bytes[looks[i]] += l.size()
	}
	sizes := make([]int64, 0, len(bytes))
	for _, n := range bytes {
		sizes = append(sizes, n)
	}
	level := waterLevel(sizes, part)
	who := event.HashStrings(lines[0].labels.Get(event.LabelNamespace), lines[0].labels.Workload())
	highest, nth := 1, 0
	for i := range lines {
		l := &lines[i]
		if nth++; i == 0 || !lines[i-1].same(l) {
			nth = 0
		}
		l.rate = 1
		if n := bytes[looks[i]]; n > level {
			l.rate = rateOf(n, level)
		}
		highest = max(highest, l.rate)
		if key := who ^ looks[i]*0x9e3779b97f4a7c15; !s.index[key] && fresh[who] < maxFresh {
			fresh[who]++
			s.learn(key)
			l.rate = 1
			continue
		}
		if l.rate > 1 && l.draw(nth) > math.MaxUint64/uint64(l.rate) {
			l.rate = 0
		}
	}
	return highest
}

// size is what a line counts of a budget; an empty one is not free.
func (l *line) size() int64 { return int64(len(l.Text)) + 16 }

// same says whether two lines cannot be told apart.
func (l *line) same(o *line) bool { return l.raw == o.raw && l.Time.Equal(o.Time) }

// draw is a number that is as good as chance, and the same whenever the line is
// read. Of lines that cannot be told apart each has its own.
func (l *line) draw(nth int) uint64 {
	return event.HashStrings(strconv.FormatUint(l.id, 16), strconv.FormatInt(l.Time.UnixNano(), 10), strconv.FormatUint(l.raw, 16), strconv.Itoa(nth))
}

// partition shares a window's bytes out, and returns the part of each stream
// that has more than it may; nil when none has.
func partition(lines []line, most share) map[uint64]int64 {
	type stream struct {
		id uint64
		n  int64
	}
	at := map[uint64]int{}
	of := map[string][]stream{}
	for i := range lines {
		l := &lines[i]
		ns := l.place.namespace
		k, ok := at[l.id]
		if !ok {
			k = len(of[ns])
			at[l.id], of[ns] = k, append(of[ns], stream{id: l.id})
		}
		of[ns][k].n += l.size()
	}
	wants := make([]int64, 0, len(of)) // of namespaces
	want := func(ns string) int64 {
		sum := int64(0)
		for _, st := range of[ns] {
			sum += min(st.n, most.stream)
		}
		return min(sum, most.namespace)
	}
	for ns := range of {
		wants = append(wants, want(ns))
	}
	level := waterLevel(wants, most.all)
	var out map[uint64]int64
	for ns, streams := range of {
		wants = wants[:0]
		for _, st := range streams {
			wants = append(wants, min(st.n, most.stream))
		}
		each := min(most.stream, waterLevel(wants, min(want(ns), level)))
		for _, st := range streams {
			if st.n > each {
				if out == nil {
					out = map[uint64]int64{}
				}
				out[st.id] = each
			}
		}
	}
	return out
}

// waterLevel is the most that each may have so that all together have no more
// than sum; no bound where what they want is no more than it.
func waterLevel(wants []int64, sum int64) int64 {
	slices.Sort(wants)
	for i, w := range wants {
		if n := int64(len(wants) - i); w > sum/n {
			return max(1, sum/n)
		}
		sum -= w
	}
	return math.MaxInt64
}

// rateOf is how many lines one is to stand for, so that no more is left of n
// bytes than so many: the next of 1, 2, 5, 10, 20, 50 …, so that lines of few
// rates fall into few batches.
func rateOf(n, most int64) int {
	for step := 1; step < maxRate; step *= 10 {
		for _, r := range [3]int{step, 2 * step, 5 * step} {
			if n <= most*int64(r) {
				return r
			}
		}
	}
	return maxRate
}
