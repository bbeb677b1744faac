package upstream_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// scripted answers calls one after the other: a status each, with a Retry-After
// where there is one; 0 closes the connection. The last answer stays.
type scripted struct {
	answers []reply
	at      []time.Time
}

type reply struct {
	status int
	after  string
	body   string
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	a := s.answers[min(len(s.at), len(s.answers)-1)]
	s.at = append(s.at, time.Now())
	if a.status == 0 {
		panic(http.ErrAbortHandler)
	}
	if a.after != "" {
		w.Header().Set("Retry-After", a.after)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

func TestACallIsSentAgainWhenThatMayHelp(t *testing.T) {
	ok := reply{status: http.StatusOK, body: "{}"}
	for name, tc := range map[string]struct {
		answers []reply
		calls   int
		kind    upstream.ErrorKind // "" for an answer
	}{
		"a busy server":                      {[]reply{{status: 429}, ok}, 2, ""},
		"a server that restarts":             {[]reply{{status: 503}, {status: 502}, ok}, 3, ""},
		"a connection that is cut":           {[]reply{{}, ok}, 2, ""},
		"a server that stays busy":           {[]reply{{status: 429}}, 3, upstream.Busy},
		"a server that asks for a minute":    {[]reply{{status: 429, after: "60"}, ok}, 1, upstream.Busy},
		"a query that is wrong":              {[]reply{{status: 400}, ok}, 1, upstream.BadQuery},
		"no right to it":                     {[]reply{{status: 403}, ok}, 1, upstream.Forbidden},
		"a query that took the server's all": {[]reply{{status: 503, body: `{"errorType":"timeout","error":"query timed out"}`}, ok}, 1, upstream.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scripted{answers: tc.answers}
			srv := httptest.NewServer(s)
			defer srv.Close()
			var audits []event.Audit
			c, err := upstream.New(upstream.Config{URL: srv.URL}, upstream.Settings{Service: "test", Source: "loki", Retries: 2, Audit: func(a event.Audit) { audits = append(audits, a) }})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Post(t.Context(), "/loki/api/v1/query", nil, upstream.Query{Operation: "query", Text: "{}"})
			if (err == nil) != (tc.kind == "") || err != nil && upstream.KindOf(err) != tc.kind {
				t.Errorf("err = %v, want kind %q", err, tc.kind)
			}
			if len(s.at) != tc.calls || len(audits) != tc.calls {
				t.Fatalf("%d calls, %d on record, want %d", len(s.at), len(audits), tc.calls)
			}
			for i, a := range audits {
				if want := tc.answers[min(i, len(tc.answers)-1)].status; a.Status != want || a.Target != srv.Listener.Addr().String() {
					t.Errorf("call %d on record: %+v, want status %d of %s", i, a, want, srv.Listener.Addr())
				}
			}
		})
	}
}

func TestAServicesCallIsSentOnce(t *testing.T) {
	s := &scripted{answers: []reply{{status: 503}}}
	srv := httptest.NewServer(s)
	defer srv.Close()
	c, err := upstream.New(upstream.Config{URL: srv.URL}, upstream.Settings{Service: "test", Source: "prometheus"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "/", nil, upstream.Query{}); err == nil || len(s.at) != 1 {
		t.Errorf("%d calls, %v; want one: the next step is the next attempt", len(s.at), err)
	}
}

// times answers without a network, so that a bubble's clock may pass.
type times struct {
	answers []reply
	at      []time.Time
}

func (s *times) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	(&scripted{answers: s.answers, at: s.at}).ServeHTTP(w, r)
	s.at = append(s.at, time.Now())
	return w.Result(), nil
}

func TestARetryAfterIsWaitedForAndPausesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &times{answers: []reply{{status: 429, after: "7"}, {status: 503}, {status: 200, body: "{}"}}}
		c, err := upstream.New(upstream.Config{URL: "http://prometheus"}, upstream.Settings{Source: "prometheus", Retries: 2})
		if err != nil {
			t.Fatal(err)
		}
		c.HTTP().Transport = s
		if _, err := c.Get(t.Context(), "/", nil, upstream.Query{}); err != nil {
			t.Fatal(err)
		}
		var waits []time.Duration
		for i := 1; i < len(s.at); i++ {
			waits = append(waits, s.at[i].Sub(s.at[i-1]))
		}
		if want := []time.Duration{7 * time.Second, 500 * time.Millisecond}; !slices.Equal(waits, want) {
			t.Errorf("waited %v, want %v", waits, want)
		}
	})
}
