package main

import (
	"time"

	"github.com/oncall-copilot/oncall/pkg/tabular"
)

// inTime gives rows in the order of a file, and says which of them are out of the
// order of time: not later than one before, or so much later that the row after it
// goes on from the one before it, as a row does that a wrong clock has written. The
// latter is known by looking one row ahead, which is not done where somebody waits for
// each line: there all that comes until that time is late.
type inTime struct {
	read  func() (tabular.Row, error)
	ahead bool      // look one row ahead
	last  time.Time // the latest in order

	held *tabular.Row
	err  error // of the row after the one that is held
}

// next is the next row, and whether it is in order.
func (r *inTime) next() (row tabular.Row, ordered bool, err error) {
	if r.held != nil {
		row, r.held = *r.held, nil
	} else if r.err != nil {
		return tabular.Row{}, false, r.err
	} else if row, err = r.read(); err != nil {
		return tabular.Row{}, false, err
	}
	ordered = row.Time.After(r.last)
	if r.ahead && r.err == nil {
		var after tabular.Row
		if after, r.err = r.read(); r.err == nil {
			r.held = &after
			if after.Time.Before(row.Time) && after.Time.After(r.last) {
				ordered = false
			}
		}
	}
	if ordered {
		r.last = row.Time
	}
	return row, ordered, nil
}
