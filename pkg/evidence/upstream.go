package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// series is one series of an answer, summarised.
type series struct {
	labels           event.Labels
	first, last      float64
	min, max         float64
	lastAt           time.Time
	points, nonValue int
}

func (s *series) add(at time.Time, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		s.nonValue++ // JSON has no word for them, and no rule compares with them
		return
	}
	if s.points == 0 {
		s.first, s.min, s.max = v, v, v
	}
	s.last, s.lastAt = v, at
	s.min, s.max = min(s.min, v), max(s.max, v)
	s.points++
}

func (s *series) line() string {
	name := s.labels.String()
	if s.points == 1 {
		return fmt.Sprintf("%s %s", name, number(s.last))
	}
	return fmt.Sprintf("%s last %s, first %s, min %s, max %s", name, number(s.last), number(s.first), number(s.min), number(s.max))
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// measured makes the answer of a metric query: the biggest last values first.
func measured(q Query, all []series, redact Redactor) event.Evidence {
	e := newAnswer(q)
	all = slices.DeleteFunc(all, func(s series) bool { return s.points == 0 })
	slices.SortStableFunc(all, func(a, b series) int {
		switch {
		case a.last > b.last:
			return -1
		case a.last < b.last:
			return 1
		}
		return strings.Compare(a.labels.String(), b.labels.String())
	})
	e.Values = map[string]any{"count": float64(len(all))}
	if len(all) > 0 {
		e.Values["value"] = all[0].last
	}
	if n := q.limit(); len(all) > n {
		all, e.Truncated = all[:n], true
	}
	list := make([]any, 0, len(all))
	for i := range all {
		all[i].labels = redact.Labels(all[i].labels)
		e.Excerpt = append(e.Excerpt, all[i].line())
		labels := map[string]any{}
		for _, l := range all[i].labels {
			labels[l.Name] = l.Value
		}
		list = append(list, map[string]any{
			"labels": labels, "value": all[i].last, "min": all[i].min, "max": all[i].max, "first": all[i].first, "last": all[i].last,
		})
	}
	e.Values["series"] = list
	return seal(e)
}

func labelsOf(m model.Metric) event.Labels {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[string(k)] = string(v)
	}
	return event.LabelsOf(out)
}

// failure turns an error of a source into an answer that says so, or returns
// it when it is the query that is wrong, or the caller who has gone.
func failure(ctx context.Context, q Query, err error, redact Redactor) (event.Evidence, error) {
	if ctx.Err() != nil {
		return event.Evidence{}, context.Cause(ctx)
	}
	if p, ok := errors.AsType[*promql.Partial](err); ok {
		return Failed(q, redact.Line(p.Error())), nil
	}
	up, ok := errors.AsType[*upstream.Error](err)
	switch {
	case !ok:
		return Failed(q, "unreachable: "+redact.Line(err.Error())), nil
	case up.Kind == upstream.BadQuery:
		return event.Evidence{}, fmt.Errorf("look up in %s: %w", q.Source, err)
	case errors.Is(err, context.DeadlineExceeded) || strings.Contains(up.Err.Error(), "no answer in"):
		return Failed(q, "timeout: "+redact.Line(up.Err.Error())), nil
	}
	return Failed(q, fmt.Sprintf("%s: %s", up.Kind, redact.Line(up.Err.Error()))), nil
}

type prometheus struct {
	c      *promql.Client
	redact Redactor
}

// NewPrometheus answers PromQL.
func NewPrometheus(c *promql.Client, redact Redactor) Retriever { return prometheus{c, redact} }

func (p prometheus) Retrieve(ctx context.Context, q Query) (event.Evidence, error) {
	if err := q.Check(); err != nil {
		return event.Evidence{}, err
	}
	askCtx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer in %v", askTimeout))
	defer cancel()
	var all []series
	if q.Step == 0 {
		v, err := p.c.Instant(askCtx, q.Expr, q.End)
		if err != nil {
			return failure(ctx, q, err, p.redact)
		}
		for _, s := range v {
			one := series{labels: labelsOf(s.Metric)}
			one.add(s.Timestamp.Time(), float64(s.Value))
			all = append(all, one)
		}
	} else {
		m, err := p.c.Range(askCtx, q.Expr, q.Start, q.End, q.Step)
		if err != nil {
			return failure(ctx, q, err, p.redact)
		}
		for _, s := range m {
			one := series{labels: labelsOf(s.Metric)}
			for _, v := range s.Values {
				one.add(v.Timestamp.Time(), float64(v.Value))
			}
			all = append(all, one)
		}
	}
	return measured(q, all, p.redact), nil
}

type loki struct {
	up      *upstream.Client
	redact  Redactor
	history *loghistory.Reader
}

// NewLoki answers LogQL, and questions for the history of statements.
func NewLoki(up *upstream.Client, redact Redactor) Retriever {
	return loki{up, redact, loghistory.New(up, redact.Line)}
}

// lokiAnswer is Loki's answer to query and query_range.
type lokiAnswer struct {
	Status string `json:"status"`
	Data   struct {
		Type   string            `json:"resultType"`
		Result []json.RawMessage `json:"result"`
	} `json:"data"`
}

