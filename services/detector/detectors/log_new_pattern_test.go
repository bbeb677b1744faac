package detectors

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

func TestANewLineIsToldByWhatItSaysAndHowLongItLasts(t *testing.T) {
	const at, minutes = 200, 230
	const trouble = `level=error msg="cannot decode the cart" err="unexpected end of input"`
	said := func(lines map[int][]string, pod func(i int) string) func(i int) logMinute {
		return func(i int) logMinute {
			l := []string{fmt.Sprintf(work, i%90), fmt.Sprintf(beat, i)}
			return logMinute{lines: podLines{pod(i): append(l, lines[i-at]...)}}
		}
	}
	onePod := func(int) string { return podA }
	rolled := func(i int) string {
		if i >= at-2 {
			return podB
		}
		return podA
	}
	three := []string{trouble, trouble, trouble}
	for name, c := range map[string]struct {
		of   func(i int) logMinute
		told map[int]string // minute after at: what the summary holds
	}{
		"an error that comes three times": {said(map[int][]string{0: three}, onePod), map[int]string{0: "new log line (error): cannot decode the cart"}},
		"one that comes once is not":      {said(map[int][]string{0: {trouble}}, onePod), nil},
		"a fatal one is":                  {said(map[int][]string{0: {`level=fatal msg="the journal is gone"`}}, onePod), map[int]string{0: "new log line (fatal): the journal is gone"}},
		"a remark is not":                 {said(map[int][]string{0: {`level=info msg="reads the new configuration"`}}, onePod), nil},
		"a warning is not within hours of the start": {
			said(map[int][]string{0: {`level=warning msg="pool is exhausted"`, `level=warning msg="pool is exhausted"`, `level=warning msg="pool is exhausted"`}}, onePod),
			nil,
		},
		"an error of what starts is not": {said(map[int][]string{0: three, 1: {trouble}}, rolled), nil},
		"one that stays after a rollout says so": {
			said(map[int][]string{0: three, 1: {trouble}, 2: {trouble}, 3: {trouble}}, rolled),
			map[int]string{2: "new log line (error), first seen 2 m after a rollout of web: cannot decode the cart"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			began, _ := playLogs(t, "log_new_pattern", minutes, c.of)
			for i, a := range began {
				if want, ok := c.told[i-at]; !ok || !strings.Contains(a.Summary, want) {
					t.Errorf("minute %d: %q (%s), want %q", i-at, a.Summary, a.Explanation, want)
				}
				if a.Onset.Before(detectortest.At(at-1)) || a.Onset.After(detectortest.At(at)) {
					t.Errorf("onset %s, want in the minute of the first line", a.Onset)
				}
			}
			if len(began) != len(c.told) {
				t.Errorf("told %d times, want %d", len(began), len(c.told))
			}
		})
	}
}

// A workload whose troubles are never the same twice is not told of each.
func TestNewLinesOfAWorkloadThatAlwaysSaysNewThingsAreNotTold(t *testing.T) {
	words := strings.Fields("alder birch cedar dogwood elm fir gum hazel ivy juniper kapok larch maple nutmeg oak pine quince rowan spruce teak")
	began, _ := playLogs(t, "log_new_pattern", 400, func(i int) logMinute {
		l := []string{fmt.Sprintf(work, i%90)}
		if i%10 == 0 {
			// Other words in another order, so that no two are forms of one statement.
			a, b, c := words[i/10%20], words[i/10*7%20], words[i/10*3%20]
			for range 3 {
				l = append(l, fmt.Sprintf(`level=error msg="%s could not %s with %s and the %s gave up" `, a, b, c, words[(i/200+i/10)%20]))
			}
		}
		return logMinute{lines: podLines{podA: l}}
	})
	if len(began) > 2 {
		t.Errorf("told %d times of forty, want twice at most", len(began))
	}
}

// Of a workload that has been watched for hardly more than the warm-up three lines
// of a new error are not told, and a flood is.
func TestAFloodOfANewErrorIsToldOfAWorkloadThatIsHardlyKnown(t *testing.T) {
	for lines, want := range map[int]int{3: 0, 60: 1} {
		began, _ := playLogs(t, "log_new_pattern", 36, func(i int) logMinute {
			l := podLines{podA: {fmt.Sprintf(work, i%90), fmt.Sprintf(work, i%80), fmt.Sprintf(work, i%70), fmt.Sprintf(beat, i)}}
			for range lines {
				if i == 32 {
					l[podA] = append(l[podA], `level=error msg="payment ledger rejected entry" err="constraint violated" shard=7`)
				}
			}
			return logMinute{lines: l}
		})
		if len(began) != want {
			t.Errorf("%d lines: told %d times, want %d: %v", lines, len(began), want, began)
		}
	}
}

// A new statement says what it is like: the wording before, or who else makes it.
func TestANewLineSaysWhatItIsLike(t *testing.T) {
	began, _ := playLogs(t, "log_new_pattern", 345, func(i int) logMinute {
		l := podLines{podA: usual(i)}
		if i >= 300 && i < 310 {
			l[podA] = append(l[podA], `level=error msg="upstream of the cart timed out again" upstream=10.0.0.4`, `level=error msg="ledger rejected" code=17`)
		}
		if i == 20 {
			l[podA] = append(l[podA], `level=info msg="upstream of the cart is back again"`)
		}
		return logMinute{lines: l}
	})
	like, unlike := 0, 0
	for _, a := range began {
		if strings.Contains(a.Explanation, `% like "upstream of the cart is back again", which this workload has made since 2026-`) {
			like++
		} else if strings.Contains(a.Summary, "ledger") && !strings.Contains(a.Explanation, " like ") {
			unlike++
		}
	}
	if like+unlike != len(began) || like == 0 {
		t.Errorf("%d of %d say what they are like: %+v", like, len(began), began)
	}
}
