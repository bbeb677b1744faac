package upstream_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/config"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

func TestInjectPromQL(t *testing.T) {
	const m = `cluster="a"`
	for name, tc := range map[string]struct{ in, want string }{
		"a bare metric":             {`up`, `up{cluster="a"}`},
		"a selector with matchers":  {`up{job="x",}`, `up{job="x", cluster="a"}`},
		"an empty selector":         {`up{}`, `up{cluster="a"}`},
		"a nameless selector":       {`{__name__="up"}`, `{__name__="up", cluster="a"}`},
		"label lists stay":          {`sum by (namespace, pod) (rate(a[5m])) / on (pod) group_left (node) b`, `sum by (namespace, pod) (rate(a{cluster="a"}[5m])) / on (pod) group_left (node) b{cluster="a"}`},
		"grouping behind the sum":   {`sum(rate(a_total{x=~"5.."}[$w])) by (job)`, `sum(rate(a_total{x=~"5..", cluster="a"}[$w])) by (job)`},
		"strings are left alone":    {`label_replace(a, "x", "$1", "y", "(up)")`, `label_replace(a{cluster="a"}, "x", "$1", "y", "(up)")`},
		"a brace inside a value":    {`a{b="}"}`, `a{b="}", cluster="a"}`},
		"keywords, numbers, offset": {`a offset 5m > bool 1e3 and b == Inf`, `a{cluster="a"} offset 5m > bool 1e3 and b{cluster="a"} == Inf`},
		"recorded names":            {`job:req:rate5m`, `job:req:rate5m{cluster="a"}`},
		"a nested subquery":         {`max_over_time(rate(a{b="]"}[5m:1m])[1h:5m] offset 1d)`, `max_over_time(rate(a{b="]", cluster="a"}[5m:1m])[1h:5m] offset 1d)`},
		"a time to look at":         {`a @ end() - b @ 1609746000`, `a{cluster="a"} @ end() - b{cluster="a"} @ 1609746000`},
		"a negative offset":         {`a offset -5m`, `a{cluster="a"} offset -5m`},
		"a name in quotes":          {`{"http.requests", job="x"}`, `{"http.requests", job="x", cluster="a"}`},
		"a label in quotes":         {`sum by ("service.name") (a)`, `sum by ("service.name") (a{cluster="a"})`},
		"a metric called count":     {`count + sum`, `count{cluster="a"} + sum{cluster="a"}`},
		"a metric called start":     {`start / end`, `start{cluster="a"} / end{cluster="a"}`},
		"words in capitals":         {`SUM BY (x) (a) AND b`, `SUM BY (x) (a{cluster="a"}) AND b{cluster="a"}`},
		"a comment with a quote":    {"a # it's \"\n+ b", "a{cluster=\"a\"} # it's \"\n+ b{cluster=\"a\"}"},
		"a label called by":         {`a{by="x"} * on (sum) b`, `a{by="x", cluster="a"} * on (sum) b{cluster="a"}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := upstream.InjectPromQL(tc.in, m); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestInjectLogQL(t *testing.T) {
	const m = `cluster="a"`
	for name, tc := range map[string]struct{ in, want string }{
		"a filter that looks like a selector": {`sum(rate({app="x"} |= "{no}" [5m]))`, `sum(rate({app="x", cluster="a"} |= "{no}" [5m]))`},
		"every selector":                      {`{a="b"} or {c="d"}`, `{a="b", cluster="a"} or {c="d", cluster="a"}`},
		"a template":                          {"{a=\"b\"} | line_format `{{.msg}}`", "{a=\"b\", cluster=\"a\"} | line_format `{{.msg}}`"},
		"a brace in a value":                  {`{a="}", b=~"x{2}"}`, `{a="}", b=~"x{2}", cluster="a"}`},
		"a comment with a quote":              {"{a=\"b\"} # it is \"\n|= \"x\"\n# {e}\nor {c=\"d\"}", "{a=\"b\", cluster=\"a\"} # it is \"\n|= \"x\"\n# {e}\nor {c=\"d\", cluster=\"a\"}"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := upstream.InjectLogQL(tc.in, m); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestParseMatchers(t *testing.T) {
	for name, tc := range map[string]struct {
		in, want string // want: rewritten, or the error
		bad      bool
	}{
		"every operator":       {`a="1", b!="2",c=~"x|y" , d!~"z"`, `a="1",b!="2",c=~"x|y",d!~"z"`, false},
		"the same label twice": {`a!="1",a!="2"`, `a!="1",a!="2"`, false},
		"a quoted name":        {`"service.name"="x"`, `"service.name"="x"`, false},
		"operators in a value": {`a="x!=y,b=~z"`, `a="x!=y,b=~z"`, false},
		"a trailing comma":     {`a="1",`, `a="1"`, false},
		"nothing":              {` `, ``, false},
		"no quotes":            {`a=b`, `is not quoted`, true},
		"no comma":             {`a="1" b="2"`, `no comma`, true},
		"no operator":          {`a "1"`, `no =`, true},
		"a bad expression":     {`a=~"("`, `missing closing`, true},
		"no name":              {`="x"`, `no label name`, true},
		"a brace":              {`a="1"} or {b="2"`, `no comma`, true},
	} {
		t.Run(name, func(t *testing.T) {
			ms, err := upstream.ParseMatchers(tc.in)
			if tc.bad {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want an error with %q", err, tc.want)
				}
				return
			}
			if got := strings.Join(upstream.Matchers(tc.in), ","); err != nil || got != tc.want {
				t.Errorf("got %s (%d), %v; want %s", got, len(ms), err, tc.want)
			}
		})
	}
}

func FuzzInject(f *testing.F) {
	f.Add(`sum by (a) (rate(b{c="d"}[5m]))`)
	f.Fuzz(func(t *testing.T, s string) {
		if got := upstream.InjectPromQL(s, ""); got != s {
			t.Errorf("no matchers changed %q into %q", s, got)
		}
		_ = upstream.InjectPromQL(s, `x="y"`)
		_ = upstream.InjectLogQL(s, `x="y"`)
		ms, err := upstream.ParseMatchers(s)
		if err != nil {
			return
		}
		again, err := upstream.ParseMatchers(strings.Join(upstream.Matchers(s), ","))
		if err != nil || !slices.Equal(ms, again) {
			t.Errorf("%q reads as %v, and written again as %v: %v", s, ms, again, err)
		}
	})
}

func TestErrorsSayWhatAPersonCanDo(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		want   upstream.ErrorKind
	}{
		"wrong credentials": {401, "no", upstream.Forbidden},
		"rate limited":      {429, "slow down", upstream.Busy},
		"a bad query":       {400, `{"status":"error","errorType":"bad_data","error":"parse error at char 3"}`, upstream.BadQuery},
		"a server error":    {503, "x", upstream.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			}))
			defer s.Close()
			var audits []event.Audit
			c := client(t, upstream.Config{URL: s.URL, Name: "main"}, func(a event.Audit) { audits = append(audits, a) })
			_, err := c.Get(t.Context(), "/api", nil, upstream.Query{Operation: "query", Text: "up"})
			if upstream.KindOf(err) != tc.want {
				t.Errorf("%v is of kind %q, want %q", err, upstream.KindOf(err), tc.want)
			}
			e, _ := errors.AsType[*upstream.Error](err)
			if e.RetryAfter != 7*time.Second {
				t.Errorf("Retry-After = %v, want 7s", e.RetryAfter)
			}
			if tc.want == upstream.BadQuery && !strings.Contains(err.Error(), "parse error at char 3") {
				t.Errorf("%v does not say what the server said", err)
			}
			if len(audits) != 1 || audits[0].Error == "" || audits[0].Query != "up" {
				t.Errorf("audit %+v", audits)
			}
		})
	}
}

func TestTenantBasicAuthAndTLSAreUsedAndThePasswordIsReadAgain(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(password, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	expected := "first"
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pass, _ := r.BasicAuth()
		if user != "u" || pass != expected || r.Header.Get("X-Scope-OrgID") != "shop" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer s.Close()
	cfg := upstream.Config{URL: s.URL, Tenant: "shop", HTTP: config.DefaultHTTPClientConfig}
	cfg.HTTP.BasicAuth = &config.BasicAuth{Username: "u", PasswordFile: password}
	cfg.HTTP.TLSConfig.InsecureSkipVerify = true
	c := client(t, cfg, nil)
	for _, p := range []string{"first", "second"} {
		write(p)
		expected = p
		if _, err := c.Get(t.Context(), "/", nil, upstream.Query{}); err != nil {
			t.Errorf("with password %q: %v", p, err)
		}
	}
	cfg.HTTP.TLSConfig.InsecureSkipVerify = false
	if _, err := client(t, cfg, nil).Get(t.Context(), "/", nil, upstream.Query{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate gave %v", err)
	}
}

func TestASlowOrEndlessAnswerIsCut(t *testing.T) {
	stop := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-stop
			return
		}
		for range 64 {
			_, _ = w.Write(make([]byte, 64<<10))
		}
	}))
	defer s.Close()
	defer close(stop)
	c := client(t, upstream.Config{URL: s.URL, Timeout: 50 * time.Millisecond, MaxResponseBytes: 1 << 20}, nil)
	if _, err := c.Get(t.Context(), "/slow", nil, upstream.Query{}); err == nil || !strings.Contains(err.Error(), "no answer in 50ms") {
		t.Errorf("slow: %v", err)
	}
	c = client(t, upstream.Config{URL: s.URL, MaxResponseBytes: 1 << 20}, nil)
	if _, err := c.Get(context.Background(), "/big", nil, upstream.Query{}); upstream.KindOf(err) != upstream.TooLarge {
		t.Errorf("big: %v", err)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	c := upstream.Config{URL: "http://u:p@x", Name: "a b", ExtraMatchers: "cluster=a"}
	err := c.Validate("prometheus[0].")
	for _, want := range []string{"prometheus[0].url: http://u:xxxxx@x holds a password", "prometheus[0].name: a b has characters", "prometheus[0].extra_matchers"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func client(t *testing.T, cfg upstream.Config, audit func(event.Audit)) *upstream.Client {
	t.Helper()
	c, err := upstream.New(cfg, upstream.Settings{Service: "test", Source: "prometheus", Audit: audit})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRetryAfterIsReadAsSecondsAndAsADateAndIsBounded(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "86400": 5 * time.Minute, "soon": 0, "99999999999999999999": 0,
		"Tue, 24 Nov 2026 12:00:30 GMT": 30 * time.Second, "Tue, 24 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := upstream.RetryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q is %v, want %v", value, got, want)
		}
	}
}
