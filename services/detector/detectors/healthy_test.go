package detectors

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

// A healthy workload is of one of these kinds, each with its own habits and its
// own sentences.
var healthyKinds = []struct {
	name string
	// say appends what a pod of it says in a minute of the day.
	say func(w *healthy, minute int, say func(format string, args ...any))
}{
	{"web, by daylight, with rare errors", func(w *healthy, m int, say func(string, ...any)) {
		for range poisson(w.r, 6+5*daylight(m)) {
			say(`level=info msg="%s" path=/%s status=%d took=%dms`, w.sentence(0), w.word(w.r.IntN(30)), []int{200, 200, 200, 304, 404}[w.r.IntN(5)], w.r.IntN(300))
		}
		if w.r.Float64() < 8.0/1440 { // one of a dozen errors, some oftener than others
			for range 1 + w.r.IntN(4) {
				say(`level=error msg="%s" err="%s"`, w.sentence(100+int(12*w.r.Float64()*w.r.Float64())), w.sentence(200))
			}
		}
	}},
	{"worker, in bursts", func(w *healthy, m int, say func(string, ...any)) {
		if w.r.IntN(8) == 0 {
			w.busy = 1 + w.r.IntN(10)
		}
		if w.busy > 0 {
			w.busy--
			for range poisson(w.r, 15) {
				say(`{"level":"info","msg":"%s","id":%d,"took_ms":%d}`, w.sentence(w.r.IntN(4)), w.r.IntN(1e6), w.r.IntN(5000))
			}
		}
		say(`{"level":"debug","msg":"%s","depth":%d}`, w.sentence(10), w.busy)
	}},
	{"job, each hour and each night", func(w *healthy, m int, say func(string, ...any)) {
		at, long := m%60, 4
		if m/60%24 == 2 {
			long = 40
		}
		if at >= long {
			return
		}
		if at == 0 {
			say("INFO %s", w.sentence(0))
		}
		for range poisson(w.r, 8) {
			say("INFO %s %d rows", w.sentence(1+w.r.IntN(3)), w.r.IntN(5000))
		}
		if w.r.IntN(30) == 0 {
			say("WARN %s", w.sentence(20+w.r.IntN(3)))
		}
		if at == long-1 {
			say("INFO %s in %ds", w.sentence(9), 60*long)
		}
	}},
	{"heartbeats and little else", func(w *healthy, m int, say func(string, ...any)) {
		say("I%02d%02d 10:00:00.000000       1 main.go:%d] %s", 1+m/1440%12, 1+m/1440%28, 40+w.id, w.sentence(0))
		if m%5 == w.id%5 {
			say("I0101 10:00:00.000000       1 loop.go:17] %s count=%d", w.sentence(1), m)
		}
	}},
	{"free text", func(w *healthy, m int, say func(string, ...any)) {
		for range poisson(w.r, 3) {
			say("[%s] %s %s %s %s", w.word(w.r.IntN(5)), w.word(w.r.IntN(400)), w.word(w.r.IntN(400)), w.word(w.r.IntN(400)), w.word(w.r.IntN(400)))
		}
	}},
	{"database, with slow queries", func(w *healthy, m int, say func(string, ...any)) {
		if m%5 == 0 {
			say("2026-03-02 10:00:00.000 UTC [%d] LOG:  %s: wrote %d buffers", 10+w.id, w.sentence(0), w.r.IntN(4000))
		}
		for range poisson(w.r, 0.3+0.5*daylight(m)) {
			say("2026-03-02 10:00:00.000 UTC [%d] LOG:  duration: %d ms  statement: select %s from %s", w.r.IntN(9000), w.r.IntN(9000), w.word(w.r.IntN(9)), w.word(w.r.IntN(9)))
		}
		if w.r.Float64() < 20.0/1440 {
			say("2026-03-02 10:00:00.000 UTC [%d] ERROR:  %s", w.r.IntN(9000), w.sentence(100+int(6*w.r.Float64()*w.r.Float64())))
		}
	}},
	{"controller that conflicts now and then", func(w *healthy, m int, say func(string, ...any)) {
		for range poisson(w.r, 2) {
			say(`time="2026-03-02T10:00:00Z" level=info msg="%s" object=%s/%s`, w.sentence(w.r.IntN(6)), w.word(w.r.IntN(9)), w.word(w.r.IntN(60)))
		}
		if w.r.Float64() < 40.0/1440 {
			for range 1 + w.r.IntN(5) {
				say(`time="2026-03-02T10:00:00Z" level=error msg="%s" object=%s/%s`, w.sentence(100+w.r.IntN(3)), w.word(w.r.IntN(9)), w.word(w.r.IntN(60)))
			}
		}
	}},
	{"java, with exceptions", func(w *healthy, m int, say func(string, ...any)) {
		for range poisson(w.r, 4+3*daylight(m)) {
			say("2026-03-02 10:00:00,000 INFO  [http-%d] c.e.%s.%sService - %s", w.r.IntN(20), w.word(1), w.word(2), w.sentence(w.r.IntN(8)))
		}
		if w.r.Float64() < 6.0/1440 {
			say("2026-03-02 10:00:00,000 ERROR [http-%d] c.e.%s.%sService - %s", w.r.IntN(20), w.word(1), w.word(2), w.sentence(100+w.r.IntN(4)))
			for range 3 {
				say("\tat com.example.%s.%s.run(%s.java:%d)", w.word(w.r.IntN(5)), w.word(w.r.IntN(5)), w.word(w.r.IntN(5)), w.r.IntN(900))
			}
		}
	}},
	{"gateway, whose callers take turns", func(w *healthy, m int, say func(string, ...any)) {
		// Latencies wander and are longer by day; one caller asks more for a while,
		// and is refused more often then.
		w.level = 0.97*w.level + 0.08*w.r.NormFloat64()
		if w.r.IntN(20) == 0 {
			w.busy = w.r.IntN(8)
		}
		for range poisson(w.r, 15+15*daylight(m)) {
			caller, status := w.r.IntN(8), 200
			if w.r.IntN(3) == 0 {
				caller = w.busy
			}
			switch x := w.r.Float64(); {
			case x < 0.002:
				status = 502
			case caller == w.busy && x < 0.15, x < 0.03:
				status = 429
			}
			say(`{"level":"info","msg":"%s","caller":"%s","status":%d,"took_ms":%.1f,"bytes":%d,"version":"v%d","request":"%x"}`, w.sentence(0), w.word(caller), status,
				20*math.Exp(w.level+daylight(m)+0.7*w.r.NormFloat64()), int(2000*math.Exp(w.r.NormFloat64())), w.revision, w.r.Uint64())
		}
	}},
	{"consumer of batches, with a long one each night", func(w *healthy, m int, say func(string, ...any)) {
		w.level++
		large, state := 400.0, "live"
		if h := m / 60 % 24; h == 3 {
			large, state = 9000, "compacting"
		}
		for range poisson(w.r, 12) {
			say("I0101 10:00:00.000000       1 batch.go:%d] %s: took %d ms, %d rows, state=%s offset=%d partition=%d", 80+w.id, w.sentence(0),
				int(large/10*math.Exp(0.5*w.r.NormFloat64())), int(large*math.Exp(0.8*w.r.NormFloat64())), state, int(w.level)*100+w.r.IntN(100), w.r.IntN(12))
		}
	}},
}

