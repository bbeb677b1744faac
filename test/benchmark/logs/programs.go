package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"

	_ "embed"
)

//go:embed testdata/programs.tsv.gz
var programs []byte

// Program is what a real program logged, and whether the miner's authors looked at
// what was wrong with it.
type Program struct {
	Name  string
	Known bool
	Lines []Line
}

// Programs are up to a thousand lines each of real programs that ran on loopback,
// with faults, traffic and restarts: the test bed's servers, and Debian's packages.
//
// A line's statement is where in the source it was written (klog, zap's caller,
// slog's source, PostgreSQL's verbose errors, OpenSSH's LogVerbose, Python's record),
// and for Redis, nginx, the brokers and name servers and slapd the format string of the
// binary that fits with the most letters; lines that none fits are left out. Two
// places that write the same but for digits are one statement. The position stays
// in a line where the program prints it, but for OpenSSH's.
func Programs() ([]Program, error) {
	z, err := gzip.NewReader(bytes.NewReader(programs))
	if err != nil {
		return nil, err
	}
	var all []Program
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		line := lines.Text()
		if head, ok := strings.CutPrefix(line, "== "); ok {
			name, kind, _ := strings.Cut(head, " ")
			all = append(all, Program{Name: name, Known: kind == "known"})
			continue
		}
		event, rest, _ := strings.Cut(line, "\t")
		content, raw, ok := strings.Cut(rest, "\t")
		if !ok || len(all) == 0 {
			return nil, fmt.Errorf("programs: %q is no line of a program", line)
		}
		p := &all[len(all)-1]
		p.Lines = append(p.Lines, Line{Raw: raw, Content: content, Event: event})
	}
	return all, lines.Err()
}
