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
	var symbols []string
	var n sampleCount
	err := fields(raw, func(num protowire.Number, typ protowire.Type, v []byte) error {
		n.fields++
		switch {
		case num == fieldSymbols && typ == protowire.BytesType:
			symbols = append(symbols, string(v))
		case num == fieldTimeseries && typ == protowire.BytesType:
			n.series++
			return n.add(v)
		}
		return n.check()
	})
	if err != nil {
		return nil, err
	}
	out := make([]Series, 0, n.series)
	labels, points := make(Labels, 0, n.labels), make([]Point, 0, n.points)
	var key []byte
	err = fields(raw, func(num protowire.Number, typ protowire.Type, v []byte) error {
		if num != fieldTimeseries || typ != protowire.BytesType {
			return nil
		}
		l, p := len(labels), len(points)
		err := fields(v, func(num protowire.Number, typ protowire.Type, v []byte) (err error) {
			switch {
			case num == fieldLabelsRefs && typ == protowire.BytesType:
				labels, err = appendLabels(labels, v, symbols)
			case num == fieldLabelsRefs:
				err = errors.New("label references are not packed")
			case num == fieldSamples && typ == protowire.BytesType:
				points, err = appendPoint(points, v)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("series %d: %w", len(out), err)
		}
		s := Series{Labels: slices.Clip(labels[l:]), Points: slices.Clip(points[p:])}
		s.ID, key = s.Labels.hash(key)
		out = append(out, s)
		return nil
	})
	return out, err
}

// sampleCount is how much a request holds.
type sampleCount struct{ fields, series, labels, points int }

// add counts what is in one series.
func (n *sampleCount) add(series []byte) error {
	return fields(series, func(num protowire.Number, typ protowire.Type, v []byte) error {
		n.fields++
		switch {
		case num == fieldLabelsRefs && typ == protowire.BytesType:
			ends := 0
			for _, b := range v {
				if b < 0x80 {
					ends++ // of a varint
				}
			}
			n.labels += ends / 2
		case num == fieldSamples && typ == protowire.BytesType:
			n.points++
		}
		return n.check()
	})
}

func (n *sampleCount) check() error {
	if n.fields+n.labels > maxFields {
		return fmt.Errorf("payload holds more than %d protobuf fields and labels", maxFields)
	}
	return nil
}

var errTruncated = errors.New("the message ends in the middle of a field")

// fields calls f for the fields of a message, in order, with the content of a
// length-delimited one and the encoded value of any other.
func fields(b []byte, f func(protowire.Number, protowire.Type, []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errTruncated
		}
		b = b[n:]
		var v []byte
		if typ == protowire.BytesType {
			v, n = protowire.ConsumeBytes(b)
		} else if n = protowire.ConsumeFieldValue(num, typ, b); n >= 0 {
			v = b[:n]
		}
		if n < 0 {
			return errTruncated
		}
		b = b[n:]
		if err := f(num, typ, v); err != nil {
			return err
		}
	}
	return nil
}

// appendLabels reads packed references to names and values in turn.
func appendLabels(ls Labels, packed []byte, symbols []string) (Labels, error) {
	for len(packed) > 0 {
		name, n := binary.Uvarint(packed)
		if n <= 0 {
			return ls, errTruncated
		}
		packed = packed[n:]
		if len(packed) == 0 {
			return ls, errors.New("an odd number of label references")
		}
		value, n := binary.Uvarint(packed)
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

func appendPoint(ps []Point, sample []byte) ([]Point, error) {
	var p Point
	err := fields(sample, func(num protowire.Number, typ protowire.Type, v []byte) error {
		switch {
		case num == fieldValue && typ == protowire.Fixed64Type:
			p.V = math.Float64frombits(binary.LittleEndian.Uint64(v))
		case num == fieldTimestamp && typ == protowire.VarintType:
			t, _ := protowire.ConsumeVarint(v)
			p.T = int64(t) //nolint:gosec // two's complement, as protobuf has it
		}
		return nil
	})
	return append(ps, p), err
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
