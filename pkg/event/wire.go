package event

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grafana/loki/pkg/push"
	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/encoding/protowire"
)

// Telemetry travels in its ecosystem's own format. This file and
// samples.go are the only ones that know it: metrics as Remote-Write 2.0, logs as Loki's push request,
// both in a snappy block. What a payload cannot carry is in the event's id and
// extensions.

// Bounds of what a payload may grow to, so that a small hostile message cannot
// take the process down: the bytes that it unpacks to, and the protobuf fields
// in them, each of which may cost a hundred times the two bytes that it has on
// the wire. A full batch of ours has a tenth of either.
const (
	maxUnpacked = 4 * mib
	maxFields   = 100_000
)

// Extensions of telemetry batches.
const (
	extBootstrap = "bootstrap"   // "true" for history read to warm folds up; "chosen" for lines of it that were chosen
	extSampled   = "sampledrate" // CloudEvents' sampling extension
	extWindowEnd = "windowend"   // nanoseconds since the epoch
)

// metricWire writes batches whose ids begin with a prefix.
func metricWire(prefix string) Wire[MetricBatch] {
	return Wire[MetricBatch]{
		ContentType:     "application/x-protobuf;proto=io.prometheus.write.v2.Request",
		ContentEncoding: "snappy",
		Marshal:         marshalMetrics,
		Unmarshal:       func(payload []byte, a Attributes) (MetricBatch, error) { return unmarshalMetrics(payload, a, prefix) },
		Extensions: func(b MetricBatch) map[string]string {
			if !b.Bootstrap {
				return nil
			}
			return map[string]string{extBootstrap: "true"}
		},
	}
}

var logWire = Wire[LogBatch]{
	ContentType:     "application/x-protobuf;proto=logproto.PushRequest",
	ContentEncoding: "snappy",
	Marshal:         marshalLogs,
	Unmarshal:       unmarshalLogs,
	Extensions: func(b LogBatch) map[string]string {
		m := map[string]string{extWindowEnd: strconv.FormatInt(b.End.UnixNano(), 10)}
		if b.SampledRate > 1 {
			m[extSampled] = strconv.Itoa(b.SampledRate)
		}
		switch {
		case b.Chosen:
			m[extBootstrap] = bootstrapChosen
		case b.Bootstrap:
			m[extBootstrap] = "true"
		}
		return m
	},
}

// bootstrapChosen marks history of lines that were chosen by what they say.
const bootstrapChosen = "chosen"

func marshalLogs(b LogBatch) ([]byte, error) {
	req := push.PushRequest{Streams: make([]push.Stream, len(b.Streams))}
	lines := 0
	for i, s := range b.Streams {
		st := push.Stream{Labels: s.Labels.String(), Hash: s.ID, Entries: make([]push.Entry, len(s.Lines))}
		for j, l := range s.Lines {
			st.Entries[j] = push.Entry{Timestamp: l.Time, Line: l.Text}
		}
		lines += len(s.Lines)
		req.Streams[i] = st
	}
	if lines > MaxBatchSamples {
		return nil, fmt.Errorf("log batch holds %d lines, more than %d", lines, MaxBatchSamples)
	}
	raw, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	return s2.EncodeSnappy(nil, raw), nil
}

func unmarshalLogs(payload []byte, a Attributes) (LogBatch, error) {
	id, err := parseBatchID(a.ID, "l")
	if err != nil {
		return LogBatch{}, err
	}
	raw, err := unpack(nil, payload)
	if err != nil {
		return LogBatch{}, err
	}
	if countFields(raw, pushShape, 0) > maxFields {
		return LogBatch{}, fmt.Errorf("payload holds more than %d protobuf fields", maxFields)
	}
	var req push.PushRequest
	if err := req.Unmarshal(raw); err != nil {
		return LogBatch{}, fmt.Errorf("logproto: %w", err)
	}
	b := LogBatch{
		Source: id.source, Query: id.query, Partition: id.partition, Start: time.Unix(0, id.start).UTC(), Chunk: id.chunk,
		SampledRate: 1, Streams: make([]LogStream, len(req.Streams)),
	}
	b.Chosen = a.Extensions[extBootstrap] == bootstrapChosen
	b.Bootstrap = b.Chosen || a.Extensions[extBootstrap] == "true"
	if s := a.Extensions[extSampled]; s != "" {
		if b.SampledRate, err = strconv.Atoi(s); err != nil || b.SampledRate < 1 {
			return LogBatch{}, fmt.Errorf("extension %s %q is not a whole number of at least 1", extSampled, s)
		}
	}
	end, err := strconv.ParseInt(a.Extensions[extWindowEnd], 10, 64)
	if err != nil {
		return LogBatch{}, fmt.Errorf("extension %s %q is not a time in nanoseconds", extWindowEnd, a.Extensions[extWindowEnd])
	}
	b.End = time.Unix(0, end).UTC()
	for i, st := range req.Streams {
		ls, err := ParseLabels(st.Labels)
		if err != nil {
			return LogBatch{}, fmt.Errorf("logproto: stream %d: %w", i, err)
		}
		s := LogStream{ID: ls.Hash(), Labels: ls, Lines: make([]LogLine, len(st.Entries))}
		for j, e := range st.Entries {
			s.Lines[j] = LogLine{Time: e.Timestamp.UTC(), Text: e.Line}
		}
		b.Streams[i] = s
	}
	if len(b.Streams) > 0 {
		b.Namespace = b.Streams[0].Labels.Get(LabelNamespace)
	}
	return b, nil
}

