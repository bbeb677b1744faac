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
	{name: "private-key", words: []string{"private key"}, re: regexp.MustCompile(`-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|$)`)},
	{name: "jwt", words: []string{"eyj"}, re: regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?`)},
	{name: "aws-key", words: []string{"akia", "asia", "abia", "acca", "aroa", "aida"}, re: regexp.MustCompile(`\b(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z2-7]{16}\b`)},
	{name: "gcp-key", words: []string{"aiza"}, re: regexp.MustCompile(`\bAIza[0-9A-Za-z_-]{35}`)},
	{name: "gcp-token", words: []string{"ya29."}, re: regexp.MustCompile(`\bya29\.[0-9A-Za-z_-]{20,}`)},
	{name: "github-token", words: []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, re: regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})`)},
	{name: "gitlab-token", words: []string{"glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glsoat-", "glimt-", "glagent-", "gloas-"}, re: regexp.MustCompile(`\bgl(?:pat|dt|rt|cbt|ptt|ft|soat|imt|agent|oas)-[A-Za-z0-9_-]{16,}`)},
	{name: "slack-token", words: []string{"xox", "xapp-"}, re: regexp.MustCompile(`\b(?:xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,})`)},
	{name: "slack-webhook", words: []string{"hooks.slack.com"}, re: regexp.MustCompile(`hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_+-]{20,})`), group: 1},
	{name: "teams-webhook", words: []string{"webhook.office.com", "logic.azure.com"}, re: regexp.MustCompile(`(?:webhook\.office\.com|logic\.azure\.com)[:0-9]*/([^\s"']{20,})`), group: 1},
	{name: "stripe-key", words: []string{"sk_live", "sk_test", "rk_live", "rk_test", "sk_prod", "rk_prod", "whsec_"}, re: regexp.MustCompile(`\b(?:[sr]k_(?:live|test|prod)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{16,})`)},
	{name: "openai-key", words: []string{"sk-"}, re: regexp.MustCompile(`\bsk-(?:proj-|svcacct-|admin-|ant-(?:api|admin)\d\d-)?[A-Za-z0-9_-]{20,}`)},
	{name: "npm-token", words: []string{"npm_"}, re: regexp.MustCompile(`\bnpm_[A-Za-z0-9]{36}\b`)},
	{name: "pypi-token", words: []string{"pypi-"}, re: regexp.MustCompile(`\bpypi-[A-Za-z0-9_-]{40,}`)},
	{name: "sendgrid-key", words: []string{"sg."}, re: regexp.MustCompile(`\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}`)},
	{name: "twilio-key", words: []string{"sk"}, re: regexp.MustCompile(`\bSK[0-9a-f]{32}\b`)},
	{name: "vault-token", words: []string{"hvs.", "hvb.", "hvr."}, re: regexp.MustCompile(`\bhv[sbr]\.[A-Za-z0-9_-]{24,}`)},
	{name: "doctl-token", words: []string{"dop_v1_", "doo_v1_", "dor_v1_"}, re: regexp.MustCompile(`\bdo[por]_v1_[a-f0-9]{64}\b`)},
	{name: "grafana-token", words: []string{"glsa_", "glc_"}, re: regexp.MustCompile(`\b(?:glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|glc_[A-Za-z0-9+/]{32,}={0,2})`)},
	{name: "databricks-token", words: []string{"dapi"}, re: regexp.MustCompile(`\bdapi[a-f0-9]{32}(?:-\d)?\b`)},
	{name: "shopify-token", words: []string{"shp"}, re: regexp.MustCompile(`\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b`)},
	{name: "atlassian-token", words: []string{"atatt3"}, re: regexp.MustCompile(`\bATATT3[A-Za-z0-9_=-]{50,}`)},
	{name: "telegram-token", words: []string{":aa"}, re: regexp.MustCompile(`\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b`)},
	{name: "age-key", words: []string{"age-secret-key-"}, re: regexp.MustCompile(`(?i)\bAGE-SECRET-KEY-1[A-Z0-9]{58}`)},
	{name: "azure-key", words: []string{"accountkey=", "sharedaccesskey="}, re: regexp.MustCompile(`(?i)(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{20,}={0,2})`), group: 1},
	{name: "sas", words: []string{"sig="}, re: regexp.MustCompile(`(?i)[?&]sig=([A-Za-z0-9%/+=_-]{20,})`), group: 1},

	// Structure: the value of a header of credentials.
	{
		name: "secret", words: []string{"authorization", "x-api-key", "x-auth-token", "apikey", "api-key", "x-vault-token", "private-token", "x-amz-security-token"},
		re:    regexp.MustCompile(`(?i)(?:authorization|x-api-key|x-auth-token|x-vault-token|private-token|x-amz-security-token|api-?key)\\?["']?\s*[:=]\s*\[?\\?["']?(?:(?:bearer|basic|token|digest|negotiate|apikey)\s+)?([^\s"'\\,;\]}<]{6,})`),
		group: 1, keep: harmless,
	},
	{name: "secret", words: []string{"bearer ", "basic "}, re: regexp.MustCompile(`(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{16,})`), group: 1, keep: func(s string) bool { return !mixed(s) }},
	{name: "cookie", words: []string{"cookie"}, re: regexp.MustCompile(`(?i)\b(?:set-)?cookie\\?["']?\s*[:=]\s*\[?\\?["']?([^\s"'\\\]][^"'\\\]\r\n]{5,})`), group: 1, keep: harmless},
	// The user part of a URL and of a DSN.
	{name: "secret", words: []string{"://"}, re: regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/@:"'<>]*:([^\s@/"'<>]{1,}(?:/[^\s@/"'<>]+)*)@`), group: 1},
	{name: "secret", words: []string{"@tcp(", "@unix("}, re: regexp.MustCompile(`\b[\w.-]+:([^\s@:/"']+)@(?:tcp|unix)\(`), group: 1},
	// A sensitive key and its value, in logfmt, JSON, YAML, queries and prose.
	{
		name: "secret", words: sensitiveWords, may: assigns,
		re:    regexp.MustCompile(`(?i)["'\\]*\b[\w.-]*(?:` + sensitiveNames + `)["'\\]*\s*(?::=|=>|[:=])\s*\\?["']([^"'\\]{3,})\\?["']`),
		group: 1, keep: harmless,
	},
	{
		name: "secret", words: sensitiveWords, may: assigns,
		re:    regexp.MustCompile(`(?i)\b[\w.-]*(?:` + sensitiveNames + `)["'\\]*\s*(?::=|=>|[:=])\s*([^\s"'\\,;&|<>(){}\[\]]{3,})`),
		group: 1, keep: harmless,
	},
	{
		name: "secret", words: []string{"--password", "--token", "--secret", "-passwd", "--api-key"},
		re:    regexp.MustCompile(`(?i)--?(?:password|passwd|token|secret|api-key|client-secret)\s+([^\s"'-][^\s"']{2,})`),
		group: 1, keep: harmless,
	},

	// Personal data.
	{name: "email", words: []string{"@"}, re: regexp.MustCompile(`\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.)+(?:com|org|net|edu|gov|mil|info|biz|io|dev|app|ai|co|me|eu|[a-z]{2})\b`), keep: systemAddress},
	{name: "phone", words: []string{"+"}, re: regexp.MustCompile(`(?:^|[\s"'=:(,])(\+[1-9]\d{0,2}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,4})\b`), group: 1, keep: func(s string) bool { n := digits(s); return n < 9 || n > 15 }},
	{name: "card", may: countsToCard, re: regexp.MustCompile(`\b(?:\d{4}[ -]){3}\d{1,7}\b|\b3[47]\d{2}[ -]\d{6}[ -]\d{5}\b|\b(?:4\d{15}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|6(?:011|5\d{2})\d{12})\b`), keep: func(s string) bool { return !luhn(s) }},
}

// sensitiveNames are the endings of keys whose values are secrets.
const sensitiveNames = `passw(?:or)?d|passwd|passphrase|pwd|secret|secret[_-]?key|secretaccesskey|access[_-]?key|api[_-]?key|apikey|auth[_-]?token|access[_-]?token|refresh[_-]?token|id[_-]?token|bearer[_-]?token|session[_-]?token|security[_-]?token|token|client[_-]?secret|private[_-]?key|encryption[_-]?key|signing[_-]?key|credentials?|connection[_-]?string|session[_-]?id|sessionid|sid|otp|pin[_-]?code`

var sensitiveWords = []string{"passw", "pwd", "passphrase", "secret", "key", "token", "credential", "connection", "session", "sid", "otp", "pin"}

// sensitiveEnds are how the sensitive names end.
var sensitiveEnds = []string{"passwd", "password", "passphrase", "pwd", "secret", "key", "token", "credential", "credentials", "string", "id", "otp", "code"}

// assigns says whether something could be given to a sensitive name: the search
// for names is dear, and most lines that hold such a word only speak of it, as
// "connection refused" does.
func assigns(lower string) bool {
	for i := range len(lower) {
		if c := lower[i]; c != '=' && c != ':' {
			continue
		}
		name := strings.TrimRight(strings.TrimRight(lower[:i], " \t\n\f\r"), `"'\`)
		for _, end := range sensitiveEnds {
			if strings.HasSuffix(name, end) {
				return true
			}
		}
	}
	return false
}

// countsToCard says whether as many digits stand together, spaces and hyphens
// aside, as the shortest number of a card has.
func countsToCard(s string) bool {
	n := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			if n++; n >= 13 {
				return true
			}
		case c != ' ' && c != '-':
			n = 0
		}
	}
	return false
}

var sensitiveKey = regexp.MustCompile(`(?i)(?:^|[_.-])(?:passw(?:or)?d|secret|token|api[_-]?key|credentials?|private[_-]?key)$`)

var ipv4 = regexp.MustCompile(`\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b`)

// suspicious is the prefilter: a line without any of these needs no rule. It
// looks at each byte once.
func suspicious(s string) bool {
	digitsRun := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '=' || c == ':' || c == '@' || c == '+' || c == '-' && i+4 < len(s) && s[i+1] == '-':
			return true
		case c >= '0' && c <= '9':
			if digitsRun++; digitsRun >= 13 {
				return true
			}
		case c == ' ' || c == '-':
		case c == '_' || c == '.':
			digitsRun = 0
			if i >= 2 && i+10 < len(s) {
				return true
			}
		default:
			digitsRun = 0
			if (c == 'A' || c == 'e' || c == 'b' || c == 'B' || c == 'd' || c == 'S') && longToken(s, i) {
				return true
			}
		}
	}
	return false
}

// longToken says whether a run of 16 or more token characters begins at i.
func longToken(s string, i int) bool {
	if i > 0 && isToken(s[i-1]) || i+16 > len(s) {
		return false
	}
	for j := i; j < i+16; j++ {
		if !isToken(s[j]) {
			return (s[i] == 'b' || s[i] == 'B') && j < i+8 && s[j] == ' '
		}
	}
	return true
}

func isToken(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
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

// mixed says whether a token is random enough not to be a word: Shannon
// entropy above 3 bits a character, or letters and digits together.
func mixed(s string) bool {
	var count [256]int
	hasDigit, hasLetter := false, false
	for i := range len(s) {
		count[s[i]]++
		hasDigit = hasDigit || s[i] >= '0' && s[i] <= '9'
		hasLetter = hasLetter || s[i] >= 'A'
	}
	h := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(s))
			h -= p * math.Log2(p)
		}
	}
	return hasDigit && hasLetter || h > 3.5
}
