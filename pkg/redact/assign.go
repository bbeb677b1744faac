package redact

import (
	"regexp"
	"strings"
)

// Bounds of what is looked at around a sign of assignment.
const (
	longestKey = 80
	farthest   = 20 // blanks, backslashes and quotes between key, sign and value
)

// assignments masks the values that are given to sensitive keys, in logfmt,
// JSON, YAML, queries, programs and prose.
func (r *Redactor) assignments(s string, provider bool) string {
	var b strings.Builder
	plain := decoded(s)
	last := 0
	var room [4]span
	for i := 1; i < len(plain); i++ {
		if !isSign[plain[i]] || i < last {
			continue
		}
		values, name := assigned(room[:0], plain, i, provider)
		if len(values) == 0 || insideMask(s, i) {
			continue
		}
		for _, v := range values {
			if value := s[v.from:v.to]; v.from < last || maskRE.MatchString(value) || insideMask(s, v.from) {
				continue
			}
			b.WriteString(s[last:v.from])
			b.WriteString(r.mask(name, s[v.from:v.to]))
			last = v.to
		}
	}
	if last == 0 {
		return s
	}
	b.WriteString(s[last:])
	return b.String()
}

var pair = regexp.MustCompile(`^[a-z][A-Za-z_.-]{1,30}=[^=]`)

var isSign = [256]bool{'=': true, ':': true, '>': true, ',': true, '|': true}

// assigned are the secrets that the sign at s[i] gives to a key, and how their
// masks are called. provider: the line names a service.
func assigned(out []span, s string, i int, provider bool) ([]span, string) {
	// The whole sign: =, :, :=, ::=, =>, ->, ||, ?=, .=, a comma, the end of a tag.
	start := i
	if start > 0 && isSign[s[start-1]] && s[start-1] != ',' {
		return nil, "" // the first one has been looked at
	}
	if s[start-1] == '?' || s[start-1] == '.' || s[start-1] == '+' {
		start--
	}
	end := i + 1
	for end < len(s) && end < i+4 && isSign[s[end]] && s[end] != ',' {
		end++
	}
	key, before := keyBefore(s, start)
	if key == "" {
		return nil, ""
	}
	f := builtinIndex.scan(s[start-keyLength(s, start) : min(len(s), start+2)])
	holds := strings.EqualFold(key, "value") || strings.EqualFold(key, "val")
	if !f.names && !f.provider && !provider && !holds && !isTypeOfValue(key) && !keyOfGroup.MatchString(key) {
		return nil, ""
	}
	sign := s[i:end]
	strong := sign != "," && sign != ">" && sign != "|" && sign != "||"
	k := kindOfKey(key, before, f)
	if strong && holds {
		name := nameOf(s, start, key)
		if named := kindOfKey(name, "", builtinIndex.scan(name+"=")); named != ordinary {
			k = named
		}
	}
	if !strong && k != ordinary {
		switch was := k; {
		case sign == "," && inHeader(s, start, end) && was != phoneKind:
		default:
			if k = telling(key, before, f); k == ordinary && (was == secretKind || was == randomKind) {
				k = randomKind
			}
		}
	}
	if k == ordinary && keyOfGroup.MatchString(key) && inCredentials.MatchString(s[max(0, start-120):start]) {
		k = longKind
	}
	if k == ordinary || strings.HasSuffix(before, "arn:aws:") || ofARN.MatchString(before) {
		return nil, ""
	}
	strict := k == secretKind || k == phraseKind
	g := given{s: s, mapped: strict && isPlural(key), whole: strict || k == digitsKind || k == phoneKind, line: k == phraseKind, out: out}
	g.at(end)
	kept := g.out[:0]
	for _, v := range g.out {
		if v.to-v.from >= 3 && isGiven(s, key, sign, k, v) {
			kept = append(kept, v)
		}
	}
	if k == phoneKind {
		return kept, "phone"
	}
	// A change tells the old value and the new one: "old" -> "new"
	if n := len(kept); n > 0 && strict {
		if m := changed.FindStringIndex(s[kept[n-1].to:min(len(s), kept[n-1].to+12)]); m != nil {
			g := given{s: s, whole: true, out: kept}
			g.at(kept[n-1].to + m[1])
			kept = g.out
		}
	}
	return kept, "secret"
}

