package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestTheBudgetHoldsWhereNothingHappens(t *testing.T) {
	var out bytes.Buffer
	c := run{series: 40, days: 1, seed: 1, limit: time.Minute}
	if err := c.do(&out); err != nil || !strings.Contains(out.String(), "most told in seven days") {
		t.Errorf("%v\n%s", err, &out)
	}
}
