// Package logs has logs whose statements are known, and the score of who finds
// them: invented ones in as many formats as we know, and LogHub's samples where
// they lie beside the repository.
package logs

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Line is a line of a log: all of it, its message without what stands before it,
// and the statement that wrote it.
type Line struct {
	Raw, Content, Event string
	// Variant is which of the texts of its statement the line has, where that has
	// several: of the words that may stand in a place, and of parts that may be missing.
	Variant string
}

// Shared reads LogHub's samples in a folder, by system. Where there is no such
// folder the error is [os.ErrNotExist].
func Shared(dir string) (map[string][]Line, error) {
	systems, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := map[string][]Line{}
	for _, s := range systems {
		if all[s.Name()], err = loadLogHub(dir, s.Name()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func loadLogHub(dir, system string) ([]Line, error) {
	raw, err := os.ReadFile(filepath.Join(dir, system, system+"_2k.log"))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(string(raw), "\r\n", "\n"), "\n"), "\n")
	f, err := os.Open(filepath.Join(dir, system, system+"_2k.log_structured.csv"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	content, id := -1, -1
	for i, h := range rows[0] {
		switch h {
		case "Content":
			content = i
		case "EventId":
			id = i
		}
	}
	if content < 0 || id < 0 || len(rows) != len(lines)+1 {
		return nil, fmt.Errorf("%s: %d rows of Content and EventId for %d lines", f.Name(), len(rows)-1, len(lines))
	}
	out := make([]Line, 0, len(lines))
	for i, row := range rows[1:] {
		out = append(out, Line{Raw: lines[i], Content: row[content], Event: row[id]})
	}
	return out, nil
}

// GroupingAccuracy is the share of lines, 0 to 1, whose group holds exactly the
// lines of their statement.
func GroupingAccuracy(got []uint64, want []string) float64 {
	groups, truth := map[uint64]map[string]int{}, map[string]int{}
	sizes := map[uint64]int{}
	for i := range got {
		if groups[got[i]] == nil {
			groups[got[i]] = map[string]int{}
		}
		groups[got[i]][want[i]]++
		sizes[got[i]]++
		truth[want[i]]++
	}
	right := 0
	for i := range got {
		if len(groups[got[i]]) == 1 && sizes[got[i]] == truth[want[i]] {
			right++
		}
	}
	return float64(right) / float64(len(got))
}

// GroupingUpToVariants is the same for who takes the variants of a statement for
// statements of their own, or some of them for one: the share of lines whose group
// holds lines of one statement only, and all lines of each variant in it.
func GroupingUpToVariants(got []uint64, lines []Line) float64 {
	type variant struct{ event, text string }
	type group struct {
		events   map[string]bool
		variants map[variant]int
	}
	groups, truth := map[uint64]group{}, map[variant]int{}
	for i, id := range got {
		g, ok := groups[id]
		if !ok {
			g = group{map[string]bool{}, map[variant]int{}}
			groups[id] = g
		}
		v := variant{lines[i].Event, lines[i].Variant}
		g.events[v.event] = true
		g.variants[v]++
		truth[v]++
	}
	right := 0
	for _, g := range groups {
		all, whole := 0, len(g.events) == 1
		for v, n := range g.variants {
			all += n
			whole = whole && n == truth[v]
		}
		if whole {
			right += all
		}
	}
	return float64(right) / float64(len(got))
}
