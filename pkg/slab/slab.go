// Package slab keeps many small rows by the hash of what they are about: what a
// fold remembers of a hundred thousand series. A row costs its own size, eight bytes
// of id and five and a half of index on average, be there ten rows or a million,
// where a map of pointers costs 24 and rounds the row up to what the allocator has;
// rows without pointers are not looked at by the garbage collector.
package slab

import (
	"cmp"
	"iter"
	"math/bits"
	"math/rand/v2"
	"slices"
	"unsafe"
)

// Most is how many rows a table holds at most.
const Most = 1<<placeBits - 2

const (
	placeBits  = 24
	placeMask  = 1<<placeBits - 1
	leastIndex = 8
	// A table grows by a 32nd, until that is more than a chunk.
	growth = 32
)

// chunkSizes are sizes that the allocator has, of which a chunk is the one that its
// rows fill best.
var chunkSizes = [...]int{8192, 9472, 9728, 10240, 10880, 12288}

// Table is rows by id. The zero value is empty and ready to use. It is not for
// concurrent use.
type Table[R any] struct {
	index  []uint32     // by the id's hash: where its row is, counted from 1, below eight more bits of the hash; 0 is free
	chunks [][]entry[R] // all but the last are full
	per    int          // rows in a full one; 0 before there was a row
	n      int
}

type entry[R any] struct {
	id  uint64
	row R
}

// The ids are hashes that whoever names a series can choose; this number cannot be
// known, so that they cannot all be put in one place.
var multiplier = rand.Uint64() | 1

// perChunk is how many rows share an allocation, at most.
func perChunk[R any]() (rows int) {
	size := int(unsafe.Sizeof(entry[R]{}))
	least := 1.0
	for _, bytes := range chunkSizes {
		if waste := float64(bytes%size) / float64(bytes); waste < least && bytes >= size {
			rows, least = bytes/size, waste
		}
	}
	return max(1, rows)
}

func (t *Table[R]) entry(place int) *entry[R] {
	return &t.chunks[place/t.per][place%t.per]
}

// Len is how many rows there are.
func (t *Table[R]) Len() int { return t.n }

// seek is the row of an id, or nil and where in the index it goes.
func (t *Table[R]) seek(id uint64) (*entry[R], int) {
	if len(t.index) == 0 {
		return nil, 0
	}
	at, tag := t.begins(id)
	for i := at; ; i++ {
		if i == len(t.index) {
			i = 0
		}
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

// begins is where in the index an id is looked for, and the bits by which it is
// told from most others.
func (t *Table[R]) begins(id uint64) (at int, tag uint32) {
	h := id * multiplier
	place, _ := bits.Mul64(h, uint64(len(t.index)))
	return int(place), uint32(h>>16) << placeBits //nolint:gosec // less than the index is long
}

// Find is the row of an id; nil when there is none. A row stays where it is until
// [Table.At] makes another or [Table.DeleteFunc] is called.
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
	if t.n == t.room() {
		t.rebuild(t.n + max(2, t.n/4))
		_, i = t.seek(id)
	}
	e = t.grown()
	e.id = id
	t.n++
	_, tag := t.begins(id)
	t.index[i] = tag | uint32(t.n) //nolint:gosec // at most Most
	return &e.row, false
}

// grown is the place of a row more.
func (t *Table[R]) grown() *entry[R] {
	if t.per == 0 {
		t.per = perChunk[R]()
	}
	full, used := t.n/t.per, t.n%t.per
	if full == len(t.chunks) {
		t.chunks = append(t.chunks, nil)
	}
	if last := t.chunks[full]; used == len(last) {
		t.chunks[full] = t.enlarged(last, used+1+t.n/growth)
	}
	return &t.chunks[full][used]
}

// enlarged is a chunk with room for so many rows, and for as many more as the
// allocator gives anyway.
func (t *Table[R]) enlarged(chunk []entry[R], rows int) []entry[R] {
	larger := append([]entry[R](nil), make([]entry[R], min(rows, t.per))...)
	copy(larger, chunk)
	return larger[:min(cap(larger), t.per)]
}

// room is how many rows the index holds: four of five of its places, so that few are
// looked at.
func (t *Table[R]) room() int { return len(t.index) / 5 * 4 }

// rebuild makes an index with room for so many rows.
func (t *Table[R]) rebuild(rows int) {
	t.index = make([]uint32, max(leastIndex, (rows+3)/4*5))
	for place := range t.n {
		id := t.entry(place).id
		_, i := t.seek(id)
		_, tag := t.begins(id)
		t.index[i] = tag | uint32(place+1) //nolint:gosec // at most Most
	}
}

// Reserve makes room in the index for so many rows more, which are about to come.
func (t *Table[R]) Reserve(rows int) {
	if rows = min(t.n+rows, Most); rows > t.room() {
		t.rebuild(rows)
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
	t.n = kept
	used := (kept + t.per - 1) / t.per
	clear(t.chunks[used:])
	t.chunks = t.chunks[:used]
	if used > 0 {
		last := t.chunks[used-1]
		left := kept - (used-1)*t.per
		clear(last[left:])
		if rows := left + 1 + kept/growth; rows < len(last) {
			t.chunks[used-1] = t.enlarged(last[:left], rows)
		}
	}
	t.rebuild(kept + kept/8)
	return true
}
