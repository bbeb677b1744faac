package objectives

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

// policy writes a policy file that can be read back.
func (x *Suggested) policy(p slo.Policy) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Suggested by oncall slo suggest --since %s: what was kept, which need not be what\n# was promised. Remove what nobody wants to be woken for.\n", x.Since)
	for _, s := range x.NotKept {
		why := "less than any usual objective"
		if s.Requests < 10 {
			why = "too few to say"
		}
		fmt.Fprintf(&b, "# %s/%s kept %s %% of %s requests, %s: none is suggested.\n", s.Namespace, s.Workload, share(s.Kept), render.Count(s.Requests), why)
	}
	b.WriteString("objectives:\n")
	for _, s := range x.Suggestions {
		fmt.Fprintf(&b, "  # kept %s %% of %s requests (%.3g/s, %s, %s); at this target %s\n", share(s.Kept), render.Count(s.Requests), s.PerSecond, slo.Age(s.Hours), s.Family, burned(s.Suggestion))
		if s.Hours < 0.9*x.since.Hours() {
			fmt.Fprintf(&b, "  # Prometheus has %s of the %s that were asked for: look again when it has more\n", slo.Age(s.Hours), x.Since)
		}
		if s.Few {
			fmt.Fprintf(&b, "  # fewer than %d requests in five minutes, as a rule: burns show in the longer windows only\n", slo.DefaultMinRequests)
		}
		match := fmt.Sprintf("workloads: [%q]", s.Workload)
		if s.Namespace != "" {
			match = fmt.Sprintf("namespaces: [%q], %s", s.Namespace, match)
		}
		fmt.Fprintf(&b, "  - name: %s\n    target: %g\n    match: {%s}\n", s.Name, s.Target, match)
	}
	for _, k := range x.Latency {
		b.WriteString(k.lines(x.Since))
	}
	kept, err := p.Written()
	if err != nil {
		return "", err
	}
	b.WriteString(kept)
	if _, err := slo.Parse("the suggestion", []byte(b.String())); err != nil {
		return "", errors.Join(errors.New("the suggestion does not read back"), err)
	}
	return b.String(), nil
}

// share is a share in percent that is not rounded up: not to all, and not to an
// objective that was just missed.
func share(x float64) string {
	const exact = 1e-9 // 0.995 is a little less than what it is written as
	if x < 1 && x >= 0.99995 {
		return fmt.Sprintf("%.6g", math.Floor(x*1e6+exact)/1e4)
	}
	return fmt.Sprintf("%.4g", math.Floor(x*1e4+exact)/100)
}

func burned(s slo.Suggestion) string {
	many := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	return many(s.Pages, "page") + ", " + many(s.Tickets, "ticket")
}

// lines write a latency objective into a policy file.
func (k Latency) lines(since string) string {
	var b strings.Builder
	threshold := slo.Seconds(k.Threshold).String()
	how, unit := "", ""
	if k.Unit != "" {
		unit = ", unit: " + k.Unit
	}
	if k.Native {
		how = ", a native histogram"
	}
	fmt.Fprintf(&b, "  # %s %% of %s requests took at most %s in %s (%s%s)\n", share(k.Kept), render.Count(k.Requests), threshold, since, k.Family, how)
	fmt.Fprintf(&b, "  - name: %s\n    target: %g\n    latency: {histogram: %s, threshold: %s%s}\n", k.Name, k.Target, quoted(k.Histogram), threshold, unit)
	return b.String()
}

// quoted is a text in single quotes of YAML.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// span is how far back was read: 14d, or 36h.
func span(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return slo.Span(d)
}
