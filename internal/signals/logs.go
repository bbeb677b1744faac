package signals

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/triage"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// Bounds of what is asked of Loki.
const (
	recent      = 10 * time.Minute // lines of which are read
	maxLines    = 4000             // of them, the newest
	maxSuspects = 8                // statements that are counted in the hours before
	leastLines  = 5                // of a statement, to be counted
	news        = 30 * time.Minute // how long a statement is news
	startUp     = 2 * time.Minute  // of a pod, whose lines are no news
)

// logLine is one line that looks like trouble.
type logLine struct {
	labels map[string]string
	at     time.Time
	text   string // redacted
	raw    string
}

// recentLines are those of the last minutes.
type recentLines struct {
	at    time.Time // by the clock of Loki
	lines []logLine
}

// readLines reads the lines of the last minutes that look like trouble. It gives
// why it could not.
func (s *Reader) readLines(ctx context.Context, r *Reading) *check.Unchecked {
	selector := `{namespace=~".+"}`
	if s.Namespace != "" {
		selector = fmt.Sprintf("{namespace=%q}", s.Namespace)
	}
	end := time.Now()
	lines, err := s.queryLines(ctx, selector+" |~ `"+triage.TroubleWords+"`", end.Add(-recent), end, maxLines, "backward")
	held := lines
	if err == nil && len(lines) == 0 {
		// No trouble is not the same as no logs.
		held, err = s.queryLines(ctx, selector, end.Add(-time.Hour), end, 1, "backward")
	}
	switch {
	case err != nil:
		return notRead(OfLogs, err)
	case len(held) == 0:
		return &check.Unchecked{What: OfLogs, Why: "Loki holds no line of the last hour with " + selector}
	}
	r.lines = &recentLines{s.Loki.Clock().Now(), lines}
	return nil
}

// lokiStreams is Loki's answer of lines.
type lokiStreams struct {
	Data struct {
		Result []struct {
			Stream map[string]string `json:"stream"`
			Values [][]any           `json:"values"` // [nanoseconds as a string, line, metadata]
		} `json:"result"`
	} `json:"data"`
}

// queryLines asks for lines.
func (s *Reader) queryLines(ctx context.Context, expr string, start, end time.Time, limit int, direction string) ([]logLine, error) {
	params := url.Values{
		"query": {upstream.InjectLogQL(expr, s.Loki.Config().ExtraMatchers)}, "direction": {direction}, "limit": {strconv.Itoa(limit)},
		"start": {strconv.FormatInt(start.UnixNano(), 10)}, "end": {strconv.FormatInt(end.UnixNano(), 10)},
	}
	body, err := s.Loki.Get(ctx, "/loki/api/v1/query_range", params, upstream.Query{Operation: "query_range", Text: expr})
	if err != nil {
		return nil, err
	}
	var a lokiStreams
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("answer of Loki is not JSON, or was cut: %w", err)
	}
	var out []logLine
	for _, st := range a.Data.Result {
		from := len(out)
		for _, v := range st.Values {
			if len(v) < 2 {
				continue
			}
			stamp, _ := v[0].(string)
			text, ok := v[1].(string)
			ns, err := strconv.ParseInt(stamp, 10, 64)
			if err != nil || !ok {
				continue
			}
			out = append(out, logLine{st.Stream, time.Unix(0, ns).UTC(), "", text})
		}
		mine := out[from:]
		if len(mine) > 1 && mine[0].at.After(mine[len(mine)-1].at) {
			slices.Reverse(mine) // Loki gives the newest first
		}
		texts := make([]string, len(mine))
		for i := range mine {
			texts[i] = mine[i].raw
		}
		out = out[:from]
		for i, text := range evidence.Masked(texts, s.Redact) {
			if text != "" {
				mine[i].text = text
				out = append(out, mine[i])
			}
		}
	}
	return out, nil
}

