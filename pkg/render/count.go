package render

import (
	"fmt"
	"math"
)

// Count is a whole number as people read it: 12,345.
func Count(n float64) string {
	s := fmt.Sprintf("%.0f", n)
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return s
	}
	first := 0
	if n < 0 {
		first = 1
	}
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