func (l loki) Retrieve(ctx context.Context, q Query) (event.Evidence, error) {
	if err := q.Check(); err != nil {
		return event.Evidence{}, err
	}
	if t, ok, err := toldOf(q.Expr); err != nil {
		return event.Evidence{}, err
	} else if ok {
		return l.historyOf(ctx, q, t)
	}
	askCtx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer in %v", askTimeout))
	defer cancel()
	lines := strings.HasPrefix(strings.TrimSpace(q.Expr), "{")
	path, params := "/loki/api/v1/query_range", url.Values{"query": {upstream.InjectLogQL(q.Expr, l.up.Config().ExtraMatchers)}, "limit": {strconv.Itoa(q.limit() + 1)}, "direction": {"backward"}}
	if !lines && q.Step == 0 {
		path = "/loki/api/v1/query"
		params.Set("time", strconv.FormatInt(q.End.UnixNano(), 10))
	} else {
		start := q.Start
		if start.IsZero() {
			start = q.End.Add(-time.Hour) // Loki's own default span
		}
		params.Set("start", strconv.FormatInt(start.UnixNano(), 10))
		params.Set("end", strconv.FormatInt(q.End.UnixNano(), 10))
		if q.Step > 0 {
			params.Set("step", strconv.FormatFloat(q.Step.Seconds(), 'f', -1, 64))
		}
	}
	body, err := l.up.Get(askCtx, path, params, upstream.Query{Operation: strings.TrimPrefix(path, "/loki/api/v1/"), Text: q.Expr, Incident: q.Incident})
	if err != nil {
		return failure(ctx, q, err, l.redact)
	}
	e, err := readLoki(q, body, l.redact)
	if err != nil {
		return Failed(q, "unreachable: answer: "+err.Error()), nil
	}
	return e, nil
}

// readLoki reads the body of an answer.
func readLoki(q Query, body []byte, redact Redactor) (event.Evidence, error) {
	var a lokiAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return event.Evidence{}, err
	}
	switch a.Data.Type {
	case "streams":
		return readStreams(q, a.Data.Result, redact)
	case "vector", "matrix":
	default:
		return event.Evidence{}, fmt.Errorf("result type %q is unknown", a.Data.Type)
	}
	var all []series
	for _, raw := range a.Data.Result {
		var s struct {
			Metric map[string]string  `json:"metric"`
			Value  *model.SamplePair  `json:"value"`
			Values []model.SamplePair `json:"values"`
		}
		if err := json.Unmarshal(raw, &s); err != nil {
			return event.Evidence{}, err
		}
		if s.Value != nil {
			s.Values = append(s.Values, *s.Value)
		}
		one := series{labels: event.LabelsOf(s.Metric)}
		for _, v := range s.Values {
			one.add(v.Timestamp.Time(), float64(v.Value))
		}
		all = append(all, one)
	}
	return measured(q, all, redact), nil
}

func readStreams(q Query, result []json.RawMessage, redact Redactor) (event.Evidence, error) {
	type line struct {
		ns     int64
		stream string
		text   string
	}
	var lines []line
	for _, raw := range result {
		var s struct {
			Stream map[string]string   `json:"stream"`
			Values [][]json.RawMessage `json:"values"`
		}
		if err := json.Unmarshal(raw, &s); err != nil {
			return event.Evidence{}, err
		}
		name := s.Stream["pod"]
		from := len(lines)
		for _, v := range s.Values {
			if len(v) < 2 {
				return event.Evidence{}, errors.New("a line has no time or no text")
			}
			var ts, text string
			if err := errors.Join(json.Unmarshal(v[0], &ts), json.Unmarshal(v[1], &text)); err != nil {
				return event.Evidence{}, err
			}
			ns, err := strconv.ParseInt(ts, 10, 64)
			if err != nil {
				return event.Evidence{}, err
			}
			lines = append(lines, line{ns, name, text})
		}
		mine := lines[from:]
		if len(mine) > 1 && mine[0].ns > mine[len(mine)-1].ns {
			slices.Reverse(mine) // Loki gives the newest first
		}
		texts := make([]string, len(mine))
		for i := range mine {
			texts[i] = mine[i].text
		}
		lines = lines[:from]
		for i, text := range Masked(texts, redact) {
			if text != "" || texts[i] == "" {
				mine[i].text = text
				lines = append(lines, mine[i])
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int {
		switch {
		case a.ns != b.ns:
			return int(max(-1, min(1, a.ns-b.ns)))
		case a.stream != b.stream:
			return strings.Compare(a.stream, b.stream)
		}
		return strings.Compare(a.text, b.text)
	})
	e := newAnswer(q)
	if n := q.limit(); len(lines) > n {
		lines, e.Truncated = lines[len(lines)-n:], true
	}
	for _, l := range lines {
		text := time.Unix(0, l.ns).UTC().Format("2006-01-02T15:04:05.000Z") + " "
		if l.stream != "" {
			text += redact.Line(l.stream) + " "
		}
		e.Excerpt = append(e.Excerpt, text+l.text)
	}
	e.Values = map[string]any{"count": float64(len(lines))}
	return seal(newest(e)), nil
}
