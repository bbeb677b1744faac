package objectives

import "testing"

func TestWhatWasKeptIsNotRoundedUp(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{
		0: "0", 0.25: "25", 0.9: "90", 0.995: "99.5", 0.999: "99.9", 0.9999: "99.99", 1: "100",
		0.8999999: "89.99", 0.9989999: "99.89", 0.99989999: "99.98", 0.99999: "99.999", 0.99999996: "99.9999",
	} {
		if got := share(x); got != want {
			t.Errorf("share(%v) = %s, want %s", x, got, want)
		}
	}
}
