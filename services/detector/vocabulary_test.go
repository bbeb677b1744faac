package detector

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/redact"
)

// reader is a detector of another's making, which reads lines and statements.
type reader struct {
	words      *Vocabulary
	lines      int
	statements []string
}

func (r *reader) Observe(b event.Batch) []event.Anomaly {
	for _, l := range b.Logs {
		for _, s := range l.Streams {
			r.lines += len(s.Lines)
		}
	}
	for _, s := range r.words.Seen() {
		r.statements = append(r.statements, fmt.Sprintf("%s: %s x%.0f", s.Speaker.Entity, r.words.Text(s.Statement.Template), s.Count))
	}
	return nil
}

func (r *reader) MarshalBinary() ([]byte, error) { return nil, nil }
func (r *reader) UnmarshalBinary([]byte) error   { return nil }

// readers makes a fold of logs for some readers.
func readers(t *testing.T, n int) (*logFold, []*reader) {
	t.Helper()
	var all []*reader
	var members []member
	for i := range n {
		info := Define(Meta{Name: fmt.Sprint("reader", i), Doc: "Reads.", Input: Logs, Class: event.ClassAmbient}, 0, func(_ int, set Settings) (Detector, error) {
			r := &reader{words: set.Vocabulary}
			all = append(all, r)
			return r, nil
		})
		members = append(members, member{info: info, cfg: 0})
	}
	b, err := newBank(Logs, 7, members, newMetrics(prometheus.NewRegistry(), nil))
	if err != nil {
		t.Fatal(err)
	}
	return newLogFold(b), all
}

// said plays one minute in which a workload says something.
func said(t *testing.T, f *logFold, minute int, texts ...string) []event.Outgoing {
	t.Helper()
	ls := event.LabelsOf(map[string]string{event.LabelNamespace: "shop", event.LabelWorkload: "web", event.LabelKind: "Deployment"})
	end := time.Date(2026, 3, 2, 0, minute, 0, 0, time.UTC)
	s := event.LogStream{ID: ls.Hash(), Labels: ls}
	for _, text := range texts {
		s.Lines = append(s.Lines, event.LogLine{Time: end.Add(-time.Second), Text: text})
	}
	var out []event.Outgoing
	for _, data := range []any{
		event.LogBatch{Source: "loki", Namespace: "shop", Start: end.Add(-time.Minute), End: end, SampledRate: 1, Streams: []event.LogStream{s}},
		event.Tick{Watermark: end},
	} {
		o, err := f.Apply(bus.Message{Data: data})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o...)
	}
	return out
}

func TestAllDetectorsOfLogsReadOneVocabularyAndTheLinesToo(t *testing.T) {
	f, all := readers(t, 2)
	said(t, f, 1, "cart 17 stored", "cart 18 stored", "no such user")
	if n := f.vocabulary.miner.Len(); n != 2 || all[0].words != all[1].words {
		t.Errorf("%d templates in one vocabulary, want 2; shared: %v", n, all[0].words == all[1].words)
	}
	for i, r := range all {
		if r.lines != 3 || len(r.statements) != 2 {
			t.Errorf("reader %d saw %d lines and %q, want 3 and two statements", i, r.lines, r.statements)
		}
	}
}

func TestAVocabularyThatPanicsStartsAfresh(t *testing.T) {
	f, all := readers(t, 1)
	said(t, f, 1, "cart 17 stored")
	f.vocabulary.miner = nil
	dead := 0
	for _, o := range said(t, f, 2, "cart 18 stored") {
		if _, ok := o.Data().(event.DeadLetter); ok {
			dead++
		}
	}
	if dead != 1 || len(f.vocabulary.Seen()) != 0 {
		t.Errorf("%d dead letters and %d statements in a window that was lost, want 1 and 0", dead, len(f.vocabulary.Seen()))
	}
	said(t, f, 3, "cart 19 stored")
	if s := all[0].statements; len(s) != 2 || s[1] != "shop/deployment/web: cart <*> stored x1" {
		t.Errorf("read %q, want the statement before and after", s)
	}
}

func TestWhatWasSaidLastWeekIsNotNewAndWhatWasSaidBeforeIs(t *testing.T) {
	for pause, want := range map[time.Duration]bool{6 * 24 * time.Hour: false, 9 * 24 * time.Hour: true} {
		f, _ := readers(t, 0)
		said(t, f, 1, "cart 17 stored")
		said(t, f, 1+int(pause/time.Minute), "something else")
		said(t, f, 2+int(pause/time.Minute), "cart 18 stored")
		if s := f.vocabulary.Seen(); len(s) != 1 || s[0].New != want {
			t.Errorf("after %s: %d statements, new: %v, want one, new: %v", pause, len(s), s[0].New, want)
		}
	}
}

func TestOneThatNeverSaysTheSameTwiceTakesNobodysPlace(t *testing.T) {
	v := NewVocabulary()
	for i := range 1000 {
		v.statements[uint64(i)] = &Statement{Speaker: uint64(1 + max(0, i-900)), Last: int64(i)}
	}
	v.compact(1000)
	of := map[uint64]int{}
	for key, s := range v.statements {
		of[s.Speaker]++
		if s.Speaker == 1 && key < 901-651 {
			t.Errorf("statement %d of the first is kept, and newer ones are not", key)
		}
	}
	if of[1] != 651 || len(v.statements) != 750 {
		t.Errorf("%d statements of the first and %d in all, want 651 and one of each other", of[1], len(v.statements))
	}
	v.compact(1000)
	if len(v.statements) != 750 {
		t.Error("forgets though there is room")
	}
}

// TestWhatIsMaskedIsOneStatementWhosever: pseudonyms differ from value to value and
// from day to day, and what is said of them is the same.
func TestWhatIsMaskedIsOneStatementWhosever(t *testing.T) {
	f, all := readers(t, 1)
	for day := range 3 {
		r := redact.New(redact.Options{Key: []byte("0123456789abcdef"), Day: func() string { return fmt.Sprint(day) }})
		for i := range 3 {
			said(t, f, 3*day+i, r.Line(fmt.Sprintf("mail to user%d@example.com bounced", i)), r.Line(fmt.Sprintf("login refused, password=hunter%d", i)))
		}
	}
	statements := map[string]bool{}
	for _, s := range all[0].statements {
		statements[s] = true
	}
	if len(statements) != 2 {
		t.Errorf("%d statements, want 2: %v", len(statements), slices.Sorted(maps.Keys(statements)))
	}
}
