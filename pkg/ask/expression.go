package ask

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/common/model"
)

// maxPromQL bounds an expression, in bytes.
const maxPromQL = 500

// maxRange is the longest range, and the farthest offset, that a model may ask
// for.
const maxRange = 24 * time.Hour

var (
	// ranges are the durations in brackets of an expression.
	ranges = regexp.MustCompile(`\[([^\]]*)\]`)
	// offsets are the words offset with what stands behind them. A colon and an
	// underscore are parts of a name.
	offsets = regexp.MustCompile(`(?i)(?:^|[^\pL\pN_:])offset(?:$|[^\pL\pN_:]\s*-?\s*([\pL\pN_.]*)|-\s*([\pL\pN_.]*))`)
)

// checkPromQL bounds what an expression may cost; that it is PromQL says who
// parses it.
func checkPromQL(expr string) error {
	switch {
	case strings.TrimSpace(expr) == "":
		return errors.New("expr is missing")
	case len(expr) > maxPromQL:
		return fmt.Errorf("expr has %d bytes, more than %d", len(expr), maxPromQL)
	case strings.ContainsFunc(expr, func(r rune) bool { return unicode.IsControl(r) || r == '#' }):
		return errors.New("expr holds control characters or a comment")
	}
	bare, ok := unquoted(expr)
	if !ok {
		return errors.New("expr has a quotation that nothing closes")
	}
	switch {
	case strings.Count(bare, "[") != strings.Count(bare, "]") || strings.Count(bare, "(") != strings.Count(bare, ")") || strings.Count(bare, "{") != strings.Count(bare, "}"):
		return errors.New("expr has a bracket that nothing closes")
	case strings.Contains(bare, "@"):
		return errors.New("expr has an @ modifier; the time is that of minutes")
	}
	for _, m := range ranges.FindAllStringSubmatch(bare, -1) {
		text, _, sub := strings.Cut(m[1], ":")
		if sub {
			return errors.New("expr has a subquery")
		}
		if !bounded(text) {
			return fmt.Errorf("expr has the range %q, which is not between 1s and 24h", clip(text, 20))
		}
	}
	for _, m := range offsets.FindAllStringSubmatch(bare, -1) {
		if text := m[1] + m[2]; !bounded(text) {
			return fmt.Errorf("expr has the offset %q, which is not between 1s and 24h", clip(text, 20))
		}
	}
	return nil
}

// bounded says whether a text is a duration that a model may ask for.
func bounded(text string) bool {
	d, err := model.ParseDuration(strings.TrimSpace(text))
	return err == nil && d > 0 && time.Duration(d) <= maxRange
}

// unquoted is an expression with its quotations emptied, since what stands in
// them is no PromQL; false when one does not end.
func unquoted(expr string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(expr); i++ {
		q := expr[i]
		b.WriteByte(q)
		if q != '"' && q != '\'' && q != '`' {
			continue
		}
		for i++; i < len(expr) && expr[i] != q; i++ {
			if expr[i] == '\\' && q != '`' {
				i++
			}
		}
		if i >= len(expr) {
			return "", false
		}
		b.WriteByte(q)
	}
	return b.String(), true
}
