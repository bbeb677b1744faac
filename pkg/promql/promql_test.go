package promql_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

var at = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// client asks a server that a function stands for, below the path /prom.
func client(t *testing.T, h http.HandlerFunc) (c *promql.Client, audits *[]event.Audit) {
	t.Helper()
	s := httptest.NewServer(http.StripPrefix("/prom", h))
	t.Cleanup(s.Close)
	audits = &[]event.Audit{}
	up, err := upstream.New(upstream.Config{URL: s.URL + "/prom/", Name: "main", ExtraMatchers: `cluster="eu"`},
		upstream.Settings{Service: "test", Source: "prometheus", Audit: func(a event.Audit) { *audits = append(*audits, a) }})
	if err != nil {
		t.Fatal(err)
	}
	return promql.New(up), audits
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
}

func TestInstantReadsVectorsAndScalarsWithEveryMatcher(t *testing.T) {
	c, audits := client(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		if r.URL.Path != "/api/v1/query" || r.Form.Get("query") != `sum(up{cluster="eu"})` || r.Form.Get("time") != "1795521600" {
			t.Errorf("asked %s %v", r.URL.Path, r.Form)
		}
		_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1795521600,"+Inf"]}]}}`))
	})
	v, err := c.Instant(t.Context(), `sum(up)`, at)
	if err != nil || len(v) != 1 || v[0].Metric["a"] != "b" {
		t.Errorf("%v, %v", v, err)
	}
	if len(*audits) != 1 || (*audits)[0].Query != "sum(up)" || (*audits)[0].Operation != "query" || (*audits)[0].Bytes == 0 {
		t.Errorf("audits %+v", *audits)
	}
	c, _ = client(t, answer(`{"status":"success","data":{"resultType":"scalar","result":[1795521600,"3"]}}`))
	if v, err = c.Instant(t.Context(), "3", at); err != nil || len(v) != 1 || v[0].Value != 3 {
		t.Errorf("a scalar: %v, %v", v, err)
	}
}

func TestAServerThatTakesNoPostIsAskedByGet(t *testing.T) {
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1795521600,"1"],[1795521660,"2"]]}]}}`))
	})
	m, err := c.Range(t.Context(), "up", at, at.Add(time.Minute), time.Minute)
	if err != nil || len(m) != 1 || len(m[0].Values) != 2 {
		t.Errorf("%v, %v", m, err)
	}
}

func TestAnswersThatAreNoneAreErrorsOfTheirKind(t *testing.T) {
	for name, tc := range map[string]struct {
		h    http.HandlerFunc
		kind upstream.ErrorKind
		want string
	}{
		"cut JSON":     {answer(`{"status":"success","data":{"resu`), upstream.Unreachable, "was cut"},
		"a login page": {answer(`<html>sign in</html>`), upstream.Unreachable, "not JSON"},
		"a matrix":     {answer(`{"status":"success","data":{"resultType":"matrix","result":[]}}`), upstream.Unreachable, "not a vector"},
		"a parse error": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"status":"error","errorType":"bad_data","error":"1:3: unexpected"}`))
		}, upstream.BadQuery, "1:3: unexpected"},
		"too many":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, upstream.Busy, "429"},
		"not allowed here": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, upstream.Forbidden, "403"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := client(t, tc.h)
			_, err := c.Instant(t.Context(), "up", at)
			if err == nil || upstream.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "main: ") {
				t.Errorf("got %v of kind %s, want %q of kind %s", err, upstream.KindOf(err), tc.want, tc.kind)
			}
		})
	}
}

func TestMissingDataIsAnErrorAndAnnotationsAreNot(t *testing.T) {
	const vector = `{"status":"success","warnings":[%],"data":{"resultType":"vector","result":[]}}`
	c, _ := client(t, answer(strings.Replace(vector, "%", `"PromQL info: metric might not be a counter"`, 1)))
	if _, err := c.Instant(t.Context(), "up", at); err != nil {
		t.Errorf("an annotation: %v", err)
	}
	c, _ = client(t, answer(strings.Replace(vector, "%", `"store-1 is away"`, 1)))
	_, err := c.Instant(t.Context(), "up", at)
	if p, ok := errors.AsType[*promql.Partial](err); !ok || len(p.Warnings) != 1 {
		t.Errorf("a store that is away: %v", err)
	}
}

func TestHasAsksForManyMetricsAtOnce(t *testing.T) {
	asked := 0
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		_ = r.ParseForm()
		result := ""
		if strings.Contains(r.Form.Get("query"), "m7|") {
			result = `{"metric":{"__name__":"m7"},"value":[1,"2"]}`
		}
		_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"vector","result":[` + result + `]}}`))
	})
	var metrics []string
	for i := range 45 {
		metrics = append(metrics, "m"+string(rune('0'+i%10)))
	}
	got, err := c.Has(t.Context(), metrics, at)
	if err != nil || !got["m7"] || got["m8"] || asked != 3 {
		t.Errorf("%v after %d questions, %v", got, asked, err)
	}
}
