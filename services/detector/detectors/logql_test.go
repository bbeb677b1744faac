//go:build e2e

package detectors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// awkward are lines that a query could fail at: each %d differs from line to line.
var awkward = []string{
	`level=info msg="user %d logged in" path="C:\\dir\\%d"`, `{"level":"error","msg":"cannot parse \"x%d\": bad \\ thing %d"}`, "backtick `cmd%d` failed with %d", `it's %d o'clock for %d`,
	`ünïcödé größe %d überschritten um %d`, `日本語 エラー %d が発生しました %d`, `emoji 🚀 launched %d in %d`, "tab\tseparated\t%d\tx\t%d", `double  spaces   %d  kept  %d`, `percent 100%% of %d and %%s %d`,
	`regex ^a.*b$ (x|y)[0-9]{%d} matched %d`, `dollar $HOME/%d and ${VAR} %d`, `{brace %d} and }{ %d`, `pipe | grep %d |= x %d`, `query {app="x"} |= "y" took %d of %d`, `backslash \ n %d \t %d`,
	`"quoted all %d of it %d"`, `'single %d quoted %d'`, `path /a/b/%d.txt read %d`, `http://x.example.com/%d?a=b&c=%d`, `key="v %d" other='w %d'`, `<xml attr="%d">text %d</xml>`, "ansi \x1b[31mred%d\x1b[0m %d",
	`2026-11-24T02:51:41.865797123Z stderr F level=error msg="joined %d" n=%d`, `E1124 02:51:03.120394       1 reconciler.go:214] "cannot sync" item="%d" err="boom %d"`, `2026-11-24 02:51:03,123 ERROR [main] c.e.Svc - order %d failed with %d`,
	`login failed password=hunter2secret%d for attempt %d`, `Authorization: Bearer abcDEF1234567890xyz%d retry %d`, `dial postgres://app:pa55word%d@db:5432/shop failed %d`, `mail to jane%d.doe@example.com bounced %d times in queue`,
	`card 4111 1111 1111 1111 declined %d %d`, `token ghp_abcdefghijklmnopqrstuvwxyz012345678%d rejected %d`, `trailing space %d and %d `, ` leading space %d and %d`, `a%d`, `%d %d`, `x=%d y=%d`, `null byte escaped \x00 %d %d`,
	`nested {"a":{"b":[%d,{"c":"d"}]}} %d`, `very %d ` + strings.Repeat("long words of a line that goes on ", 40) + `%d`, `quote at end %d" %d"`, `commas, %d, and; %d; semis: ok`, `arrow -> %d => %d <- done`,
	`tilde ~%d~ caret ^%d^ at @ home`, `hash #%d comment // %d /* c */`, `star * %d ** %d glob?`, `plus + %d minus - %d equals = x`, `math 3 < %d > 2 %d`, `\"already escaped %d\" %d`, `newline\nescaped %d \r\n %d`,
	"java.lang.IllegalStateException: bad %d at place %d\n\tat a.B.c(B.java:1)\n\tat a.B.d(B.java:2)", "panic: bad %d of %d\n\ngoroutine 1 [running]:\nmain.f(0x1)\n\t/app/main.go:3 +0x1",
}

// TestARealLokiFindsTheLinesOfEachStatement asks a real Loki what the anomaly of each
// statement would say to ask it, of pods of every kind.
func TestARealLokiFindsTheLinesOfEachStatement(t *testing.T) {
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Close)
	server, err := bed.StartLoki(t.Context(), testbed.LokiConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range []string{"web-7d4b9c6f5-x2x8q", "db-0", "debug", "node-exporter-x2x8q"} {
		t.Run(pod, func(t *testing.T) { findsStatements(t, server, pod) })
	}
}

func findsStatements(t *testing.T, server *testbed.Server, pod string) {
	mask := redact.New(redact.Options{Key: []byte("0123456789abcdef")})
	now := time.Now().Add(-time.Minute).Truncate(time.Second)
	labels := map[string]string{event.LabelNamespace: "shop", event.LabelPod: pod}
	var values [][2]string
	var lines []event.LogLine
	for i, shape := range awkward {
		for j := range 3 {
			args := []any{7*j + 1, 13*j + 2}
			text := fmt.Sprintf(shape, args[:strings.Count(strings.ReplaceAll(shape, "%%", ""), "%d")]...)
			at := now.Add(time.Duration(10*i+j) * time.Millisecond)
			values = append(values, [2]string{strconv.FormatInt(at.UnixNano(), 10), text})
			lines = append(lines, event.LogLine{Time: at, Text: mask.Line(text)})
		}
	}
	body, err := json.Marshal(map[string]any{"streams": []any{map[string]any{"stream": labels, "values": values}}})
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(server.URL+"/loki/api/v1/push", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if _ = res.Body.Close(); res.StatusCode/100 != 2 {
		t.Fatalf("Loki answers %s", res.Status)
	}
	ls := event.LabelsOf(labels)
	v := detector.NewVocabulary()
	v.Fold(event.Batch{Watermark: now.Add(5 * time.Second), Logs: []event.LogBatch{{
		Source: "loki", Namespace: "shop", Start: now, End: now.Add(5 * time.Second), SampledRate: 1, Streams: []event.LogStream{{ID: ls.Hash(), Labels: ls, Lines: lines}},
	}}})
	if n := len(v.Seen()); n < 45 || n > len(awkward) {
		t.Fatalf("%d statements of %d shapes", n, len(awkward))
	}
	for _, s := range v.Seen() {
		e := logEvidence(v, s.Speaker, s.Statement.Template, s.Sample, now.Add(10*time.Second))
		found := asked(t, server, e.Query, now)
		holds := false
		for _, text := range found {
			holds = holds || mask.Line(text) == s.Sample
		}
		if !holds {
			t.Errorf("%s finds %d lines, and not %q, of %s", e.Query, len(found), s.Sample, v.Text(s.Statement.Template))
		}
	}
}

// asked are the lines that a query finds.
func asked(t *testing.T, server *testbed.Server, query string, around time.Time) (out []string) {
	t.Helper()
	res, err := http.Get(server.URL + "/loki/api/v1/query_range?" + url.Values{
		"query": {query}, "start": {strconv.FormatInt(around.Add(-time.Minute).UnixNano(), 10)}, "end": {strconv.FormatInt(around.Add(time.Minute).UnixNano(), 10)}, "limit": {"1000"},
	}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", query, res.Status, body, err)
	}
	var a struct {
		Data struct {
			Result []struct {
				Values [][2]string `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatal(err)
	}
	for _, r := range a.Data.Result {
		for _, line := range r.Values {
			out = append(out, line[1])
		}
	}
	return out
}
