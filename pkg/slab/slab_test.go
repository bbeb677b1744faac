package slab

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// TestATableIsAMap does the same to a table and to a map, at random.
func TestATableIsAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var table Table[[3]int]
	want := map[uint64][3]int{}
	ids := []uint64{0, 1, 2, 1 << 63, ^uint64(0)}
	for range 2000 {
		ids = append(ids, r.Uint64())
	}
	for step := range 20_000 {
		id := ids[r.IntN(len(ids))]
		switch r.IntN(10) {
		case 0:
			row := table.Find(id)
			v, ok := want[id]
			if (row != nil) != ok || ok && *row != v {
				t.Fatalf("step %d: id %x is %v, want %v %v", step, id, row, v, ok)
			}
		default:
			row, known := table.At(id)
			if _, ok := want[id]; ok != known || !known && *row != [3]int{} {
				t.Fatalf("step %d: id %x is %v known %v, want known %v", step, id, row, known, ok)
			}
			row[1] = step
			want[id] = [3]int{0, step}
		}
		if step%4000 == 3999 {
			odd := func(id uint64, _ *[3]int) bool { return id%3 == uint64(step/4000)%3 }
			if !table.DeleteFunc(odd) {
				t.Fatal("a third of the rows were to go and none did")
			}
			maps.DeleteFunc(want, func(id uint64, v [3]int) bool { return odd(id, &v) })
		}
	}
	if table.Len() != len(want) {
		t.Fatalf("%d rows, want %d", table.Len(), len(want))
	}
	var got []uint64
	for id, row := range table.All() {
		if got = append(got, id); *row != want[id] {
			t.Errorf("row of %x: %v, want %v", id, *row, want[id])
		}
	}
	if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("%d ids that are not those of the map in order", len(got))
	}
	if table.DeleteFunc(func(uint64, *[3]int) bool { return false }) {
		t.Error("nothing was deleted, and rows moved")
	}
	table.DeleteFunc(func(uint64, *[3]int) bool { return true })
	if table.Len() != 0 || table.Find(ids[0]) != nil {
		t.Error("rows are left of an empty table")
	}
	if _, known := table.At(7); known {
		t.Error("an empty table knows a row")
	}
}

// TestARowCostsLittleBesideItself, whether there are many or few.
func TestARowCostsLittleBesideItself(t *testing.T) {
	type row [304]byte
	for _, n := range []int{4, 30, 300, 3000, 30_000} {
		const tables = 20 // whose last rows are not all at the end of a piece
		r := rand.New(rand.NewPCG(3, 4))
		bytes, rows := 0, 0
		for i := range tables {
			var table Table[row]
			for range n + n*i/tables {
				table.At(r.Uint64())
			}
			bytes += 4 * len(table.index)
			for _, c := range table.chunks {
				bytes += cap(c) * int(unsafe.Sizeof(c[0]))
			}
			rows += table.Len()
		}
		most := 8 + 8 + 5.0
		if n < 100 {
			most += 40 // places for rows that have not come
		}
		if per := float64(bytes)/float64(rows) - 304; per > most {
			t.Errorf("of %d rows and more each of 304 bytes costs %.1f more, at most %g are wanted", n, per, most)
		}
	}
}

func TestWhatWasReservedIsNotBuiltTwice(t *testing.T) {
	var table Table[int]
	table.Reserve(1000)
	index := &table.index[0]
	for id := range uint64(1000) {
		row, _ := table.At(id)
		*row = int(id)
	}
	if index != &table.index[0] {
		t.Error("the index was built again for rows that were reserved")
	}
	for id := range uint64(1000) {
		if row := table.Find(id); row == nil || *row != int(id) {
			t.Errorf("row of %d: %v", id, row)
		}
	}
}
