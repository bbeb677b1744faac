package evidence

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestQuestionsForHistoriesAreCheckedBeforeLokiIsAsked(t *testing.T) {
	asked := 0
	l := NewLoki(source(t, func(http.ResponseWriter, *http.Request) { asked++ }), mask{})
	good := Told{Selector: `{namespace="shop"}`, Statements: []Statement{{Template: "a <*>", Line: "a 1"}}}
	if back, ok, err := toldOf(good.Expr()); err != nil || !ok || back.Selector != good.Selector || back.Statements[0] != good.Statements[0] {
		t.Fatalf("%s is read as %+v, %v, %v", good.Expr(), back, ok, err)
	}
	for name, expr := range map[string]string{
		"no JSON":                "history {namespace=\"shop\"}",
		"no selector":            Told{Statements: good.Statements}.Expr(),
		"a selector of all":      Told{Selector: "{}", Statements: good.Statements}.Expr(),
		"more than a selector":   Told{Selector: `{a="b"} or {c="d"}`, Statements: good.Statements}.Expr(),
		"no statement":           Told{Selector: good.Selector}.Expr(),
		"more than five of them": Told{Selector: good.Selector, Statements: make([]Statement, 6)}.Expr(),
	} {
		if _, err := l.Retrieve(t.Context(), Query{Source: Loki, Expr: expr, Start: at.Add(-time.Hour), End: at}); err == nil || !strings.Contains(err.Error(), "write history") {
			t.Errorf("%s: %v, want an error that says what to write", name, err)
		}
	}
	if asked > 0 {
		t.Errorf("Loki was asked %d times", asked)
	}
}

func FuzzToldOf(f *testing.F) {
	f.Add(Told{Selector: `{a="b"}`, Statements: []Statement{{"x <*>", "x 1"}}}.Expr())
	f.Add("history {}")
	f.Add("{a=\"b\"}")
	f.Fuzz(func(t *testing.T, expr string) {
		told, ok, err := toldOf(expr)
		if !ok || err != nil {
			return
		}
		if again, ok, err := toldOf(told.Expr()); !ok || err != nil || again.Expr() != told.Expr() {
			t.Errorf("%s is %s after one journey", told.Expr(), again.Expr())
		}
	})
}
