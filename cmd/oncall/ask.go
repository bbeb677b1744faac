package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/ask"
	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/triage"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

// askFlags are the flags of `oncall ask`.
type askFlags struct {
	triageFlags
	steps, tokens int
	transcript    string
}

func newAsk(o *options) *cobra.Command {
	var f askFlags
	c := &cobra.Command{
		Use: "ask QUESTION", Short: "Answer a question about the cluster, with evidence: by rules, and by a model where one is configured.",
		Long: `Answer a question about the cluster, with evidence: by rules, and by a model where
one is configured.

What the question names is looked at as oncall triage does; a question that names
nothing is about what oncall health finds. With reasoner.model in the
configuration file, the model may look further, with read-only tools whose
arguments are checked and confined to the namespaces of the question (or of
--namespace). Every step is shown, with the budget. Of its answer only the
sentences stay that cite a result which shows every number and name in them; the
others are counted. Without a model, and when it fails, the answer is that of the
rules.

The key of the model is in the file that api_key_file names, or in
ONCALL_MODEL_KEY; it is never a flag. docs/ask.md says what is sent to a model.

Exit code 0 when it could look, whatever it found; 2 for a question or a flag that
means nothing; 3 when the cluster could not be reached.`,
		Example: "  oncall ask \"why is checkout slow?\"\n  oncall ask -n shop \"what changed before the errors?\" --max-steps 5 --transcript talk.jsonl",
		Args:    exactArgs(1, "one question, in quotes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(args[0]); err != nil {
				return err
			}
			return runAsk(cmd.Context(), o, &f, strings.TrimSpace(args[0]), cmd.ErrOrStderr())
		},
	}
	f.kubeFlags.register(c)
	f.sourceFlags.register(c, sourceKinds...)
	c.Flags().DurationVar(&f.since, "since", time.Hour, "how far `back` to read events, logs and metrics")
	c.Flags().IntVar(&f.steps, "max-steps", 10, "most `calls` of tools by the model")
	c.Flags().IntVar(&f.tokens, "max-tokens", 30_000, "most `tokens` of the model, questions and answers together")
	c.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "how long the model may take at `most`, and the reading before it")
	c.Flags().StringVar(&f.transcript, "transcript", "", "`file` to keep the conversation with the model in, redacted; nobody else may read it")
	c.Flags().BoolVar(&f.find, "find", true, "find those of Prometheus, Loki and Alertmanager that are neither named nor configured in the cluster, and forward a port to them")
	return c
}

// maxQuestion bounds a question, in characters.
const maxQuestion = 500

// check finds what is wrong with the flags.
func (f *askFlags) check(question string) error {
	wrong := func(fix, format string, args ...any) error {
		return hint(&service.UsageError{Err: fmt.Errorf(format, args...)}, service.ExitUsage, "%s", fix)
	}
	switch n := len([]rune(strings.TrimSpace(question))); {
	case n == 0:
		return wrong(`oncall ask "why is checkout slow?"`, "the question is empty")
	case n > maxQuestion:
		return wrong("ask less at once", "the question has %d characters, more than %d", n, maxQuestion)
	case f.steps < 1 || f.steps > 50:
		return wrong("--max-steps 10", "--max-steps %d: is not between 1 and 50", f.steps)
	case f.tokens < 2000 || f.tokens > 1_000_000:
		return wrong("--max-tokens 30000", "--max-tokens %d: is not between 2000 and 1000000", f.tokens)
	case f.timeout < time.Second || f.timeout > 15*time.Minute:
		return wrong("--timeout 1m", "--timeout %s: is not between 1s and 15m", f.timeout)
	case f.since < time.Minute || f.since > 24*time.Hour:
		return wrong("--since 1h", "--since %s: is not between 1m and 24h", f.since)
	}
	f.lines = 300
	_, err := f.sourceFlags.check(sourceKinds)
	return err
}

// asked is an answer with what it took.
type asked struct {
	Question  string            `json:"question"`
	Cluster   string            `json:"cluster"`
	Scope     []string          `json:"scope"` // namespaces; none: all
	About     []event.Entity    `json:"about"` // what the question names
	By        string            `json:"by"`    // model or rules
	Answer    []ask.Sentence    `json:"answer"`
	Dropped   map[string]int    `json:"dropped"` // sentences of the model, by why
	Model     string            `json:"model,omitempty"`
	Failed    string            `json:"model_failed,omitempty"` // why the rules answer
	Steps     []ask.Step        `json:"steps"`
	Tokens    int               `json:"tokens"`
	Checks    []event.Check     `json:"next_checks"`
	Rollback  []event.Check     `json:"rollback"`
	NotLooked []check.Unchecked `json:"not_looked_at"`
	Evidence  []event.Evidence  `json:"evidence"`
	Requests  int64             `json:"requests"` // to the API server
	Seconds   float64           `json:"seconds"`
}

