package main

import (
	"io"

	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// eachRecord calls f with every record of a log and how many lines it has: a line,
// or a stack trace, or the pieces of a line that a container runtime has cut. Of a
// long one the beginning is looked at, and the line that says what it is about.
func eachRecord(name string, stdin io.Reader, f func(text string, lines int) error) error {
	var joined logpattern.Joiner
	var record []byte
	lines := 0
	err := eachLine(name, stdin, func(text []byte, _ bool) error {
		line := string(text)
		part := joined.Next(line)
		switch {
		case lines == 0:
			part = logpattern.Begins
		case part == logpattern.Begins:
			if err := f(string(record), lines); err != nil {
				return err
			}
			lines = 0
		}
		lines++
		switch {
		case part == logpattern.Begins:
			record = append(record[:0], line...)
		case part == logpattern.Concludes || len(record)+len(line) < longestLine:
			record = logpattern.Append(record, line, part)
		}
		return nil
	})
	if err != nil || lines == 0 {
		return err
	}
	return f(string(record), lines)
}
