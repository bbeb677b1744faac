package notifier

import (
	"testing"
	"time"
)

func TestAWindowAdmitsItsLimitInAnySpan(t *testing.T) {
	w := newWindow(4, time.Minute)
	now := time.Unix(0, 0)
	for i := range 3 {
		if got := w.take(now.Add(time.Duration(i)*time.Second), false); got != 0 {
			t.Fatalf("message %d waits %v", i, got)
		}
	}
	if got := w.take(now.Add(10*time.Second), false); got != 50*time.Second {
		t.Errorf("the fourth waits %v, want 50s: a quarter is for pages", got)
	}
	if got := w.take(now.Add(10*time.Second), true); got != 0 {
		t.Errorf("a page waits %v", got)
	}
	if got := w.take(now.Add(11*time.Second), true); got != 49*time.Second {
		t.Errorf("the second page waits %v, want 49s", got)
	}
	if got := w.take(now.Add(11*time.Second), false); got != 50*time.Second {
		t.Errorf("another waits %v, want until two are gone", got)
	}
	if got := w.take(now.Add(time.Minute), true); got != 0 {
		t.Errorf("after a minute one waits %v", got)
	}
}

func TestAMessageThatWasNotSentGivesItsPlaceBack(t *testing.T) {
	w := newWindow(1, time.Minute)
	now := time.Unix(0, 0)
	w.take(now, true)
	if got := w.take(now.Add(time.Second), true); got != 59*time.Second {
		t.Fatalf("the second waits %v, want 59s", got)
	}
	w.back(now)
	if got := w.take(now.Add(time.Second), true); got != 0 {
		t.Errorf("after the place is back it waits %v", got)
	}
}