// healthy is a workload in which all is well, rollouts and all.
type healthy struct {
	id       int
	kind     int
	r        *rand.Rand
	said     map[uint64]string
	busy     int
	level    float64
	revision int
	started  int // minute of the last rollout
	next     int // of the next
	breaks   int // minute in which something new goes wrong; 0: never
}

// word is one of many that mean nothing, the same for the same number.
func (w *healthy) word(n int) string {
	id := uint64(w.id)<<20 | uint64(n)
	s, ok := w.said[id]
	if !ok {
		s = invented(id)
		w.said[id] = s
	}
	return s
}

// sentence is what a statement of a workload says: a few words. Those of the
// current revision are those of the one before but for a few.
func (w *healthy) sentence(n int) string {
	id := uint64(w.id)<<40 | uint64(n)<<20
	if n < 100 && n%5 == 4 {
		id |= uint64(w.revision) // this one is written anew each time
	}
	if s, ok := w.said[1<<63|id]; ok {
		return s
	}
	r := rand.New(rand.NewPCG(id, 77))
	words := make([]string, 3+r.IntN(4))
	for i := range words {
		words[i] = invented(r.Uint64())
	}
	s := strings.Join(words, " ")
	w.said[1<<63|id] = s
	return s
}

func invented(n uint64) string {
	r := rand.New(rand.NewPCG(n, 5))
	var b strings.Builder
	for range 2 + r.IntN(3) {
		b.WriteByte("bdfgklmnprstv"[r.IntN(13)])
		b.WriteByte("aeiou"[r.IntN(5)])
	}
	return b.String()
}

