package redact

import (
	"math"
	"regexp"
	"strings"
)

// The rules, most specific first. Tokens of providers are anchored by their own
// prefixes; the structural rules at the end find what has no prefix by where it
// stands: behind a sensitive key, in a header, in the user part of a URL.
var builtin = []rule{
	{name: "private-key", words: []string{"private key"}, re: regexp.MustCompile(`(?i)-----BEGIN[^-]{0,60}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:KEY(?: BLOCK)?-----|$)`)},
	{name: "jwt", by: byLong, may: contains(".ey"), re: regexp.MustCompile(`\bey[A-Za-z0-9_-]{8,}\.ey[A-Za-z0-9_/\\-]{8,}(?:\.[A-Za-z0-9_/\\-]*=*)?`)},
	{name: "aws-key", words: []string{"akia", "asia", "abia", "acca", "aroa", "aida"}, re: regexp.MustCompile(`\b(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z2-7]{16}\b`)},
	{name: "aws-key", by: byLong, may: contains("A3T"), re: regexp.MustCompile(`\bA3T[A-Z0-9][A-Z2-7]{16}\b`)},
	{name: "slack-webhook", words: []string{"hooks.slack.com"}, re: regexp.MustCompile(`hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_+-]{20,})`), group: 1},
	{name: "teams-webhook", words: []string{"webhook.office.com", "logic.azure.com"}, re: regexp.MustCompile(`(?:webhook\.office\.com|logic\.azure\.com)[:0-9]*/([^\s"']{20,})`), group: 1},
	{name: "twilio-key", by: byLong, may: contains("SK"), re: regexp.MustCompile(`\bSK[0-9a-fA-F]{32}\b`)},
	{name: "vault-token", by: byLong, may: holdsOldVault, re: regexp.MustCompile(`(?:^|[\s"'=:])(s\.[A-Za-z0-9]{24})(?:$|[^\w.-])`), group: 1},
	{name: "azure-secret", by: byTilde, may: contains("Q~"), re: regexp.MustCompile(`[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}`)},
	{name: "maxmind-key", words: []string{"_mmk"}, re: regexp.MustCompile(`[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk`)},
	{name: "terraform-token", words: []string{".atlasv1."}, re: regexp.MustCompile(`(?i)[a-z0-9]{14}\.atlasv1\.[a-z0-9_=-]{60,70}`)},
	{name: "airtable-token", by: byLong, may: holdsAirtable, re: regexp.MustCompile(`\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}`)},
	{name: "facebook-token", by: byDigits, may: func(s string) bool { return strings.ContainsAny(s, "|%") }, re: regexp.MustCompile(`(?i)\b\d{15,16}[|%][0-9a-z_-]{27,40}`)},
	{name: "telegram-token", by: byLong, may: contains(":AA"), re: regexp.MustCompile(`\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b`)},
	{name: "azure-key", words: []string{"accountkey=", "sharedaccesskey="}, re: regexp.MustCompile(`(?i)(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{20,}={0,2})`), group: 1},
	{name: "sas", words: []string{"sig="}, re: regexp.MustCompile(`(?i)[?&]sig=([A-Za-z0-9%/+=_-]{20,})`), group: 1},

	// Structure: the value of a header of credentials.
	{
		name: "secret", words: []string{"authorization", "x-api-key", "x-auth-token", "apikey", "api-key", "x-vault-token", "private-token", "x-amz-security-token"},
		re:    regexp.MustCompile(`(?i)(?:authorization|x-api-key|x-auth-token|x-vault-token|private-token|x-amz-security-token|api-?key)\\?["']?\s*[:=]\s*\[?\\?["']?(?:(?:bearer|basic|token|digest|negotiate|apikey)\s+)?([^\s"'\\,;\]}<]{6,})`),
		group: 1, keep: harmless,
	},
	{name: "secret", words: []string{"bearer ", "basic "}, re: regexp.MustCompile(`(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{16,})`), group: 1, keep: func(s string) bool { return !random(s) }},
	{name: "cookie", words: []string{"cookie"}, re: regexp.MustCompile(`(?i)\b(?:set-)?cookie\\?["']?\s*[:=]\s*\[?\\?["']?([^\s"'\\\]][^"'\\\]\r\n]{5,})`), group: 1, keep: harmless},
	{name: "secret", words: []string{"curl"}, may: contains("-u"), re: regexp.MustCompile(`\bcurl\b.*?\s(?:-u|--user)(?:=|\s*)("[^"]{3,}"|'[^']{3,}'|(?:"[^"]{3,}"|'[^']{3,}'|[^\s:"']+):[^\s]{3,})`), group: 1},
	// What an element or a tool calls a password.
	{name: "secret", words: []string{"passw"}, re: regexp.MustCompile(`(?i)key=\\?"(?:ClearText)?Password\\?"\s*value=\\?"([^"\\]{3,})`), group: 1},
	// The user part of a URL and of a DSN.
	{name: "secret", by: byAt, may: namesUser, re: regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/@:"'<>]*:([^\s@/"'<>]{1,}(?:/[^\s@/"'<>]+)*)@`), group: 1},
	{name: "secret", words: []string{"@tcp(", "@unix("}, re: regexp.MustCompile(`\b[\w.-]+:([^\s:/"']+)@(?:tcp|unix)\(`), group: 1},
	{
		name: "secret", words: []string{"-password", "-token", "-secret", "-passwd", "-api-key", "-client-secret"},
		re:    regexp.MustCompile(`(?i)(?:^|[\s"'\[(,=])--?(?:[\w-]*-)?(?:password|passwd|token|secret|api-key|client-secret)(?:\s+|["'],?\s*["'])([^\s"'-][^\s"']{2,})`),
		group: 1, keep: harmless,
	},

	// Personal data.
	{name: "email", by: byAt, may: holdsAddress, re: regexp.MustCompile(`\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.)+(?:com|org|net|edu|gov|mil|info|biz|io|dev|app|ai|co|me|eu|[a-z]{2})\b`), keep: systemAddress},
	{name: "phone", by: byPlus, may: holdsPrefix, re: regexp.MustCompile(`(?:^|[\s"'=:(,])(\+[1-9]\d{0,2}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,4})\b`), group: 1, keep: func(s string) bool { n := digits(s); return n < 9 || n > 15 }},
	{name: "card", by: byDigits, may: holdsCard, re: regexp.MustCompile(`(?:^|[^\w-])((?:\d{4}[ -]){3}\d{1,7}|3[47]\d{2}[ -]\d{6}[ -]\d{5}|4\d{15}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|6(?:011|5\d{2})\d{12})\b`), group: 1, keep: func(s string) bool { return !luhn(s) }},
}

var ipv4 = regexp.MustCompile(`\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b`)

// namesUser says whether a URL of s could have a user part.
func namesUser(s string) bool {
	for {
		i := strings.Index(s, "://")
		if i < 0 {
			return false
		}
		s = s[i+3:]
		end := strings.IndexAny(s, " \t\r\n\f\v\"'<>")
		if end < 0 {
			end = len(s)
		}
		if strings.IndexByte(s[:end], '@') >= 0 {
			return true
		}
	}
}

// holdsAddress says whether behind an at sign of s stands what could be a
// domain: letters and digits, a dot, and a letter.
func holdsAddress(s string) bool {
	for i := strings.IndexByte(s, '@'); i >= 0 && i < len(s); {
		j := i + 1
		for ; j < len(s) && (isWord(s[j]) && s[j] != '_' || s[j] == '-' || s[j] == '.'); j++ {
			if c := s[j] | 0x20; c >= 'a' && c <= 'z' && s[j-1] == '.' {
				return true
			}
		}
		next := strings.IndexByte(s[j:], '@')
		if next < 0 {
			return false
		}
		i = j + next
	}
	return false
}

// holdsPrefix says whether a plus sign stands before a country's code: +0000 is a
// zone.
func holdsPrefix(s string) bool {
	for i := strings.IndexByte(s, '+'); i >= 0 && i+1 < len(s); {
		if c := s[i+1]; c >= '1' && c <= '9' && (i == 0 || strings.IndexByte(" \t\n\f\r\v\"'=:(,", s[i-1]) >= 0) {
			return true
		}
		next := strings.IndexByte(s[i+1:], '+')
		if next < 0 {
			return false
		}
		i += 1 + next
	}
	return false
}

// holdsAirtable says whether a dot stands where it does in a token that begins with
// pat, as every path does.
func holdsAirtable(s string) bool {
	for i := strings.Index(s, "pat"); i >= 0 && i+17 < len(s); {
		if s[i+17] == '.' {
			return true
		}
		next := strings.Index(s[i+3:], "pat")
		if next < 0 {
			return false
		}
		i += 3 + next
	}
	return false
}

// holdsOldVault says whether 24 letters and digits follow an s and a dot.
func holdsOldVault(s string) bool {
	for i := strings.Index(s, "s."); i >= 0; {
		j := i + 2
		for j < len(s) && isWord(s[j]) && s[j] != '_' {
			j++
		}
		if j-i-2 == 24 {
			return true
		}
		next := strings.Index(s[i+2:], "s.")
		if next < 0 {
			return false
		}
		i += 2 + next
	}
	return false
}

// harmless says that the value behind a sensitive key is none: a word that
// states something about it, a number of tokens, a reference.
func harmless(s string) bool {
	l := strings.ToLower(strings.Trim(s, `.,;:!?)]}`))
	if words[l] || strings.HasPrefix(l, "$") || strings.HasPrefix(l, "{{") || strings.HasPrefix(l, "***") || strings.HasPrefix(l, "xxx") || strings.HasPrefix(s, "/") || strings.HasPrefix(l, "http://") || strings.HasPrefix(l, "https://") || strings.HasPrefix(l, "file:") {
		return true
	}
	return len(l) <= 6 && digits(l) == len(l) // token=12, a count or a position
}

var words = map[string]bool{
	"": true, "true": true, "false": true, "null": true, "nil": true, "none": true, "undefined": true, "empty": true, "missing": true, "invalid": true,
	"expired": true, "required": true, "not": true, "is": true, "was": true, "has": true, "and": true, "or": true, "for": true, "from": true, "the": true,
	"found": true, "failed": true, "error": true, "unknown": true, "redacted": true, "masked": true, "hidden": true, "unset": true, "set": true, "yes": true, "no": true,
	"ok": true, "valid": true, "rejected": true, "accepted": true, "refreshed": true, "rotated": true, "revoked": true, "created": true, "deleted": true, "updated": true,
	"string": true, "bytes": true, "incorrect": true, "wrong": true, "bad": true, "unauthorized": true, "forbidden": true, "denied": true, "mismatch": true, "authentication": true,
	"secret": true, "secrets": true, "token": true, "password": true, "object": true, "user": true, "mode=rbac": true, "mode=webhook": true, "mode=node": true,
	"bearer": true, "basic": true, "default": true, "loaded": true, "cannot": true, "could": true, "unexpected": true, "eof": true, "syntax": true, "authorization": true, "got": true, "no-cache": true,
}

// systemAddress keeps what looks like an address and names a machine: unit
// instances, ssh's algorithms, image references.
func systemAddress(s string) bool {
	_, host, _ := strings.Cut(s, "@")
	return strings.HasSuffix(host, ".service") || strings.HasSuffix(host, ".socket") || host == "openssh.com" || host == "libssh.org" || strings.HasSuffix(host, ".libssh.org")
}

func digits(s string) int {
	n := 0
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			n++
		}
	}
	return n
}

