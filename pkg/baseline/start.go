package baseline

import "math"

// leap is how many samples in a row lay on one side of the usual level since one that
// lay far from it: above where it is positive, below where it is negative.
type leap int8

const (
	leapFar  = 10  // in robust standard deviations
	leapMost = 100 // samples that are counted: what is judged by it are first hours
	leapRun  = 20  // samples, at least, that have another level
)

// fold counts a sample at so many robust standard deviations from the level of a series
// that has seen so many, and says whether its beginning is to be forgotten: more than
// half of what was seen lies on one side of where the series leapt from. One that is
// first seen in an incident, or while its process starts, has another level than the
// one its first samples made, and robust estimates would hold on to that for days.
func (a *leap) fold(z float64, seen uint64) bool {
	if seen > 2*leapMost {
		return false
	}
	switch {
	case *a > 0 && z > 0:
		*a++
	case *a < 0 && z < 0:
		*a--
	case z >= leapFar && seen >= 5:
		*a = 1
	case z <= -leapFar && seen >= 5:
		*a = -1
	default:
		*a = 0
	}
	run := uint64(math.Abs(float64(*a)))
	return run >= leapRun && 2*run > seen
}
