package bus

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestTheOutermostVerdictCounts(t *testing.T) {
	err := errors.New("no")
	for name, tc := range map[string]struct {
		err      error
		after    time.Duration
		rejected bool
	}{
		"a plain error asks for nothing":                   {err: err},
		"retry asks for a time":                            {err: Retry(err, time.Second), after: time.Second},
		"reject asks for none":                             {err: Reject(err), rejected: true},
		"retry around reject retries":                      {err: Retry(Reject(err), time.Second), after: time.Second},
		"reject around retry rejects":                      {err: Reject(Retry(err, time.Second)), rejected: true},
		"text around them changes nothing":                 {err: fmt.Errorf("post: %w", Retry(fmt.Errorf("read: %w", Reject(err)), time.Second)), after: time.Second},
		"a longer retry around a shorter one is the one":   {err: Retry(Retry(err, time.Second), time.Minute), after: time.Minute},
		"of joined errors the first with a verdict counts": {err: errors.Join(err, Reject(err), Retry(err, time.Second)), rejected: true},
	} {
		t.Run(name, func(t *testing.T) {
			retry, rejected := verdict(tc.err)
			after := time.Duration(0)
			if retry != nil {
				after = retry.After
			}
			if after != tc.after || rejected != tc.rejected {
				t.Errorf("verdict(%v) = %s, %t, want %s, %t", tc.err, after, rejected, tc.after, tc.rejected)
			}
		})
	}
}
