package remotewrite

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/s2"
	v2 "github.com/prometheus/client_golang/exp/api/remote/genproto/v2"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Bounds of one request, so that a small hostile body cannot become much
// memory. Prometheus sends 2,000 samples at once.
const (
	maxDecoded = 16 << 20 // bytes after decompression
	maxSeries  = 50_000
	maxSamples = 200_000
	maxSymbols = 200_000
	maxLabels  = 64
	maxName    = 256
	maxValue   = 2 << 10
)

// pushed is one series of a request.
type pushed struct {
	labels event.Labels // sorted by name
	points []event.Point
	// How many native histograms and exemplars were sent; they are not read.
	histograms, exemplars int
}

// unpack undoes a snappy block.
func unpack(body []byte) ([]byte, error) {
	n, err := s2.DecodedLen(body)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	if n > maxDecoded {
		return nil, fmt.Errorf("snappy: would grow to %d bytes, more than %d", n, maxDecoded)
	}
	raw, err := s2.Decode(nil, body)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	return raw, nil
}

// count says how many fields of a number a message has, at most bound.
func count(raw []byte, field protowire.Number, bound int) (int, error) {
	n := 0
	for len(raw) > 0 {
		num, typ, l := protowire.ConsumeTag(raw)
		if l < 0 {
			return 0, protowire.ParseError(l)
		}
		m := protowire.ConsumeFieldValue(num, typ, raw[l:])
		if m < 0 {
			return 0, protowire.ParseError(m)
		}
		if num == field {
			if n++; n > bound {
				return 0, fmt.Errorf("more than %d", bound)
			}
		}
		raw = raw[l+m:]
	}
	return n, nil
}

// fields calls f with the length-delimited fields of a message, and g with its
// fixed64 and varint ones; what it does not know it passes over.
func fields(raw []byte, f func(num protowire.Number, b []byte) error, g func(num protowire.Number, v uint64)) error {
	for len(raw) > 0 {
		num, typ, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		raw = raw[n:]
		switch typ {
		case protowire.BytesType:
			b, m := protowire.ConsumeBytes(raw)
			if m < 0 {
				return protowire.ParseError(m)
			}
			if f != nil {
				if err := f(num, b); err != nil {
					return err
				}
			}
			raw = raw[m:]
		case protowire.Fixed64Type:
			v, m := protowire.ConsumeFixed64(raw)
			if m < 0 {
				return protowire.ParseError(m)
			}
			if g != nil {
				g(num, v)
			}
			raw = raw[m:]
		case protowire.VarintType:
			v, m := protowire.ConsumeVarint(raw)
			if m < 0 {
				return protowire.ParseError(m)
			}
			if g != nil {
				g(num, v)
			}
			raw = raw[m:]
		default:
			m := protowire.ConsumeFieldValue(num, typ, raw)
			if m < 0 {
				return protowire.ParseError(m)
			}
			raw = raw[m:]
		}
	}
	return nil
}

// errTooMany ends decoding.
var errTooMany = fmt.Errorf("more than %d series or %d samples in one request", maxSeries, maxSamples)

