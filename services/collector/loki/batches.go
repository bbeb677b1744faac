package loki

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/redact"
)

// names are the labels by which agents call what we call by one name.
var names = map[string][]string{
	event.LabelNamespace: {"namespace", "k8s_namespace_name", "kubernetes_namespace_name", "kubernetes_namespace"},
	event.LabelPod:       {"pod", "k8s_pod_name", "kubernetes_pod_name", "pod_name"},
	event.LabelContainer: {"container", "k8s_container_name", "kubernetes_container_name", "container_name"},
	event.LabelNode:      {"node", "node_name", "k8s_node_name", "nodename", "host"},
	event.LabelWorkload:  {"k8s_deployment_name", "k8s_statefulset_name", "k8s_daemonset_name"},
}

// labels keeps of a stream what says where it comes from.
func (s *Source) labels(in map[string]string) event.Labels {
	out := map[string]string{event.LabelSource: s.cfg.Name}
	for ours, theirs := range names {
		for _, n := range theirs {
			if v := in[n]; v != "" {
				out[ours] = v
				break
			}
		}
	}
	if out[event.LabelPod] == "" && out[event.LabelWorkload] == "" {
		for _, n := range []string{"service_name", "app", "app_kubernetes_io_name", "job"} {
			if v := in[n]; v != "" {
				out[event.LabelWorkload] = v
				break
			}
		}
	}
	if kind := in[event.LabelKind]; kind != "" && out[event.LabelWorkload] != "" {
		out[event.LabelKind] = kind
	}
	s.introduce(out)
	return event.LabelsOf(out)
}

// introduce says which workload lines come from, where Kubernetes knows it, so
// that what is found in logs is about what is found in metrics.
func (s *Source) introduce(out map[string]string) {
	ns := out[event.LabelNamespace]
	var e event.Entity
	var ok bool
	if pod := out[event.LabelPod]; pod != "" {
		e, ok = s.env.Workloads.OfPod(ns, pod)
	} else if w := out[event.LabelWorkload]; w != "" {
		e, ok = s.env.Workloads.Named(ns, w)
	}
	if ok {
		out[event.LabelWorkload], out[event.LabelKind] = e.Name, e.Kind
	}
}

// maxBatchBytes bounds the text of one batch; the server takes 512 KiB packed.
const maxBatchBytes = 256 << 10

// place is where a line goes: a batch is of one.
type place struct {
	partition int
	namespace string
}

func (p place) compare(q place) int {
	return cmp.Or(p.partition-q.partition, strings.Compare(p.namespace, q.namespace))
}

// line is one line on its way into a batch.
type line struct {
	event.LogLine
	labels event.Labels
	id     uint64
	place  place
	raw    uint64 // hash of the line as Loki has it, for the order of equal times
	rate   int    // how many lines it stands for; 0: it is left out
}

// batches sorts a window's lines by partition, namespace, stream, time and
// content, leaves out what is more than the budget, and cuts what is kept into
// batches, each of lines of one rate. Without a sampler, as of a recording, all
// is kept, with the rate that it was recorded with.
func (s *Source) batches(streams []stream, start, end time.Time, by *sampler, tr *traces) []event.LogBatch {
	lines := s.lines(streams, start, end, tr)
	slices.SortFunc(lines, func(a, b line) int {
		if a.id == b.id && a.place == b.place {
			return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.raw, b.raw))
		}
		return cmp.Or(a.place.compare(b.place), cmp.Compare(a.id, b.id))
	})
	if by != nil {
		worst := by.sample(lines, s.cfg.shareOf(end.Sub(start)), end)
		s.account(lines)
		if by == s.windows {
			s.tell(worst)
		}
	}
	chunks := map[int]int{}
	var out []event.LogBatch
	for len(lines) > 0 {
		n := 1
		for n < len(lines) && lines[n].place == lines[0].place {
			n++
		}
		p := lines[0].place
		for _, rate := range ratesOf(lines[:n]) {
			rest := ofRate(lines[:n], rate)
			for len(rest) > 0 {
				b := event.LogBatch{
					Source: s.cfg.Name, Query: s.hash, Partition: p.partition, Namespace: p.namespace, Start: start.UTC(), End: end.UTC(),
					Chunk: chunks[p.partition], SampledRate: rate,
				}
				chunks[p.partition]++
				rest = fill(&b, rest)
				out = append(out, b)
			}
		}
		lines = lines[n:]
	}
	return out
}

