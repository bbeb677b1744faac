package loghistory

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// maxPatterns bounds what is read of an answer. Loki gives 300, and some more where
// it keeps patterns beyond its memory.
const maxPatterns = 2000

// answer is what Loki's pattern ingester knows of some streams.
type answer struct {
	patterns []foreign
	first    time.Time // step with the first line of any of them
}

// foreign is one pattern and how many lines of it there were, by the step.
type foreign struct {
	text   string
	counts map[time.Time]float64
}

// decode reads the answer to a question for patterns. Samples that are not of its
// range are left out; of one pattern in several levels or streams there may be
// several.
func decode(body []byte, q Question) (answer, error) {
	var in struct {
		Data []struct {
			Pattern string     `json:"pattern"`
			Samples [][2]int64 `json:"samples"` // seconds and lines
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return answer{}, fmt.Errorf("answer of Loki is not JSON of patterns, or was cut: %w", err)
	}
	var a answer
	step := q.Step()
	for _, p := range in.Data[:min(len(in.Data), maxPatterns)] {
		f := foreign{text: p.Pattern, counts: map[time.Time]float64{}}
		for _, s := range p.Samples {
			// Compared as seconds: a hostile one would overflow a time.
			if s[1] <= 0 || s[0] < q.Start.Unix() || s[0] > q.End.Unix() {
				continue
			}
			at := time.Unix(s[0], 0).UTC().Truncate(step)
			f.counts[at] += float64(s[1])
			if a.first.IsZero() || at.Before(a.first) {
				a.first = at
			}
		}
		if len(f.counts) > 0 {
			a.patterns = append(a.patterns, f)
		}
	}
	return a, nil
}

// params are those of a range of a question.
func (q Question) params(expr string, up *upstream.Client, start, end time.Time) url.Values {
	return url.Values{
		"query": {upstream.InjectLogQL(expr, up.Config().ExtraMatchers)},
		"start": {strconv.FormatInt(start.UnixNano(), 10)}, "end": {strconv.FormatInt(end.UnixNano(), 10)},
		"step": {strconv.Itoa(int(q.Step().Seconds()))},
	}
}

// oldest is the time of the first line of the streams in the range; zero when there
// is none.
func (r *Reader) oldest(ctx context.Context, q Question) (time.Time, error) {
	params := q.params(q.Selector, r.up, q.Start, q.End)
	params.Del("step")
	params.Set("limit", "1")
	params.Set("direction", "forward")
	body, err := r.up.Get(ctx, "/loki/api/v1/query_range", params, upstream.Query{Operation: "query_range", Text: q.Selector})
	if err != nil {
		return time.Time{}, err
	}
	var a struct {
		Data struct {
			Result []struct {
				Values [][]json.RawMessage `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return time.Time{}, fmt.Errorf("answer of Loki is not JSON, or was cut: %w", err)
	}
	var oldest time.Time
	for _, s := range a.Data.Result {
		for _, v := range s.Values {
			var text string
			if len(v) == 0 || json.Unmarshal(v[0], &text) != nil {
				continue
			}
			ns, err := strconv.ParseInt(text, 10, 64)
			if at := time.Unix(0, ns).UTC(); err == nil && (oldest.IsZero() || at.Before(oldest)) {
				oldest = at
			}
		}
	}
	return oldest, nil
}

// countOne counts a statement in the lines; nil when nothing in it tells its lines
// from others.
func (r *Reader) countOne(ctx context.Context, q Question, s Statement) (*History, error) {
	if len(s.Lines) == 0 {
		return nil, nil
	}
	phrases := logpattern.Phrases(s.Template, s.Lines[0])
	if len(phrases) == 0 {
		return nil, nil
	}
	expr := q.Selector
	for _, p := range phrases {
		expr += " |= " + strconv.Quote(p)
	}
	step := q.Step()
	expr = fmt.Sprintf("sum(count_over_time(%s [%s]))", expr, model.Duration(step))
	// Loki evaluates at multiples of the step, and counts the step before: the last
	// one is that which has not ended.
	last := q.End.Truncate(step).Add(step)
	params := q.params(expr, r.up, q.Start.Add(step), last)
	body, err := r.up.Get(ctx, "/loki/api/v1/query_range", params, upstream.Query{Operation: "query_range", Text: expr})
	if err != nil {
		return nil, err
	}
	series, err := DecodeCounts(body)
	if err != nil {
		return nil, err
	}
	h := &History{Source: Lines, Start: q.Start, End: q.End, Step: step, Query: expr}
	for _, v := range series {
		h.add(v.Timestamp.Time().UTC().Add(-step), float64(v.Value))
	}
	return h, nil
}

// DecodeCounts reads Loki's answer to a metric query over a range: the samples of all
// its series, one series after the other. The error says that it is no JSON.
func DecodeCounts(body []byte) ([]model.SamplePair, error) {
	var a struct {
		Data struct {
			Result []struct {
				Values []model.SamplePair `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("answer of Loki is not JSON, or was cut: %w", err)
	}
	var out []model.SamplePair
	for _, s := range a.Data.Result {
		out = slices.Concat(out, s.Values)
	}
	return out, nil
}
