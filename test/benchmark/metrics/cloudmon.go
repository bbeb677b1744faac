package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// late is how many steps after a window's start an alarm still counts.
const late = 10

// production is a series with windows by domain experts.
type production struct {
	id, group string
	step      int64 // seconds
	from      int64 // Unix seconds from which alarms count
	t         []int64
	v         []float64
	windows   [][2]int64
}

func loadCloudmon(dir string) ([]production, error) {
	b, err := os.ReadFile(filepath.Join(dir, "labels.json"))
	if err != nil {
		return nil, err
	}
	var labels struct {
		Series map[string]struct {
			Domain  string      `json:"domain"`
			Step    int64       `json:"step_seconds"`
			From    string      `json:"score_from"`
			Windows [][2]string `json:"windows"`
		} `json:"series"`
	}
	if err := json.Unmarshal(b, &labels); err != nil {
		return nil, fmt.Errorf("labels.json: %w", err)
	}
	var out []production
	for _, id := range sorted(labels.Series) {
		l := labels.Series[id]
		s := production{id: id, group: l.Domain, step: l.Step}
		if s.from, err = instant(l.From); err != nil {
			return nil, err
		}
		for _, w := range l.Windows {
			from, err := instant(w[0])
			if err != nil {
				return nil, err
			}
			to, err := instant(w[1])
			if err != nil {
				return nil, err
			}
			s.windows = append(s.windows, [2]int64{from, to})
		}
		if s.t, s.v, err = readGzip(filepath.Join(dir, "series", id+".csv.gz")); err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func readGzip(name string) ([]int64, []float64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, nil, err
	}
	return readCSV(z)
}

// judge counts as an operator would: the first row of an alarm is a page; it
// hits if it lies in a window or at most ten steps after its start, and other
// pages are false. It is what score.py beside the data counts.
func (s production) judge(rows []row) tally {
	a, _ := s.judged(rows)
	return a
}

// hits says which windows were found.
func (s production) hits(rows []row) []bool {
	_, hit := s.judged(rows)
	out := make([]bool, len(s.windows))
	for i := range out {
		out[i] = hit[i]
	}
	return out
}

func (s production) judged(rows []row) (a tally, hit map[int]bool) {
	hit = map[int]bool{}
	for _, w := range s.windows {
		if w[0] >= s.from {
			a.windows++
		}
	}
	for i, t := range s.t {
		if t < s.from {
			continue
		}
		a.days += float64(s.step) / 86400
		if !rows[i].anomaly || i > 0 && rows[i-1].anomaly {
			continue
		}
		if in := s.window(t, hit); in < 0 {
			a.false++
		} else if s.windows[in][0] >= s.from && !hit[in] {
			hit[in] = true
			a.hit++
		}
	}
	return a, hit
}

// window is the one that a page at t belongs to: one not yet hit before
// another, one it lies in before one it is late for; -1: none.
func (s production) window(t int64, hit map[int]bool) int {
	best, rank := -1, 8
	for i, w := range s.windows {
		if t < w[0] || t > max(w[1], w[0]+late*s.step) {
			continue
		}
		r := 0
		if w[0] < s.from { // began while learning: neither right nor wrong
			r += 4
		}
		if hit[i] {
			r += 2
		}
		if t > w[1] {
			r++
		}
		if r < rank {
			best, rank = i, r
		}
	}
	return best
}

func reportCloudmon(w io.Writer, dir string) error {
	series, err := loadCloudmon(dir)
	if err != nil {
		return err
	}
	for _, d := range []struct {
		name string
		f    detect
	}{{"baseline", ours}, {"light", light}, {"EWMA", ewma}} {
		groups, total := map[string]*tally{}, tally{}
		for _, s := range series {
			c := s.judge(d.f(s.t, s.v))
			total.add(c)
			if groups[s.group] == nil {
				groups[s.group] = &tally{}
			}
			groups[s.group].add(c)
		}
		fmt.Fprintf(w, "%-9s                 %v\n", d.name, total)
		for _, g := range sorted(groups) {
			fmt.Fprintf(w, "    %-22s %v\n", g, *groups[g])
		}
	}
	return nil
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
