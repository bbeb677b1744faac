package logpattern

import (
	"fmt"
	"strings"
	"testing"
)

func TestWhatALineStatesIsReadWithItsName(t *testing.T) {
	for name, c := range map[string]struct{ line, want string }{
		"logfmt":                               {`level=info msg="served request" path=/cart status=503 took=45ms`, "path=/cart status=503(503) took=45ms(0.045 s)"},
		"logfmt after a timestamp":             {`2026-03-01T10:00:00Z level=info msg="served 12 items" took=1m2.5s`, "took=1m2.5s(62.5 s) served.1=12(12)"},
		"JSON":                                 {`{"level":"info","ts":1772359200.1,"msg":"done","status":503,"ok":true,"size":"12KiB","user":{"id":7},"name":"a \"b\""}`, `status:503(503) ok:true size:12KiB(12288 By) name:a "b"`},
		"JSON in a container's envelope":       {`2026-03-01T10:00:00.123456789Z stderr F {"msg":"done","took_ms":45}`, "took_ms:45(45)"},
		"klog":                                 {`I0312 10:11:12.123456    1 file.go:12] Wrote 12 keys, took 3 ms`, "Wrote.1=12(12) took.1=3(0.003 s)"},
		"an access log":                        {`10.0.0.1 - - [01/Mar/2026:10:00:00 +0000] "GET /cart HTTP/1.1" 503 512`, "GET.3=503(503) GET.4=512(512)"},
		"a state after a colon":                {"2026-03-01 10:00:00 INFO breaker: open after 5 failures", "breaker.1=open after.1=5(5)"},
		"times of day and versions are none":   {"started v1.2.3 at 10:00:00 on 2026-03-01 by 10.0.0.7", ""},
		"numbers that are too long are ids":    {"order=12345678901234567 stored", "order=12345678901234567"},
		"a share":                              {"usage 93% of quota", "usage.1=93%(0.93)"},
		"signs, exponents":                     {"a=-0.5 b=1.5e3 c=1e-3", "a=-0.5(-0.5) b=1.5e3(1500) c=1e-3(0.001)"},
		"texts that are long are nothing":      {`err="` + strings.Repeat("x", 60) + `" n=1`, "n=1(1)"},
		"a pair without a value, a lone point": {`a= 1. . .5 -`, "a.2=1(1)"},
		"nothing":                              {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range Fields(nil, c.line) {
				s := f.Name + "=" + f.Text
				switch f.Form {
				case JSON:
					s = f.Name + ":" + f.Text
				case Word:
					s = fmt.Sprintf("%s.%d=%s", f.Name, f.Place, f.Text)
				}
				if f.IsNum {
					s += fmt.Sprintf("(%s)", strings.TrimSpace(fmt.Sprintf("%.6g %s", f.Value, f.Unit)))
				}
				got = append(got, s)
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("%s\n got %s\nwant %s", c.line, s, c.want)
			}
		})
	}
}

func FuzzFields(f *testing.F) {
	for _, s := range []string{`level=info msg=a took=1m2.5s`, `{"msg":"a 1 ms","n":1e9}`, "took 1e999 ms", `a="`, "{\"a\":", "1.5.", "-", "k=-e5", "\x1b[31mn=5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, v := range Fields(nil, s) {
			if v.Text == "" || v.Place < 1 {
				t.Errorf("%q: %+v", s, v)
			}
		}
	})
}
