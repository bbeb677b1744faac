package loki

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// stream is one stream of Loki's answer.
type stream struct {
	Labels map[string]string `json:"stream"`
	Values [][2]string       `json:"values"` // nanoseconds and line; metadata behind them is passed over
	rate   int               // how many lines each stands for, of a recording
}

// read returns every line of [start, end), one answer after the other. Of the last
// moment in an answer that is full lines may be missing, so that the next question
// begins with it.
//
// What Loki refuses as too much is asked for in smaller pieces: fewer lines, when
// they are long or its own limit is lower; a shorter time, when it would have to
// read too many bytes.
func (s *Source) read(ctx context.Context, start, end time.Time) (out []stream, err error) {
	limit, to := int(s.limit.Load()), end
	for start.Before(end) {
		streams, n, err := s.ask(ctx, s.query, start, to, limit)
		if err != nil {
			var ok bool
			if limit, to, ok = s.smaller(err, limit, start, to); !ok {
				return nil, err
			}
			continue
		}
		last := latest(streams)
		switch {
		case n < limit:
			out = append(out, streams...)
			start = to
		case last.After(start):
			out = append(out, before(streams, last)...)
			start = last
		default: // all of them have one time
			s.dropped.Add(1)
			out = append(out, streams...)
			start = start.Add(1)
		}
		limit, to = min(4*limit, int(s.limit.Load())), end
	}
	return out, nil
}

// ask asks for the first lines of [start, end), and counts them.
func (s *Source) ask(ctx context.Context, query string, start, end time.Time, limit int) (streams []stream, n int, err error) {
	params := url.Values{
		"query": {query}, "direction": {"forward"}, "limit": {strconv.Itoa(limit)},
		"start": {strconv.FormatInt(start.UnixNano(), 10)}, "end": {strconv.FormatInt(end.UnixNano(), 10)},
	}
	body, err := s.up.Get(ctx, "/loki/api/v1/query_range", params, upstream.Query{Operation: "query_range", Text: query})
	if err != nil {
		return nil, 0, err
	}
	if streams, n, err = parse(body); err != nil {
		return nil, 0, &upstream.Error{Source: s.cfg.Name, Kind: upstream.Unreachable, Err: err}
	}
	return streams, n, nil
}

// theirLimit is how Loki says that it gives fewer lines than were asked for.
var theirLimit = regexp.MustCompile(`max_entries_limit_per_query \((\d+) ?> ?(\d+)\)`)

// least is the shortest time that is asked about.
const least = time.Millisecond

// smaller is what to ask for after a refusal, or false when it was about something
// else.
func (s *Source) smaller(err error, limit int, start, end time.Time) (int, time.Time, bool) {
	refused, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		return 0, end, false
	}
	text := ""
	if refused.Err != nil {
		text = refused.Err.Error()
	}
	if m := theirLimit.FindStringSubmatch(text); m != nil {
		theirs, err := strconv.Atoi(m[2])
		if err != nil || theirs < 1 || theirs >= limit {
			return 0, end, false
		}
		s.limit.Store(int64(theirs))
		s.env.Log.Warn("server gives fewer lines at once than limit, asking for as many as it gives", "source", s.name, "limit", theirs)
		return theirs, end, true
	}
	if refused.Kind == upstream.TooLarge && limit > 2 {
		return max(2, limit/8), end, true // of one alone it would not be known whether others have its time
	}
	if refused.Kind == upstream.BadQuery && strings.Contains(text, "too many bytes") && end.Sub(start) >= 2*least {
		return limit, start.Add(end.Sub(start) / 2), true
	}
	return 0, end, false
}

// latest is the time of the last line of an answer.
func latest(streams []stream) (last time.Time) {
	for _, st := range streams {
		for _, v := range st.Values {
			if at, _, ok := value(v); ok && at.After(last) {
				last = at
			}
		}
	}
	return last
}

// before leaves out the lines from a time on.
func before(streams []stream, t time.Time) []stream {
	for i := range streams {
		kept := streams[i].Values[:0]
		for _, v := range streams[i].Values {
			if at, _, ok := value(v); ok && at.Before(t) {
				kept = append(kept, v)
			}
		}
		streams[i].Values = kept
	}
	return streams
}

// parse reads the answer to a log query and counts its lines.
func parse(body []byte) ([]stream, int, error) {
	kind, streams, ok := decode(body)
	if !ok {
		var err error
		if kind, streams, err = unmarshal(body); err != nil {
			return nil, 0, fmt.Errorf("answer is not JSON, or was cut: %w", err)
		}
	}
	if kind != "streams" {
		return nil, 0, fmt.Errorf("answer holds %q, not streams", kind)
	}
	n := 0
	for _, s := range streams {
		n += len(s.Values)
	}
	return streams, n, nil
}

// unmarshal reads whatever is an answer.
func unmarshal(body []byte) (kind string, streams []stream, err error) {
	var answer struct {
		Data struct {
			ResultType string   `json:"resultType"`
			Result     []stream `json:"result"`
		} `json:"data"`
	}
	// What is no text where one should be has no time, and is passed over.
	wrong := &json.UnmarshalTypeError{}
	if err = json.Unmarshal(body, &answer); errors.As(err, &wrong) {
		err = nil
	}
	return answer.Data.ResultType, answer.Data.Result, err
}