// asking is a question on its way to its answer.
type asking struct {
	o      *options
	f      *askFlags
	notes  io.Writer
	cfg    *service.Config
	src    triage.Sources
	client *kube.Client
	out    outside
	began  time.Time
	// modelled is since when the model is asked.
	modelled time.Time
	x        asked
	scope    ask.Scope
	triaged  []*triage.Result
	health   *check.Result
}

func runAsk(ctx context.Context, o *options, f *askFlags, question string, notes io.Writer) error {
	cfg, err := o.load()
	if err != nil {
		return err
	}
	a := &asking{o: o, f: f, notes: notes, cfg: cfg, began: time.Now(), out: f.outside(o, notes)}
	a.x = asked{Question: question, Scope: []string{}, About: []event.Entity{}, By: "rules", Answer: []ask.Sentence{}, Dropped: map[string]int{}, Steps: []ask.Step{}, Checks: []event.Check{}, Rollback: []event.Check{}, NotLooked: []check.Unchecked{}, Evidence: []event.Evidence{}}
	kept, err := openTranscript(f.transcript)
	if err != nil {
		return err
	}
	defer func() { _ = kept.Close() }()
	if a.src, err = o.triageSources(&f.triageFlags); err != nil {
		return err
	}
	var requests atomic.Int64
	if a.client, a.x.Cluster, err = f.client(o, &requests); err != nil {
		return err
	}
	if err := namespaceExists(ctx, a.client, f.namespace); err != nil {
		return err
	}
	defer a.out.close()
	if err := a.read(ctx, question); err != nil {
		return err
	}
	first := a.rules()
	m := cfg.Section(reasoner.Spec.Name).(reasoner.Config).Model
	if m.On() && m.URL != "" {
		if err := a.model(ctx, m, question, first, kept); err != nil {
			return err
		}
	}
	a.x.Requests, a.x.Seconds = requests.Load(), time.Since(a.began).Seconds()
	return a.x.page(o)
}

// openTranscript makes the file that only its owner may read.
func openTranscript(name string) (io.WriteCloser, error) {
	if name == "" {
		return nopWriteCloser{io.Discard}, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err == nil {
		err = f.Chmod(0o600) // of one that was there
	}
	if err != nil {
		return nil, hint(&service.UsageError{Err: fmt.Errorf("--transcript: %w", err)}, service.ExitUsage, "name a file in a folder of yours: --transcript talk.jsonl")
	}
	return f, nil
}

type nopWriteCloser struct{ io.Writer }

func (nopWriteCloser) Close() error { return nil }

// read looks at what the question names, or at everything.
func (a *asking) read(ctx context.Context, question string) error {
	reading, cancel := context.WithTimeoutCause(ctx, a.f.timeout, fmt.Errorf("not everything was read in %s; give it a longer --timeout", a.f.timeout))
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { a.out.find(ctx) }) // port forwards live as long as the command
	things, err := triage.Things(reading, a.client, a.f.namespace)
	wg.Wait()
	if err == nil {
		err = a.out.err
	} else {
		err = a.unreachable(reading, err)
	}
	if err != nil {
		return err
	}
	a.src.Kube, a.src.Ask, a.src.Context = a.client, evidence.NewKubernetes(a.client, a.src.Redact), a.f.context
	a.out.into(&a.src)
	about, namespaces := ask.Named(question, things)
	a.x.About = append(a.x.About, about...)
	switch {
	case a.f.namespace != "":
		a.scope.Namespaces = []string{a.f.namespace}
	default:
		a.scope.Namespaces = namespaces
	}
	a.x.Scope = append(a.x.Scope, a.scope.Namespaces...)
	for _, e := range about {
		r, err := a.triage(reading, e)
		if err != nil {
			return a.unreachable(reading, err)
		}
		a.triaged = append(a.triaged, r)
	}
	if len(about) > 0 {
		return nil
	}
	where := ""
	if len(a.scope.Namespaces) == 1 {
		where = a.scope.Namespaces[0]
	}
	if a.health, err = a.examine(reading, where); err != nil {
		return a.unreachable(reading, err)
	}
	return nil
}

func (a *asking) unreachable(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return hint(fmt.Errorf("%s: %s", a.x.Cluster, kube.Reason(err)), service.ExitUnreachable, "kubectl --context %s get pods -A", rule.Quote(a.x.Cluster))
}

func (a *asking) triage(ctx context.Context, e event.Entity) (*triage.Result, error) {
	return triage.Run(ctx, a.src, e, nil, triage.Options{Lines: a.f.lines, Since: a.f.since, Now: time.Now()})
}

func (a *asking) examine(ctx context.Context, namespace string) (*check.Result, error) {
	cluster, err := check.Read(ctx, a.client, namespace, time.Now())
	if err != nil {
		return nil, err
	}
	return check.Examine(ctx, cluster, check.Options{Rules: a.src.Rules, Redact: a.src.Redact, Ask: a.src.Ask, Context: a.f.context, Exempt: a.src.Exempt})
}

