package loki

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// small is a source that may publish so many bytes of a window, half of it of a
// namespace and a fifth of a stream.
func small(window int64) *Source {
	cfg := Config{BytesPerDay: window * 17280}
	cfg.Name = "loki"
	cfg.Fill()
	return newSource(cfg, env(), nil)
}

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// flood is a window in which one pod writes n lines, of one statement and one of
// every seldom lines of another, beside pods that write a few.
func flood(at time.Time, n, seldom int, more ...string) []stream {
	loud := stream{Labels: map[string]string{"namespace": "shop", "pod": "loud-7d4b9c6f5-x2x8q"}}
	add := func(st *stream, i int, line string) {
		st.Values = append(st.Values, [2]string{strconv.FormatInt(at.Add(time.Duration(i)*time.Microsecond).UnixNano(), 10), line})
	}
	for i := range n {
		line := fmt.Sprintf("retrying upstream 10.0.0.%d after %d ms", i%250, i)
		if seldom > 0 && i%seldom == 0 {
			line = fmt.Sprintf("queue polled, depth %d", i)
		}
		add(&loud, i, line)
	}
	for i, line := range more {
		add(&loud, n+i, line)
	}
	out := []stream{loud}
	for p := range 5 {
		quiet := stream{Labels: map[string]string{"namespace": []string{"shop", "mail"}[p%2], "pod": fmt.Sprintf("quiet%d-7d4b9c6f5-x2x8q", p)}}
		for i := range 20 {
			add(&quiet, i, fmt.Sprintf("request %d served", i))
		}
		out = append(out, quiet)
	}
	return out
}

// tally counts the lines of batches that hold a text: as they were kept, and as
// they stand for others; with the highest rate.
func tally(batches []event.LogBatch, text string) (kept, stands, rate int) {
	for _, b := range batches {
		for _, st := range b.Streams {
			for _, l := range st.Lines {
				if strings.Contains(l.Text, text) {
					kept, stands, rate = kept+1, stands+b.SampledRate, max(rate, b.SampledRate)
				}
			}
		}
	}
	return kept, stands, rate
}

func TestAFloodIsSampledAndWhoSaysLittleLosesNothing(t *testing.T) {
	s := small(100_000)
	const lines, polls = 20_000, 20
	out := s.batches(flood(noon, lines, lines/polls, "level=error ledger is corrupt"), noon, noon.Add(5*time.Second), s.windows, s.traces)
	for text, want := range map[string]int{"served": 100, "queue polled": polls, "ledger is corrupt": 1} {
		if kept, stands, _ := tally(out, text); kept != want || stands != want {
			t.Errorf("%q: %d lines are kept and stand for %d, want all %d", text, kept, stands, want)
		}
	}
	kept, stands, rate := tally(out, "retrying")
	if rate != 100 {
		t.Errorf("a line of the flood stands for %d, want 100", rate)
	}
	// Five standard deviations of a binomial.
	if off, most := math.Abs(float64(stands-lines+polls)), 5*float64(rate)*math.Sqrt(float64(lines)/float64(rate)); off > most {
		t.Errorf("%d lines stand for %d, which is %v from the truth, more than %v", kept, stands, off, most)
	}
	size := 0
	for _, b := range out {
		for _, st := range b.Streams {
			for _, l := range st.Lines {
				size += len(l.Text)
			}
		}
	}
	if size > 30_000 { // a fifth for the stream, and what is quiet
		t.Errorf("%d bytes are published", size)
	}
	if n := testutil.ToFloat64(s.sampled); n != float64(lines-polls-kept) {
		t.Errorf("%v lines are counted as left out, want %d", n, lines-polls-kept)
	}
	if r := testutil.ToFloat64(s.rate); r != 100 {
		t.Errorf("the rate is shown as %v", r)
	}
	if read, published := testutil.ToFloat64(s.bytes.WithLabelValues("read")), testutil.ToFloat64(s.bytes.WithLabelValues("published")); int(published) != size || read < 20*published {
		t.Errorf("%v bytes are counted as read and %v as published, want %d", read, published, size)
	}
}

