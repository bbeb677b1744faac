package detectors

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/services/detector"
)

// valueEvidence are the LogQL that shows the lines that state what is odd, with one
// of them, and that which draws the value.
func valueEvidence(words *detector.Vocabulary, s detector.Seen, v *statedValue, at time.Time) []event.EvidenceRef {
	lines := logEvidence(words, s.Speaker, s.Statement.Template, v.odd.sample, at)
	parsed, label := parsing(v)
	if parsed == "" {
		return []event.EvidenceRef{lines}
	}
	drawn := lines
	drawn.Excerpt = nil
	from := lines.Query + parsed
	switch {
	case v.odd.class != "":
		lines.Query = from + " | " + label + stateMatcher(v)
		drawn.Query = fmt.Sprintf("sum by (%s) (count_over_time(%s [5m]))", label, from)
	default:
		if v.odd.observed >= v.odd.high && v.odd.high > 0 {
			lines.Query = from + " | " + label + " > " + beyond(v)
		}
		unwrapped := label
		switch v.unit {
		case "s":
			unwrapped = "duration_seconds(" + label + ")"
		case "By":
			unwrapped = "bytes(" + label + ")"
		}
		drawn.Query = fmt.Sprintf(`quantile_over_time(0.95, %s | unwrap %s | __error__="" [5m]) by ()`, from, unwrapped)
	}
	return []event.EvidenceRef{lines, drawn}
}

// parsing is the part of a query that reads a value, and the label that it gets;
// nothing where no query can.
func parsing(v *statedValue) (parser, label string) {
	switch v.form {
	case logpattern.JSON:
		return " | json", labelName(v.name)
	case logpattern.Pair:
		return " | logfmt", labelName(v.name)
	}
	if v.name == "" {
		return "", ""
	}
	// Several values after a word are divided by what is no letter, mostly.
	re := regexpQuote(v.name) + strings.Repeat(`\S*\s+\S+`, v.place-1) + `\S*\s+(?P<value>`
	switch {
	case v.odd.class != "":
		re += `[^\s,;]+)`
	case v.unit == "s":
		re += `[0-9.]+(ns|us|µs|ms|s|m|h)[0-9a-zµ.]*)`
	case v.unit == "By":
		re += `[0-9.]+[KMGT]?i?B)`
	default:
		re += `[0-9.]+)`
	}
	return " | regexp " + quote(re), "value"
}

// stateMatcher is the part of a query that wants a state.
func stateMatcher(v *statedValue) string {
	class := v.odd.class
	if v.codes && strings.HasSuffix(class, "xx") {
		return "=~" + quote(class[:1]+"..")
	}
	return "=" + quote(class)
}

// beyond is what a value is larger than that is odd.
func beyond(v *statedValue) string {
	switch v.unit {
	case "s":
		return time.Duration(v.odd.high * float64(time.Second)).Round(time.Microsecond).String()
	case "By":
		return strconv.FormatFloat(v.odd.high, 'f', 0, 64) + "B"
	}
	return strconv.FormatFloat(v.odd.high, 'g', 6, 64)
}

// labelName is what Loki makes of a key.
func labelName(key string) string {
	var b strings.Builder
	for i := range len(key) {
		c := key[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= '0' && c <= '9' && i > 0:
			b.WriteByte(c)
		case c >= '0' && c <= '9':
			b.WriteByte('_')
			b.WriteByte(c)
		default:
			b.WriteByte('_')
		}
	}
	return b.String()
}