// rules writes the answer of the rules, and returns the evidence that it cites.
func (a *asking) rules() []event.Evidence {
	x := &a.x
	var first []event.Evidence
	cite := func(expr string, e event.Entity, lines []string) []string {
		for i, l := range lines {
			lines[i] = a.src.Redact.Line(l)
		}
		ev := evidence.New(evidence.Query{Source: evidence.Kubernetes, Expr: expr, End: a.began, Entity: e, Limit: evidence.MaxLimit}, lines, nil)
		first = append(first, ev)
		ev.ID = fmt.Sprintf("e%d", len(first))
		x.Evidence = append(x.Evidence, ev)
		return []string{ev.ID}
	}
	say := func(ids []string, format string, args ...any) {
		x.Answer = append(x.Answer, ask.Sentence{Text: a.src.Redact.Line(fmt.Sprintf(format, args...)), Evidence: ids})
	}
	for _, r := range a.triaged {
		ids := cite("triage "+r.Entity.String(), r.Entity, ask.Situation(r))
		for _, s := range ask.Verdict(x.Question, r) {
			say(ids, "%s", s)
		}
		x.Checks, x.Rollback = append(x.Checks, r.Checks...), append(x.Rollback, r.Rollback...)
		for _, u := range r.NotRead {
			if !slices.Contains(x.NotLooked, u) {
				x.NotLooked = append(x.NotLooked, u)
			}
		}
	}
	if h := a.health; h != nil {
		ids := cite(strings.TrimSpace("health "+h.Namespace), event.Entity{}, ask.Condition(h))
		lines := ask.Condition(h)
		for _, l := range lines[:min(len(lines), 6)] {
			if !strings.HasPrefix(l, "not checked: ") {
				say(ids, "%s", l)
			}
		}
		for _, r := range h.Roots {
			if c, ok := r.Next(); ok && r.Urgency != event.Hygiene && len(x.Checks) < 5 {
				x.Checks = append(x.Checks, c)
			}
		}
		x.NotLooked = append(x.NotLooked, h.NotChecked...)
		x.NotLooked = append(x.NotLooked, a.out.missing...)
	}
	return first
}

// model has the model answer. Whatever goes wrong with it, the answer of the
// rules stands.
func (a *asking) model(ctx context.Context, cfg reasoner.ModelConfig, question string, first []event.Evidence, kept io.Writer) error {
	x := &a.x
	x.Model = cfg.Name
	line := a.src.Redact.Line
	src := ask.Sources{
		Kubernetes: a.src.Ask, Loki: a.src.Loki, Triage: a.triage, Health: a.examine, Runbooks: a.src.Runbooks, Incidents: a.src.Incidents, Redact: a.src.Redact, Now: time.Now,
	}
	if p := a.out.prometheus; p != nil {
		src.Prometheus, src.Parse = evidence.NewPrometheus(p, a.src.Redact), a.parse
	}
	enc := json.NewEncoder(kept)
	l := &ask.Loop{
		Model: reasoner.NewChat(cfg), Tools: ask.NewToolbox(src, a.scope), Redact: line,
		Budget: ask.Budget{Steps: a.f.steps, Tokens: a.f.tokens, Answer: cfg.MaxTokens, Time: a.f.timeout},
		Told:   a.told,
		Kept:   func(m ask.Message) { _ = enc.Encode(m) },
	}
	a.modelled = time.Now()
	fmt.Fprintf(a.notes, "oncall: asking %s; at most %d steps, %d tokens, %s\n", cfg.Name, a.f.steps, a.f.tokens, span(a.f.timeout))
	out, err := l.Ask(ctx, line(question), first)
	if err != nil {
		return err
	}
	x.Steps, x.Tokens, x.Dropped, x.Failed = out.Steps, out.Tokens, out.Dropped, out.Failed
	if out.Failed == "" {
		x.By, x.Answer, x.Evidence = "model", out.Sentences, out.Evidence
		return nil
	}
	fmt.Fprintf(a.notes, "oncall: no answer of the model: %s; this is the answer of the rules\n", out.Failed)
	return nil
}

// told shows a step as it happens.
func (a *asking) told(s ask.Step) {
	what := fmt.Sprintf("%s %d lines", s.Outcome, s.Lines)
	if s.Evidence != "" {
		what += " (" + s.Evidence + ")"
	}
	if s.Why != "" {
		what = s.Outcome + ": " + s.Why
	}
	fmt.Fprintf(a.notes, "oncall: step %d/%d %s\n", s.N, a.f.steps, printable(fmt.Sprintf("%s %s: %s; %d/%d tokens, %d/%d s", s.Tool, s.Arguments, what, s.Tokens, a.f.tokens, int(time.Since(a.modelled).Seconds()), int(a.f.timeout.Seconds()))))
}

// parse has Prometheus parse an expression. A server that cannot do that alone
// does it when it evaluates.
func (a *asking) parse(ctx context.Context, expr string) error {
	_, err := a.out.prometheus.Upstream().Get(ctx, "/api/v1/format_query", url.Values{"query": {expr}}, upstream.Query{Operation: "format_query", Text: expr})
	if up, ok := errors.AsType[*upstream.Error](err); ok && (up.Status == http.StatusNotFound || up.Status == http.StatusMethodNotAllowed) {
		return nil
	}
	return err
}
