// Package promql is read-only access to Prometheus and what speaks its API:
// Thanos, Mimir, Cortex, VictoriaMetrics.
package promql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// Client asks one Prometheus.
type Client struct {
	up  *upstream.Client
	api v1.API
}

// New makes a client.
func New(up *upstream.Client) *Client { return &Client{up: up, api: v1.NewAPI(adapter{up})} }

// Name is the configured name of the source.
func (c *Client) Name() string { return c.up.Name() }

// Upstream is the HTTP side.
func (c *Client) Upstream() *upstream.Client { return c.up }

// Partial is wrapped by the error of a query whose answer lacks some of the
// data, which Thanos and Mimir report as warnings.
type Partial struct{ Warnings []string }

func (p *Partial) Error() string { return "partial answer: " + strings.Join(p.Warnings, "; ") }

// Instant evaluates an expression at one time.
func (c *Client) Instant(ctx context.Context, expr string, at time.Time) (model.Vector, error) {
	ctx = withQuery(ctx, upstream.Query{Operation: "query", Text: expr})
	v, warnings, _, err := c.api.Query(ctx, c.inject(expr), at)
	if err != nil {
		return nil, c.wrap(err)
	}
	if err := partial(warnings); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name(), err)
	}
	switch v := v.(type) {
	case model.Vector:
		return v, nil
	case *model.Scalar:
		return model.Vector{&model.Sample{Metric: model.Metric{}, Value: v.Value, Timestamp: v.Timestamp}}, nil
	}
	return nil, fmt.Errorf("%s: %q gives a %s, not a vector", c.Name(), expr, v.Type())
}

// Range evaluates an expression at every step from start to end.
func (c *Client) Range(ctx context.Context, expr string, start, end time.Time, step time.Duration) (model.Matrix, error) {
	ctx = withQuery(ctx, upstream.Query{Operation: "query_range", Text: expr})
	v, warnings, _, err := c.api.QueryRange(ctx, c.inject(expr), v1.Range{Start: start, End: end, Step: step})
	if err != nil {
		return nil, c.wrap(err)
	}
	if err := partial(warnings); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name(), err)
	}
	m, ok := v.(model.Matrix)
	if !ok {
		return nil, fmt.Errorf("%s: %q gives a %s, not a matrix", c.Name(), expr, v.Type())
	}
	return m, nil
}

// hasBatch is how many metrics one query of Has asks for.
const hasBatch = 20

// Calls is how many queries [Client.Has] sends for so many metrics.
func Calls(metrics int) int { return (metrics + hasBatch - 1) / hasBatch }

// Count is the expression that counts the series of metrics, by their names.
func Count(metrics []string) string {
	return `count by (__name__) ({__name__=~"` + strings.Join(metrics, "|") + `"})`
}

// Has says which of the metrics have at least one series at a time.
func (c *Client) Has(ctx context.Context, metrics []string, at time.Time) (map[string]bool, error) {
	out := map[string]bool{}
	for i := 0; i < len(metrics); i += hasBatch {
		part := metrics[i:min(i+hasBatch, len(metrics))]
		v, err := c.Instant(ctx, Count(part), at)
		if err != nil {
			return nil, err
		}
		for _, s := range v {
			out[string(s.Metric[model.MetricNameLabel])] = true
		}
	}
	return out, nil
}

func (c *Client) inject(expr string) string {
	return upstream.InjectPromQL(expr, c.up.Config().ExtraMatchers)
}

// wrap keeps our own errors as they are and names the source of others.
func (c *Client) wrap(err error) error {
	if own, ok := errors.AsType[*upstream.Error](err); ok {
		return own // it names the source already
	}
	return fmt.Errorf("%s: %w", c.Name(), err)
}

// partial is an error for warnings that mean missing data. Prometheus' own
// annotations (a rate over a gauge and the like) begin with "PromQL".
func partial(warnings v1.Warnings) error {
	var bad []string
	for _, w := range warnings {
		if !strings.HasPrefix(w, "PromQL") {
			bad = append(bad, w)
		}
	}
	if bad == nil {
		return nil
	}
	return &Partial{Warnings: bad}
}

type queryKey struct{}

// withQuery hands the description of a call through client_golang to the
// audit; it is the only way past that library's signatures.
func withQuery(ctx context.Context, q upstream.Query) context.Context {
	return context.WithValue(ctx, queryKey{}, q)
}

// adapter lets client_golang's API send through our client.
type adapter struct{ up *upstream.Client }

var _ api.Client = adapter{}

func (a adapter) URL(ep string, args map[string]string) *url.URL {
	for k, v := range args {
		ep = strings.ReplaceAll(ep, ":"+k, v)
	}
	return a.up.URL(ep)
}

func (a adapter) Do(ctx context.Context, req *http.Request) (*http.Response, []byte, error) {
	q, _ := ctx.Value(queryKey{}).(upstream.Query)
	path := strings.TrimPrefix(req.URL.Path, strings.TrimRight(a.up.URL("").Path, "/"))
	var body []byte
	var err error
	if req.Method == http.MethodPost {
		form, rerr := io.ReadAll(req.Body)
		if rerr != nil {
			return nil, nil, rerr
		}
		values, rerr := url.ParseQuery(string(form))
		if rerr != nil {
			return nil, nil, rerr
		}
		body, err = a.up.Post(ctx, path, values, q)
	} else {
		body, err = a.up.Get(ctx, path, req.URL.Query(), q)
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok && e.Status != 0 {
		// With the status, that library asks again by GET where POST is not taken.
		return &http.Response{StatusCode: e.Status, Header: http.Header{}, Request: req}, nil, err
	}
	if err != nil {
		return nil, nil, err
	}
	if !json.Valid(body) {
		return nil, nil, &upstream.Error{Source: a.up.Name(), Kind: upstream.Unreachable, Err: fmt.Errorf("answer is not JSON, or was cut: %d bytes", len(body))}
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: req}, body, nil
}
