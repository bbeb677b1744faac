package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// reportNezha states the shares of small tail probabilities in the hours
// without a fault: the labels only say which hours to leave out.
func reportNezha(w io.Writer, dir string) error {
	faults, err := faultTimes(dir)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "metric", "*-*_metric.csv"))
	if err != nil {
		return err
	}
	var all, later hush
	for _, name := range files {
		t, columns, err := readPod(name)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
		for _, v := range columns {
			rows := ours(t, v)
			for i := 60; i < len(rows); i++ { // the first hour is learnt from
				if near(t[i], faults) {
					continue
				}
				begins := rows[i].anomaly && !rows[i-1].anomaly
				all.add(rows[i].prob, begins)
				if i >= known {
					later.add(rows[i].prob, begins)
				}
			}
		}
	}
	fmt.Fprintf(w, "%d pods, %v\n", len(files), all)
	fmt.Fprintf(w, "from the sixth hour on, %v\n", later)
	return nil
}

// hush counts samples of hours in which nothing happens.
type hush struct {
	samples, alarms int
	share           [3]int
}

func (h *hush) add(prob float64, begins bool) {
	h.samples++
	for a, alpha := range alphas {
		if prob <= alpha {
			h.share[a]++
		}
	}
	if begins {
		h.alarms++
	}
}

func (h hush) String() string {
	n := float64(h.samples)
	return fmt.Sprintf("%d samples: share with tail probability ≤ 1e-2 %.4f, ≤ 1e-3 %.5f, ≤ 1e-4 %.6f; %.3f alarms a series-day",
		h.samples, float64(h.share[0])/n, float64(h.share[1])/n, float64(h.share[2])/n, float64(h.alarms)*1440/n)
}

// known is how many minutes of the day were seen when its second line begins: what was
// learnt in them holds the faults, which are all in them.
const known = 5 * 60

// Around a fault, in seconds, nothing counts as normal.
const before, after = 60, 10 * 60

func near(t int64, faults []int64) bool {
	for _, f := range faults {
		if t >= f-before && t <= f+after {
			return true
		}
	}
	return false
}

func faultTimes(dir string) (out []int64, err error) {
	b, err := os.ReadFile(filepath.Join(dir, filepath.Base(dir)+"-fault_list.json"))
	if err != nil {
		return nil, err
	}
	var hours map[string][]struct {
		At string `json:"inject_timestamp"`
	}
	if err := json.Unmarshal(b, &hours); err != nil {
		return nil, err
	}
	for _, hour := range hours {
		for _, f := range hour {
			at, err := strconv.ParseInt(f.At, 10, 64)
			if err != nil {
				return nil, err
			}
			out = append(out, at)
		}
	}
	return out, nil
}

// readPod is every column of numbers that is not empty.
func readPod(name string) (t []int64, columns [][]float64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, nil, err
	}
	const first = 3 // after time, timestamp and pod
	columns = make([][]float64, len(rows[0])-first)
	for _, r := range rows[1:] {
		at, err := strconv.ParseInt(strings.TrimSpace(r[1]), 10, 64)
		if err != nil {
			return nil, nil, err
		}
		t = append(t, at)
		for c := range columns {
			x, err := strconv.ParseFloat(r[first+c], 64)
			if err != nil {
				x = 0 // an idle pod's cell
			}
			columns[c] = append(columns[c], x)
		}
	}
	return t, columns, nil
}
