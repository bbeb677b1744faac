package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/encoding/protowire"
)

// The samples of a batch as io.prometheus.write.v2.Request (Remote-Write 2.0,
// prometheus.io/docs/specs/prw/remote_write_spec_2_0), written and read without
// the generated types in between: a batch passes here twice for each service
// that sees it, and the objects between would be most of the work. A test of
// the side modules holds it against the generated code.
const (
	fieldSymbols    protowire.Number = 4 // of Request
	fieldTimeseries protowire.Number = 5
	fieldLabelsRefs protowire.Number = 1 // of TimeSeries
	fieldSamples    protowire.Number = 2
	fieldValue      protowire.Number = 1 // of Sample
	fieldTimestamp  protowire.Number = 2
)

// sampleWriter is what writing a batch needs, kept for the next one.
type sampleWriter struct {
	refs            map[string]uint32
	symbols, series []byte
	last            []symbolRef // of the previous series' labels, by position
	row             []byte
	packed          []byte
}

type symbolRef struct {
	Label
	name, value uint32
}

var sampleWriters = sync.Pool{New: func() any { return &sampleWriter{refs: map[string]uint32{}} }}

func (w *sampleWriter) ref(s string) uint32 {
	i, ok := w.refs[s]
	if !ok {
		i = uint32(len(w.refs))
		w.refs[s] = i
		w.symbols = protowire.AppendString(protowire.AppendTag(w.symbols, fieldSymbols, protowire.BytesType), s)
	}
	return i
}

// labels appends a series' labels to the packed references. Neighbours in a
// batch differ in one or two labels, and only those are looked up.
func (w *sampleWriter) labels(ls Labels) {
	w.packed = w.packed[:0]
	for j, l := range ls {
		if j == len(w.last) {
			w.last = append(w.last, symbolRef{}) // the empty label, whose references are 0
		}
		at := &w.last[j]
		if at.Name != l.Name {
			at.Name, at.name = l.Name, w.ref(l.Name)
		}
		if at.Value != l.Value {
			at.Value, at.value = l.Value, w.ref(l.Value)
		}
		w.packed = protowire.AppendVarint(protowire.AppendVarint(w.packed, uint64(at.name)), uint64(at.value))
	}
}

func marshalMetrics(b MetricBatch) ([]byte, error) {
	points := 0
	for i := range b.Series {
		points += len(b.Series[i].Points)
	}
	if points > MaxBatchSamples {
		return nil, fmt.Errorf("metric batch holds %d samples, more than %d", points, MaxBatchSamples)
	}
	w := sampleWriters.Get().(*sampleWriter)
	defer func() {
		clear(w.refs)
		clear(w.last)
		w.symbols, w.series, w.last = w.symbols[:0], w.series[:0], w.last[:0]
		sampleWriters.Put(w)
	}()
	w.ref("") // the specification wants it first
	for i := range b.Series {
		s := &b.Series[i]
		w.labels(s.Labels)
		w.row = protowire.AppendBytes(protowire.AppendTag(w.row[:0], fieldLabelsRefs, protowire.BytesType), w.packed)
		for _, p := range s.Points {
			w.row = protowire.AppendTag(w.row, fieldSamples, protowire.BytesType)
			w.row = protowire.AppendVarint(w.row, uint64(1+8+1+protowire.SizeVarint(uint64(p.T)))) //nolint:gosec // two's complement, as protobuf has it
			w.row = protowire.AppendFixed64(protowire.AppendTag(w.row, fieldValue, protowire.Fixed64Type), math.Float64bits(p.V))
			w.row = protowire.AppendVarint(protowire.AppendTag(w.row, fieldTimestamp, protowire.VarintType), uint64(p.T)) //nolint:gosec // as above
		}
		w.series = protowire.AppendBytes(protowire.AppendTag(w.series, fieldTimeseries, protowire.BytesType), w.row)
	}
	w.symbols = append(w.symbols, w.series...)
	return s2.EncodeSnappy(nil, w.symbols), nil
}

// unpacked keeps the buffers that payloads are unpacked into: what is read out
// of them is copied.
var unpacked = sync.Pool{New: func() any { return new([]byte) }}

