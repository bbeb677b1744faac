package logpattern

import (
	"cmp"
	"slices"
)

// Compact makes room when nearly as many templates are kept as may be. It forgets
// those that became part of others, and then those that were not seen for longest:
// what one owner has over its fair share of three quarters, so that who says little
// keeps all of it, and then a quarter of all. What stays keeps its id
// and its count. An id of what is forgotten is not known any more, so whoever keeps
// ids resolves them before.
func (m *Miner) Compact() {
	most := m.cfg.MaxTemplates
	if len(m.templates)-m.classes < most-most/8 {
		return
	}
	var standing []int32
	for i := range m.templates {
		if m.templates[i].parent == int32(i) && !m.templates[i].coarse {
			standing = append(standing, int32(i))
		}
	}
	slices.SortFunc(standing, func(a, b int32) int {
		return cmp.Or(cmp.Compare(m.templates[b].used, m.templates[a].used), cmp.Compare(a, b))
	})
	keep := make([]bool, len(m.templates))
	has := map[uint64]int{}
	for _, i := range standing {
		has[m.templates[i].owner]++
	}
	nobodys := has[0]
	delete(has, 0)
	fair := min(max(1, m.share()/2), FairShare(has, most-most/4-nobodys))
	kept, of := 0, map[uint64]int{}
	for _, i := range standing {
		owner := m.templates[i].owner
		if kept >= most-most/4 || owner != 0 && of[owner] >= fair {
			continue
		}
		keep[i] = true
		kept++
		of[owner]++
	}
	m.rebuild(func(i int32) bool { return keep[i] || m.templates[i].coarse })
}

// FairShare is how much each may keep, so that all of it has room and who has less
// than the others keeps everything; at least 1.
func FairShare(has map[uint64]int, room int) int {
	counts := make([]int, 0, len(has))
	for _, n := range has {
		counts = append(counts, n)
	}
	slices.Sort(counts)
	for i, n := range counts {
		if rest := len(counts) - i; n*rest > room {
			return max(1, room/rest)
		}
		room -= n
	}
	return max(1, room)
}

// rebuild keeps some of the templates that stand for themselves.
func (m *Miner) rebuild(keep func(int32) bool) {
	const gone = -1
	now := make([]int32, len(m.templates)) // where each is, or what it became part of
	var kept []template
	for i := range m.templates {
		switch root := m.root(int32(i)); {
		case root != int32(i):
			now[i] = now[root] // the older, which was placed before
		case keep(root):
			now[i] = int32(len(kept))
			t := m.templates[i]
			t.parent, t.like = now[i], now[i]
			kept = append(kept, t)
		default:
			now[i] = gone
		}
	}
	m.templates, m.classes = m.templates[:0:0], 0
	clear(m.byID)
	clear(m.made)
	for _, t := range kept {
		m.add(t)
	}
	for fp, i := range m.byPrint {
		if m.byPrint[fp] = now[i]; now[i] == gone {
			delete(m.byPrint, fp)
		}
	}
	for _, generation := range m.generations() {
		for _, s := range generation {
			members := s.members[:0]
			for _, i := range s.members {
				if j := now[i]; j != gone && !slices.Contains(members, j) {
					members = append(members, j)
				}
			}
			s.members = members
		}
	}
}