// decode1 reads a prometheus.WriteRequest, the message of Remote-Write 1.0:
// TimeSeries in field 1, of Label 1, Sample 2 and Histogram 4.
func decode1(raw []byte) ([]pushed, error) {
	var out []pushed
	samples := 0
	err := fields(raw, func(num protowire.Number, b []byte) error {
		if num != 1 {
			return nil // metadata
		}
		if len(out) == maxSeries {
			return errTooMany
		}
		s := pushed{}
		if err := fields(b, func(num protowire.Number, b []byte) error {
			switch num {
			case 1:
				l := event.Label{}
				if len(s.labels) > maxLabels {
					return nil // refused by check
				}
				err := fields(b, func(num protowire.Number, b []byte) error {
					switch num {
					case 1:
						l.Name = string(b)
					case 2:
						l.Value = string(b)
					}
					return nil
				}, nil)
				s.labels = append(s.labels, l)
				return err
			case 2:
				if samples++; samples > maxSamples {
					return errTooMany
				}
				p := event.Point{}
				err := fields(b, nil, func(num protowire.Number, v uint64) {
					switch num {
					case 1:
						p.V = math.Float64frombits(v)
					case 2:
						p.T = int64(v)
					}
				})
				s.points = append(s.points, p)
				return err
			case 3:
				s.exemplars++
			case 4:
				s.histograms++
			}
			return nil
		}, nil); err != nil {
			return err
		}
		out = append(out, s)
		return nil
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("prometheus.WriteRequest: %w", err)
	}
	return out, nil
}

// decode2 reads an io.prometheus.write.v2.Request. Its parts are counted before
// memory is taken for them.
func decode2(raw []byte) ([]pushed, error) {
	samples := 0
	_, err := count(raw, 4, maxSymbols)
	if err == nil {
		_, err = count(raw, 5, maxSeries)
	}
	if err == nil {
		err = fields(raw, func(num protowire.Number, b []byte) error {
			if num != 5 {
				return nil
			}
			n, err := count(b, 2, maxSamples)
			if samples += n; err == nil && samples > maxSamples {
				err = errTooMany
			}
			if err == nil {
				_, err = count(b, 3, maxSamples)
			}
			if err == nil {
				_, err = count(b, 4, maxSamples)
			}
			return err
		}, nil)
	}
	var req v2.Request
	if err == nil {
		err = req.UnmarshalVT(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("io.prometheus.write.v2.Request: %w", err)
	}
	if len(req.Symbols) == 0 || req.Symbols[0] != "" {
		return nil, errors.New("io.prometheus.write.v2.Request: the first symbol is not the empty string")
	}
	out := make([]pushed, len(req.Timeseries))
	for i, ts := range req.Timeseries {
		s := pushed{points: make([]event.Point, len(ts.Samples)), histograms: len(ts.Histograms), exemplars: len(ts.Exemplars)}
		if len(ts.LabelsRefs)%2 != 0 {
			return nil, fmt.Errorf("io.prometheus.write.v2.Request: series %d has an odd number of label references", i)
		}
		for j := 0; j < len(ts.LabelsRefs) && j <= 2*maxLabels; j += 2 {
			n, v := ts.LabelsRefs[j], ts.LabelsRefs[j+1]
			if int(n) >= len(req.Symbols) || int(v) >= len(req.Symbols) {
				return nil, fmt.Errorf("io.prometheus.write.v2.Request: series %d refers to a symbol outside the table of %d", i, len(req.Symbols))
			}
			s.labels = append(s.labels, event.Label{Name: req.Symbols[n], Value: req.Symbols[v]})
		}
		for j, p := range ts.Samples {
			s.points[j] = event.Point{T: p.Timestamp, V: p.Value}
		}
		out[i] = s
	}
	return out, nil
}

// check says what is wrong with a series' labels, and sorts them.
func (s *pushed) check() error {
	if len(s.labels) > maxLabels {
		return fmt.Errorf("series has more than %d labels", maxLabels)
	}
	slices.SortStableFunc(s.labels, func(a, b event.Label) int { return strings.Compare(a.Name, b.Name) })
	named := false
	for i, l := range s.labels {
		switch {
		case l.Name == "" || len(l.Name) > maxName || !utf8.ValidString(l.Name):
			return fmt.Errorf("label name %.40q is empty, longer than %d bytes or not UTF-8", l.Name, maxName)
		case len(l.Value) > maxValue || !utf8.ValidString(l.Value):
			return fmt.Errorf("value of label %.40q is longer than %d bytes or not UTF-8", l.Name, maxValue)
		case i > 0 && s.labels[i-1].Name == l.Name:
			return fmt.Errorf("label %.40q occurs twice", l.Name)
		}
		named = named || l.Name == event.LabelName && l.Value != ""
	}
	if !named {
		return errors.New("series has no __name__")
	}
	return nil
}