func unmarshalMetrics(payload []byte, a Attributes, prefix string) (MetricBatch, error) {
	id, err := parseBatchID(a.ID, prefix)
	if err != nil {
		return MetricBatch{}, err
	}
	buf := unpacked.Get().(*[]byte)
	defer unpacked.Put(buf)
	raw, err := unpack(*buf, payload)
	if err != nil {
		return MetricBatch{}, err
	}
	*buf = raw
	b := MetricBatch{
		Source: id.source, Query: id.query, Partition: id.partition, Step: time.UnixMilli(id.start).UTC(), Chunk: id.chunk,
		Bootstrap: a.Extensions[extBootstrap] == "true",
	}
	if b.Series, err = readSamples(raw); err != nil {
		return MetricBatch{}, fmt.Errorf("remote-write 2.0: %w", err)
	}
	if len(b.Series) > 0 {
		b.Namespace = b.Series[0].Labels.Get(LabelNamespace)
	}
	return b, nil
}

// readSamples reads the series of a request. It passes over it twice: first for
// the symbols, which may stand anywhere, and for how much there is of
// everything, so that the series share three allocations.
func readSamples(raw []byte) ([]Series, error) {
	symbols, n, err := countSamples(raw)
	if err != nil {
		return nil, err
	}
	r := sampleReader{
		symbols: symbols, series: make([]Series, 0, n.series), labels: make(Labels, 0, n.labels), points: make([]Point, 0, n.points),
	}
	for b := raw; len(b) > 0; {
		num, typ, v, n := field(b)
		if n < 0 {
			return nil, errTruncated
		}
		if b = b[n:]; num != fieldTimeseries || typ != protowire.BytesType {
			continue
		}
		if err := r.one(v); err != nil {
			return nil, fmt.Errorf("series %d: %w", len(r.series), err)
		}
	}
	return r.series, nil
}

// sampleReader is what reading a request's series needs.
type sampleReader struct {
	symbols []string
	series  []Series
	labels  Labels
	points  []Point
	hash    labelHash
}

// one reads a series.
func (r *sampleReader) one(b []byte) error {
	l, p := len(r.labels), len(r.points)
	for len(b) > 0 {
		num, typ, v, n := field(b)
		if n < 0 {
			return errTruncated
		}
		b = b[n:]
		var err error
		switch {
		case num == fieldLabelsRefs && typ == protowire.BytesType:
			r.labels, err = appendLabels(r.labels, v, r.symbols)
		case num == fieldLabelsRefs:
			err = errors.New("label references are not packed")
		case num == fieldSamples && typ == protowire.BytesType:
			r.points, err = appendPoint(r.points, v)
		}
		if err != nil {
			return err
		}
	}
	s := Series{Labels: slices.Clip(r.labels[l:]), Points: slices.Clip(r.points[p:])}
	s.ID = r.hash.of(s.Labels)
	r.series = append(r.series, s)
	return nil
}

// sampleCount is how much a request holds.
type sampleCount struct{ fields, series, labels, points int }

// countSamples finds the symbols of a request, and how much there is of the rest.
func countSamples(b []byte) (symbols []string, c sampleCount, err error) {
	for len(b) > 0 {
		num, typ, v, n := field(b)
		if n < 0 {
			return nil, c, errTruncated
		}
		b = b[n:]
		c.fields++
		switch {
		case num == fieldSymbols && typ == protowire.BytesType:
			symbols = append(symbols, string(v))
		case num == fieldTimeseries && typ == protowire.BytesType:
			c.series++
			if err := c.add(v); err != nil {
				return nil, c, err
			}
		}
		if err := c.check(); err != nil {
			return nil, c, err
		}
	}
	return symbols, c, nil
}

// add counts what is in one series.
func (c *sampleCount) add(b []byte) error {
	for len(b) > 0 {
		num, typ, v, n := field(b)
		if n < 0 {
			return errTruncated
		}
		b = b[n:]
		c.fields++
		switch {
		case num == fieldLabelsRefs && typ == protowire.BytesType:
			ends := 0
			for _, b := range v {
				ends += int(^b >> 7) // of a varint
			}
			c.labels += ends / 2
		case num == fieldSamples && typ == protowire.BytesType:
			c.points++
		}
		if err := c.check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *sampleCount) check() error {
	if c.fields+c.labels > maxFields {
		return fmt.Errorf("payload holds more than %d protobuf fields and labels", maxFields)
	}
	return nil
}

var errTruncated = errors.New("the message ends in the middle of a field")

// field is the first field of a message and its length: the content of a
// length-delimited one and the encoded value of any other. The length is negative
// where the message ends in the middle of it. Fields of one byte of tag and one of
// length, which nearly all are, are read here.
func field(b []byte) (num protowire.Number, typ protowire.Type, v []byte, length int) {
	if len(b) >= 2 && b[0] < 0x80 && b[0] >= 8 && b[0]&7 == byte(protowire.BytesType) && b[1] < 0x80 {
		if end := 2 + int(b[1]); end <= len(b) {
			return protowire.Number(b[0] >> 3), protowire.BytesType, b[2:end], end
		}
		return 0, 0, nil, -1
	}
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return 0, 0, nil, -1
	}
	if typ == protowire.BytesType {
		v, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return 0, 0, nil, -1
		}
		return num, typ, v, n + m
	}
	m := protowire.ConsumeFieldValue(num, typ, b[n:])
	if m < 0 {
		return 0, 0, nil, -1
	}
	return num, typ, b[n : n+m], n + m
}

