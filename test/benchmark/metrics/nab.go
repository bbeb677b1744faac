package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// labelled is a series with the windows in which something happened, as rows.
type labelled struct {
	name, group string
	t           []int64 // Unix seconds
	v           []float64
	windows     [][2]int // first and last row
}

// profile is one of NAB's ways to weigh what is found and what is not.
type profile struct {
	name           string
	falseRow, miss float64
}

var profiles = []profile{{"standard", 0.11, 1}, {"low FP", 0.22, 1}, {"low FN", 0.11, 2}}

// probation is how many rows at the start are not scored.
func probation(n int) int { return min(n*15/100, 750) }

func loadNAB(dir string) ([]labelled, error) {
	b, err := os.ReadFile(filepath.Join(dir, "labels", "combined_windows.json"))
	if err != nil {
		return nil, err
	}
	var windows map[string][][2]string
	if err := json.Unmarshal(b, &windows); err != nil {
		return nil, fmt.Errorf("combined_windows.json: %w", err)
	}
	var out []labelled
	for name, ws := range windows {
		f, err := os.Open(filepath.Join(dir, "data", name))
		if err != nil {
			return nil, err
		}
		t, v, err := readCSV(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s := labelled{name: name, group: filepath.Dir(name), t: t, v: v}
		for _, w := range ws {
			from, err := instant(w[0])
			if err != nil {
				return nil, err
			}
			to, err := instant(w[1])
			if err != nil {
				return nil, err
			}
			first := slices.IndexFunc(t, func(t int64) bool { return t >= from })
			last := len(t) - 1
			for last > 0 && t[last] > to {
				last--
			}
			s.windows = append(s.windows, [2]int{first, last})
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b labelled) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return out, nil
}

// readCSV reads timestamp,value with a line of headings.
func readCSV(r io.Reader) (t []int64, v []float64, err error) {
	rows, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return nil, nil, err
	}
	for i, row := range rows[1:] {
		at, err := instant(row[0])
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", i+2, err)
		}
		x := math.NaN()
		if row[1] != "" {
			if x, err = strconv.ParseFloat(row[1], 64); err != nil {
				return nil, nil, fmt.Errorf("line %d: %w", i+2, err)
			}
		}
		t, v = append(t, at), append(v, x)
	}
	return t, v, nil
}

func instant(s string) (int64, error) {
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04:05.000000", time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Unix(), nil
		}
	}
	return 0, fmt.Errorf("time %q: of no known form", s)
}

// from is the series without its first rows.
func (s labelled) from(rows int) labelled {
	s.t, s.v = s.t[rows:], s.v[rows:]
	moved := make([][2]int, len(s.windows))
	for i, w := range s.windows {
		moved[i] = [2]int{w[0] - rows, w[1] - rows}
	}
	s.windows = moved
	return s
}

func sigmoid(x float64) float64 { return 2/(1+math.Exp(5*x)) - 1 }

// nabRow is a row with a score: of a window and what it earns there, or
// outside and what it costs.
type nabRow struct {
	score  float64
	window int // index over the corpus; -1 outside
	worth  float64
}

// nabScores are the scores of the profiles, each at the one threshold over the
// whole corpus that is best for it, and these thresholds (Lavin and Ahmad
// 2015, arXiv 1510.03336).
func nabScores(series []labelled, rows [][]row) (scores, thresholds []float64) {
	var all []nabRow
	windows := 0
	for k, s := range series {
		all = append(all, weigh(s, rows[k], windows)...)
		windows += len(s.windows)
	}
	scores, thresholds = optima(all, windows)
	for p, prof := range profiles {
		scores[p] = normal(scores[p], prof, windows)
	}
	return scores, thresholds
}

// normal is a sum as a score: 0 for saying nothing, 100 for the best that can be.
func normal(sum float64, prof profile, windows int) float64 {
	nothing := -prof.miss * float64(windows)
	return 100 * (sum - nothing) / (float64(windows) - nothing)
}

// optima are the largest sums of the profiles over all thresholds, and these.
// It sorts the rows.
func optima(all []nabRow, windows int) (sums, thresholds []float64) {
	slices.SortStableFunc(all, func(a, b nabRow) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return 0
	})
	best := map[int]float64{}
	earned, cost, missed := 0.0, 0.0, windows
	sums, thresholds = make([]float64, len(profiles)), make([]float64, len(profiles))
	for p, prof := range profiles {
		sums[p], thresholds[p] = -prof.miss*float64(windows), math.Inf(1)
	}
	for i, r := range all {
		if b, hit := best[r.window]; r.window < 0 {
			cost += r.worth
		} else if !hit {
			best[r.window] = r.worth
			earned += r.worth
			missed--
		} else if r.worth > b {
			earned += r.worth - b
			best[r.window] = r.worth
		}
		if i+1 < len(all) && all[i+1].score == r.score {
			continue
		}
		for p, prof := range profiles {
			if sum := earned + prof.falseRow*cost - prof.miss*float64(missed); sum > sums[p] {
				sums[p], thresholds[p] = sum, r.score
			}
		}
	}
	return sums, thresholds
}

