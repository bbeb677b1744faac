package detector

import "iter"

// picked is a line of the last window that detectors may read.
type picked struct {
	text string
	pod  uint64
	next int32 // the next of its statement, as an index and one; 0 after the last
}

// allPicked is of how many lines of a statement in a window all are picked; of more
// each eighth is, and of eight times more each 64th, and so on.
const allPicked = 64

// pick keeps a line of a statement until the next window.
func (v *Vocabulary) pick(n *tally, text string, pod uint64) {
	step := 1
	for most := allPicked; n.read >= most && step < 1<<20; most *= 8 {
		step *= 8
	}
	n.read++
	if n.read%step != 0 {
		return
	}
	v.picked = append(v.picked, picked{text: text, pod: pod})
	at := int32(len(v.picked))
	if n.pick == 0 {
		n.pick = at
	} else {
		v.picked[n.close-1].next = at
	}
	n.close = at
}

// Lines are those of a statement in the last window, each with the id of the pod
// that wrote it; of many an even part.
func (v *Vocabulary) Lines(s Seen) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for at := s.first; at != 0; at = v.picked[at-1].next {
			if p := &v.picked[at-1]; !yield(p.text, p.pod) {
				return
			}
		}
	}
}