// uvarint is binary.Uvarint, faster for small numbers.
func uvarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}

// appendLabels reads packed references to names and values in turn.
func appendLabels(ls Labels, packed []byte, symbols []string) (Labels, error) {
	for len(packed) > 0 {
		name, n := uvarint(packed)
		if n <= 0 {
			return ls, errTruncated
		}
		packed = packed[n:]
		if len(packed) == 0 {
			return ls, errors.New("an odd number of label references")
		}
		value, n := uvarint(packed)
		if n <= 0 {
			return ls, errTruncated
		}
		packed = packed[n:]
		if name >= uint64(len(symbols)) || value >= uint64(len(symbols)) {
			return ls, fmt.Errorf("label references %d and %d: the table has %d symbols", name, value, len(symbols))
		}
		ls = append(ls, Label{symbols[name], symbols[value]})
	}
	return ls, nil
}

// Tags of a sample's fields as they are on the wire.
const (
	tagValue     = byte(fieldValue)<<3 | byte(protowire.Fixed64Type)
	tagTimestamp = byte(fieldTimestamp)<<3 | byte(protowire.VarintType)
)

func appendPoint(ps []Point, sample []byte) ([]Point, error) {
	// As everybody writes it: a value, then a time.
	if len(sample) > 10 && sample[0] == tagValue && sample[9] == tagTimestamp {
		if t, n := binary.Uvarint(sample[10:]); n == len(sample)-10 {
			return append(ps, Point{T: int64(t), V: math.Float64frombits(binary.LittleEndian.Uint64(sample[1:]))}), nil //nolint:gosec // two's complement, as protobuf has it
		}
	}
	var p Point
	for len(sample) > 0 {
		num, typ, v, n := field(sample)
		if n < 0 {
			return ps, errTruncated
		}
		sample = sample[n:]
		switch {
		case num == fieldValue && typ == protowire.Fixed64Type:
			p.V = math.Float64frombits(binary.LittleEndian.Uint64(v))
		case num == fieldTimestamp && typ == protowire.VarintType:
			t, _ := protowire.ConsumeVarint(v)
			p.T = int64(t) //nolint:gosec // two's complement, as protobuf has it
		}
	}
	return append(ps, p), nil
}

// labelHash hashes the labels of one series after the other. Neighbours in a batch
// differ in one or two labels, so that what lies between those is taken from the
// series before in one piece.
type labelHash struct {
	last      Labels
	ends      []int // of last, in key
	key, made []byte
	bounds    []int // of made
}

func (h *labelHash) of(ls Labels) uint64 {
	h.made, h.bounds = h.made[:0], h.bounds[:0]
	for i := 0; i < len(ls); {
		j := i
		for j < len(ls) && j < len(h.last) && ls[j] == h.last[j] {
			j++
		}
		if j == i {
			h.made = append(append(h.made, ls[i].Name...), separator)
			h.made = append(append(h.made, ls[i].Value...), separator)
			h.bounds = append(h.bounds, len(h.made))
			i++
			continue
		}
		from := 0
		if i > 0 {
			from = h.ends[i-1]
		}
		by := len(h.made) - from
		h.made = append(h.made, h.key[from:h.ends[j-1]]...)
		for ; i < j; i++ {
			h.bounds = append(h.bounds, h.ends[i]+by)
		}
	}
	h.key, h.made = h.made, h.key
	h.ends, h.bounds = h.bounds, h.ends
	h.last = ls
	return xxhash.Sum64(h.key)
}

// hash is XXH64 over names and values, each followed by a byte that no UTF-8
// has, computed in one call over a buffer that is handed on.
func (ls Labels) hash(buf []byte) (uint64, []byte) {
	buf = buf[:0]
	for i := range ls {
		buf = append(append(buf, ls[i].Name...), separator)
		buf = append(append(buf, ls[i].Value...), separator)
	}
	return xxhash.Sum64(buf), buf
}
