//go:build e2e

package fault

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// said is a line of a second of the history.
type said struct {
	offset time.Duration
	text   string
}

// says is what a workload says in a second.
func (o outage) says(at time.Time) []said {
	var out []said
	if at.Second()%5 == 0 {
		out = append(out, said{0, fmt.Sprintf("level=info msg=\"request served\" path=/cart status=200 duration=%dms", 10+at.Second())})
	}
	if o.at(at) {
		for i := range 3 {
			out = append(out, said{time.Duration(i+1) * time.Millisecond, fmt.Sprintf("level=error msg=\"connect to database: connection refused\" host=db-%d", i)})
		}
	}
	return out
}

// lines answers for windows of all logs, which the collector reads, and for what
// reports look up of one workload: its errors, its oldest line, and counts of a
// statement. Reports do not wait for the pace of windows, however long a time they
// look back on, so that what they are answered is the same in every run.
func (s *sources) lines(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	ns := func(name string) time.Time {
		n, _ := strconv.ParseInt(r.Form.Get(name), 10, 64)
		return time.Unix(0, n).UTC()
	}
	start, end := ns("start"), ns("end")
	query := r.Form.Get("query")
	onlyErrors, counted := strings.Contains(query, "|~"), strings.Contains(query, "count_over_time")
	oldest := !onlyErrors && !counted && r.Form.Get("limit") == "1"
	lookUp := onlyErrors || counted || oldest
	steps := 1 // for a report, of the whole incident at once
	if !lookUp {
		s.one.Lock()
		passes(r.Context(), time.Duration(s.pace.Load()*max(1, int64(end.Sub(start)/step))))
		s.one.Unlock()
		steps = 0
	}
	if !s.admit(w, r, end, steps) {
		return
	}
	if counted {
		every, _ := strconv.Atoi(r.Form.Get("step"))
		s.counts(w, query, start, end, time.Duration(every)*time.Second)
		return
	}
	type stream struct {
		Labels map[string]string `json:"stream"`
		Values [][2]string       `json:"values"`
	}
	result := []stream{}
	for wl, bad := range workloads {
		if lookUp && !isAbout(query, wl) {
			continue
		}
		st := stream{Labels: map[string]string{"namespace": wl[0], "pod": wl[1] + "-7d4b9c6f5-x2x8q", "container": wl[1]}}
		for at := start.Truncate(time.Second); at.Before(end) && !(oldest && len(st.Values) > 0); at = at.Add(time.Second) {
			if at.Before(start) || !s.happened(at) {
				continue
			}
			for _, l := range bad.says(at) {
				if !onlyErrors || strings.HasPrefix(l.text, "level=error") {
					st.Values = append(st.Values, [2]string{strconv.FormatInt(at.Add(l.offset).UnixNano(), 10), l.text})
				}
			}
		}
		if len(st.Values) > 0 {
			result = append(result, st)
		}
	}
	answer(w, "streams", result)
}

// isAbout says whether a look-up is one about a workload.
func isAbout(query string, workload [2]string) bool {
	return strings.Contains(query, strconv.Quote(workload[0])) && strings.Contains(query, workload[1])
}

var phrase = regexp.MustCompile(`\|= ("(?:[^"\\]|\\.)*")`)

// counts answers how many lines with some phrases a workload had in each step.
func (s *sources) counts(w http.ResponseWriter, query string, start, end time.Time, every time.Duration) {
	type series struct {
		Labels map[string]string `json:"metric"`
		Values [][2]any          `json:"values"`
	}
	var phrases []string
	for _, m := range phrase.FindAllStringSubmatch(query, -1) {
		text, err := strconv.Unquote(m[1])
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		phrases = append(phrases, text)
	}
	if every <= 0 || phrases == nil {
		http.Error(w, "a step and a phrase are wanted", http.StatusBadRequest)
		return
	}
	result := []series{}
	one := series{Labels: map[string]string{}}
	for at := start; !at.After(end); at = at.Add(every) {
		n := 0
		for wl, bad := range workloads {
			for sec := at.Add(-every); isAbout(query, wl) && sec.Before(at); sec = sec.Add(time.Second) {
				if !s.happened(sec) {
					continue
				}
				for _, l := range bad.says(sec) {
					if containsAll(l.text, phrases) {
						n++
					}
				}
			}
		}
		if n > 0 { // Loki leaves out steps without a line
			one.Values = append(one.Values, [2]any{at.Unix(), strconv.Itoa(n)})
		}
	}
	if one.Values != nil {
		result = append(result, one)
	}
	answer(w, "matrix", result)
}

func containsAll(text string, phrases []string) bool {
	for _, p := range phrases {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

func answer(w http.ResponseWriter, kind string, result any) {
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": kind, "result": result}})
}
