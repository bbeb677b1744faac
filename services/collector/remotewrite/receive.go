package remotewrite

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector/receiver"
)

// The messages of the two versions, as they stand in Content-Type.
const (
	message1 = "prometheus.WriteRequest"
	message2 = "io.prometheus.write.v2.Request"
)

// partLabel tells raw series of one metric apart, since most of their labels
// are left out.
const partLabel = "oncall_part"

// ahead is how far in the future a sample may lie: the clocks of senders differ.
const ahead = 10 * time.Minute

// written are the counts that Remote-Write 2.0 asks to be told.
type written struct{ samples, histograms, exemplars int }

// receive takes one request. It answers when everything allowed is stored. What
// no rule allows counts as written: reported as not written, it would be an
// error at the sender, which has done nothing wrong.
func (s *Source) receive(ctx context.Context, header http.Header, body []byte, answer http.Header) error {
	message, err := negotiate(header)
	if err != nil {
		return err
	}
	w := written{}
	if message == message2 {
		defer func() {
			for name, n := range map[string]int{"Samples": w.samples, "Histograms": w.histograms, "Exemplars": w.exemplars} {
				answer.Set("X-Prometheus-Remote-Write-"+name+"-Written", strconv.Itoa(n))
			}
		}()
	}
	raw, err := unpack(body)
	var series []pushed
	if err == nil {
		if message == message1 {
			series, err = decode1(raw)
		} else {
			series, err = decode2(raw)
		}
	}
	if err != nil {
		return &receiver.Refusal{Status: http.StatusBadRequest, Text: err.Error()}
	}
	batches, counts, refused := s.admit(series)
	if len(batches) > 0 {
		out := make([]event.Outgoing, len(batches))
		for i, b := range batches {
			out[i] = event.MetricsPushed.Out(b)
		}
		if err := s.env.Publish(ctx, out...); err != nil {
			return err
		}
	}
	w = counts
	return refused
}

// negotiate reads Content-Type and Content-Encoding.
func negotiate(h http.Header) (message string, err error) {
	unsupported := func(format string, args ...any) (string, error) {
		return "", &receiver.Refusal{Status: http.StatusUnsupportedMediaType, Text: fmt.Sprintf(format, args...)}
	}
	if e := h.Get("Content-Encoding"); e != "snappy" && e != "" {
		return unsupported("Content-Encoding %.40q is not snappy", e)
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "application/x-protobuf" {
		return unsupported("Content-Type %.80q is not application/x-protobuf", h.Get("Content-Type"))
	}
	switch p := params["proto"]; p {
	case "", message1:
		return message1, nil
	case message2:
		return message2, nil
	default:
		return unsupported("proto %.80q is neither %s nor %s", p, message2, message1)
	}
}

// admit keeps what rules take, with the labels that they and entities need, and
// packs it. The same series give the same batches with the same ids, in
// whatever order and by whichever replica. The error is for series that are
// malformed; the others are admitted all the same.
func (s *Source) admit(series []pushed) (out []event.MetricBatch, w written, refused error) {
	now := s.env.Time()
	oldest, newest := now.Add(-s.cfg.MaxAge).UnixMilli(), now.Add(ahead).UnixMilli()
	var kept []event.Series
	bad := 0
	var why error
	for i := range series {
		p := &series[i]
		if err := p.check(); err != nil {
			if bad++; why == nil {
				why = err
			}
			continue
		}
		w.samples += len(p.points)
		w.histograms += p.histograms
		w.exemplars += p.exemplars
		s.samples.WithLabelValues("histogram").Add(float64(p.histograms))
		ls, ok := s.keep(p.labels)
		if !ok {
			s.samples.WithLabelValues("not_allowed").Add(float64(len(p.points)))
			continue
		}
		before := len(p.points)
		p.points = slices.DeleteFunc(p.points, func(pt event.Point) bool { return pt.T < oldest || pt.T > newest })
		s.samples.WithLabelValues("too_old_or_new").Add(float64(before - len(p.points)))
		s.samples.WithLabelValues("taken").Add(float64(len(p.points)))
		if len(p.points) > 0 {
			slices.SortStableFunc(p.points, func(a, b event.Point) int { return int(max(-1, min(1, a.T-b.T))) })
			kept = append(kept, event.Series{ID: ls.Hash(), Labels: ls, Points: p.points})
		}
	}
	s.samples.WithLabelValues("malformed").Add(float64(bad))
	if bad > 0 {
		refused = &receiver.Refusal{Status: http.StatusBadRequest, Text: fmt.Sprintf("%d of %d series refused, the others are stored: %v", bad, len(series), why)}
	}
	return s.pack(kept), w, refused
}

// keep reduces a series' labels, redacted; false when no rule takes it. Two
// replicas of one Prometheus send one series.
func (s *Source) keep(in event.Labels) (event.Labels, bool) {
	rules := s.allow.rules[in.Get(event.LabelName)]
	if !slices.ContainsFunc(rules, func(i int) bool { return s.rules.Signals[i].takes(in.Get) }) {
		return nil, false
	}
	identity := slices.DeleteFunc(slices.Clone(in), func(l event.Label) bool { return slices.Contains(s.cfg.ReplicaLabels, l.Name) })
	out := event.Labels{{Name: partLabel, Value: event.SeriesHash(identity.Hash())}}
	for _, l := range identity {
		if l.Value != "" && l.Name != partLabel && (s.allow.keep[l.Name] || s.names.Speaks(l.Name)) {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b event.Label) int { return strings.Compare(a.Name, b.Name) })
	return s.env.Redact.Labels(out), true
}

// maxBatch bounds the bytes of a batch before compression, so that the server
// takes every batch: it takes 512 KiB.
const maxBatch = 256 << 10

// pack cuts series into batches, named by a hash of their content.
func (s *Source) pack(series []event.Series) (out []event.MetricBatch) {
	slices.SortStableFunc(series, func(a, b event.Series) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return int(max(-1, min(1, a.Points[0].T-b.Points[0].T)))
	})
	b := event.MetricBatch{Source: s.cfg.Name}
	n, bytes := 0, 0
	flush := func() {
		if n == 0 {
			return
		}
		b.Query = contentHash(b.Series)
		b.Step = newestOf(b.Series)
		out = append(out, b)
		b, n, bytes = event.MetricBatch{Source: s.cfg.Name}, 0, 0
	}
	for _, one := range series {
		for points := range slices.Chunk(one.Points, event.MaxBatchSamples) {
			size := 16 * len(points)
			for _, l := range one.Labels {
				size += len(l.Name) + len(l.Value)
			}
			if n+len(points) > event.MaxBatchSamples || bytes+size > maxBatch {
				flush()
			}
			bytes += size
			part := one
			part.Points = points
			b.Series = append(b.Series, part)
			n += len(points)
		}
	}
	flush()
	return out
}

func newestOf(series []event.Series) time.Time {
	newest := series[0].Points[0].T
	for _, s := range series {
		newest = max(newest, s.Points[len(s.Points)-1].T)
	}
	return time.UnixMilli(newest).UTC()
}
