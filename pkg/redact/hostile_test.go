package redact

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestARuleOfTheUsersIsRefusedThatCouldHoldUpEveryLine(t *testing.T) {
	for name, tc := range map[string]struct {
		pattern string
		want    string // part of the error; "" for none
	}{
		"an ordinary one":              {`\bcustomer-(\d{4,12})\b`, ""},
		"a repeat of a repeat":         {`(a+)+$`, ""}, // RE2 takes no longer for it
		"a repeat that is multiplied":  {`(?:customer-\w{1,30}-){1,33}`, "steps, more than 2000"},
		"more repeats than RE2 allows": {`(x{1000}){1000}`, "invalid repeat count"},
		"no expression":                {`(`, "missing closing"},
		"nothing":                      {"", "is not an RE2 expression"},
	} {
		t.Run(name, func(t *testing.T) {
			p := Policy{Rules: []UserRule{{Name: "x", Pattern: tc.pattern}}}
			err := p.Validate()
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v does not say %q", err, tc.want)
			}
		})
	}
	for _, r := range builtin {
		if r.re == nil {
			continue
		}
		if n := steps(r.re.String()); n > mostSteps {
			t.Errorf("our own rule %s has %d steps", r.name, n)
		}
	}
}

// TestHostileLinesAreMaskedInTime: what is said of time is far from what it takes,
// so that a machine that does other work passes too.
func TestHostileLinesAreMaskedInTime(t *testing.T) {
	const secret = "password=hunter2hunter2 "
	r := New(Options{Key: []byte("0123456789abcdef"), IPs: true, Extra: []UserRule{{Name: "id", Pattern: `(a+)+$`}}})
	for name, line := range map[string]string{
		"a megabyte of words":          secret + strings.Repeat("word ", 1<<18),
		"a megabyte of one letter":     secret + strings.Repeat("a", 1<<20),
		"nothing but keys":             strings.Repeat(secret, 4000),
		"nothing but quotes":           secret + strings.Repeat(`"`, 1<<17),
		"brackets that never close":    secret + strings.Repeat(`{"a":[`, 1<<15),
		"masks in masks":               secret + strings.Repeat("<secret:", 1<<14),
		"keys that never end":          secret + strings.Repeat("-----BEGIN PRIVATE KEY-----", 1<<12),
		"schemes without an end":       secret + strings.Repeat("http://a:", 1<<14),
		"binary":                       secret + string(binary(1<<16)),
		"invalid UTF-8":                secret + strings.Repeat("\xff\xc0\x80", 1<<14),
		"at signs":                     secret + strings.Repeat("a@", 1<<15),
		"digits with spaces and signs": secret + strings.Repeat("4 1-", 1<<15),
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			got := r.Line(line)
			if strings.Contains(got, "hunter2") {
				t.Errorf("the secret is in %.100q", got)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("%d bytes take %v", len(line), took)
			}
			if utf8.ValidString(line) && !utf8.ValidString(strings.TrimSuffix(got, "<cut>")) && len(line) < maxLine {
				t.Error("the text is no longer valid")
			}
		})
	}
}

// binary is every byte in a fixed disorder.
func binary(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i*167 + i>>8)
	}
	return out
}

func FuzzUserRule(f *testing.F) {
	f.Add(`customer-(\d+)`, "customer-4711 paid")
	f.Add(`(a+)+$`, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!")
	f.Add(`()|x*`, "xx")
	f.Fuzz(func(t *testing.T, pattern, line string) {
		p := Policy{Rules: []UserRule{{Name: "id", Pattern: pattern}}}
		if p.Validate() != nil || len(line) > 1<<12 {
			return
		}
		r := New(Options{Extra: p.Rules})
		if got := r.Line(line); len(got) > len(line)*len("<id>")+len("<cut>")+64 {
			t.Errorf("%q makes %d bytes of %d", pattern, len(got), len(line))
		}
	})
}

func TestARuleOfTheUsersIsCalledWhatAMaskCanBe(t *testing.T) {
	for name, want := range map[string]string{
		"customer-id": "", "vat2": "", "": "is missing", "Customer ID": "is no name of a mask", "<x>": "is no name of a mask", "1st": "is no name of a mask",
	} {
		p := Policy{Rules: []UserRule{{Name: name, Pattern: `x`}}}
		err := p.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("a rule called %q: %v, want %q", name, err, want)
		}
	}
}

func TestALineThatIsTooLongIsNotCutWithinASecret(t *testing.T) {
	line := strings.Repeat("x", maxLine-len("postgres://app:hunter2tru")-1) + " postgres://app:hunter2trustno1@db/shop"
	if got := masker().Line(line); strings.Contains(got, "hunter2") || !strings.HasSuffix(got, "<cut>") {
		t.Errorf("it ends with %q", got[len(got)-60:])
	}
}
