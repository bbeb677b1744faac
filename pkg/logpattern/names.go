package logpattern

import (
	"github.com/cespare/xxhash/v2"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// names are words that were found to be values somewhere: of users, hosts, tasks. In
// another place a few of them are enough to be values too. The older half is
// forgotten when there are too many.
type names [2]map[uint32]struct{}

// mostNames bounds each half.
const mostNames = 8192

func newNames() names { return names{{}, {}} }

// wordHash is the short hash of a word that slots and names keep.
func wordHash(w string) uint32 { return uint32(xxhash.Sum64String(w)) }

func (n *names) add(word uint32) {
	if n.has(word) {
		return
	}
	if len(n[0]) >= mostNames {
		n[0], n[1] = map[uint32]struct{}{}, n[0]
	}
	n[0][word] = struct{}{}
}

func (n *names) has(word uint32) bool {
	if _, ok := n[0][word]; ok {
		return true
	}
	_, ok := n[1][word]
	return ok
}

// all says whether all these words are names.
func (n *names) all(words []uint32) bool {
	for _, w := range words {
		if !n.has(w) {
			return false
		}
	}
	return true
}

func (n *names) write(w *snapshot.Writer) {
	for _, half := range n {
		w.Uint(uint64(len(half)))
		for _, word := range keys(half) {
			w.Uint(uint64(word))
		}
	}
}

func (n *names) read(r *snapshot.Reader) {
	for _, half := range n {
		for range r.Len() {
			half[uint32(r.Uint())] = struct{}{}
			if r.Err() != nil {
				return
			}
		}
	}
}