// shape says which fields of a message hold messages, by number.
type shape map[protowire.Number]shape

// pushShape is that of logproto.PushRequest: streams, entries, metadata.
var pushShape = shape{1: {2: {3: {}, 4: {}}}}

// unpack decompresses a payload, into dst where that is large enough.
func unpack(dst, payload []byte) ([]byte, error) {
	n, err := s2.DecodedLen(payload)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	if n > maxUnpacked {
		return nil, fmt.Errorf("snappy: payload would grow to %d bytes, more than %d", n, maxUnpacked)
	}
	raw, err := s2.Decode(dst[:cap(dst)], payload)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	return raw, nil
}

// countFields adds to n the fields of a message and of those in it, and stops
// soon after [maxFields]. Where the message is malformed it ends, as decoding
// will.
func countFields(b []byte, s shape, n int) int {
	for len(b) > 0 && n <= maxFields {
		num, typ, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return n
		}
		size := protowire.ConsumeFieldValue(num, typ, b[tag:])
		if size < 0 {
			return n
		}
		n++
		if inner, ok := s[num]; ok && typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b[tag:])
			n = countFields(v, inner, n)
		}
		b = b[tag+size:]
	}
	return n
}

// batchID is what the id of a telemetry batch says:
// <prefix>:<source>:<query hash>:<partition>:<start>:<chunk>. Start is in
// milliseconds for metrics and in nanoseconds for logs.
type batchID struct {
	source, query string
	partition     int
	start         int64
	chunk         int
}

func (id batchID) format(prefix string) string {
	return fmt.Sprintf("%s:%s:%s:%s:%d:%d", prefix, id.source, id.query, PartitionToken(id.partition), id.start, id.chunk)
}

func parseBatchID(s, prefix string) (batchID, error) {
	p := strings.Split(s, ":")
	bad := func() (batchID, error) {
		return batchID{}, fmt.Errorf("id %q is not %s:<source>:<query>:<partition>:<start>:<chunk>", s, prefix)
	}
	if len(p) != 6 || p[0] != prefix {
		return bad()
	}
	id := batchID{source: p[1], query: p[2]}
	var err1, err2, err3 error
	id.partition, err1 = strconv.Atoi(p[3])
	id.start, err2 = strconv.ParseInt(p[4], 10, 64)
	id.chunk, err3 = strconv.Atoi(p[5])
	if errors.Join(err1, err2, err3) != nil || id.partition < 0 || id.partition >= Partitions {
		return bad()
	}
	return id, nil
}

// labelName is what Prometheus, Loki and OpenTelemetry use as names.
var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_:./-]*$`)

// ParseLabels reads a stream selector of plain equalities, as Labels.String
// and Loki write it: {a="b", c="d"}. The result is sorted; a name that occurs
// twice is an error.
func ParseLabels(s string) (Labels, error) {
	rest := strings.TrimSpace(s)
	if !strings.HasPrefix(rest, "{") || !strings.HasSuffix(rest, "}") {
		return nil, fmt.Errorf("labels %.80q do not stand in braces", s)
	}
	rest = strings.TrimSpace(rest[1 : len(rest)-1])
	var ls Labels
	for rest != "" {
		name, after, ok := strings.Cut(rest, "=")
		name = strings.TrimSpace(name)
		if !ok || !labelName.MatchString(name) {
			return nil, fmt.Errorf("labels %.80q: no label name before =", s)
		}
		quoted, err := strconv.QuotedPrefix(strings.TrimSpace(after))
		if err != nil {
			return nil, fmt.Errorf("labels %.80q: value of %s is not quoted", s, name)
		}
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("labels %.80q: value of %s: %w", s, name, err)
		}
		ls = append(ls, Label{name, value})
		rest = strings.TrimSpace(strings.TrimSpace(after)[len(quoted):])
		if rest == "" {
			break
		}
		if rest[0] != ',' {
			return nil, fmt.Errorf("labels %.80q: no comma after %s", s, name)
		}
		rest = strings.TrimSpace(rest[1:])
	}
	slices.SortFunc(ls, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(ls); i++ {
		if ls[i].Name == ls[i-1].Name {
			return nil, fmt.Errorf("labels %.80q: %s occurs twice", s, ls[i].Name)
		}
	}
	return ls, nil
}
