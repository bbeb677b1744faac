// Package slab keeps many small rows by the hash of what they are about: what a
// fold remembers of a hundred thousand series. A row costs its own size, eight bytes
// of id and seven of index on average, where a map of pointers costs 24 and rounds
// the row up to what the allocator has; rows without pointers are not looked at by
// the garbage collector.
package slab

import (
	"cmp"
	"iter"
	"math/rand/v2"
	"slices"
	"unsafe"
)

// Most is how many rows a table holds at most.
const Most = 1<<placeBits - 2

const (
	chunkBytes = 10240 // one that the allocator has; multiples of a level, a trend and a light series nearly fill it
	placeBits  = 24
	placeMask  = 1<<placeBits - 1
	leastIndex = 8
)

// Table is rows by id. The zero value is empty and ready to use. It is not for
// concurrent use.
type Table[R any] struct {
	index  []uint32 // by the id's hash: where its row is, counted from 1, below eight more bits of the hash; 0 is free
	shift  uint8    // of the hash, which leaves a place in index
	chunks [][]entry[R]
	n      int
}

type entry[R any] struct {
	id  uint64
	row R
}

// The ids are hashes that whoever names a series can choose; this number cannot be
// known, so that they cannot all be put in one place.
var multiplier = rand.Uint64() | 1

// perChunk is how many rows share an allocation.
func (t *Table[R]) perChunk() int {
	var e entry[R]
	return max(1, chunkBytes/int(unsafe.Sizeof(e)))
}

func (t *Table[R]) entry(place int) *entry[R] {
	per := t.perChunk()
	return &t.chunks[place/per][place%per]
}

// Len is how many rows there are.
func (t *Table[R]) Len() int { return t.n }

// seek is the row of an id, or nil and where in the index it goes.
func (t *Table[R]) seek(id uint64) (*entry[R], int) {
	if len(t.index) == 0 {
		return nil, 0
	}
	h := id * multiplier
	tag := tagged(h, t.shift)
	last := len(t.index) - 1
	for i := int(h >> t.shift); ; i = (i + 1) & last { //nolint:gosec // less than the index is long
		at := t.index[i]
		if at == 0 {
			return nil, i
		}
		if at&^placeMask == tag {
			if e := t.entry(int(at&placeMask) - 1); e.id == id {
				return e, i
			}
		}
	}
}

func tagged(h uint64, shift uint8) uint32 {
	return uint32(h>>(shift-(32-placeBits))) << placeBits //nolint:gosec // the upper bits are those of the place
}

// Find is the row of an id; nil when there is none. A row stays where it is until
// [Table.DeleteFunc] is called.
func (t *Table[R]) Find(id uint64) *R {
	if e, _ := t.seek(id); e != nil {
		return &e.row
	}
	return nil
}

// At is the row of an id, made when there is none; known says that there was. It
// panics when there are [Most].
func (t *Table[R]) At(id uint64) (row *R, known bool) {
	e, i := t.seek(id)
	if e != nil {
		return &e.row, true
	}
	if t.n >= Most {
		panic("slab: a table has no room for more rows")
	}
	if 4*(t.n+1) > 3*len(t.index) {
		t.rebuild(max(leastIndex, 2*len(t.index)))
		_, i = t.seek(id)
	}
	if per := t.perChunk(); t.n == per*len(t.chunks) {
		t.chunks = append(t.chunks, make([]entry[R], per))
	}
	e = t.entry(t.n)
	e.id = id
	t.n++
	t.index[i] = tagged(id*multiplier, t.shift) | uint32(t.n) //nolint:gosec // at most Most
	return &e.row, false
}

// rebuild makes an index of a size, a power of two.
func (t *Table[R]) rebuild(size int) {
	t.index, t.shift = make([]uint32, size), 64
	for ; size > 1; size /= 2 {
		t.shift--
	}
	for place := range t.n {
		id := t.entry(place).id
		_, i := t.seek(id)
		t.index[i] = tagged(id*multiplier, t.shift) | uint32(place+1) //nolint:gosec // at most Most
	}
}

// All are the rows by ascending id. The table must not be changed meanwhile.
func (t *Table[R]) All() iter.Seq2[uint64, *R] {
	return func(yield func(uint64, *R) bool) {
		type place struct {
			id uint64
			at int
		}
		all := make([]place, t.n)
		for at := range all {
			all[at] = place{t.entry(at).id, at}
		}
		slices.SortFunc(all, func(a, b place) int { return cmp.Compare(a.id, b.id) })
		for _, p := range all {
			if !yield(p.id, &t.entry(p.at).row) {
				return
			}
		}
	}
}

// DeleteFunc forgets the rows of which forget says so, and gives their memory
// back. Others may be elsewhere after it when it returns true.
func (t *Table[R]) DeleteFunc(forget func(id uint64, row *R) bool) (moved bool) {
	kept := 0
	for place := range t.n {
		e := t.entry(place)
		if forget(e.id, &e.row) {
			continue
		}
		if kept != place {
			*t.entry(kept) = *e
		}
		kept++
	}
	if kept == t.n {
		return false
	}
	for place := kept; place < t.n; place++ {
		*t.entry(place) = entry[R]{}
	}
	t.n = kept
	used := (kept + t.perChunk() - 1) / t.perChunk()
	clear(t.chunks[used:])
	t.chunks = t.chunks[:used]
	size := leastIndex
	for 3*size < 4*kept {
		size *= 2
	}
	t.rebuild(size)
	return true
}
