package redact

import (
	"regexp"
	"strings"
)

// schemes are how the value of an Authorization header begins.
var schemes = map[string]bool{
	"bearer": true, "basic": true, "token": true, "digest": true, "negotiate": true, "apikey": true, "geniekey": true, "ssws": true, "splunk": true, "oauth": true, "hawk": true,
	"sharedaccesssignature": true, "key": true, "ntlm": true, "hmac": true, "mac": true, "signature": true, "aws4-hmac-sha256": true, "aws": true, "sharedkey": true, "sso-key": true, "x-token": true, "dpop": true, "jwt": true, "api-key": true,
}

var authorizationRE = regexp.MustCompile(`(?i)authorization\\{0,7}["'\]]?\s*(?:[:=]{1,2}>?|,|"?,?\s*"value\\{0,7}"\s*:|\\{0,7}"\s*=)\s*[\[({]{0,2}b?\\{0,7}["']?`)

// credentials finds what an Authorization header holds behind its scheme, in whatever
// way it is written down.
func credentials(s string, found func(from, to int)) {
	for _, m := range authorizationRE.FindAllStringIndex(s, -1) {
		from := m[1]
		quoted := strings.IndexByte("\"'", s[from-1]) >= 0
		word, scheme := from, false
		for word < len(s) && (isWord(s[word]) || s[word] == '-') {
			word++
		}
		if word < len(s) && s[word] == ' ' && schemes[strings.ToLower(s[from:word])] {
			scheme = true
			from = word
			for from < len(s) && s[from] == ' ' {
				from++
			}
		}
		to := from
		for to < len(s) && strings.IndexByte(" \t\r\n\"'\\,;]})<", s[to]) < 0 {
			to++
		}
		value := s[from:to]
		if scheme && parameter.MatchString(s[from:]) {
			// Several things, in quotes of their own: all of them are about who it is.
			parameters(s, from, found)
			continue
		}
		if !scheme && !quoted && word == to && to < len(s) && s[to] == ' ' && to-from < 20 {
			// A scheme that we do not know.
			next := to + 1
			end := next
			for end < len(s) && strings.IndexByte(" \t\r\n\"'\\,;]})<", s[end]) < 0 {
				end++
			}
			if end-next >= 16 && random(s[next:end]) {
				found(next, end)
			}
			continue
		}
		if to-from >= 6 && !harmless(value) && (scheme || random(value) || digits(value) > 0) {
			found(from, to)
		}
	}
}

var (
	parameter  = regexp.MustCompile(`^[A-Za-z_]+=`)
	parameters = func(s string, from int, found func(from, to int)) {
		end := len(s)
		if n := strings.IndexAny(s[from:], "\r\n"); n >= 0 {
			end = from + n
		}
		for _, m := range secretParameter.FindAllStringSubmatchIndex(s[from:end], -1) {
			found(from+m[2], from+m[3])
		}
	}
	secretParameter = regexp.MustCompile(`(?i)\b(?:signature|sig|response|cnonce|oauth_[a-z_]+|mac|token|password|key|oauth_signature)=\\?["']?([^\s"'\\,&;]{8,})`)
)

// userInfo finds the secrets of the user part of URLs: the password, or a token that
// stands in place of a name.
func userInfo(s string, found func(from, to int)) {
	for i := 0; ; {
		n := strings.Index(s[i:], "://")
		if n < 0 {
			return
		}
		scheme := i + n
		from := scheme + 3
		end := from
		for end < len(s) && strings.IndexByte(" \t\r\n\f\v\"'<>`|\\", s[end]) < 0 {
			end++
		}
		if next := strings.Index(s[from:end], "://"); next >= 0 {
			// The next URL of a list begins with its scheme.
			end = from + next
			for end > from && (isWord(s[end-1]) || s[end-1] == '+') {
				end--
			}
		}
		i = from
		if scheme == 0 || !isWord(s[scheme-1]) {
			continue
		}
		at := userEnd(s[from:end])
		if at <= 0 {
			continue
		}
		user, password, ok := strings.Cut(s[from:from+at], ":")
		switch {
		case ok && password != "" && !hidden(password) && !(password == "x-oauth-basic" || user != "" && len(user) >= 16 && random(user)):
			found(from+len(user)+1, from+at)
		case len(user) >= 16 && digits(user) > 0 && isToken.MatchString(user) && random(user) && !identifies(user):
			found(from, from+len(user))
		}
		i = from + at
	}
}

var isToken = regexp.MustCompile(`^[\w.~%+-]+$`)

// userEnd is where the user part of a URL's rest ends: at the last at sign before the
// path. A password may hold what begins a path if no port could stand there.
func userEnd(s string) int {
	first := strings.IndexByte(s, '@')
	if first < 0 || strings.IndexByte(s[:first], ';') >= 0 && strings.IndexByte(s[:first], '=') >= 0 {
		return -1 // properties of a connection
	}
	if p := strings.IndexAny(s, "/?#"); p >= 0 && p < first {
		_, port, ok := strings.Cut(s[:p], ":")
		if !ok || port == "" || digits(port) == len(port) || strings.HasPrefix(s, "[") {
			return -1
		}
		// The at sign may belong to a query or to an image's digest.
		if s[p] == '?' || strings.ContainsAny(s[p:first], "?=&") || strings.Count(s[p:first], "/") > 2 {
			return -1
		}
	}
	at := first
	stop := len(s)
	if p := strings.IndexAny(s[first:], "/?#"); p >= 0 {
		stop = first + p
	}
	if last := strings.LastIndexByte(s[:stop], '@'); last > at {
		at = last
	}
	return at
}

// hidden says whether a program has hidden a password itself, or names where it is.
func hidden(s string) bool {
	return strings.Trim(s, "*x.•") == "" || strings.HasPrefix(s, "$") && reference.MatchString(s) || strings.HasPrefix(s, "{{") || s == "%s" || strings.EqualFold(s, "redacted") || strings.EqualFold(s, "masked") || strings.EqualFold(s, "[redacted]") || strings.EqualFold(s, "xxxxx")
}