func TestNothingIsLeftOutWithinTheBudget(t *testing.T) {
	s := small(10 << 20)
	out := s.batches(flood(noon, 20_000, 0), noon, noon.Add(5*time.Second), s.windows, s.traces)
	if kept, stands, _ := tally(out, ""); kept != 20_100 || stands != kept {
		t.Errorf("%d lines are kept and stand for %d, want all 20100", kept, stands)
	}
	if len(s.windows.known) > 0 {
		t.Errorf("%d skeletons are kept with the cursor without need", len(s.windows.known))
	}
}

// TestSamplingIsAFunctionOfTheWindowsAlone reads floods in any order of lines and
// streams, in one run and with restarts from cursors that lie a few windows back.
func TestSamplingIsAFunctionOfTheWindowsAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 1))
	window := func(i int) ([]stream, time.Time) {
		at := noon.Add(time.Duration(i) * 5 * time.Second)
		var more []string
		for k := range i % 4 {
			more = append(more, strings.Repeat("word", k+1)+" happened in window "+strings.Repeat("x", i))
		}
		return flood(at, 600*(i%3), 50, more...), at
	}
	const windows = 9
	plain := small(10_000)
	var want [windows]string
	var cursors [windows + 1][]byte
	for i := range windows {
		cursors[i] = plain.windows.save()
		streams, at := window(i)
		want[i] = fmt.Sprint(plain.batches(streams, at, at.Add(5*time.Second), plain.windows, plain.traces))
	}
	if !strings.Contains(strings.Join(want[:], ""), "50") {
		t.Fatal("nothing was sampled: the test says nothing")
	}
	for run := range 5 {
		s := small(10_000)
		for i := 0; i < windows; i++ {
			if rng.IntN(4) == 0 { // a restart
				i = max(0, i-rng.IntN(3))
				s.windows = newSampler(cursors[i], noon.Add(time.Duration(i)*5*time.Second))
			}
			streams, at := window(i)
			for k := range streams {
				v := streams[k].Values
				rng.Shuffle(len(v), func(a, b int) { v[a], v[b] = v[b], v[a] })
				if cut := rng.IntN(len(v) + 1); cut > 0 { // the answer came in two
					streams = append(streams, stream{Labels: streams[k].Labels, Values: v[:cut:cut]})
					streams[k].Values = v[cut:]
				}
			}
			rng.Shuffle(len(streams), func(a, b int) { streams[a], streams[b] = streams[b], streams[a] })
			if got := fmt.Sprint(s.batches(streams, at, at.Add(5*time.Second), s.windows, s.traces)); got != want[i] {
				t.Fatalf("run %d, window %d:\n%s\nwant\n%s", run, i, got, want[i])
			}
		}
	}
}