func daylight(minute int) float64 { return 0.5 - 0.5*math.Cos(2*math.Pi*float64(minute%1440)/1440) }

func poisson(r *rand.Rand, mean float64) int {
	n := 0
	for t := r.ExpFloat64(); t < mean; t += r.ExpFloat64() {
		n++
	}
	return n
}

// safe are the letters of the hashes that Kubernetes gives.
func safeName(n uint64, size int) string {
	r := rand.New(rand.NewPCG(n, 6))
	b := make([]byte, size)
	for i := range b {
		b[i] = "bcdfghjklmnpqrstvwxz2456789"[r.IntN(27)]
	}
	return string(b)
}

// minute is what the workload writes in one minute, by two pods.
func (w *healthy) minute(m int) []event.LogStream {
	if m >= w.next {
		w.revision++
		w.started, w.next = m, m+300+w.r.IntN(1200) // about two a day
	}
	end := detectortest.At(m)
	var out []event.LogStream
	for p := range 2 {
		name := fmt.Sprintf("app%d-%s-%s", w.id, safeName(uint64(w.id)<<20|uint64(w.revision), 9), safeName(uint64(w.id)<<30|uint64(w.revision)<<8|uint64(p), 5))
		ls := event.LabelsOf(map[string]string{
			event.LabelNamespace: fmt.Sprint("ns", w.id%7), event.LabelWorkload: fmt.Sprint("app", w.id), event.LabelKind: "Deployment", event.LabelPod: name, event.LabelSource: "loki",
		})
		s := event.LogStream{ID: ls.Hash(), Labels: ls}
		say := func(format string, args ...any) {
			s.Lines = append(s.Lines, event.LogLine{Time: end.Add(-time.Minute + time.Duration(len(s.Lines)+1)*200*time.Millisecond), Text: fmt.Sprintf(format, args...)})
		}
		if m == w.started {
			say("level=info msg=starting version=v%d", w.revision)
			for range w.r.IntN(6) { // what it needs is not there at once
				say(`level=error msg="%s" err="dial tcp 10.0.0.%d:5432: connect: connection refused"`, w.sentence(300+w.r.IntN(3)), w.r.IntN(255))
			}
			say(`level=warning msg="%s"`, w.sentence(304)) // a new one with each revision
			say("level=info msg=ready after=%dms", w.r.IntN(9000))
		}
		healthyKinds[w.kind].say(w, m, say)
		if m >= w.breaks && m < w.breaks+3 && w.breaks > 0 && p == 0 {
			for range 3 {
				say(`level=error msg="%s"`, w.sentence(400))
			}
		}
		if len(s.Lines) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// tails counts how improbable minutes were said to be.
type tails struct {
	n     int
	below [3]int
}

var alphas = [3]float64{1e-2, 1e-3, 1e-4}

// healthyRun is what is said of healthy workloads.
type healthyRun struct {
	found map[string][]string // anomalies of each detector, in words
	spike []tails             // how the tail probabilities of log_spike lie, by kind
	broke int                 // workloads in which something new went wrong
	told  int                 // those of which it was told within five minutes
	not   map[string]int      // the others, by kind
}

// playHealthy folds minutes of workloads and says what was said after the first of
// them. In the last third something new goes wrong in each, if they are to break.
func playHealthy(t testing.TB, workloads, first, minutes int, breaks bool) *healthyRun {
	t.Helper()
	words := detector.NewVocabulary()
	all, lives, open := map[string]detector.Detector{}, map[string]*detector.Life{}, map[string]bool{}
	for _, info := range detector.Builtin.All() {
		if info.Input != detector.Logs {
			continue
		}
		d, err := info.New(info.Default(), detector.Settings{Vocabulary: words})
		if err != nil {
			t.Fatal(err)
		}
		all[info.Name], lives[info.Name] = d, detector.NewLife(info, "00000000")
	}
	ws, named := make([]*healthy, workloads), map[string]*healthy{}
	for i := range ws {
		r := rand.New(rand.NewPCG(uint64(i), 3))
		w := &healthy{id: i, kind: i % len(healthyKinds), r: r, said: map[uint64]string{}, next: 100 + r.IntN(1200), started: -1}
		if breaks {
			w.breaks = minutes*2/3 + i*(minutes/3-10)/workloads
		}
		ws[i], named[fmt.Sprint("app", i)] = w, w
	}
	run := &healthyRun{found: map[string][]string{}, spike: make([]tails, len(healthyKinds)), not: map[string]int{}}
	told := map[int]bool{}
	rates := map[uint64]int{} // of log_spike, by speaker
	for m := range minutes {
		b := event.Batch{Watermark: detectortest.At(m), Previous: detectortest.At(m - 1)}
		lb := event.LogBatch{Source: "loki", Start: b.Previous, End: b.Watermark, SampledRate: 1}
		for _, w := range ws {
			lb.Streams = append(lb.Streams, w.minute(m)...)
		}
		b.Logs = []event.LogBatch{lb}
		words.Fold(b)
		for _, name := range sortedKeys(all) {
			for _, out := range lives[name].Step(b, all[name].Observe(b), func(reason string) { t.Fatalf("left out: %s", reason) }) {
				a := out.Data().(event.Anomaly)
				w := named[a.Entity.Name]
				switch {
				case w.breaks > 0 && m >= w.breaks && m < w.breaks+60:
					told[w.id] = told[w.id] || name == "log_new_pattern" && m < w.breaks+5
				case m >= first && a.Ended == nil && !open[a.Key]:
					run.found[name] = append(run.found[name], fmt.Sprintf("%s (%s) at %s: %s: %s", a.Entity.Name, healthyKinds[w.kind].name, a.WindowEnd.Format("2 15:04"), a.Summary, a.Explanation))
				}
				open[a.Key] = true
			}
		}
		if m < first {
			continue
		}
		// What was not said by those who spoke has a tail of one.
		rows := all["log_spike"].(*logSpike).rows
		if m%60 == 0 {
			clear(rates)
			for key := range rows {
				if st := words.Statement(key); st != nil {
					rates[st.Speaker]++
				}
			}
		}
		spoke := map[uint64]bool{}
		for _, s := range words.Seen() {
			n := &run.spike[named[s.Speaker.Entity.Name].kind]
			if !spoke[s.Speaker.ID] {
				spoke[s.Speaker.ID] = true
				n.n += rates[s.Speaker.ID]
			}
			for i, alpha := range alphas {
				// What is new is no habit yet, and another detector's.
				if r := rows[s.Key]; !s.New && r.rate.N >= 60 && r.rate.Tail(r.n) <= alpha {
					n.below[i]++
				}
			}
		}
	}
	for _, w := range ws {
		switch {
		case w.breaks == 0:
			continue
		case told[w.id]:
			run.told++
		default:
			run.not[healthyKinds[w.kind].name]++
		}
		run.broke++
	}
	return run
}

func TestHealthyWorkloadsAreToldOfHardlyEver(t *testing.T) {
	run := playHealthy(t, len(healthyKinds), 8*60, 20*60, false)
	for _, name := range sortedKeys(run.found) {
		for _, a := range run.found[name] {
			t.Errorf("%s: %s", name, a)
		}
	}
}

// BenchmarkHealthyLogs prints what is said of workloads in which all is well, and
// how many are told of in which something new goes wrong. It is no measure of
// speed.
func BenchmarkHealthyLogs(b *testing.B) {
	const workloads, days = 110, 4
	well := playHealthy(b, workloads, 1440, 1440*days, false)
	per := float64(workloads*(days-1)) / 100
	for _, info := range detector.Builtin.All() {
		if info.Input == detector.Logs {
			b.Logf("%-16s %5.2f anomalies in 100 healthy workloads and a day", info.Name, float64(len(well.found[info.Name]))/per)
			for _, a := range slices.Sorted(slices.Values(well.found[info.Name]))[:min(len(well.found[info.Name]), 12)] {
				b.Log("    ", a)
			}
		}
	}
	b.Logf("%-40s %10s %10s %10s %10s", "log_spike, share of minutes with p <=", "minutes", "1e-2", "1e-3", "1e-4")
	for i, k := range healthyKinds {
		n := well.spike[i]
		b.Logf("%-40s %10d %10.6f %10.6f %10.6f", k.name, n.n, float64(n.below[0])/float64(n.n), float64(n.below[1])/float64(n.n), float64(n.below[2])/float64(n.n))
	}
	broken := playHealthy(b, workloads, 1440, 1440*3/2, true)
	b.Logf("of %d workloads in which an error begins that is new, log_new_pattern told within five minutes of %d; not of %v", broken.broke, broken.told, broken.not)
}