// suspect is a statement that may be new.
type suspect struct {
	check.Statement
	raw      string // a line as Loki has it
	selector string
}

// statements counts in the hours before what was said in the last minutes.
func (s *Reader) statements(ctx context.Context, r *recentLines, c *check.Cluster, only event.Entity, into *check.Signals) error {
	list := s.suspects(r, c, only)
	known := s.shown(ctx, list, r.at)
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i := range list {
		if known[i] {
			continue
		}
		wg.Go(func() { errs[i] = s.count(ctx, &list[i], r.at) })
	}
	wg.Wait()
	for _, l := range list {
		into.Statements = append(into.Statements, l.Statement)
	}
	return errors.Join(errs...)
}

// shown asks Loki's own patterns for the suspects, a question a workload, and says of
// which they show already that there is nothing to tell: what they show is the least
// that there was. They are no more than a short cut, so that what they do not answer
// is not said.
func (s *Reader) shown(ctx context.Context, list []suspect, now time.Time) []bool {
	settled := make([]bool, len(list))
	by := map[string][]int{}
	for i, x := range list {
		if len(by[x.selector]) < loghistory.MaxStatements {
			by[x.selector] = append(by[x.selector], i)
		}
	}
	start, end := now.Add(-signalHistory).Truncate(recent), now.Add(-news).Truncate(recent)
	var wg sync.WaitGroup
	for selector, of := range by {
		wg.Go(func() {
			q := loghistory.Question{Selector: selector, Start: start, End: end}
			for _, i := range of {
				q.Statements = append(q.Statements, loghistory.Statement{Template: list[i].Template, Lines: []string{list[i].Example}})
			}
			all, err := s.history.Shown(ctx, q)
			if err != nil {
				return
			}
			for n, h := range all {
				if h == nil {
					continue
				}
				x := list[of[n]].Statement
				for at := end; at.Add(-recent).After(h.Known); at = at.Add(-recent) {
					x.Before.Add(h.Total(at.Add(-recent), at), float64(signalHistory/recent))
				}
				if x.Before.Sum > 0 && !x.Told() {
					settled[of[n]] = true
				}
			}
		})
	}
	wg.Wait()
	return settled
}

// suspects are the statements that were made often enough to be counted: of one
// workload, or of all.
func (s *Reader) suspects(r *recentLines, c *check.Cluster, only event.Entity) []suspect {
	begun := map[string]time.Time{} // pods that came meanwhile
	for _, p := range c.Pods {
		if p.Status.StartTime != nil && r.at.Sub(p.Status.StartTime.Time) < recent+startUp {
			begun[p.Namespace+"/"+p.Name] = p.Status.StartTime.Time
		}
	}
	slices.SortStableFunc(r.lines, func(a, b logLine) int { return a.at.Compare(b.at) })
	miner := logpattern.New(logpattern.Config{MaxTemplates: 2000})
	type key struct {
		event.Entity
		template uint64
	}
	type said struct {
		key
		logLine
	}
	var all []said
	for _, l := range r.lines {
		sub := s.Entities.Subject(func(n string) string { return l.labels[n] })
		if at, ok := begun[sub.Namespace+"/"+sub.Pod]; ok && l.at.Sub(at) < startUp {
			continue
		}
		e, ok := s.whose(c, func(n string) string { return l.labels[n] })
		if !ok || !only.IsZero() && e != only {
			continue
		}
		m := miner.Add(l.text)
		if triage.LooksLikeTrouble(l.text, m.Level) {
			all = append(all, said{key{e, m.ID}, l})
		}
	}
	by := map[key]*suspect{}
	for _, l := range all {
		k := key{l.Entity, miner.Resolve(l.template)} // templates become one while they are learnt
		x := by[k]
		if x == nil {
			x = &suspect{Statement: check.Statement{Entity: l.Entity, First: l.at}}
			by[k] = x
		}
		x.Lines++
		x.Last, x.Example, x.raw, x.selector = l.at, l.text, l.raw, s.selector(l.labels, l.Entity)
		x.Template = miner.Template(k.template)
	}
	out := slices.DeleteFunc(slices.Collect(maps.Values(by)), func(x *suspect) bool { return x.Lines < leastLines })
	slices.SortFunc(out, func(a, b *suspect) int {
		return cmp.Or(cmp.Compare(b.Lines, a.Lines), strings.Compare(a.Entity.String(), b.Entity.String()), strings.Compare(a.Template, b.Template))
	})
	var list []suspect
	for _, x := range out[:min(len(out), maxSuspects)] {
		x.Query = x.selector
		for _, p := range logpattern.Phrases(x.Template, x.raw) {
			x.Query += fmt.Sprintf(" |= %q", p)
		}
		if x.Query != x.selector { // else nothing tells its lines from others
			list = append(list, *x)
		}
	}
	return list
}

