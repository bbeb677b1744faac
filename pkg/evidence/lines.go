package evidence

import (
	"strings"

	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// keyBegins is how a key in PEM begins, whose other lines say nothing of it.
const keyBegins = "-----BEGIN PRIVATE KEY-----\n"

// Masked masks the lines of one stream, in the order of their times. A secret may
// be written over several: what continues a key is masked as part of it, and the
// pieces of a line that a container runtime has cut are masked as the line that
// they were; all but the first of them are then "".
func Masked(lines []string, redact Redactor) []string {
	out := make([]string, len(lines))
	var j logpattern.Joiner
	whole, first := []byte(nil), 0
	for i, text := range lines {
		text = strings.ToValidUTF8(strings.TrimRight(text, "\r\n"), "\uFFFD")
		if strings.IndexByte(text, '\n') >= 0 {
			j = logpattern.Joiner{} // several lines already, which are one record
		}
		secret := j.Secret()
		part := j.Next(text)
		switch {
		case part == logpattern.Extends && i > 0:
			whole = logpattern.Append(whole, text, part)
			out[first] = redact.Line(string(whole))
			continue
		case secret && part != logpattern.Begins:
			out[i] = redact.Line(keyBegins + text)
		default:
			out[i] = redact.Line(text)
		}
		whole, first = append(whole[:0], text...), i
	}
	return out
}
