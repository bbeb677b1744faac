package render_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
)

// poison is what somebody who names things and writes log lines may try, on all
// surfaces at once.
const poison = "a\x1b[2J\x1b]8;;http://evil\x07b\u009b31m\x7f\u202etxt\u2066x\u200b <!channel> <@U1> @here [t](http://evil) ![i](x) `c` ``d`` **e** _f_ <script>alert(1)</script> &lt; | # h\n# heading\r\n- item\t~~s~~"

// poisoned is a report all of whose texts are hostile.
func poisoned() event.Report {
	r := report()
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			v.SetString(poison)
		case reflect.Struct:
			if _, ok := v.Interface().(time.Time); ok {
				return
			}
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		case reflect.Slice:
			if v.Len() == 0 {
				v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			}
			for i := range v.Len() {
				fill(v.Index(i))
			}
		case reflect.Pointer:
			if !v.IsNil() {
				fill(v.Elem())
			}
		}
	}
	fill(reflect.ValueOf(&r).Elem())
	r.State = event.Open // so that the roll-back is shown
	return r
}

func shown(t *testing.T, f render.Format, o render.Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := render.Report(&b, f, poisoned(), o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// acts says what of a text a terminal would act on or hide.
func acts(s string) (rune, bool) {
	for _, r := range s {
		if r != '\n' && (unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200b) {
			return r, true
		}
	}
	return 0, false
}

func TestNoFieldOfAReportActsOnATerminal(t *testing.T) {
	for _, f := range []render.Format{render.Table, render.MD, render.JSON, render.YAML} {
		if r, ok := acts(shown(t, f, render.Options{})); ok {
			t.Errorf("%s lets %U through", f, r)
		}
	}
	// With colours, the only sequences are our own.
	own := regexp.MustCompile("\x1b\\[[0-9;]*m")
	if r, ok := acts(own.ReplaceAllString(shown(t, render.Table, render.Options{Color: true}), "")); ok {
		t.Errorf("in colour %U gets through", r)
	}
}

func TestNoFieldOfAReportIsMarkup(t *testing.T) {
	text := shown(t, render.MD, render.Options{})
	// What is left without code spans and escaped characters is ours.
	text = regexp.MustCompile("(?s)```.*?[^`]```[^`]|``[^`].*?[^`]``|`[^`]+`").ReplaceAllString(text, "")
	text = regexp.MustCompile(`\\.`).ReplaceAllString(text, "")
	for _, bad := range []string{"<", "](http://evil", "**", "~~", "`"} {
		if i := strings.Index(text, bad); i >= 0 {
			t.Errorf("%q gets through: …%s…", bad, text[max(0, i-40):min(len(text), i+40)])
		}
	}
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, "# heading") || strings.HasPrefix(l, "- item") {
			t.Errorf("a line of its own: %s", l)
		}
	}
}

func TestMachineFormatsKeepTheirTexts(t *testing.T) {
	var fromJSON, fromYAML event.Report
	if err := json.Unmarshal([]byte(shown(t, render.JSON, render.Options{})), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if fromJSON.Headline != poison {
		t.Errorf("JSON gives back %q", fromJSON.Headline)
	}
	var n any
	if err := yaml.Unmarshal([]byte(shown(t, render.YAML, render.Options{})), &n); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &fromYAML); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(fromYAML.Headline, "<!channel>") || len(fromYAML.Findings) != len(fromJSON.Findings) {
		t.Errorf("YAML gives back %q", fromYAML.Headline)
	}
}