// selector chooses the streams of a workload by the labels that a line of it has.
func (s *Reader) selector(labels map[string]string, e event.Entity) string {
	var ms []string
	for _, n := range s.Entities.Namespace {
		if labels[n] != "" {
			ms = append(ms, fmt.Sprintf("%s=%q", n, labels[n]))
			break
		}
	}
	for _, n := range s.Entities.Pod {
		if labels[n] != "" {
			return "{" + strings.Join(append(ms, fmt.Sprintf("%s=~%q", n, regexp.QuoteMeta(e.Name)+"(-.*)?")), ", ") + "}"
		}
	}
	for _, n := range s.Entities.Workload {
		if labels[n] != "" {
			ms = append(ms, fmt.Sprintf("%s=%q", n, labels[n]))
			break
		}
	}
	return "{" + strings.Join(ms, ", ") + "}"
}

// count asks how often a statement was made in the hours before, and how far the
// workload's logs go back.
func (s *Reader) count(ctx context.Context, x *suspect, now time.Time) error {
	// Loki evaluates at multiples of the step. Asked for other times it takes later
	// ones, and would count the lines of now among those of before.
	start, end := now.Add(-signalHistory).Truncate(recent), now.Add(-recent).Truncate(recent)
	var wg sync.WaitGroup
	var oldest []logLine
	var err error
	wg.Go(func() { oldest, err = s.queryLines(ctx, x.selector, start, end, 1, "forward") })
	expr := fmt.Sprintf("sum(count_over_time(%s[%s]))", x.Query, model.Duration(recent))
	params := url.Values{
		"query": {upstream.InjectLogQL(expr, s.Loki.Config().ExtraMatchers)}, "step": {strconv.Itoa(int(recent.Seconds()))},
		"start": {strconv.FormatInt(start.Add(recent).UnixNano(), 10)}, "end": {strconv.FormatInt(end.UnixNano(), 10)},
	}
	body, counting := s.Loki.Get(ctx, "/loki/api/v1/query_range", params, upstream.Query{Operation: "query_range", Text: expr})
	wg.Wait()
	if err = cmp.Or(err, counting); err != nil {
		return err
	}
	samples, err := loghistory.DecodeCounts(body)
	if err != nil {
		return err
	}
	if len(oldest) == 0 {
		return nil // nothing is known of before
	}
	x.Known = now.Sub(oldest[0].at)
	said := map[int64]float64{} // by the end of the ten minutes, in milliseconds
	for _, v := range samples {
		said[int64(v.Timestamp)] += float64(v.Value)
	}
	for at := end; at.Add(-recent).After(oldest[0].at); at = at.Add(-recent) {
		n := said[at.UnixMilli()] // times without a line have no value
		switch {
		case now.Sub(at) >= news:
			x.Before.Add(n, float64(signalHistory/recent))
		case n > 0 && at.Add(-recent).Before(x.First):
			x.First = at.Add(-recent) // it goes on since then, and is news still
		}
	}
	return nil
}
