package snapshot

import (
	"errors"
	"math"
	"testing"
	"time"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	w := &Writer{}
	at := time.Date(2026, 3, 1, 10, 0, 0, 5, time.UTC)
	w.Uint(300)
	w.Int(-5)
	w.Fixed(math.MaxUint64)
	w.Float(math.Inf(-1))
	w.Float32(1.5)
	w.Bool(true)
	w.String("ü\x00")
	w.Bytes([]byte{1, 2})
	w.Time(at)
	w.Time(time.Time{})
	r := NewReader(w.Data())
	if r.Uint() != 300 || r.Int() != -5 || r.Fixed() != math.MaxUint64 || r.Float() != math.Inf(-1) || r.Float32() != 1.5 || !r.Bool() ||
		r.String() != "ü\x00" || string(r.Bytes()) != "\x01\x02" || !r.Time().Equal(at) || !r.Time().IsZero() {
		t.Error("something read differs from what was written")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestDamageIsAnErrorAndAllocatesNothing(t *testing.T) {
	for name, b := range map[string][]byte{
		"a length beyond the end": {0xff, 0xff, 0xff, 0xff, 0x7f},
		"a number that is cut":    {0x80},
		"nothing":                 nil,
	} {
		t.Run(name, func(t *testing.T) {
			for _, read := range []func(*Reader){func(r *Reader) { _ = r.String() }, func(r *Reader) { r.Bytes() }, func(r *Reader) { r.Len() }} {
				r := NewReader(b)
				read(r)
				if !errors.Is(r.Err(), ErrCorrupt) {
					t.Errorf("got %v, want ErrCorrupt", r.Err())
				}
			}
		})
	}
	if r := NewReader([]byte{1, 2}); r.Uint() != 1 || !errors.Is(r.Close(), ErrCorrupt) {
		t.Error("bytes too many are no error")
	}
}
