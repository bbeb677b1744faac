package prometheus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
)

// run reads steps until one and returns the batches of each, and the blindness.
func run(t *testing.T, s *Source, from time.Time, steps int) (got []string, blind []event.Blindness) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	enough := errors.New("enough")
	err := s.Run(ctx, After(from), func(_ context.Context, e collector.Emission) error {
		if e.Blind != nil {
			blind = append(blind, *e.Blind)
			return nil
		}
		line := e.Closed.Format(time.TimeOnly)
		for _, o := range e.Events {
			line += fmt.Sprint(" ", o.ID, o.Data())
		}
		if got = append(got, line); len(got) == steps {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("Run: %v after %d steps", err, len(got))
	}
	return got, blind
}

// TestAFailingServerChangesNothing compares runs over a server that fails with
// an undisturbed one: the gap is filled with the same batches, and blindness is
// said with one beginning.
func TestAFailingServerChangesNothing(t *testing.T) {
	from := time.Now().Add(-time.Minute).Truncate(time.Second)
	config := func(c *Config) { c.Step, c.Delay, c.Timeout = time.Second, time.Millisecond, 200*time.Millisecond }
	want, _ := run(t, newTestSource(t, builtin(t), requests(t).URL, config), from, 5)
	for name, how := range map[string]int{"503": 503, "429": 429, "cut JSON": -1, "a hang": -2, "401": 401} {
		t.Run(name, func(t *testing.T) {
			s := requests(t)
			s.failing = func(n int) int {
				if n >= 9 && n <= 11 {
					return how
				}
				return 0
			}
			got, blind := run(t, newTestSource(t, builtin(t), s.URL, config), from, 5)
			if !slices.Equal(got, want) {
				t.Errorf("faulted\n%s\nundisturbed\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if len(blind) == 0 {
				t.Fatal("blindness is not said")
			}
			for _, b := range blind {
				if b.Since != blind[0].Since || b.Reason == "" || strings.Contains(b.Reason, "hunter2") {
					t.Errorf("blindness %+v, at first %+v", b, blind[0])
				}
			}
		})
	}
}

func TestAQueryThatIsRefusedBlindsNoOther(t *testing.T) {
	s := requests(t)
	s.failing = func(n int) int {
		if n == 3 { // the first after the probes
			return 400
		}
		return 0
	}
	if got := values(read(t, newTestSource(t, builtin(t), s.URL, nil), noon)); len(got) == 0 {
		t.Error("nothing is read beside a query that was refused")
	}
}

func TestAPartialAnswerIsNoAnswer(t *testing.T) {
	s := requests(t)
	s.warn = []string{"PromQL info: metric might not be a counter"}
	if _, err := newTestSource(t, builtin(t), s.URL, nil).read(t.Context(), noon); err != nil {
		t.Errorf("an annotation of PromQL: %v", err)
	}
	s.warn = []string{"store 10.0.0.1:10901 is away"}
	if _, err := newTestSource(t, builtin(t), s.URL, nil).read(t.Context(), noon); err == nil || !strings.Contains(err.Error(), "partial answer") {
		t.Errorf("a store that is away: %v", err)
	}
}

func TestStepsOlderThanCatchUpAreSkippedAndCounted(t *testing.T) {
	src := newTestSource(t, builtin(t), requests(t).URL, func(c *Config) { c.MaxCatchUp = 10 * time.Minute })
	enough := errors.New("enough")
	err := src.Run(t.Context(), After(time.Now().Add(-time.Hour).Truncate(30*time.Second)), func(_ context.Context, e collector.Emission) error {
		if e.Skipped < 98 || e.Skipped > 100 {
			t.Errorf("skipped %d steps, want about 99", e.Skipped)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
}