// TestNoNewSkeletonIsLost has a pod that never says the same twice: the first line
// of each that its workload did not have is kept and stands for itself, as long as
// they are within the bound.
func TestNoNewSkeletonIsLost(t *testing.T) {
	s := small(5_000)
	words := []string{"alpha", "beta", "gamma", "delta", "north", "south", "green", "amber"}
	phrase := func(n int) string {
		out := "fault"
		for range 5 {
			out += " " + words[n%8]
			n /= 8
		}
		return out
	}
	n := 0
	for i := range 4 {
		at := noon.Add(time.Duration(i) * 5 * time.Second)
		fresh := map[string]bool{}
		var more []string
		for range maxFresh - 10 {
			p := phrase(n)
			n++
			fresh[p] = true
			for k := range 5 {
				more = append(more, fmt.Sprintf("%s %d", p, k))
			}
		}
		out := s.batches(flood(at, 500, 0, more...), at, at.Add(5*time.Second), s.windows, s.traces)
		seen := map[string]bool{}
		for _, b := range out {
			for _, st := range b.Streams {
				for _, l := range st.Lines {
					if k := strings.LastIndexByte(l.Text, ' '); k > 0 && b.SampledRate == 1 {
						seen[l.Text[:k]] = true
					}
				}
			}
		}
		for p := range fresh {
			if !seen[p] {
				t.Fatalf("window %d: %q is lost", i, p)
			}
		}
		if len(s.windows.known) > maxKnown || len(s.windows.save()) > 8*maxKnown {
			t.Fatalf("%d skeletons are kept, more than %d", len(s.windows.known), maxKnown)
		}
	}
	// Those that are known are not kept again.
	at := noon.Add(time.Minute)
	var more []string
	for k := n - 10; k < n; k++ {
		more = append(more, phrase(k)+" 1")
	}
	before := len(s.windows.known)
	s.batches(flood(at, 500, 0, more...), at, at.Add(5*time.Second), s.windows, s.traces)
	if len(s.windows.known) != before {
		t.Errorf("%d skeletons, want the %d that there were", len(s.windows.known), before)
	}
	s.batches(flood(at.Add(2*knownFor), 0, 0), at.Add(2*knownFor), at.Add(2*knownFor+5*time.Second), s.windows, s.traces)
	if len(s.windows.known) != 0 {
		t.Errorf("%d skeletons are kept for hours without a flood", len(s.windows.known))
	}
}

// TestWhatKeptLinesStandForIsUnbiased adds up many windows with statements of all
// frequencies.
func TestWhatKeptLinesStandForIsUnbiased(t *testing.T) {
	s := small(20_000)
	truth, stands, rates := map[string]int{}, map[string]int{}, map[string]int{}
	for w := range 50 {
		at := noon.Add(time.Duration(w) * 5 * time.Second)
		var more []string
		for k := range 30 {
			name := "job " + strings.Repeat("u", k%5+1) + strings.Repeat("v", k/5+1)
			for i := range 1 + 2*k {
				more = append(more, fmt.Sprintf("%s took %d s", name, i))
			}
			truth[name] += 1 + 2*k
		}
		for _, b := range s.batches(flood(at, 0, 0, more...), at, at.Add(5*time.Second), s.windows, s.traces) {
			for _, st := range b.Streams {
				for _, l := range st.Lines {
					name, _, _ := strings.Cut(l.Text, " took")
					stands[name] += b.SampledRate
					rates[name] = max(rates[name], b.SampledRate)
				}
			}
		}
	}
	all, want, spread := 0.0, 0.0, 0.0
	for name, n := range truth {
		variance := float64(n) * float64(rates[name]-1) // of n draws with 1 in rate
		if off := math.Abs(float64(stands[name] - n)); off > 5*math.Sqrt(variance) {
			t.Errorf("%s: stands for %d, want %d within %.0f", name, stands[name], n, 5*math.Sqrt(variance))
		}
		all, want, spread = all+float64(stands[name]), want+float64(n), spread+variance
	}
	if spread == 0 || math.Abs(all-want) > 4*math.Sqrt(spread) {
		t.Errorf("all stand for %v, want %v within %v", all, want, 4*math.Sqrt(spread))
	}
}

func TestBytesAreSharedOutSoThatWhoWantsLittleHasIt(t *testing.T) {
	for name, tc := range map[string]struct {
		wants []int64
		sum   int64
		want  int64
	}{
		"nobody":                      {nil, 10, math.MaxInt64},
		"enough for all":              {[]int64{1, 2, 3}, 6, math.MaxInt64},
		"one wants more":              {[]int64{1, 2, 300}, 63, 60},
		"all want more":               {[]int64{100, 200, 300}, 60, 20},
		"more than there are of each": {[]int64{5, 5, 5, 5}, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := waterLevel(slices.Clone(tc.wants), tc.sum); got != tc.want {
				t.Errorf("waterLevel(%v, %d) = %d, want %d", tc.wants, tc.sum, got, tc.want)
			}
		})
	}
}

