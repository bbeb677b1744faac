// Package snapshot writes and reads the state of folds as bytes: small, the
// same bytes for the same state, and safe to read whatever the bytes are.
package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// ErrCorrupt is wrapped by every error of a [Reader].
var ErrCorrupt = errors.New("corrupt snapshot")

// Writer appends values to a buffer. The zero value is ready to use.
type Writer struct{ buf []byte }

// Data is all that was written.
func (w *Writer) Data() []byte { return w.buf }

// Uint writes an unsigned number in few bytes when it is small.
func (w *Writer) Uint(v uint64) { w.buf = binary.AppendUvarint(w.buf, v) }

// Int writes a number in few bytes when it is near zero.
func (w *Writer) Int(v int64) { w.buf = binary.AppendVarint(w.buf, v) }

// Fixed writes a hash in eight bytes.
func (w *Writer) Fixed(v uint64) { w.buf = binary.LittleEndian.AppendUint64(w.buf, v) }

// Float writes a float64 exactly.
func (w *Writer) Float(v float64) { w.Fixed(math.Float64bits(v)) }

// Float32 writes a float32 exactly.
func (w *Writer) Float32(v float32) {
	w.buf = binary.LittleEndian.AppendUint32(w.buf, math.Float32bits(v))
}

// Bool writes one byte.
func (w *Writer) Bool(v bool) {
	if v {
		w.buf = append(w.buf, 1)
		return
	}
	w.buf = append(w.buf, 0)
}

// String writes a length and the bytes.
func (w *Writer) String(s string) {
	w.Uint(uint64(len(s)))
	w.buf = append(w.buf, s...)
}

// Bytes writes a length and the bytes.
func (w *Writer) Bytes(b []byte) {
	w.Uint(uint64(len(b)))
	w.buf = append(w.buf, b...)
}

// Time writes a time to the nanosecond; the zero time stays zero.
func (w *Writer) Time(t time.Time) {
	w.Bool(!t.IsZero())
	if !t.IsZero() {
		w.Int(t.UnixNano())
	}
}

// Reader reads what a [Writer] wrote. After the first error every read gives
// the zero value; Err tells.
type Reader struct {
	buf []byte
	err error
}

// NewReader reads from b, which it does not change.
func NewReader(b []byte) *Reader { return &Reader{buf: b} }

// Err is the first error, wrapping [ErrCorrupt].
func (r *Reader) Err() error { return r.err }

// Close says whether everything was read, without an error.
func (r *Reader) Close() error {
	if r.err == nil && len(r.buf) > 0 {
		r.Fail(fmt.Sprintf("%d bytes too many", len(r.buf)))
	}
	return r.err
}

// Fail records an error of the caller's.
func (r *Reader) Fail(why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrCorrupt, why)
	}
	r.buf = nil
}

// Uint reads what Writer.Uint wrote.
func (r *Reader) Uint() uint64 {
	v, n := binary.Uvarint(r.buf)
	if n <= 0 {
		r.Fail("cut in a number")
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

// Int reads what Writer.Int wrote.
func (r *Reader) Int() int64 {
	v, n := binary.Varint(r.buf)
	if n <= 0 {
		r.Fail("cut in a number")
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *Reader) take(n int) []byte {
	if n < 0 || n > len(r.buf) {
		r.Fail("cut short")
		return nil
	}
	b := r.buf[:n]
	r.buf = r.buf[n:]
	return b
}

// Fixed reads what Writer.Fixed wrote.
func (r *Reader) Fixed() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// Float reads a float64.
func (r *Reader) Float() float64 { return math.Float64frombits(r.Fixed()) }

// Float32 reads a float32.
func (r *Reader) Float32() float32 {
	if b := r.take(4); b != nil {
		return math.Float32frombits(binary.LittleEndian.Uint32(b))
	}
	return 0
}

// Bool reads one byte; anything but 0 and 1 is an error.
func (r *Reader) Bool() bool {
	b := r.take(1)
	if b == nil {
		return false
	}
	if b[0] > 1 {
		r.Fail("not a boolean")
	}
	return b[0] == 1
}

// Bytes reads a length and so many bytes, copied.
func (r *Reader) Bytes() []byte {
	n := r.Uint()
	if n > uint64(len(r.buf)) {
		r.Fail("length beyond the end")
		return nil
	}
	return slices.Clone(r.take(int(n)))
}

// String reads a length and so many bytes.
func (r *Reader) String() string {
	n := r.Uint()
	if n > uint64(len(r.buf)) {
		r.Fail("length beyond the end")
		return ""
	}
	return string(r.take(int(n)))
}

// Time reads a time in UTC.
func (r *Reader) Time() time.Time {
	if !r.Bool() {
		return time.Time{}
	}
	ns := r.Int()
	if r.err != nil {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// Len reads a count of things that take at least one byte each, so that a
// hostile count cannot make the reader allocate more than the input holds.
func (r *Reader) Len() int {
	n := r.Uint()
	if n > uint64(len(r.buf)) {
		r.Fail("count beyond the end")
		return 0
	}
	return int(n)
}
