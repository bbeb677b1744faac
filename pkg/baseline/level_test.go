package baseline

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

var usualRules = Rules{Window: 10 * time.Minute, FalsePerDay: 0.02, MinChange: 0.2, WarmUp: time.Hour, Settle: time.Hour}

// shifts folds n minutes of draw and returns what was said, by minute.
func shifts(l *Level, from, n int, draw func(i int) float64) (out []Shift) {
	for i := from; i < from+n; i++ {
		out = append(out, l.Observe(monday+int64(i)*minute, draw(i), &usualRules))
	}
	return out
}

// first is the first minute that is away; -1: none.
func first(all []Shift) int {
	for i, s := range all {
		if s.Away {
			return i
		}
	}
	return -1
}

func TestALevelThatChangesIsFoundInWhateverNoise(t *testing.T) {
	const learnt = 5*1440 + 600
	ar := 0.0
	for name, c := range map[string]struct {
		draw   func(r *rand.Rand, i int) float64
		factor float64
		within int // minutes
	}{
		"noise, by half": {func(r *rand.Rand, _ int) float64 { return 100 + 5*r.NormFloat64() }, 1.5, 10},
		"small counts, doubled": {func(r *rand.Rand, _ int) float64 {
			n := 0.0
			for range 40 {
				if r.IntN(10) == 0 {
					n++
				}
			}
			return n
		}, 2, 20},
		"noise that remembers, by half":   {func(r *rand.Rand, _ int) float64 { ar = 0.9*ar + r.NormFloat64(); return 50 + ar }, 1.5, 20},
		"a day's wave, by half":           {busy, 1.5, 15},
		"a day's wave, to a third":        {busy, 0.33, 30},
		"a wild tail, to a fifth":         {func(r *rand.Rand, _ int) float64 { return math.Exp(r.NormFloat64()) }, 0.2, 60},
		"a ratio that never moves, moves": {func(*rand.Rand, int) float64 { return 0.4 }, 1.5, 10},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			ar = 0
			var l Level
			if at := first(shifts(&l, 0, learnt, func(i int) float64 { return c.draw(r, i) })); at >= 0 {
				t.Fatalf("away in minute %d, when nothing happened", at)
			}
			after := shifts(&l, learnt, 120, func(i int) float64 { return c.factor * c.draw(r, i) })
			at := first(after)
			if at < 0 || at > c.within {
				t.Fatalf("away after %d minutes, want at most %d", at, c.within)
			}
			if onset := int((after[at].Onset - monday) / minute); onset < learnt-10 || onset > learnt+at {
				t.Errorf("it began %d minutes after the change", onset-learnt)
			}
			if p := after[at].TailProb; p <= 0 || p > after[at].Limit {
				t.Errorf("tail probability %g, limit %g", p, after[at].Limit)
			}
		})
	}
}

func TestALevelIsThatOfTheHourWhereTheHourIsWorthKnowing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var wave, flat Level
	shifts(&wave, 0, 4*1440, func(i int) float64 { return busy(r, i) })
	shifts(&flat, 0, 4*1440, func(int) float64 { return 100 + 5*r.NormFloat64() })
	if !wave.is(season) || flat.is(season) {
		t.Errorf("season of a day's wave: %v, of noise: %v", wave.is(season), flat.is(season))
	}
	// At night half of the day's usual is no change of the level, but of the hour's.
	night := 4*1440 + 1080
	shifts(&wave, 4*1440, 1080, func(i int) float64 { return busy(r, i) })
	all := shifts(&wave, night, 30, func(int) float64 { return 100 + 3*r.NormFloat64() })
	at := first(all)
	if at < 0 || !all[at].AtHour || all[at].Expected > 70 {
		t.Errorf("a midday's level at night: %+v", all[max(at, 0)])
	}
}

func TestANewLevelBecomesTheUsualOneAndItsEndIsNoOther(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	noise := func(level float64) func(int) float64 {
		return func(int) float64 { return level + 5*r.NormFloat64() }
	}
	var l Level
	shifts(&l, 0, 2000, noise(100))
	up := shifts(&l, 2000, 300, noise(200))
	at := first(up)
	if at < 0 {
		t.Fatal("twice the level is not away")
	}
	if last := first(up[at+61:]); last >= 0 {
		t.Errorf("still away %d minutes after it was found", at+61+last)
	}
	if back := first(shifts(&l, 2300, 120, noise(100))); back >= 0 {
		t.Errorf("the return is another change, after %d minutes", back)
	}
	if again := first(shifts(&l, 2420, 60, noise(200))); again < 0 {
		t.Error("twice the level is not away the second time")
	}
}