var (
	ofARN         = regexp.MustCompile(`:\d{12}:$`)
	keyOfGroup    = regexp.MustCompile(`(?i)^(?:key|value|data)$`)
	inCredentials = regexp.MustCompile(`(?i)(?:credentials?|secrets?)["'\\]*\s*[:=]\s*\{[^{}]*$`)
)

var changed = regexp.MustCompile(`^["'\\]{0,2} *[-=]> *`)

// inHeader says whether a comma stands between the name and the value of a header in
// a tuple: ('x-api-key', 'a1…'), {:authorization, "Bearer …"}.
func inHeader(s string, start, end int) bool {
	quote := s[start-1] == '"' || s[start-1] == '\''
	j := end
	for j < len(s) && j < end+3 && (s[j] == ' ' || s[j] == 'b') {
		j++
	}
	if !quote || j >= len(s) || s[j] != '"' && s[j] != '\'' {
		return false
	}
	open := start - 2
	for open > 0 && open > start-longestKey && s[open] != s[start-1] {
		open--
	}
	if open > 0 && s[open-1] == 'b' {
		open--
	}
	return open > 0 && (s[open-1] == '(' || s[open-1] == '[' && open > 1 && s[open-2] == '[')
}

// isGiven says whether a value that a key of a kind is given is a secret.
func isGiven(s, key, sign string, k kind, v span) bool {
	value := s[v.from:v.to]
	quoted := v.from > 0 && strings.IndexByte("\"'`", s[v.from-1]) >= 0
	if !quoted && k != secretKind && k != phraseKind && pair.MatchString(value) {
		return false // the next key, which is asked for itself
	}
	switch k {
	case secretKind, phraseKind:
		isCode := strings.HasSuffix(strings.ToLower(key), "tokens") || strings.HasSuffix(strings.ToLower(key), "token") || strings.HasSuffix(strings.ToLower(key), "secret") || strings.HasSuffix(strings.ToLower(key), "key")
		switch {
		case states(value), isCode && digits(value) == len(value) && len(value) <= 6 && !quoted, strings.HasSuffix(strings.ToLower(key), "tokens") && digits(value) == len(value):
			return false
		case strings.EqualFold(key, "secret") && isObject(value):
			return false
		case !quoted && !inBraces(s, v) && isPlural(key):
			// Of several, one would not stand alone: tokens: 512, secrets: none found.
			return len(value) >= 8 && (digits(value) > 0 && random(value) && !identifies(value) || sign == "=" && account.MatchString(value))
		case sentence(value):
			return false
		case !quoted && k == secretKind && sign == ":" && goesOnAsProse(s, v):
			return false
		}
		return true
	case digitsKind:
		n := digits(value)
		return n >= 3 && n <= 9 && len(value)-n <= 2 && strings.Trim(value, "0123456789- ") == ""
	case phoneKind:
		n := digits(value)
		return n >= 7 && n <= 15 && strings.Trim(value, "0123456789-+ ()./") == ""
	case randomKind:
		return len(value) >= 10 && random(value) && !identifies(value)
	case longKind:
		if accountKey.MatchString(key) && account.MatchString(value) {
			return !states(value[strings.IndexAny(value, ":/")+1:])
		}
		return len(value) >= 16 && random(value) && !identifies(value)
	case ofService:
		return uuidRE.MatchString(value) || len(value) >= 14 && random(value) && !identifies(value) || len(value) >= 16 && digits(value) == len(value)
	}
	return false
}

// isPlural says whether a key is of several secrets.
func isPlural(key string) bool {
	k := strings.ToLower(key)
	return strings.HasSuffix(k, "s") && !strings.HasSuffix(k, "ss")
}