// weigh is what each scored row of a series would earn or cost, were it above
// the threshold; first is the index of its first window over the corpus.
func weigh(s labelled, rows []row, first int) (out []nabRow) {
	next, last := 0, -1
	for i := range s.t {
		for next < len(s.windows) && i > s.windows[next][1] {
			last, next = next, next+1
		}
		if i < probation(len(s.t)) || rows[i].score <= 0 {
			continue
		}
		r := nabRow{score: rows[i].score, window: -1, worth: -1}
		if next < len(s.windows) && i >= s.windows[next][0] {
			w := s.windows[next]
			r.window = first + next
			r.worth = sigmoid(-float64(w[1]-i+1)/float64(w[1]-w[0]+1)) / 0.98661
		} else if last >= 0 {
			w := s.windows[last]
			if x := float64(i-w[1]) / float64(w[1]-w[0]); x <= 3 {
				r.worth = sigmoid(x)
			}
		}
		out = append(out, r)
	}
	return out
}

// tally counts alarms by event: an alarm is where anomaly begins to be said.
type tally struct {
	windows, hit, false int
	days                float64
}

func (a *tally) add(b tally) {
	a.windows += b.windows
	a.hit += b.hit
	a.false += b.false
	a.days += b.days
}

// measures are precision, recall, their harmonic mean, and false alarms a day
// of a series.
func (a tally) measures() (precision, recall, f1, falseADay float64) {
	if n := a.hit + a.false; n > 0 {
		precision = float64(a.hit) / float64(n)
	}
	if a.windows > 0 {
		recall = float64(a.hit) / float64(a.windows)
	}
	if precision+recall > 0 {
		f1 = 2 * precision * recall / (precision + recall)
	}
	return precision, recall, f1, float64(a.false) / a.days
}

func (a tally) String() string {
	p, r, f, day := a.measures()
	return fmt.Sprintf("%3d of %3d found, %4d false   precision %.2f  recall %.2f  F1 %.3f  false a series-day %.3f", a.hit, a.windows, a.false, p, r, f, day)
}

func (s labelled) count(rows []row) tally {
	n := len(s.t)
	a := tally{windows: len(s.windows), days: float64(s.t[n-1]-s.t[probation(n)]) / 86400}
	hit := make([]bool, len(s.windows))
	for i := probation(n); i < n; i++ {
		if !rows[i].anomaly || rows[i-1].anomaly {
			continue
		}
		in := slices.IndexFunc(s.windows, func(w [2]int) bool { return i >= w[0] && i <= w[1] })
		if in < 0 {
			a.false++
		} else if !hit[in] {
			hit[in] = true
			a.hit++
		}
	}
	return a
}

func reportNAB(w io.Writer, dir string, starts bool) error {
	series, err := loadNAB(dir)
	if err != nil {
		return err
	}
	for _, d := range []struct {
		name   string
		f      detect
		scored bool
	}{{"baseline", ours, true}, {"light", light, false}, {"EWMA", ewma, true}} {
		rows := make([][]row, len(series))
		each(len(series), func(i int) { rows[i] = d.f(series[i].t, series[i].v) })
		fmt.Fprintf(w, "%-9s", d.name)
		if d.scored {
			scores, thresholds := nabScores(series, rows)
			for i, p := range profiles {
				fmt.Fprintf(w, " %s %.1f (score ≥ %.2f) ", p.name, scores[i], thresholds[i])
			}
		}
		fmt.Fprintln(w)
		groups, total := map[string]*tally{}, tally{}
		for i, s := range series {
			c := s.count(rows[i])
			total.add(c)
			if groups[s.group] == nil {
				groups[s.group] = &tally{}
			}
			groups[s.group].add(c)
		}
		fmt.Fprintf(w, "  at its own threshold:  %v\n", total)
		for _, g := range sorted(groups) {
			fmt.Fprintf(w, "    %-22s %v\n", g, *groups[g])
		}
	}
	if !starts {
		return nil
	}
	mean := make([]float64, len(profiles))
	for _, skip := range []int{0, 25, 50, 75} {
		later, rows := make([]labelled, len(series)), make([][]row, len(series))
		each(len(series), func(i int) {
			later[i] = series[i].from(skip)
			rows[i] = ours(later[i].t, later[i].v)
		})
		scores, _ := nabScores(later, rows)
		fmt.Fprintf(w, "baseline, from row %2d: %.1f / %.1f / %.1f\n", skip, scores[0], scores[1], scores[2])
		for i := range mean {
			mean[i] += scores[i] / 4
		}
	}
	fmt.Fprintf(w, "mean of the four starts: %.1f / %.1f / %.1f\n", mean[0], mean[1], mean[2])
	return nil
}
