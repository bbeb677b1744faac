package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/tabular"
)

func TestARowOfTheFutureTakesNoOthersPlace(t *testing.T) {
	for name, c := range map[string]struct {
		times []int // minutes
		live  bool
		want  []int // of them, those in order
	}{
		"in order":               {[]int{1, 2, 3, 4}, false, []int{1, 2, 3, 4}},
		"one of the future":      {[]int{1, 2, 900, 3, 4}, false, []int{1, 2, 3, 4}},
		"the first":              {[]int{900, 1, 2, 3}, false, []int{1, 2, 3}},
		"the last":               {[]int{1, 2, 3, 900}, false, []int{1, 2, 3, 900}}, // nothing speaks against it
		"one that is late":       {[]int{10, 11, 5, 12}, false, []int{10, 11, 12}},
		"one that comes twice":   {[]int{1, 2, 2, 3}, false, []int{1, 2, 3}},
		"a gap":                  {[]int{1, 2, 900, 901}, false, []int{1, 2, 900, 901}},
		"while somebody waits":   {[]int{1, 2, 20, 3, 21}, true, []int{1, 2, 20, 21}},
		"a single row, and none": {[]int{7}, false, []int{7}},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			b.WriteString("timestamp,value\n")
			for _, m := range c.times {
				fmt.Fprintf(&b, "%d,1\n", 1_700_000_000+60*m)
			}
			rows, err := tabular.NewReader(strings.NewReader(b.String()))
			if err != nil {
				t.Fatal(err)
			}
			in := inTime{read: rows.Next, ahead: !c.live}
			var all, got []int
			for {
				row, ordered, err := in.next()
				if err != nil {
					break
				}
				m := int(row.Time.Unix()-1_700_000_000) / 60
				all = append(all, m)
				if ordered {
					got = append(got, m)
				}
			}
			if !slices.Equal(all, c.times) || !slices.Equal(got, c.want) {
				t.Errorf("in order %v of %v, want %v of %v", got, all, c.want, c.times)
			}
		})
	}
}
