package loki

import (
	"context"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// aheadAtOnce is how many questions are under way at once while windows that lie
// back are read, so that a Loki far away costs a few round trips and one that is
// busy is not asked for more.
const aheadAtOnce = 4

// piece is one window and its lines.
type piece struct {
	start   time.Time
	streams []stream
}

// ahead holds windows that were read together with those before them. One source
// that catches up reads many in a question where lines are few, and asks several
// questions at once where they are many.
type ahead struct {
	held    []piece
	windows int // that one question is about
	most    int // that one may be about, since more was refused; 0 for any number
}

// window gives the lines of the window that begins at start. closed is how many
// windows from there on may be read: none of them will change.
func (s *Source) window(ctx context.Context, a *ahead, start time.Time, closed int) ([]stream, error) {
	for len(a.held) > 0 {
		p := a.held[0]
		a.held = a.held[1:]
		if p.start.Equal(start) {
			return p.streams, nil
		}
	}
	if closed == 1 {
		a.most = 0 // it has caught up
	}
	w := s.cfg.Window
	each := max(1, min(a.windows, closed, int(longest/w)))
	if a.most > 0 {
		each = min(each, a.most)
	}
	var starts []time.Time
	var counts []int
	for left := closed; left > 0 && len(starts) < aheadAtOnce; left -= each {
		starts = append(starts, start.Add(time.Duration(closed-left)*w))
		counts = append(counts, min(each, left))
		if a.windows == 0 {
			break // the first question says how many lines there are, and what time it is there
		}
	}
	answers := make([][]stream, len(starts))
	errs := make([]error, len(starts))
	var wg sync.WaitGroup
	for i := range starts {
		wg.Go(func() {
			answers[i], errs[i] = s.read(ctx, starts[i], starts[i].Add(time.Duration(counts[i])*w))
		})
	}
	wg.Wait()
	most := 0 // lines of an answer
	for i, all := range answers {
		if errs[i] != nil {
			break // what is before it stands
		}
		lines := 0
		for k, streams := range split(all, starts[i], w, counts[i]) {
			for _, st := range streams {
				lines += len(st.Values)
			}
			a.held = append(a.held, piece{starts[i].Add(time.Duration(k) * w), streams})
		}
		most = max(most, lines)
	}
	if errs[0] != nil {
		*a = ahead{most: max(1, each/4)}
		if each == 1 || ctx.Err() != nil || upstream.KindOf(errs[0]) == upstream.Busy {
			return nil, errs[0]
		}
		a.windows = 1
		return s.read(ctx, start, start.Add(w)) // it may be as much as it can give
	}
	a.windows = min(4*each, max(1, int(walkShare*float64(s.limit.Load())*float64(each)/float64(max(most, 1)))))
	first := a.held[0]
	a.held = a.held[1:]
	return first.streams, nil
}
