// Package runbook finds the runbook that fits: by the rules and alerts it
// names, else by its words (BM25).
package runbook

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/index/scorch"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Book is one runbook: policies/runbooks/*.md with its front matter.
type Book struct {
	Title  string   `yaml:"title"`
	Alerts []string `yaml:"alerts"` // alerts it answers
	Rules  []string `yaml:"rules"`  // rules whose findings it answers
	Tags   []string `yaml:"tags"`

	Path string `yaml:"-"` // below policies/
	Text string `yaml:"-"` // Markdown, without front matter
}

// Validate checks the front matter.
func (b *Book) Validate() error {
	if b.Title == "" {
		return &policy.FieldError{Path: "title", Problem: "is missing", Fix: "write title: in the front matter"}
	}
	return nil
}

// Shelf is a searchable set of runbooks. It is safe for concurrent use.
type Shelf struct {
	books []Book
	index bleve.Index
}

// Load reads policies/runbooks.
func Load(s *policy.Store) (*Shelf, error) {
	sh := &Shelf{}
	var errs []error
	for _, name := range s.Glob("runbooks", ".md") {
		raw, _ := s.File(name)
		b, err := parse("policies/"+name, raw)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		b.Path = name
		sh.books = append(sh.books, b)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	m := bleve.NewIndexMapping()
	m.ScoringModel = "bm25"
	m.DefaultAnalyzer = "en"
	index, err := bleve.NewUsing("", m, scorch.Name, scorch.Name, nil)
	if err != nil {
		return nil, fmt.Errorf("runbooks: index: %w", err)
	}
	batch := index.NewBatch()
	for i, b := range sh.books {
		doc := map[string]string{"title": b.Title, "tags": strings.Join(slices.Concat(b.Tags, b.Alerts), " "), "text": b.Text}
		if err := batch.Index(fmt.Sprint(i), doc); err != nil {
			return nil, fmt.Errorf("runbooks: index %s: %w", b.Path, err)
		}
	}
	if err := index.Batch(batch); err != nil {
		return nil, fmt.Errorf("runbooks: index: %w", err)
	}
	sh.index = index
	return sh, nil
}

// parse splits front matter and text.
func parse(file string, raw []byte) (Book, error) {
	var b Book
	text := strings.ReplaceAll(string(raw), "\r\n", "\n")
	if rest, ok := strings.CutPrefix(text, "---\n"); ok {
		front, body, ok := strings.Cut(rest, "\n---\n")
		if !ok {
			return b, &policy.Error{File: file, Problems: []policy.Problem{{Line: 1, Text: "front matter is not closed by ---"}}}
		}
		if err := policy.Decode(file, []byte(front), &b); err != nil {
			return b, err
		}
		text = body
	}
	if b.Title == "" {
		b.Title = strings.TrimSuffix(path.Base(file), ".md")
	}
	b.Text = strings.TrimSpace(text)
	return b, nil
}

// Books lists the runbooks by path.
func (s *Shelf) Books() []Book { return slices.Clone(s.books) }

// Query is what a runbook is wanted for.
type Query struct {
	Rules  []string // ids of rules that hold, best first
	Alerts []string // names of alerts
	Tags   []string
	Text   string // the symptom and findings, in words
	Limit  int    // 0 means 3
}

// maxExcerpt bounds the excerpt of a runbook in a report, in bytes.
const maxExcerpt = 400

// Find returns runbooks, best first: those that name a rule or an alert of the
// query, and when there is none, those whose words fit.
func (s *Shelf) Find(q Query) ([]event.Runbook, error) {
	if q.Limit == 0 {
		q.Limit = 3
	}
	type hit struct {
		i     int
		score float64
	}
	var hits []hit
	for i, b := range s.books {
		score := 0.0
		for n, r := range q.Rules {
			if slices.Contains(b.Rules, r) {
				score = max(score, 100-float64(n))
			}
		}
		for _, a := range q.Alerts {
			if slices.Contains(b.Alerts, a) {
				score = max(score, 120)
			}
		}
		if score > 0 {
			hits = append(hits, hit{i, score})
		}
	}
	words := strings.TrimSpace(strings.Join(slices.Concat(q.Tags, []string{q.Text}), " "))
	if words != "" && len(hits) == 0 {
		// A title says what a book is about; its text says so of much else too.
		either := bleve.NewDisjunctionQuery()
		for _, f := range []struct {
			name  string
			boost float64
		}{{"title", 3}, {"tags", 2}, {"text", 1}} {
			m := bleve.NewMatchQuery(words)
			m.SetField(f.name)
			m.SetBoost(f.boost)
			either.AddQuery(m)
		}
		req := bleve.NewSearchRequestOptions(either, 10, 0, false)
		res, err := s.index.Search(req)
		if err != nil {
			return nil, fmt.Errorf("runbooks: search: %w", err)
		}
		for _, d := range res.Hits {
			var i int
			if _, err := fmt.Sscan(d.ID, &i); err != nil || slices.ContainsFunc(hits, func(h hit) bool { return h.i == i }) {
				continue
			}
			if d.Score >= max(minScore, res.MaxScore/4) {
				hits = append(hits, hit{i, d.Score})
			}
		}
	}
	slices.SortStableFunc(hits, func(a, b hit) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return a.i - b.i
	})
	var out []event.Runbook
	for _, h := range hits[:min(len(hits), q.Limit)] {
		b := s.books[h.i]
		out = append(out, event.Runbook{Title: b.Title, Path: b.Path, Excerpt: excerpt(b.Text), Score: float64(int(h.score*100)) / 100})
	}
	return out, nil
}

// minScore is the BM25 score below which words fit by chance: of the shipped books
// what fits has 0.21 and more, and a word that many share ("fails", "service") 0.15
// and less. So do those that fit four times worse than the best.
const minScore = 0.2

func excerpt(text string) string {
	if _, rest, ok := strings.Cut(text, "## Mend"); ok {
		text = strings.TrimSpace(rest)
	}
	if len(text) > maxExcerpt {
		text = strings.ToValidUTF8(text[:maxExcerpt], "") + "…"
	}
	return text
}
