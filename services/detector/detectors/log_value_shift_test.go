package detectors

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
)

// All partitions together keep at most so much, beside what the miner and its
// hundred thousand templates take of 64 MB.
func TestWhatIsKeptOfValuesIsBounded(t *testing.T) {
	const partitions, most = 32, 9 << 20
	heap := func() int64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	r := rand.New(rand.NewPCG(5, 5))
	words := detector.NewVocabulary()
	d := &logValueShift{cfg: LogValueShiftConfig{P: 1e-6, MinLines: 20, MinShift: 0.05, MinRatio: 2, WarmUp: time.Hour}, words: words, rows: map[uint64]*statedValues{}, held: map[uint64]int{}, share: maxValuesOfWorkload}
	for i := range 40 {
		for who := range 20 {
			lines := podLines{}
			for j := range 20 {
				for k := range 3 {
					lines[podA] = append(lines[podA], fmt.Sprintf(`{"msg":"statement %c of service","took":%.1f,"rows":%d,"state":"s%d","code":%d,"id":"%x"}`,
						'a'+k, 20*math.Exp(r.NormFloat64()), r.IntN(90000), r.IntN(6), 200+100*(j%4), r.Uint64()))
				}
			}
			b := logWindow(i, logMinute{lines: lines})
			for s := range b.Logs[0].Streams {
				ls := event.LabelsOf(map[string]string{event.LabelNamespace: "shop", event.LabelWorkload: fmt.Sprint("web", who), event.LabelKind: "Deployment", event.LabelPod: podA})
				b.Logs[0].Streams[s].ID, b.Logs[0].Streams[s].Labels = ls.Hash(), ls
			}
			words.Fold(b)
			d.Observe(b)
		}
	}
	with := heap()
	rows := len(d.rows)
	d.rows = nil
	size := with - heap()
	runtime.KeepAlive(d)
	runtime.KeepAlive(words)
	t.Logf("%d values of %d statements: %d kB", d.total-rows, rows, size>>10)
	if d.total < maxValues-maxValues/4 || d.total > maxValues {
		t.Errorf("%d are kept, want nearly %d", d.total, maxValues)
	}
	if size*partitions > most {
		t.Errorf("%d bytes in each of %d partitions, want at most %d in all", size, partitions, most)
	}
}

