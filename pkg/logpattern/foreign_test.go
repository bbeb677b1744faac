package logpattern

import (
	"strings"
	"testing"
)

func same(s string) string { return s }

func TestAPatternOfLokiIsAStatementsWhenItHasItsLinesAndNoOthers(t *testing.T) {
	for name, c := range map[string]struct {
		line, template, pattern string
		covers, keeps           bool
	}{
		"logfmt with a time": {
			`ts=2026-11-26T21:24:10Z level=error msg="cart: dial tcp: connection refused"`, "cart dial tcp connection refused",
			`ts=<_> level=error msg="cart: dial tcp: connection refused"`, true, true,
		},
		"one that has the value as a wildcard": {
			"login of user bob failed after 31ms", "login of user <*> failed after <*>",
			"login of user <_> failed after <_>", true, true,
		},
		"one that is narrower counts in": {
			"login of user bob failed after 31ms", "login of user <*> failed after <*>",
			"login of user bob failed after <_>", true, true,
		},
		"one that is narrower and of another value has other lines": {
			"login of user bob failed after 31ms", "login of user <*> failed after <*>",
			"login of user ann failed after <_>", false, true,
		},
		"a message that became a wildcard is that of every statement": {
			`level=error msg="cart: dial tcp: connection refused"`, "cart dial tcp connection refused",
			`level=error msg=<_>`, true, false,
		},
		"one word that became a wildcard makes it two statements": {
			"dial tcp: connection refused", "dial tcp connection refused",
			"dial tcp: connection <_>", true, false,
		},
		"another end": {
			"dial tcp: connection refused", "dial tcp connection refused",
			"dial tcp: connection reset", false, false,
		},
		"a longer end": {
			"dial tcp: connection refused", "dial tcp connection refused",
			"dial tcp: connection refused by peer", false, true,
		},
		"a word before that the line has not": {
			"dial tcp: connection refused", "dial tcp connection refused",
			"retry: dial tcp: connection refused", false, true,
		},
		"a wildcard may stand for nothing": {
			`level=error err= msg="no answer here"`, "no answer here",
			`level=error err=<_> msg="no answer here"`, true, true,
		},
		"the same words in another order": {
			"connection refused: dial tcp", "connection refused dial tcp",
			"dial tcp: connection refused", false, false,
		},
		"JSON, of which Loki keeps the message": {
			`{"level":"error","ts":1764192250,"msg":"no space left on device /var/lib/x9"}`, "no space left on device <*>",
			`<_>no space left on device <_><_>`, true, true,
		},
		"quotes that Loki's logfmt leaves out": {
			`level="error" component="cart" msg="dial tcp: refused"`, "dial tcp refused",
			`level=error component=cart msg="dial tcp: refused"`, true, true,
		},
		"a level that differs is another header": {
			`level=warn msg="dial tcp: refused"`, "dial tcp refused",
			`level=error msg="dial tcp: refused"`, false, true,
		},
		"what was masked is masked in both": {
			"no route to <ip:3fa2> for cart", "no route to <ip:3fa2> for cart",
			"no route to <_> for cart", true, true,
		},
		"nothing but a wildcard": {
			"dial tcp: connection refused", "dial tcp connection refused",
			"<_>", false, false,
		},
		"a template without a word is no statement": {
			"17 99 12", "<*>",
			"17 99 <_>", true, false,
		},
		"a part that stands twice": {
			"a b a b c", "a b a b c",
			"<_>a b c", true, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := NewForeign(c.pattern, same)
			if covers, keeps := f.Covers(c.line), f.Keeps(c.template); covers != c.covers || keeps != c.keeps {
				t.Errorf("%q: covers %q is %v, keeps %q is %v, want %v and %v", c.pattern, c.line, covers, c.template, keeps, c.covers, c.keeps)
			}
		})
	}
}

func TestAPatternIsMaskedWithoutItsWildcards(t *testing.T) {
	f := NewForeign("password=<_> from 10.0.0.1", func(s string) string {
		if strings.Contains(s, "<_>") {
			t.Errorf("masks %q, in which the wildcard would become a secret", s)
		}
		return strings.ReplaceAll(s, "10.0.0.1", "<ip:3fa2>")
	})
	if line := "password=<secret:77ab> from <ip:3fa2>"; !f.Covers(line) {
		t.Errorf("does not cover %q", line)
	}
}

func FuzzForeignCoversItself(f *testing.F) {
	f.Add(`ts=<_> level=error msg="cart: <_> refused"`, "2026-11-26 x")
	f.Add("<_><_>a b", "")
	f.Add("a <_> a <_> a", "a a")
	f.Fuzz(func(t *testing.T, pattern, value string) {
		p := NewForeign(pattern, same)
		// A value stands alone: Loki's miner replaces whole words.
		line := strings.ReplaceAll(pattern, ForeignWildcard, " "+value+" ")
		if n := len(bareWords(nil, line)); n <= maxForeignWords && len(p.words) > 0 && !p.Covers(line) {
			t.Errorf("%q does not cover %q", pattern, line)
		}
	})
}