func TestFewWildSamplesAreNoLevel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var l Level
	all := shifts(&l, 0, 8*1440, func(i int) float64 {
		if i%700 < 2 {
			return 10_000
		}
		return 100 + 5*r.NormFloat64()
	})
	if at := first(all); at >= 0 {
		t.Errorf("away in minute %d: %+v", at, all[at])
	}
}

func TestALevelSaysNothingBeforeItCanKnow(t *testing.T) {
	for _, step := range []time.Duration{15 * time.Second, 30 * time.Second, time.Minute, time.Hour} {
		var l Level
		r := rand.New(rand.NewPCG(1, 2))
		learns := usualRules.Learns(step)
		for at := time.Duration(0); at < learns; at += step {
			x := 1 + r.Float64()
			if at > learns/2 {
				x *= 50
			}
			if s := l.Observe(monday+at.Milliseconds(), x, &usualRules); s.Away {
				t.Errorf("step %s: away after %s, and learns for %s", step, at, learns)
				break
			}
		}
	}
}

func TestUnitsOfALevelDoNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var a, b Level
	for i := range 5 * 1440 {
		x := busy(r, i)
		if i > 4*1440+700 {
			x *= 2
		}
		u := a.Observe(monday+int64(i)*minute, x, &usualRules)
		v := b.Observe(monday+int64(i)*minute, float64(1<<30)*x, &usualRules)
		if u.Away != v.Away || math.Abs(u.Drift-v.Drift) > 1e-3 {
			t.Fatalf("minute %d: %+v, in other units %+v", i, u, v)
		}
	}
}

// The state is what a series costs that is not one of requests.
func TestALevelIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Level{}); n > 312 {
		t.Errorf("%d bytes, at most 312 are wanted: with its place in a table and in the fold they are 380", n)
	}
}

func levelState(l *Level) []byte {
	w := &snapshot.Writer{}
	l.Write(w)
	return w.Data()
}

func TestALevelThatIsWrittenAndReadGoesOnAsIfNothingHadBeen(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var whole Level
	values := make([]float64, 4*1440)
	for i := range values {
		if values[i] = busy(r, i); i > 3*1440+500 {
			values[i] *= 2
		}
	}
	at := func(i int) float64 { return values[i] }
	want := shifts(&whole, 0, len(values), at)
	for _, cut := range []int{0, 1, 59, 1440, 2000, 3*1440 + 505, 3*1440 + 530} {
		var a, b Level
		got := shifts(&a, 0, cut, at)
		rd := snapshot.NewReader(levelState(&a))
		b.Read(rd)
		if err := rd.Close(); err != nil {
			t.Fatal(err)
		}
		got = append(got, shifts(&b, cut, len(values)-cut, at)...)
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("cut at %d: minute %d is %+v, undisturbed %+v", cut, i, got[i], want[i])
			}
		}
		if !bytes.Equal(levelState(&b), levelState(&whole)) {
			t.Errorf("cut at %d: another state", cut)
		}
	}
}

func FuzzAnyLevelAndAnySampleAreSafe(f *testing.F) {
	var l Level
	r := rand.New(rand.NewPCG(1, 2))
	shifts(&l, 0, 2000, func(i int) float64 { return busy(r, i) })
	f.Add(levelState(&l), int64(monday+2001*minute), 1.0)
	f.Add([]byte{}, int64(math.MinInt64), math.Inf(1))
	f.Fuzz(func(t *testing.T, b []byte, at int64, x float64) {
		var l Level
		rd := snapshot.NewReader(b)
		l.Read(rd)
		if rd.Close() != nil {
			return
		}
		for range 3 {
			s := l.Observe(at, x, &usualRules)
			if s.Away && !(s.TailProb > 0 && s.TailProb <= 1) {
				t.Fatalf("tail probability %g", s.TailProb)
			}
			at += 3_600_000
		}
	})
}

func BenchmarkObserveLevel(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	values := make([]float64, 1440)
	for i := range values {
		values[i] = busy(r, i)
	}
	var l Level
	i := 0
	for b.Loop() {
		l.Observe(monday+int64(i)*minute, values[i%1440], &usualRules)
		i++
	}
}
