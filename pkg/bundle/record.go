package bundle

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

// Record is one message of a stream as it stood on the bus.
type Record struct {
	Sequence uint64              `json:"seq"`
	Received time.Time           `json:"ts"` // when the server stored it
	Subject  string              `json:"subject"`
	Header   map[string][]string `json:"hdr,omitempty"`
	Payload  []byte              `json:"-"`
}

// maxLine bounds one line of a bundle's files.
const maxLine = 8 << 20

// recordJSON is how a Record is written: text as it is, the rest in base64.
type recordJSON struct {
	plainRecord
	Data    *string `json:"data,omitempty"`
	DataB64 string  `json:"data_b64,omitempty"`
}

type plainRecord Record

// MarshalJSON writes the payload as data when it is valid UTF-8, else as
// data_b64.
func (r Record) MarshalJSON() ([]byte, error) {
	j := recordJSON{plainRecord: plainRecord(r)}
	if utf8.Valid(r.Payload) {
		s := string(r.Payload)
		j.Data = &s
	} else {
		j.DataB64 = base64.StdEncoding.EncodeToString(r.Payload)
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Record) UnmarshalJSON(b []byte) error {
	var j recordJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*r = Record(j.plainRecord)
	if j.Data != nil {
		r.Payload = []byte(*j.Data)
		return nil
	}
	var err error
	r.Payload, err = base64.StdEncoding.DecodeString(j.DataB64)
	return err
}

// Records yields the messages of one recorded stream in order. The first
// error ends it and names file and line.
func (b *Bundle) Records(stream string) iter.Seq2[Record, error] {
	return jsonLines[Record](b, "streams/"+stream+".jsonl")
}

// jsonLines yields the values of a file with one JSON value a line.
func jsonLines[T any](b *Bundle, name string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		f, err := b.open(name)
		if err != nil {
			yield(zero, fmt.Errorf("bundle %s: %w", b.name, err))
			return
		}
		defer func() { _ = f.Close() }()
		sc := bufio.NewScanner(f)
		sc.Buffer(make([]byte, 64<<10), maxLine)
		n := 1
		for ; sc.Scan(); n++ {
			if len(sc.Bytes()) == 0 {
				continue
			}
			var v T
			if err := json.Unmarshal(sc.Bytes(), &v); err != nil {
				yield(zero, malformed("bundle %s: %s:%d: %w", b.name, name, n, err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := sc.Err(); err != nil {
			yield(zero, malformed("bundle %s: %s:%d: %w", b.name, name, n, err))
		}
	}
}

// Writer writes one file of JSON values, one a line, packed when its name ends
// in .zst.
type Writer struct {
	file *os.File
	buf  *bufio.Writer
	zstd *zstd.Encoder
	json *json.Encoder
	n    int
}

// Create makes a file below a bundle's folder.
func Create(dir, name string) (*Writer, error) {
	p := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	f, err := os.Create(p)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	w := &Writer{file: f}
	var out io.Writer = f
	if filepath.Ext(name) == ".zst" {
		if w.zstd, err = zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1)); err != nil {
			return nil, fmt.Errorf("create %s: %w", name, err)
		}
		out = w.zstd
	}
	w.buf = bufio.NewWriter(out)
	w.json = json.NewEncoder(w.buf)
	w.json.SetEscapeHTML(false)
	return w, nil
}

// Write adds one line.
func (w *Writer) Write(v any) error {
	w.n++
	return w.json.Encode(v)
}

// Len is how many lines were written.
func (w *Writer) Len() int { return w.n }

// Close writes out what is buffered.
func (w *Writer) Close() error {
	err := w.buf.Flush()
	if w.zstd != nil {
		err = errors.Join(err, w.zstd.Close())
	}
	return errors.Join(err, w.file.Close())
}
