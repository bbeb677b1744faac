package ask

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

func TestWhatAnExpressionMayCostIsBounded(t *testing.T) {
	for expr, want := range map[string]string{
		`rate(x[5m] offset 1h)`:                      "",
		`rate(x[5m] OFFSET -30m)`:                    "",
		`rate(x[24h]) - rate(x[24h] offset 24h)`:     "",
		`kafka_consumer_offset`:                      "",
		`job:offset:sum - sum(kafka_offset{a="b"})`:  "",
		`x{a="offset 30d", b='@ 0', c=` + "`[30d]`}": "",
		`x{mail="ann@example.com"}`:                  "",
		`x{a="\"[30d"}`:                              "",
		`x offset 30d`:                               "offset",
		`rate(x[5m] offset -30d)`:                    "offset",
		`x Offset  25h`:                              "offset",
		`x offset-30d`:                               "offset",
		`x{a="b"}offset 30d`:                         "offset",
		`rate(x[5m])offset 30d`:                      "offset",
		`x offset 2592000`:                           "offset",
		`x offset (30 * 1d)`:                         "offset",
		`x offset step()`:                            "offset",
		`x offset 1e9`:                               "offset",
		`x offset`:                                   "offset",
		`x offset 1h + y offset 30d`:                 "offset",
		`x @ 0`:                                      "@",
		`x @ start()`:                                "@",
		`x{a="b"}@0`:                                 "@",
		`x[2592000]`:                                 "range",
		`x{a="b}`:                                    "quotation",
		`x{a="b\"}`:                                  "quotation",
		"x{a=`b}":                                    "quotation",
	} {
		err := checkPromQL(expr)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", expr, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want something about %s", expr, err, want)
		}
	}
}

// FuzzPromQL looks at what passes word by word, as another reader would: behind
// an offset there is a duration of at most a day.
func FuzzPromQL(f *testing.F) {
	for _, s := range []string{`rate(x[5m] offset 1h)`, `x offset 30d`, `x{a="offset 30d"}`, `x offset -1h`, `x @ 0`, `x{a="\""} offset 9w`, "x{a=`\\`}offset 1y", `x[1d]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		if checkPromQL(expr) != nil {
			return
		}
		bare, ok := unquoted(expr)
		if !ok || strings.Contains(bare, "@") || len(bare) > len(expr) {
			t.Fatalf("%q passes as %q", expr, bare)
		}
		word := func(r rune) bool {
			return r == '_' || r == ':' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r > 127
		}
		words := strings.FieldsFunc(bare, func(r rune) bool { return !word(r) })
		for i, w := range words {
			if !strings.EqualFold(w, "offset") {
				continue
			}
			if i+1 == len(words) {
				t.Fatalf("%q ends with an offset", expr)
			}
			if d, err := model.ParseDuration(words[i+1]); err != nil || time.Duration(d) > maxRange {
				t.Fatalf("%q reads %s back", expr, words[i+1])
			}
		}
	})
}