// lines are those of a window, redacted, nearly in the order of batches.
func (s *Source) lines(streams []stream, start, end time.Time, by *traces) (out []line) {
	type placed struct {
		source
		labels event.Labels
		id     uint64
		place  place
	}
	mask := s.env.Redact.On(start)
	var sources []placed
	n := 0
	for _, st := range by.join(streams, start, end) {
		n += len(st.entries)
		ls := mask.Labels(s.labels(st.Labels))
		ns := ls.Get(event.LabelNamespace)
		sources = append(sources, placed{st, ls, ls.Hash(), place{event.Partition(ns, ls.Workload()), ns}})
	}
	// Few streams are sorted sooner than many lines, which then are in order but for
	// those of one time, and of streams that we call by one name.
	slices.SortStableFunc(sources, func(a, b placed) int { return cmp.Or(a.place.compare(b.place), cmp.Compare(a.id, b.id)) })
	out = make([]line, 0, n)
	for _, st := range sources {
		for _, e := range st.entries {
			out = append(out, line{
				labels: st.labels, id: st.id, place: st.place, rate: max(1, st.rate), raw: event.HashStrings(e.text), LogLine: event.LogLine{Time: e.at, Text: masked(mask, e)},
			})
		}
	}
	return out
}

// beginsKey is how a key in PEM begins, whose rest comes in the next window.
const beginsKey = "-----BEGIN PRIVATE KEY-----\n"

// masked is the text of a record without what is secret in it.
func masked(r redact.Masker, e entry) string {
	text := strings.ToValidUTF8(e.text, "\uFFFD")
	if e.secret {
		text = beginsKey + text
	}
	return r.Line(text)
}

// ratesOf are the rates of the lines that are kept, the lowest first.
func ratesOf(lines []line) (out []int) {
	for _, l := range lines {
		if at, found := slices.BinarySearch(out, l.rate); !found && l.rate > 0 {
			out = slices.Insert(out, at, l.rate)
		}
	}
	return out
}

// ofRate are the lines of a rate: mostly all of them.
func ofRate(lines []line, rate int) []line {
	others := 0
	for i := range lines {
		if lines[i].rate != rate {
			others++
		}
	}
	if others == 0 {
		return lines
	}
	out := make([]line, 0, len(lines)-others)
	for _, l := range lines {
		if l.rate == rate {
			out = append(out, l)
		}
	}
	return out
}

// account counts what became of lines.
func (s *Source) account(lines []line) {
	read, kept, out := 0, 0, 0.0
	for i := range lines {
		read += len(lines[i].Text)
		if lines[i].rate == 0 {
			out++
			continue
		}
		kept += len(lines[i].Text)
	}
	s.sampled.Add(out)
	s.bytes.WithLabelValues("read").Add(float64(read))
	s.bytes.WithLabelValues("published").Add(float64(kept))
}

// tell says of whom lines are left out, when that begins, and when it ends.
func (s *Source) tell(worst loudest) {
	s.rate.Set(float64(max(1, worst.rate)))
	switch {
	case worst.rate > 1 && !s.sampling.Swap(true):
		s.env.Log.Warn("lines are more than their budget, sampling the loudest", "source", s.name, "workload", worst.labels.Entity().String(), "rate", worst.rate)
	case worst.rate <= 1 && s.sampling.Swap(false):
		s.env.Log.Info("lines are within their budget again", "source", s.name)
	}
}

// fill moves lines into a batch until it is full, and returns the rest.
func fill(b *event.LogBatch, lines []line) []line {
	n, size := 0, 0
	for ; n < len(lines); n++ {
		if n == event.MaxBatchSamples || n > 0 && size+len(lines[n].Text) > maxBatchBytes {
			break
		}
		size += len(lines[n].Text)
	}
	for from := 0; from < n; {
		to := from + 1
		for to < n && lines[to].id == lines[from].id {
			to++
		}
		st := event.LogStream{ID: lines[from].id, Labels: lines[from].labels, Lines: make([]event.LogLine, 0, to-from)}
		for i := from; i < to; i++ {
			st.Lines = append(st.Lines, lines[i].LogLine)
		}
		b.Streams = append(b.Streams, st)
		from = to
	}
	return lines[n:]
}

// value reads an entry of an answer.
func value(v [2]string) (at time.Time, text string, ok bool) {
	n, err := strconv.ParseInt(v[0], 10, 64)
	return time.Unix(0, n).UTC(), v[1], err == nil
}
