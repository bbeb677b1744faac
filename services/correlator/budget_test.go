package correlator

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// lone is an incident of one anomaly of a cause, with a given tail probability.
func lone(n int, p float64, when time.Time) *incident {
	e := deploy(fmt.Sprintf("w%d", n))
	a := event.Anomaly{Detector: "spike", Series: "s", Entity: e, Class: event.ClassCause, Severity: event.Warning, Onset: when, WindowEnd: when, TailProb: p, Key: fmt.Sprint(n)}
	inc := &incident{Root: e, Onset: when, Opened: when, Roots: map[string]event.Entity{e.String(): e}, Anomalies: map[string]event.Anomaly{a.Key: a}}
	inc.Published.ID = fmt.Sprintf("I%d", n)
	return inc
}

// budgeted runs weeks of incidents without symptoms, some every day, whose
// scores a function gives, and returns when one was told.
func budgeted(t *testing.T, perWeek float64, days, aDay int, p func(day int) float64, restart bool) []time.Time {
	t.Helper()
	f := newTestFold(t)
	f.policy.FalsePagesPerWeek = perWeek
	f.State.Tests.Since = noon
	var told []time.Time
	for n := range days * aDay {
		now := at(time.Duration(n) * 24 * time.Hour / time.Duration(aDay))
		inc := lone(n, p(n/aDay), now)
		next := f.render(inc, now)
		if next.Held == "" {
			told = append(told, now)
		} else if next.Priority != event.P4 {
			t.Fatalf("held and still %s", next.Priority)
		}
		if again := f.render(inc, now.Add(time.Minute)); again.Held != next.Held && !strings.Contains(again.Held, "bound") {
			t.Fatalf("judged %q, then %q", next.Held, again.Held)
		}
		if restart && n%16 == 0 {
			b, err := f.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			f.State = newState()
			if err := f.UnmarshalBinary(b); err != nil {
				t.Fatal(err)
			}
			if again, _ := f.MarshalBinary(); !bytes.Equal(b, again) {
				t.Fatal("the state reads back as another")
			}
		}
	}
	return told
}

// TestNoWeekTellsMoreThanItsBudget holds for detectors that are miscalibrated,
// change from day to day, or say the least probability there is.
func TestNoWeekTellsMoreThanItsBudget(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	for _, perWeek := range []float64{0.5, 3.7, 20} {
		for name, p := range map[string]func(int) float64{
			"calibrated":                func(int) float64 { return 1e-3 * rng.Float64() },
			"a hundred times too small": func(int) float64 { return 1e-5 * rng.Float64() },
			"always the least":          func(int) float64 { return 1e-300 },
			"worse every day":           func(day int) float64 { return math.Exp(-float64(day)) },
		} {
			told := budgeted(t, perWeek, 40, 4, p, true)
			every, most := budgetOf(perWeek)
			for i, from := range told {
				in := 0
				for _, o := range told[i:] {
					if o.Sub(from) < every {
						in++
					}
				}
				if in > most {
					t.Fatalf("%g a week, %s: %d told within %s from %s on", perWeek, name, in, every, from)
				}
			}
			if name == "worse every day" && len(told) == 0 {
				t.Errorf("%g a week, %s: nothing is told, though each is the strangest so far", perWeek, name)
			}
		}
	}
}

func TestTheBudgetIsTheSameWhateverStopsIt(t *testing.T) {
	run := func(restart bool) []time.Time {
		rng := rand.New(rand.NewPCG(1, 7))
		return budgeted(t, 2, 40, 6, func(int) float64 { return 1e-5 * rng.Float64() }, restart)
	}
	if a, b := run(false), run(true); !slices.Equal(a, b) || len(a) == 0 {
		t.Errorf("told at %v, and with restarts at %v", a, b)
	}
}

// TestTheStrangestOfTheHistoryAreTold has a month of one kind of oddity, and then
// one that is stranger and one that is not.
func TestTheStrangestOfTheHistoryAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		p    float64
		held string // part of why; "" when told
	}{
		"stranger than all before": {1e-14, ""},
		"as usual":                 {1e-10, "by 28 days of history"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newTestFold(t)
			f.policy.FalsePagesPerWeek = 1
			f.State.Tests.Since = noon
			for n := range 40 {
				when := at(time.Duration(n) * 24 * time.Hour)
				f.render(lone(n, 1e-10, when), when)
			}
			when := at(50 * 24 * time.Hour)
			if got := f.render(lone(99, c.p, when), when).Held; (got == "") != (c.held == "") || !strings.Contains(got, c.held) {
				t.Errorf("held %q, want %q", got, c.held)
			}
		})
	}
}

func TestWhatHasASymptomOrAFiringAlertIsNeverHeld(t *testing.T) {
	for name, change := range map[string]func(*event.Anomaly){
		"users feel it":            func(a *event.Anomaly) { a.Class = event.ClassSymptom },
		"an alert of theirs fires": func(a *event.Anomaly) { a.Alert = "KubePodCrashLooping" },
	} {
		t.Run(name, func(t *testing.T) {
			f := newTestFold(t)
			f.State.Tests.Since = noon
			inc := lone(1, 0.5, at(time.Hour))
			if f.render(inc, at(time.Hour)).Held == "" || len(f.State.Odd) != 1 {
				t.Fatal("what is merely odd is not held")
			}
			a := inc.Anomalies["1"]
			change(&a)
			inc.Anomalies["1"] = a
			if n := f.render(inc, at(2*time.Hour)); n.Held != "" || n.Priority == event.P4 || len(f.State.Odd) != 0 {
				t.Errorf("%s, held %q, history %v", n.Priority, n.Held, f.State.Odd)
			}
		})
	}
}

// TestWhatKubernetesStatesIsNeverHeld tells every one of many crash loops in a week
// that allows one false page, and holds what is only odd as ever.
func TestWhatKubernetesStatesIsNeverHeld(t *testing.T) {
	for name, c := range map[string]struct {
		detector string
		class    event.SignalClass
		told     bool
	}{
		"a reason of the catalogue":       {"event_surge", event.ClassCause, true},
		"replicas that are missing":       {"availability", event.ClassCause, true},
		"a reason that came more often":   {"event_surge", event.ClassAmbient, false},
		"lines that came more often":      {"log_spike", event.ClassCause, false},
		"a cause that a third party says": {"mine", event.ClassCause, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newTestFold(t)
			f.State.Tests.Since = noon
			told := 0
			for n := range 10 {
				now := at(time.Duration(n) * time.Hour)
				inc := lone(n, 1e-9, now)
				for k, a := range inc.Anomalies {
					a.Detector, a.Class = c.detector, c.class
					inc.Anomalies[k] = a
				}
				if next := f.render(inc, now); next.Held == "" && next.Priority == event.P3 {
					told++
				}
			}
			if c.told && told != 10 || !c.told && told > 1 {
				t.Errorf("%d of 10 were told", told)
			}
		})
	}
}