func TestARateIsRoundedUpToOneOfFew(t *testing.T) {
	for n, want := range map[int64]int{1: 1, 10: 1, 11: 2, 21: 5, 51: 10, 190: 20, 1001: 200, 1 << 60: maxRate} {
		if got := rateOf(n, 10); got != want {
			t.Errorf("rateOf(%d, 10) = %d, want %d", n, got, want)
		}
	}
}

func TestANamespaceTakesNoMoreThanItsPart(t *testing.T) {
	s := small(100_000)
	var streams []stream
	for p := range 100 { // each within a stream's part
		st := stream{Labels: map[string]string{"namespace": "batch", "pod": fmt.Sprintf("worker%d-7d4b9c6f5-x2x8q", p)}}
		for i := range 300 {
			st.Values = append(st.Values, [2]string{strconv.FormatInt(noon.Add(time.Duration(i)).UnixNano(), 10), fmt.Sprintf("item %d of %d", i, p)})
		}
		streams = append(streams, st)
	}
	streams = append(streams, flood(noon, 0, 0)...)
	out := s.batches(streams, noon, noon.Add(5*time.Second), s.windows, s.traces)
	if kept, _, _ := tally(out, "served"); kept != 100 {
		t.Errorf("%d of 100 lines of other namespaces are kept", kept)
	}
	kept, stands, rate := tally(out, "item")
	if rate < 10 || kept < 500 || kept > 5000 || stands < 25_000 || stands > 35_000 {
		t.Errorf("%d lines are kept and stand for %d, at most for %d each", kept, stands, rate)
	}
}

func TestTheCursorHoldsWhatTheSamplerKnows(t *testing.T) {
	s := newSampler(nil, time.Time{})
	for i := range maxKnown + 10 {
		s.learn(uint64(i))
	}
	s.until = noon
	raw, err := json.Marshal(cursor{End: noon, Words: logpattern.Version, Skeletons: s.save(), Sampled: s.until})
	if err != nil || len(raw) > 64<<10 {
		t.Fatalf("a cursor of %d bytes, %v", len(raw), err)
	}
	var cur cursor
	if err := json.Unmarshal(raw, &cur); err != nil {
		t.Fatal(err)
	}
	again := newSampler(cur.Skeletons, cur.Sampled)
	if !slices.Equal(again.known, s.known) || !again.until.Equal(noon) || again.index[3] || !again.index[maxKnown] {
		t.Errorf("read back %d skeletons, want %d", len(again.known), len(s.known))
	}
	if torn := newSampler([]byte{1, 2, 3}, noon); len(torn.known) != 0 {
		t.Errorf("read %v from a torn cursor", torn.known)
	}
}

func TestARecordingOfWhatWasSampledIsReadWithItsRates(t *testing.T) {
	live := small(100_000)
	want := live.batches(flood(noon, 20_000, 1000), noon, noon.Add(5*time.Second), live.windows, live.traces)
	var entries []Entry
	for _, b := range want {
		for _, st := range b.Streams {
			for _, l := range st.Lines {
				entries = append(entries, Entry{Time: l.Time, Labels: st.Labels.Map(), Line: l.Text, Rate: b.SampledRate})
			}
		}
	}
	r := NewRecorded("loki", entries, noon, noon.Add(5*time.Second), 5*time.Second, env(), nil)
	r.source.hash = live.hash
	got := r.source.batches(streams(r.entries), noon, noon.Add(5*time.Second), nil, newTraces(nil))
	shape := func(all []event.LogBatch) (out []string) {
		for _, b := range all {
			n := 0
			for _, st := range b.Streams {
				n += len(st.Lines)
			}
			out = append(out, fmt.Sprintf("%s 1:%d %d lines", event.LogsRead.Out(b).ID, b.SampledRate, n))
		}
		return out
	}
	if g, w := shape(got), shape(want); !slices.Equal(g, w) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
	}
}
