package loki

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
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
	return s.env.Redact.Labels(event.LabelsOf(out))
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

// line is one line on its way into a batch.
type line struct {
	event.LogLine
	labels event.Labels
	id     uint64
	raw    uint64 // hash of the line as Loki has it, for the order of equal times
}

// batches sorts a window's lines by partition, namespace, stream, time and
// content, and cuts them into batches. Lines beyond the budget are sampled by
// a function of the window alone.
func (s *Source) batches(streams []stream, start, end time.Time) []event.LogBatch {
	type place struct {
		partition int
		namespace string
	}
	groups := map[place][]line{}
	total := int64(0)
	for _, st := range streams {
		ls := s.labels(st.Labels)
		id, ns := ls.Hash(), ls.Get(event.LabelNamespace)
		p := place{event.Partition(ns, ls.Workload()), ns}
		for _, v := range st.Values {
			at, text, ok := value(v)
			if !ok || at.Before(start) || !at.Before(end) {
				continue
			}
			l := line{labels: ls, id: id, raw: event.HashStrings(text), LogLine: event.LogLine{Time: at, Text: s.env.Redact.Line(strings.ToValidUTF8(text, "\uFFFD"))}}
			total += int64(len(l.Text))
			groups[p] = append(groups[p], l)
		}
	}
	rate := sampleRate(total, s.cfg.BytesPerDay, end.Sub(start))
	places := make([]place, 0, len(groups))
	for p := range groups {
		places = append(places, p)
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(a.partition-b.partition, strings.Compare(a.namespace, b.namespace))
	})
	chunks := map[int]int{}
	var out []event.LogBatch
	for _, p := range places {
		lines := groups[p]
		slices.SortFunc(lines, func(a, b line) int {
			return cmp.Or(cmp.Compare(a.id, b.id), a.Time.Compare(b.Time), cmp.Compare(a.raw, b.raw))
		})
		if rate > 1 {
			before := len(lines)
			lines = slices.DeleteFunc(lines, func(l line) bool {
				return event.HashStrings(strconv.FormatUint(l.id, 16), strconv.FormatInt(l.Time.UnixNano(), 10), strconv.FormatUint(l.raw, 16))%uint64(rate) != 0
			})
			s.sampled.Add(float64(before - len(lines)))
		}
		for len(lines) > 0 {
			b := event.LogBatch{
				Source: s.cfg.Name, Query: s.hash, Partition: p.partition, Namespace: p.namespace, Start: start.UTC(), End: end.UTC(),
				Chunk: chunks[p.partition], SampledRate: rate,
			}
			chunks[p.partition]++
			lines = fill(&b, lines)
			out = append(out, b)
		}
	}
	return out
}

// sampleRate is how many lines each kept line stands for, so that a window
// stays within its share of a day's budget; at most 1000.
func sampleRate(bytes, perDay int64, window time.Duration) int {
	share := float64(perDay) * window.Hours() / 24
	return int(min(1000, max(1, math.Ceil(float64(bytes)/share))))
}

// fill moves lines into a batch until it is full, and returns the rest.
func fill(b *event.LogBatch, lines []line) []line {
	size := 0
	for n, l := range lines {
		if n == event.MaxBatchSamples || n > 0 && size+len(l.Text) > maxBatchBytes {
			return lines[n:]
		}
		size += len(l.Text)
		if k := len(b.Streams); k == 0 || b.Streams[k-1].ID != l.id {
			b.Streams = append(b.Streams, event.LogStream{ID: l.id, Labels: l.labels})
		}
		k := len(b.Streams) - 1
		b.Streams[k].Lines = append(b.Streams[k].Lines, l.LogLine)
	}
	return nil
}

func value(v []any) (at time.Time, text string, ok bool) {
	if len(v) < 2 {
		return at, "", false
	}
	ts, ok1 := v[0].(string)
	text, ok2 := v[1].(string)
	n, err := strconv.ParseInt(ts, 10, 64)
	return time.Unix(0, n).UTC(), text, ok1 && ok2 && err == nil
}