func TestAValueThatIsNotWhatItUsedToBeIsTold(t *testing.T) {
	const from, to = 5*60 + 10, 5*60 + 40
	var r *rand.Rand
	podC := strings.TrimSuffix(podA, "q") + "z"
	odd := func(i int) bool { return i >= from && i < to }
	// minutes are those in which two pods serve, each line by one of formats.
	serve := func(line func(i, j int) string) func(i int) logMinute {
		return func(i int) logMinute {
			l := podLines{}
			for j := range 30 + r.IntN(20) {
				pod := podA
				if r.IntN(2) == 0 {
					pod = podC
				}
				l[pod] = append(l[pod], line(i, j))
			}
			return logMinute{lines: l}
		}
	}
	status := func(share float64) int {
		switch x := r.Float64(); {
		case x < share:
			return []int{500, 502, 503}[r.IntN(3)]
		case x < 0.1:
			return 404
		}
		return 200
	}
	lognormal := func(median float64) float64 { return median * math.Exp(0.6*r.NormFloat64()) }
	for name, c := range map[string]struct {
		of    func(i int) logMinute
		said  string // of the summary; "" for nothing
		query []string
	}{
		"a status of five hundred": {serve(func(i, j int) string {
			share := 0.002
			if odd(i) {
				share = 0.3
			}
			return fmt.Sprintf(`level=info msg="served request" path=/items/%d status=%d`, r.IntN(900), status(share))
		}), "status=5xx rose from 0.", []string{`| logfmt | status=~"5.."`, `sum by (status) (count_over_time({`}},
		"a status that was never seen": {serve(func(i, j int) string {
			code := 200
			if odd(i) && r.IntN(3) == 0 {
				code = 503
			}
			return fmt.Sprintf(`{"level":"info","msg":"served request","http.status":%d}`, code)
		}), "http.status=5xx rose from none to ", []string{`| json | http_status=~"5.."`}},
		"a latency": {serve(func(i, j int) string {
			median := 30.0
			if odd(i) {
				median = 400
			}
			return fmt.Sprintf(`level=info msg="served request" status=200 took=%.0fms`, lognormal(median))
		}), "took moved: p95 ", []string{"| logfmt | took > ", "quantile_over_time(0.95, ", "unwrap duration_seconds(took)"}},
		"a size in the text, which falls": {serve(func(i, j int) string {
			n := lognormal(5000)
			if odd(i) {
				n = float64(r.IntN(3))
			}
			return fmt.Sprintf(`I0301 10:00:00.000000       1 loop.go:17] Wrote %d rows of the batch`, int(n))
		}), `value after "Wrote" moved: p95 `, []string{`| regexp "Wrote\\S*\\s+(?P<value>[0-9.]+)"`, "unwrap value"}},
		"a state": {serve(func(i, j int) string {
			outcome := "hit"
			if x := r.Float64(); x < 0.1 || odd(i) && x < 0.7 {
				outcome = "miss"
			}
			return `level=debug msg="looked up" cache=` + outcome
		}), "cache=miss rose from ", []string{`cache="miss"`}},
		"not a counter, and not when it begins again": {serve(func(i, j int) string {
			return fmt.Sprintf(`level=info msg="polled" offset=%d`, (i%320)*100+j)
		}), "", nil},
		"not what walks and waves": {func() func(i int) logMinute {
			level := 0.0
			return serve(func(i, j int) string {
				level = 0.999*level + 0.02*r.NormFloat64()
				median := 30 * math.Exp(level+0.7*math.Sin(float64(i)/1440*2*math.Pi))
				return fmt.Sprintf(`level=info msg="served request" took=%.0fms`, lognormal(median))
			})
		}(), "", nil},
		"not who asks by turns, for minutes at a time": {func() func(i int) logMinute {
			who, until := 0, 0
			return serve(func(i, j int) string {
				if i >= until {
					who, until = r.IntN(6), i+1+r.IntN(9)
				}
				caller := r.IntN(6)
				if r.IntN(2) == 0 {
					caller = who
				}
				return fmt.Sprintf(`level=info msg="served request" caller=team-%c`, 'a'+caller)
			})
		}(), "", nil},
		"not a version that pods have from a minute on": {serve(func(i, j int) string {
			version := "v17"
			if i >= from {
				version = "v18"
			}
			return `level=info msg="served request" leader=node-` + version
		}), "", nil},
		"not ids": {serve(func(i, j int) string {
			return fmt.Sprintf(`level=info msg="served request" request=%08x order=%d`, r.Uint32(), r.IntN(1e9))
		}), "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r = rand.New(rand.NewPCG(8, 9))
			began, ended := playLogs(t, "log_value_shift", 7*60, c.of)
			if c.said == "" {
				for i, a := range began {
					t.Errorf("minute %d: %s (%s)", i, a.Summary, a.Explanation)
				}
				return
			}
			if len(began) != 1 || len(ended) != 1 || ended[0] < to || ended[0] > to+10 {
				t.Fatalf("began %v, ended in %v, want once, and within ten minutes after %d", began, ended, to)
			}
			for i, a := range began {
				if i < from || i > from+4 {
					t.Errorf("began in minute %d, want within 4 after %d", i, from)
				}
				if !strings.Contains(a.Summary, c.said) {
					t.Errorf("summary %q, want %q in it", a.Summary, c.said)
				}
				queries := ""
				for _, e := range a.Evidence {
					queries += e.Query + "\n"
				}
				for _, q := range c.query {
					if !strings.Contains(queries, q) {
						t.Errorf("want %q in the queries\n%s", q, queries)
					}
				}
			}
		})
	}
}