// holdsCard says whether digits of s, spaces and hyphens between them aside, are
// as many as those of a card and pass its check from the first one on.
func holdsCard(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || i > 0 && (isWord(s[i-1]) || s[i-1] == '-') {
			continue
		}
		n := 0
		for j := i; j < len(s) && n <= 19; j++ {
			c := s[j]
			if c == ' ' || c == '-' {
				continue
			}
			if c < '0' || c > '9' {
				break
			}
			if n++; n >= 13 && (j+1 == len(s) || !isWord(s[j+1])) && luhn(s[i:j+1]) {
				return true
			}
		}
	}
	return false
}

// luhn is the check of card numbers (ISO/IEC 7812-1).
func luhn(s string) bool {
	sum, n := 0, 0
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] < '0' || s[i] > '9' {
			continue
		}
		d := int(s[i] - '0')
		if n%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
		n++
	}
	return n >= 13 && n <= 19 && sum%10 == 0
}

// random says whether a token is random enough not to be a word: letters and
// digits together, Shannon entropy above 3.5 bits a character, or small and
// capital letters that take turns.
func random(s string) bool {
	var count [256]int
	hasDigit, hasLetter, rises := false, false, 0
	for i := range len(s) {
		count[s[i]]++
		hasDigit = hasDigit || s[i] >= '0' && s[i] <= '9'
		hasLetter = hasLetter || s[i] >= 'A'
		if i > 0 && s[i] >= 'A' && s[i] <= 'Z' && s[i-1] >= 'a' && s[i-1] <= 'z' {
			rises++
		}
	}
	h := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(s))
			h -= p * math.Log2(p)
		}
	}
	return hasDigit && hasLetter && h > 2 || h > 3.5 || rises >= 3
}