// inBraces says whether a value is one of a map's.
func inBraces(s string, v span) bool {
	return v.from > 0 && (s[v.from-1] == '=' || s[v.from-1] == ':') && v.to < len(s) && (s[v.to] == '}' || s[v.to] == ',')
}

// accountKey and account are how a name and its password are given as one.
var (
	accountKey = regexp.MustCompile(`^(?:[A-Z0-9_]+_)?AUTH(?:_BASIC)?$`)
	account    = regexp.MustCompile(`^[\w.-]{1,32}[:/][^\s:/]{5,}$|^[\w.-]{1,32}/[^\s]{5,}$`)
)

// isObject says whether a value is the name of a Secret, rather than one: several
// words, or a namespace before it.
func isObject(s string) bool {
	return objectName.MatchString(s) && (strings.IndexByte(s, '/') > 0 || strings.ContainsAny(s, "-.") && digits(s) == 0)
}

// keyBefore is the name that ends before s[i], and what stands before it on the
// line.
func keyBefore(s string, i int) (key, before string) {
	for n := 0; i > 0 && n < farthest && strings.IndexByte(" \t\r\n\f\"'`\\]", s[i-1]) >= 0; n++ {
		i--
	}
	j := i
	for j > 0 && i-j < longestKey && (isWord(s[j-1]) || s[j-1] == '-' || s[j-1] == '.' || s[j-1] >= 0x80) {
		j--
	}
	return s[j:i], s[max(0, j-30):j]
}

// keyLength is how far before s[i] the key begins that ends there.
func keyLength(s string, i int) int {
	n := 0
	for n < i && n < longestKey+farthest {
		c := s[i-1-n]
		if !isWord(c) && strings.IndexByte("-. \t\r\n\f\"'`\\]", c) < 0 && c < 0x80 {
			break
		}
		n++
	}
	return n
}

// pairedName is a name that stands before a value of its own: {"name":"DB_PASSWORD",
// "value":"…"}, - name: DB_PASSWORD, or the key of an object that holds the value.
var pairedName = regexp.MustCompile(`(?i)(?:\b(?:name|key)\b[\s\\"']{0,20}[=:]{1,2}>?[\s\\"']{0,20}([\w.-]{2,80})[\s\\"',;]{0,20}|([\w.-]{2,80})[\s\\"']{0,20}[=:]{1,2}>?\s*\{[\s\\"']{0,20})$`)

// nameOf is the name to which a key called value belongs.
func nameOf(s string, start int, key string) string {
	at := strings.LastIndex(s[:start], key)
	m := pairedName.FindStringSubmatch(s[max(0, at-200):at])
	if m == nil {
		return ""
	}
	return m[1] + m[2]
}

// objectName is a name of an object of Kubernetes, with or without its namespace, as
// controllers write of a Secret.
var objectName = regexp.MustCompile(`^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?/)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$`)

var uuidRE = regexp.MustCompile(`^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

// identifies says whether a value is what a cluster names things by: a digest,
// a UUID, a pod, an address, a time.
var identifiesRE = regexp.MustCompile(`^(?:sha\d+[:-].*|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}.*|[a-z][a-z0-9]*(?:-[a-z0-9]+)*-[a-z0-9]{4,10}(?:-[a-z0-9]{5})?|[\d.:/]+|\d{4}-\d\d-\d\d.*|v?\d+\.\d+.*|(?:\d{1,6}(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|d|[KMGT]i?B?))+)$`)

func identifies(s string) bool {
	return strings.HasPrefix(s, "0x") || identifiesRE.MatchString(s) || strings.Contains(s, "://") || strings.HasPrefix(s, "/") && path.MatchString(s) && !random16(s)
}

// random16 says whether what looks like a path is rather base64.
func random16(s string) bool {
	return len(s) >= 24 && strings.Count(s, "/")*12 < len(s) && strings.ContainsAny(s, "0123456789") && strings.ContainsAny(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") && strings.ContainsAny(s, lowerLetters)
}

const lowerLetters = "abcdefghijklmnopqrstuvwxyz"
